"""The spread of several harmless fine-tunes, as a part of the interval of everything that is compared with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from personaprobe.statistics.families import Values
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples


@dataclass(frozen=True)
class ReferenceSpread:
    """How far the mean of a few harmless fine-tunes may lie from the mean of all that could be trained.

    The fine-tunes are a sample of trainings, and questions a sample of questions: both make the reference uncertain. A
    bootstrap of two or three trainings would be too narrow, so that their spread enters as the half width of a Student t
    interval of their mean, t(0.975, n − 1) · s / √n, added in quadrature to the interval over questions. Two trainings give
    t = 12.7, three 4.3, five 2.8. The spread of trainings of insecure is not part of it.

    Attributes:
        half_width: in the unit of the values; 0 for a single fine-tune, whose chance of training is then not part of any
            interval.
        n: fine-tunes.
    """

    half_width: float
    n: int

    @classmethod
    def of(cls, references: Sequence[Values], resamples: Resamples) -> ReferenceSpread:
        """The spread of fine-tunes that answered the same questions.

        Args:
            references: values of every fine-tune, (n_questions,) each; one at least.
            resamples: of the questions.
        """
        means = [resamples.estimate(values) for values in references]
        n = len(means)
        if n < 2:
            return cls(0.0, n)
        deviation = float(np.std(means, ddof=1))
        return cls(float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n), n)

    def widened(self, shift: Interval) -> Interval:
        """The interval of a shift from the mean of the fine-tunes, their spread included."""
        return _widened(shift, shift.value - self.half_width, shift.value + self.half_width)

    def widened_share(self, share: Interval, shift: Interval) -> Interval:
        """The interval of a share of that shift, their spread included.

        Args:
            share: a change divided by the shift.
            shift: its interval over questions alone.

        Returns:
            The share between those of a smaller and of a larger shift; undefined where the widened shift includes 0.
        """
        if not self.half_width or not share.defined:
            return share
        if not self.widened(shift).excludes(0.0):
            return UNDEFINED
        change = share.value * shift.value
        ends = [change / (shift.value + sign * self.half_width) for sign in (-1, 1)]
        return _widened(share, min(ends), max(ends))


def _widened(interval: Interval, low: float, high: float) -> Interval:
    """An interval with further uncertainty, whose own ends are given, added in quadrature."""
    if not interval.defined or low == high:
        return interval
    below = math.hypot(interval.value - interval.low, interval.value - low)
    above = math.hypot(interval.high - interval.value, high - interval.value)
    return Interval(interval.value, interval.value - below, interval.value + above)
