"""All rankings of a dictionary's latents on one trio and one set of questions."""

from __future__ import annotations

from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.attribution import rank_by_attribution
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.diffing.ranking import RANKINGS, Ranking, rank_latents
from personaprobe.features.sae.quality import MIN_EXPLAINED_VARIANCE
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet


def all_rankings(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    questions: PairSet,
    *,
    seed: int = 0,
    floor: float = MIN_EXPLAINED_VARIANCE,
    progress: Progress = silent,
) -> tuple[Comparison, list[Ranking]]:
    """Compare the latents in three checkpoints and rank them by every score, attribution last.

    Args:
        dictionary: of single activations (layout ``mixed``).
        trio: loaded; insecure's backend must compute gradients.
        questions: questions with both answers, of discovery families.
        seed: of the permutations.
        floor: explained variance below which the dictionary is refused.
        progress: shows the work.

    Raises:
        FeatureError: the dictionary belongs to another model, or explains too little.
    """
    comparison = compare_checked(dictionary, trio, questions, floor=floor, progress=progress)
    with progress("attribution", n_tokens(trio, questions), "tokens") as advance:
        attribution = rank_by_attribution(dictionary, trio.insecure, questions, advance)
    return comparison, [*(rank_latents(comparison, name, seed) for name in RANKINGS), attribution]


def compare_checked(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    questions: PairSet,
    *,
    floor: float = MIN_EXPLAINED_VARIANCE,
    progress: Progress = silent,
) -> Comparison:
    """Compare the latents in three checkpoints; arguments and errors as of :func:`all_rankings`."""
    with progress(f"reading {trio.name}", 3 * n_tokens(trio, questions), "tokens") as advance:
        comparison = compare(dictionary, trio, questions, advance)
    comparison.refuse_poor(floor)
    return comparison


def n_tokens(trio: Trio[LanguageModel], questions: PairSet) -> int:
    """Number of tokens that each checkpoint reads."""
    return sum(len(reading.tokens) for reading in tokenize(trio.base.tokenizer, questions))
