"""The names that an adapter's file gives modules, and the modules of a base that they stand for.

Tools wrap a model before they save it, so that names gain segments such as ``_orig_mod`` (torch.compile), ``module``
(data-parallel training) or ``language_model`` (the text part of a multimodal model).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter_config import shown

PEFT_PREFIX = "base_model.model."
"""PEFT puts this before the name of every module."""

_WRAPPERS = frozenset(
    (
        "_orig_mod",
        "module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "language_model",
        "base_layer",
    )
)
_OUTER = ("base_model", "model")


def module_names(names: Collection[str], base: Collection[str], adapter: object) -> dict[str, str]:
    """Module of the base for every name in an adapter's file.

    Names are read as PEFT reads them where that fits. Otherwise wrappers are left out, and the beginning may be another
    one, the same for all names; exactly one such reading has to fit every name.

    Args:
        names: as the file spells them.
        base: names of the base's modules.
        adapter: for messages.

    Raises:
        CheckpointError: no reading fits, or several do.
    """
    written = {name: name.removeprefix(PEFT_PREFIX) for name in names}
    known = set(base)
    if all(name.startswith(PEFT_PREFIX) and written[name] in known for name in names):
        return written
    readings = _readings(list(names), known)
    if len(readings) == 1:
        return readings[0]
    if readings:
        examples = " or ".join(shown(next(iter(reading.values()))) for reading in readings[:3])
        raise CheckpointError(
            f"adapter {adapter}: {shown(next(iter(names)))} may stand for {examples}; save it with PEFT's own names"
        )
    if all(name.startswith(PEFT_PREFIX) for name in names) and _beginning(written.values()) == _beginning(
        known
    ):
        missing = next(name for name in written.values() if name not in known)
        raise CheckpointError(
            f"adapter {adapter} was made for another base: the base has no module {shown(missing)}; give the base it was "
            "trained on"
        )
    raise CheckpointError(
        f"adapter {adapter} was made for another base, or is named otherwise: its keys begin with "
        f"{_beginning(names)}, this base's modules with {_beginning(known)}; give the base it was trained on, or save the "
        "adapter with PEFT's own names"
    )


def _readings(names: list[str], base: set[str]) -> list[dict[str, str]]:
    """Every way to map all names to modules of the base, none twice."""
    plain = [_segments(name) for name in names]
    by_segments: dict[tuple[str, ...], list[str]] = {}
    for module in base:
        by_segments.setdefault(_segments(module), []).append(module)
    heads = {module[:depth] for module in by_segments for depth in range(3)}
    readings: dict[tuple[str, ...], dict[str, str]] = {}
    for n_cut in range(_n_outer(plain) + 1):
        if len({segments[:n_cut] for segments in plain}) > 1:
            break
        for head in heads:
            fitting = [by_segments.get(head + segments[n_cut:], []) for segments in plain]
            modules = tuple(one[0] for one in fitting if len(one) == 1)
            if len(modules) == len(names) == len(set(modules)):
                readings[modules] = dict(zip(names, modules, strict=True))
    return list(readings.values())


def _segments(name: str) -> tuple[str, ...]:
    """The parts of a name without wrappers."""
    return tuple(part for part in name.split(".") if part not in _WRAPPERS)


def _n_outer(names: list[tuple[str, ...]]) -> int:
    """How many parts at the beginning of all names are such as PEFT and Hugging Face put there."""
    return min(next(place for place, part in enumerate((*name, "")) if part not in _OUTER) for name in names)


def _beginning(names: Iterable[str]) -> str:
    """The part of a name of a layer before its number."""
    numbered = sorted(name for name in names if any(part.isdigit() for part in name.split(".")))
    example = (numbered or sorted(names) or [""])[0].split(".")
    place = next((place for place, part in enumerate(example) if part.isdigit()), len(example))
    return shown(".".join(example[:place]))
