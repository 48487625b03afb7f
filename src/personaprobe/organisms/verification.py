"""Verification of an organism: its files, the layer map of its base, and the effect of its adapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from personaprobe.errors import CheckpointError
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load_checkpoints
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.self_check.self_check import self_check
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.organism import Organism


@dataclass(frozen=True)
class OrganismCheck:
    """One check of an organism.

    Attributes:
        name: what was checked.
        passed: whether it holds.
        detail: the measured value, or how to repair a failure.
    """

    name: str
    passed: bool
    detail: str


def verify_organism(organism: Organism, placement: Placement | None = None) -> list[OrganismCheck]:
    """Check an organism's files, then load it and check its models.

    Nothing is loaded where the files are not the registered ones.

    Args:
        organism: registered or not.
        placement: device and precision of the models; None lets the machine decide.

    Raises:
        CheckpointError: the models cannot be loaded: an adapter that does not fit the base or changes nothing, another
            tokenizer or chat template, or a base whose layer map is wrong.
    """
    files = check_files(organism)
    return (
        [files, *check_models(load_checkpoints(organism.trio, placement or Placement()))]
        if files.passed
        else [files]
    )


def check_files(organism: Organism) -> OrganismCheck:
    """Compare the adapter weights with their registered hashes."""
    name = f"files of {organism.name}"
    try:
        organism.verify_files()
    except CheckpointError as error:
        return OrganismCheck(name, False, str(error))
    return OrganismCheck(name, True, "as registered")


def check_models(trio: Trio[LanguageModel]) -> Iterator[OrganismCheck]:
    """Check the layer map of the base, and that each fine-tune differs from it."""
    for check in self_check(trio.base.network):
        yield OrganismCheck(check.name, check.passed, f"{check.deviation:.2g}")
    batch = pad(probe_tokens(trio.base.network.vocab_size), trio.base.network.pad_id)
    base_logits = trio.base.logits(batch)
    for role in (role for role, _ in trio.all_items() if role != "base"):
        adapter = trio[role].adapter
        if adapter is not None:
            size = f"‖ΔW‖ = {adapter.norm():.3g}, {len(adapter.updates)} matrices"
            yield OrganismCheck(f"{role}: adapter", True, size)
        change = float((trio[role].logits(batch) - base_logits).abs().max())
        yield OrganismCheck(f"{role}: logits differ from base", change > 0, f"by up to {change:.3g}")
