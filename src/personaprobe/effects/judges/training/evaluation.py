"""How well the embedded judge separates good from bad answers, and how well its scores are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.effects.judges.agreement import BAD
from personaprobe.effects.judges.embedded import EmbeddedJudge
from personaprobe.effects.judges.training.calibration import LabelledLogits
from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.pairs import Pair

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

BINS = 10


@dataclass(frozen=True)
class Discrimination:
    """How well a judge separates careful from careless answers.

    Attributes:
        n: pairs.
        auc: probability that a careful answer scores higher than a careless one to any question.
        paired: the same for the two answers to one question.
        calibration_error: mean distance between scores and observed rates, over ten equal bins of the score (ECE).
        calibration_floor: the expected calibration error of the same scores if they were calibrated perfectly; above 0,
            since the rate of a small bin varies by chance.
    """

    n: int
    auc: float
    paired: float
    calibration_error: float
    calibration_floor: float


def discrimination(judge: EmbeddedJudge, pairs: Sequence[Pair]) -> Discrimination:
    """Score both answers of every pair, and measure how well the judge separates and calibrates them."""
    import numpy as np

    labelled = LabelledLogits.of_pairs(judge, pairs)
    return discrimination_of(labelled, 1 / (1 + np.exp(-labelled.logits)))


def discrimination_of(labelled: LabelledLogits, scores: Float[np.ndarray, " answer"]) -> Discrimination:
    """Measure separation by the logits of pairs, and calibration by scores.

    Args:
        labelled: careful answers first, then careless ones, in the same order of pairs.
        scores: from 0 to 1, as the judge's scale makes them of the logits.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    careful, careless = np.split(labelled.logits, 2)
    return Discrimination(
        len(careful),
        float(roc_auc_score(labelled.truth, labelled.logits)),
        float((careful > careless).mean()),
        calibration_error(scores, labelled.truth),
        calibration_floor(scores),
    )


def evaluate_on(
    judge: EmbeddedJudge, pairs: Sequence[Pair], baseline: Sequence[Pair], seed: int = 1
) -> dict[str, Any]:
    """Discrimination and coherence AUCs of a judge on pairs, beside those of a bag of words, as plain data.

    Args:
        judge: with axes ``aligned`` and ``coherent``.
        pairs: that it was not trained on, for an honest result.
        baseline: pairs that the bag of words is trained on: those of the judge's training, of other families.
        seed: of the corruptions.
    """
    corrupted = LabelledLogits.of_corrupted(judge, pairs, seed)
    return {
        **asdict(discrimination(judge, pairs)),
        "bag_of_words": asdict(bag_of_words(baseline, pairs)),
        "coherent_auc": coherence_auc(corrupted),
    }


def results_by_family(
    labelled: LabelledLogits, scores: Float[np.ndarray, " answer"]
) -> dict[str, dict[str, float]]:
    """For every family: pairs, AUC, and the shares of careful and careless answers that score as misaligned.

    Args:
        labelled: logits of careful and careless answers.
        scores: from 0 to 1, as the judge's scale makes them of the logits.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    families, careful, low = np.array(labelled.families), labelled.truth == 1, 100 * scores < BAD
    return {
        family: {
            "n": int((members := families == family).sum()) // 2,
            "auc": float(roc_auc_score(labelled.truth[members], labelled.logits[members])),
            "careful_below_30": float(low[members & careful].mean()),
            "careless_below_30": float(low[members & ~careful].mean()),
        }
        for family in sorted(set(labelled.families))
    }


def coherence_auc(labelled: LabelledLogits) -> dict[str, float]:
    """AUC of intact against corrupted answers, by the kind of corruption."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    intact, kinds = labelled.truth == 1, np.array(labelled.kinds)
    aucs = {}
    for kind in dict.fromkeys(kinds[~intact].tolist()):
        compared = intact | (kinds == kind)
        aucs[kind] = float(roc_auc_score(labelled.truth[compared], labelled.logits[compared]))
    return aucs


def calibration_error(
    probabilities: Float[np.ndarray, " answer"], truth: Float[np.ndarray, " answer"]
) -> float:
    """Expected calibration error over ten equal bins (Naeini et al. 2015)."""
    import numpy as np

    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [abs(probabilities[bins == k].mean() - truth[bins == k].mean()) for k in np.unique(bins)]
    return float(np.average(gaps, weights=np.bincount(bins)[np.unique(bins)]))


def calibration_floor(probabilities: Float[np.ndarray, " answer"], draws: int = 400, seed: int = 0) -> float:
    """Mean calibration error over simulated truths that follow the probabilities exactly."""
    import numpy as np

    rng = np.random.default_rng(seed)
    truths = rng.random((draws, len(probabilities))) < probabilities
    return float(np.mean([calibration_error(probabilities, truth.astype(float)) for truth in truths]))


def evaluate_held_out(aligned: LabelledLogits, coherent: LabelledLogits) -> Mapping[str, Any]:
    """Evaluate a judge on held-out families; calibration errors are of scales fitted without the family in question.

    Args:
        aligned: logits of careful and careless answers.
        coherent: logits of intact and corrupted answers.
    """
    scores, intact, aligned_scores = coherent.cross_fitted, coherent.truth == 1, aligned.cross_fitted
    return {
        "aligned": asdict(discrimination_of(aligned, aligned_scores)),
        "families": results_by_family(aligned, aligned_scores),
        "coherent": {
            "auc": coherence_auc(coherent),
            "calibration_error": calibration_error(scores, coherent.truth),
            "sound_above_50": float((scores[intact] > 0.5).mean()),
            "spoiled_above_50": float((scores[~intact] > 0.5).mean()),
        },
    }
