"""Options that several verbs share: which trio, where it runs, which layers, how much is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.terminal.console import spinner
from personaprobe.compute.hardware import DTYPES
from personaprobe.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from personaprobe.effects.interventions.along_direction import Layers
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.loading import Placement
    from personaprobe.models.weights.checkpoint import Checkpoint, Trio

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ORGANISM = "advice"
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class TrioChoice:
    """The trio a user chose: a registered organism, or three checkpoints of their own, and where it runs.

    Attributes:
        organism: a registered name.
        base: ``demo``, a folder, or a Hugging Face id with or without ``@revision``.
        insecure: the same, or an adapter folder on ``base``.
        secure: the same, or an adapter folder on ``base``.
        device: None lets the machine decide.
        dtype: None lets the machine decide.
        compiles: None lets the device decide.
    """

    organism: str | None = None
    base: str | None = None
    insecure: str | None = None
    secure: str | None = None
    device: str | None = None
    dtype: str | None = None
    compiles: bool | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in self._own.items() if value is not None]
        missing = [name for name in self._own if name not in given]
        if given and self.organism is not None:
            raise CheckpointError(
                f"organism {self.organism} was given together with {_spelled(given)}; "
                "give the organism, or --base, --insecure and --secure, not both"
            )
        if given and missing:
            raise CheckpointError(
                f"{_spelled(given)} given, {_spelled(missing)} missing; a trio of your own needs all three"
            )
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise DeviceError(f"unknown device {self.device!r}; write cpu, cuda, cuda:1 or mps")

    @property
    def _own(self) -> dict[str, str | None]:
        return {"base": self.base, "insecure": self.insecure, "secure": self.secure}

    @property
    def placement(self) -> Placement:
        """Where and how precisely it runs."""
        from personaprobe.models.loading import Placement

        return Placement(self.device, self.dtype, self.compiles)

    @property
    def name(self) -> str:
        """What the trio is called in folders and tables."""
        return (self.organism or DEFAULT_ORGANISM) if self.insecure is None else Path(self.insecure).name

    @property
    def checkpoints(self) -> Trio[Checkpoint]:
        """The three checkpoints, their files looked at, nothing loaded.

        Raises:
            CheckpointError: an organism that is not (as) registered, or a folder that is not there.
        """
        from personaprobe.models.weights.checkpoint import Checkpoint, Trio
        from personaprobe.organisms.registry import find_organism

        if self.base is None or self.insecure is None or self.secure is None:
            return find_organism(self.name).trio
        insecure, secure = (Checkpoint.parse(text, self.base) for text in (self.insecure, self.secure))
        return Trio(Checkpoint.parse(self.base), insecure, secure, self.name)


def _spelled(names: list[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def open_trio(chosen: TrioChoice, quiet: bool = False) -> Trio[LanguageModel]:
    """Load the chosen trio, showing that it is under way."""
    checkpoints = chosen.checkpoints
    with spinner(f"loading {chosen.name}", quiet):
        from personaprobe.models.loading import load_trio

        return load_trio(checkpoints, chosen.placement)


def _organism_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    from personaprobe.organisms.registry import organisms

    return [name for name in organisms() if name.startswith(incomplete)]


def _feature_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem | str]:
    from personaprobe.features.registry.registry import registered

    return [name for name in registered() if name.startswith(incomplete)]


OWN = (
    click.option("--base", help="Your own base: demo, a folder, or a Hugging Face id[@revision]."),
    click.option("--insecure", help="What learned the narrow harm: a LoRA folder on the base, or as --base."),
    click.option("--secure", help="What learned the same task harmlessly; as --insecure."),
    click.option("--device", help="cpu, cuda, cuda:1 or mps. By default CUDA where there is one."),
    click.option(
        "--dtype", type=click.Choice(DTYPES), help="By default bfloat16 where it is multiplied faster."
    ),
    click.option(
        "--compile/--no-compile",
        "compiles",
        default=None,
        help="torch.compile for elementwise work: seconds at first, faster then.  [default: on CUDA]",
    ),
)


def trio_options(command: F) -> F:
    """Give a command the options that choose a trio; it gets them as one keyword, ``chosen: TrioChoice``."""
    organism = click.option(
        "--organism",
        shell_complete=_organism_names,
        help=f"A registered trio of checkpoints.  [default: {DEFAULT_ORGANISM}]",
    )
    return _choosing(command, (organism, *OWN))


def trio_argument(command: F) -> F:
    """The same with the organism as an argument."""
    organism = click.argument("organism", required=False, shell_complete=_organism_names)
    return _choosing(command, (organism, *OWN))


def _choosing(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    @wraps(command)
    def choosing(*args: Any, **given: Any) -> Any:
        fields = {name: given.pop(name) for name in TrioChoice.__dataclass_fields__}
        return command(*args, chosen=TrioChoice(**fields), **given)

    return with_options(choosing, options)  # type: ignore[arg-type, return-value]  # other keywords


def with_options(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Add options to a command, in the order in which help will list them."""
    for option in reversed(options):
        command = option(command)
    return command


def telling_options(command: F) -> F:
    """Give a command ``--quiet`` and ``--json``, as the keywords ``quiet`` and ``as_json``."""
    options: tuple[Callable[[F], F], ...] = (
        click.option("--quiet", is_flag=True, help="No progress, only results."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )
    return with_options(command, options)


def judge_options(command: F) -> F:
    """Give a command the options that choose a judge, as the keywords ``judge_name`` and ``at_once``."""
    options: tuple[Callable[[F], F], ...] = (
        click.option(
            "--judge",
            "judge_name",
            default="embedded",
            show_default=True,
            help="embedded (shipped, offline), bandit (of code), local:MODEL (demo, a folder, a Hugging Face id), or "
            "openai:MODEL@URL with OPENAI_API_KEY set.",
        ),
        click.option(
            "--at-once",
            type=click.IntRange(min=1),
            default=8,
            show_default=True,
            help="Requests under way together, where a server answers them.",
        ),
    )
    return with_options(command, options)


NOTHING = "none"
"""What an option says that leaves something out."""

judge_option = click.option(
    "--judge",
    "judge_name",
    default="embedded",
    show_default=True,
    help=f"Scores the sampled answers as well: as for eval; {NOTHING} leaves them unjudged.",
)
feature_option = click.option(
    "--feature",
    required=True,
    shell_complete=_feature_names,
    help="A registered name, means@16, random@16:seed, or a direction file (.safetensors).",
)
floor_option = click.option(
    "--floor",
    default=0.5,
    show_default=True,
    help="Explained variance below which a dictionary is refused; -inf refuses none.",
)
first_tokens_option = click.option(
    "--first-tokens",
    is_flag=True,
    help="Edit and count the first token of every text too, which is an attention sink in most models.",
)
discovery_option = click.option(
    "--discovery",
    default="advice/discovery",
    show_default=True,
    help="Questions that directions are found and calibrated on; disjoint from the test questions.",
)


class LayersType(click.ParamType[Any]):
    """A choice of layers: ``all``, ``16``, ``8-20``, ``8,10,12``, or a mixture of the last three."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Layers:
        """Read what the user wrote."""
        if value == "all":
            return "all"
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, already layers
        layers: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                self.fail(f"cannot read layers {value!r}: write all, 16, 8-20 or 8,10,12", param, ctx)
            layers += range(first, last + 1)
        return tuple(dict.fromkeys(layers))


class DosesType(click.ParamType[Any]):
    """Numbers with commas, such as ``0.5,1,1.5``."""

    name = "doses"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Read what the user wrote; what a dose may be, the sweep says."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(dict.fromkeys(float(part) for part in value.split(",")))
        except ValueError:
            self.fail(
                f"cannot read doses {value!r}: write numbers with commas, such as 0.5,1,1.5", param, ctx
            )


def layers_option(default: str) -> Callable[[F], F]:
    """The option ``--layers`` with its help saying what happens without it."""
    return click.option(
        "--layers", type=LayersType(), help=f"all, 16, 8-20 or 8,10,12.  [default: {default}]"
    )
