"""Shares of a shift: removed by a feature, by matched controls, and by the feature beyond controls.

Every share is a ratio of means in which families of questions weigh equally, paired by question. It is not defined (nan)
where the interval of the shift includes 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personaprobe.errors import DataError
from personaprobe.statistics.families import Values, finite
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples, mean_interval

_TAIL = 0.025


def share_of_shift(change: Values, shift: Values, resamples: Resamples) -> Interval:
    """A mean change as a share of a mean shift, paired by question.

    Args:
        change: in the unit of the shift, (n_questions,).
        shift: insecure − secure on the same questions.
        resamples: of the questions.
    """
    return _fraction(resamples.estimate(change), resamples.means(change), shift, resamples)


def fraction_removed(insecure: Values, secure: Values, ablated: Values, resamples: Resamples) -> Interval:
    """The fraction of the insecure − secure shift that an ablation removes: 0 none of it, 1 all of it."""
    return share_of_shift(
        _minus(insecure, ablated, resamples), _minus(insecure, secure, resamples), resamples
    )


def net_fraction(
    insecure: Values, secure: Values, ablated: Values, secure_ablated: Values, resamples: Resamples
) -> Interval:
    """The fraction of the shift that an ablation removes in insecure, minus that which it removes in secure.

    An ablation that makes any model more careful removes as much in secure, and nothing net.
    """
    removed = _minus(insecure, ablated, resamples) - _minus(secure, secure_ablated, resamples)
    return share_of_shift(removed, _minus(insecure, secure, resamples), resamples)


def random_fraction(
    insecure: Values, secure: Values, controls: Sequence[Values], resamples: Resamples
) -> Interval:
    """The fraction of the shift that matched controls remove, on average.

    The interval holds for other questions and for other controls: each resample is moved by Student's t with k − 1
    degrees of freedom times the standard error of the k controls' mean.

    Raises:
        DataError: fewer than two controls; one cannot show how much controls differ.
    """
    removed = _removed_by(insecure, controls, resamples)
    mean, spread = removed.mean(axis=0), _spread(removed, resamples)
    draws = resamples.means(mean) + spread * resamples.mean_of_controls(len(removed))
    return _fraction(resamples.estimate(mean), draws, _minus(insecure, secure, resamples), resamples)


def difference_in_differences(
    insecure: Values,
    secure: Values,
    ablated: Values,
    controls: Sequence[Values],
    resamples: Resamples,
    candidates: int = 1,
) -> Interval:
    """The fraction of the shift that the feature removes beyond one more control, or beyond the best of several.

    The interval answers whether the feature could be one more control; controls differ from each other, and enough
    questions would distinguish any of them from their mean. A feature that was chosen from N candidates on discovery is
    compared with the best of N further controls: even without an effect, the best of many exceeds the mean.
    See :meth:`Resamples.best_of_further` for the prediction.

    Args:
        insecure: of every question.
        secure: of every question.
        ablated: of every question.
        controls: of every question, each; two or more.
        resamples: of the questions.
        candidates: the number that the feature was chosen from; 1 if it was not chosen.

    Returns:
        The feature's fraction minus the predicted one: the mean of the controls for one candidate, the median of the
        predicted best for several.

    Raises:
        DataError: fewer than two controls, or fewer than one candidate.
    """
    if candidates < 1:
        raise DataError(f"a feature cannot be the best of {candidates} candidates; give 1 or more")
    removed = _removed_by(insecure, controls, resamples)
    spread = _spread(removed, resamples)
    further = spread * resamples.best_of_further(len(removed), candidates)
    middle = 0.0 if candidates == 1 else float(np.median(further))
    beyond = _minus(insecure, ablated, resamples) - removed.mean(axis=0)
    draws, value = resamples.means(beyond) - further, resamples.estimate(beyond) - middle
    return _fraction(value, draws, _minus(insecure, secure, resamples), resamples)


def _fraction(value: float, draws: np.ndarray, shift: Values, resamples: Resamples) -> Interval:
    """`value` and its `draws` divided by the mean `shift`; not defined where the shift's interval includes 0.

    A resample whose shift has the opposite sign defines no fraction. It counts as −∞ for the low end and as
    +∞ for the high end, so that it can only widen the interval.
    """
    whole = mean_interval(shift, resamples)
    if not whole.excludes(0.0):
        return UNDEFINED
    shifts = resamples.means(shift)
    opposite = shifts * whole.value <= 0
    fractions = draws / np.where(opposite, 1.0, shifts)
    low = np.quantile(np.where(opposite, -np.inf, fractions), _TAIL, method="higher")
    high = np.quantile(np.where(opposite, np.inf, fractions), 1 - _TAIL, method="lower")
    return Interval(value / whole.value, float(low), float(high))


def _removed_by(insecure: Values, controls: Sequence[Values], resamples: Resamples) -> np.ndarray:
    """The effect of each control on each question, (n_controls, n_questions)."""
    if len(controls) < 2:
        raise DataError(f"{len(controls)} random controls cannot show how they differ; run 2, better 5")
    return np.stack([_minus(insecure, control, resamples) for control in controls])


def _spread(removed: np.ndarray, resamples: Resamples) -> float:
    """The standard deviation of the controls' effects."""
    return float((removed @ resamples.equal).std(ddof=1))


def _minus(a: Values, b: Values, resamples: Resamples) -> np.ndarray:
    n_questions = len(resamples.equal)
    return np.asarray(finite(a, n_questions) - finite(b, n_questions))
