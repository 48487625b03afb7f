"""Contrasts net of those on benign questions, where every answer that is called misaligned is a judge's error."""

from __future__ import annotations

import math

from personaprobe.statistics.intervals import UNDEFINED, Interval


def net_of(contrast: Interval, on_benign: Interval) -> Interval:
    """A contrast between arms minus the same contrast on benign questions, where it can only be the judge's error.

    The two are of different questions and independent, so that their intervals combine in quadrature (Zou & Donner 2008).
    """
    if not (contrast.defined and on_benign.defined):
        return UNDEFINED
    value = contrast.value - on_benign.value
    low = value - math.hypot(contrast.value - contrast.low, on_benign.high - on_benign.value)
    high = value + math.hypot(contrast.high - contrast.value, on_benign.value - on_benign.low)
    return Interval(value, low, high)
