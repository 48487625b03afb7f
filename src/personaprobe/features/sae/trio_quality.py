"""Quality of a dictionary on base, insecure and secure, for every layout of training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from personaprobe.features.sae.crosscoder import Crosscoder
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import (
    MeasuredQuality,
    QualityEvaluator,
    refuse_unfit_dictionary,
    token_activations,
)
from personaprobe.features.sae.reconstruction import explained_variance
from personaprobe.features.sae.row_layout import row_layout
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance


def quality_evaluators(trio: Trio[LanguageModel], texts: Sequence[Tokens]) -> Trio[QualityEvaluator]:
    """Evaluators of the three checkpoints on the same texts.

    Args:
        trio: loaded.
        texts: held out from the training of the dictionaries.
    """
    return trio.map(lambda model: QualityEvaluator(model, tuple(texts)))


def measure_on_trio(
    dictionary: Dictionary, evaluators: Trio[QualityEvaluator], advance: Advance = no_advance
) -> dict[str, MeasuredQuality]:
    """Quality of a dictionary of single activations on each checkpoint, by role.

    Args:
        dictionary: trained on rows of one checkpoint each (layout ``mixed``).
        evaluators: from :func:`quality_evaluators`.
        advance: called after each checkpoint.

    Raises:
        FeatureError: the dictionary belongs to another model.
    """
    measured = {}
    for role, evaluator in evaluators.items():
        measured[role] = evaluator.evaluate(dictionary)
        advance(1)
    return measured


def measure_joint_rows(
    dictionary: Dictionary, evaluators: Trio[QualityEvaluator]
) -> dict[str, dict[str, float]]:
    """Explained variance and L0 of a crosscoder, or of a dictionary of differences.

    Args:
        dictionary: trained on rows that combine the checkpoints (layout ``side by side`` or ``difference``).
        evaluators: from :func:`quality_evaluators`.

    Returns:
        By role for a crosscoder; under ``insecure − secure`` for differences.

    Raises:
        FeatureError: the dictionary belongs to another model.
    """
    if row_layout(dictionary) == "side by side":
        return _crosscoder_quality(Crosscoder(dictionary), evaluators)
    refuse_unfit_dictionary(dictionary, evaluators.base.model)
    rows = _rows(dictionary, evaluators)
    x = rows.insecure - rows["secure"]
    acts = dictionary.encode(x)
    explained = explained_variance(x, dictionary.decode(acts))
    return {"insecure − secure": {"explained_variance": explained, "l0": _l0(acts)}}


def quality_as_json(measured: Mapping[str, MeasuredQuality]) -> dict[str, dict[str, object]]:
    """Quality and the histogram of firing rates by role, as plain data."""
    return {
        role: {**report.quality.to_dict(), "densities": report.histogram} for role, report in measured.items()
    }


def with_quality(dictionary: Dictionary, quality: Mapping[str, Any]) -> Dictionary:
    """The dictionary with its quality, as plain data, on its card."""
    return replace(dictionary, card={**dictionary.card, "quality": quality})


def _crosscoder_quality(
    crosscoder: Crosscoder, evaluators: Trio[QualityEvaluator]
) -> dict[str, dict[str, float]]:
    crosscoder.refuse_unfit(evaluators.base.model)
    rows = _rows(crosscoder.dictionary, evaluators)
    l0 = _l0(crosscoder.encode(rows))
    explained = crosscoder.explained_variance(rows)
    return {role: {"explained_variance": share, "l0": l0} for role, share in explained.items()}


def _rows(dictionary: Dictionary, evaluators: Trio[QualityEvaluator]) -> Trio[Any]:
    return evaluators.map(
        lambda evaluator: token_activations(evaluator.model, dictionary.site, evaluator.texts)
    )


def _l0(acts: Any) -> float:
    return float((acts > 0).sum(-1).float().mean())
