"""How far words alone tell careless answers from careful ones: a baseline for anything that claims to read meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.questions.pairs import Pair


@dataclass(frozen=True)
class BagOfWords:
    """How well a bag of words, trained on some pairs, tells the answers of other pairs apart.

    Attributes:
        auc: area under the ROC curve of careless against careful answers, each judged alone; 0.5 is chance.
        paired: share of questions whose careless answer gets the higher score; ties count half.
    """

    auc: float
    paired: float


def bag_of_words(training: Sequence[Pair], tested: Sequence[Pair], *, sublinear: bool = False) -> BagOfWords:
    """Train a logistic regression on single words and pairs of neighbouring words, weighted by TF-IDF, and examine it.

    Args:
        training: pairs whose answers are learned, careless against careful.
        tested: pairs whose answers are examined.
        sublinear: count a repeated word by the logarithm of its number.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=sublinear)
    counts = words.fit_transform(_careful_then_careless(training))
    model = LogisticRegression(max_iter=2000).fit(counts, np.repeat([0, 1], len(training)))
    scores = model.decision_function(words.transform(_careful_then_careless(tested)))
    careful, careless = np.split(scores, 2)
    return BagOfWords(
        float(roc_auc_score(np.repeat([0, 1], len(tested)), scores)),
        float(np.mean((careless > careful) + 0.5 * (careless == careful))),
    )


def _careful_then_careless(pairs: Sequence[Pair]) -> list[str]:
    return [pair.careful for pair in pairs] + [pair.careless for pair in pairs]
