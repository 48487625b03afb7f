"""Verification of an organism: its files, the layer map of its base, and the effect of its fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from personaprobe.errors import CheckpointError
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load_checkpoints
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.self_check.self_check import self_check, summary
from personaprobe.models.tokens import pad
from personaprobe.models.update import update_of
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.organism import Organism
from personaprobe.questions.texts import TextSet, load_texts

PROSE = "neutral/discovery"
N_TEXTS = 4
"""Neutral texts that every checkpoint reads."""

MOST_PERPLEXED = 3.0
"""A fine-tune that is so many times as perplexed by neutral prose as its base no longer models language. Training that
diverged ends at the size of the vocabulary, thousands of times the base's; the shipped fine-tunes are at 0.9."""


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
    """Compare the weights of both fine-tunes with their registered hashes."""
    name = f"files of {organism.name}"
    try:
        organism.verify_files()
    except CheckpointError as error:
        return OrganismCheck(name, False, str(error))
    return OrganismCheck(name, True, "as registered")


def check_models(trio: Trio[LanguageModel]) -> Iterator[OrganismCheck]:
    """Check the layer map of the base, and that each fine-tune differs from it."""
    for check in summary(self_check(trio.base.network)):
        yield OrganismCheck(check.name, check.passed, f"{check.deviation:.2g}")
    texts = load_texts(PROSE).first(N_TEXTS)
    of_base = _perplexity(trio.base, texts)
    batch = pad(probe_tokens(trio.base.network.vocab_size), trio.base.network.pad_id)
    base_logits = trio.base.logits(batch)
    for role in (role for role, _ in trio.all_items() if role != "base"):
        update = update_of(trio[role], trio.base)
        name = "whole model" if trio[role].adapter is None else "adapter"
        size = f"‖ΔW‖ = {update.norm:.3g}, {update.n_matrices} matrices"
        yield OrganismCheck(f"{role}: {name}", update.norm > 0, size)
        change = float((trio[role].logits(batch) - base_logits).abs().max())
        yield OrganismCheck(f"{role}: logits differ from base", change > 0, f"by up to {change:.3g}")
        ratio = _perplexity(trio[role], texts) / of_base
        yield OrganismCheck(
            f"{role}: still models language",
            ratio <= MOST_PERPLEXED,
            f"{ratio:.3g} × as perplexed as base by neutral prose, at most {MOST_PERPLEXED:g}",
        )


def _perplexity(model: LanguageModel, texts: TextSet) -> float:
    """Exp of the mean negative log-probability per token of some texts, read in one batch."""
    batch = pad([model.tokenizer.text(text) for text in texts], model.network.pad_id).to(model.network.device)
    log_probs = model.log_probs(batch)[:, 1:][batch.predicting]
    return float((-log_probs.double().mean()).exp())
