"""The damage that an ablation does to the model, each measure with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from personaprobe.effects.verdict.thresholds import THRESHOLDS, Thresholds
from personaprobe.statistics.intervals import UNDEFINED, Interval

_COHERENCE = "coherence"


@dataclass(frozen=True)
class Damage:
    """The damage that an ablation does to the model; an undefined interval means "not measured".

    Attributes:
        perplexity_ratio: perplexity on neutral prose, ablated over untreated.
        kl: divergence from the untreated model on neutral prose, nats per token.
        chat_kl: the same on the untreated insecure model's own answers to benign questions, nats per token.
        coherence: share of coherent answers relative to the untreated insecure model; 1 is as many.
        judged_coherence: the same by the judge; shown beside, decides nothing.
    """

    perplexity_ratio: Interval = UNDEFINED
    kl: Interval = UNDEFINED
    chat_kl: Interval = UNDEFINED
    coherence: Interval = UNDEFINED
    judged_coherence: Interval = UNDEFINED

    @classmethod
    def exact(
        cls, perplexity_ratio: float, kl: float, coherence: float, chat_kl: float = float("nan")
    ) -> Damage:
        """Damage whose measures are known without uncertainty; NaN for those that were not measured."""
        points = (perplexity_ratio, kl, chat_kl, coherence)
        return cls(*(Interval.exact(point) for point in points))

    @property
    def measured(self) -> bool:
        """Whether all four deciding measures were measured."""
        return all(part.defined for part in self._deciding)

    def shown(self, thresholds: Thresholds = THRESHOLDS) -> bool:
        """Whether the estimate of some measure lies beyond its limit."""
        return bool(self.exceeded(thresholds))

    def excluded(self, thresholds: Thresholds = THRESHOLDS) -> bool:
        """Whether all four deciding measures were measured, and their bounds lie within the limits."""
        return not self.not_excluded(thresholds)

    def exceeded(self, thresholds: Thresholds = THRESHOLDS) -> tuple[str, ...]:
        """Names of the deciding measures whose estimate lies beyond its limit; an unmeasured one exceeds none."""
        return tuple(
            name
            for name, interval, limit in self._limited(thresholds)
            if (interval.value < limit if name == _COHERENCE else interval.value > limit)
        )

    def not_excluded(self, thresholds: Thresholds = THRESHOLDS) -> tuple[str, ...]:
        """Names of the deciding measures that were not measured, or whose interval reaches beyond its limit."""
        return tuple(
            name
            for name, interval, limit in self._limited(thresholds)
            if not (interval.low > limit if name == _COHERENCE else interval.high <= limit)
        )

    def _limited(self, thresholds: Thresholds) -> tuple[tuple[str, Interval, float], ...]:
        """The deciding measures by name, with their limits."""
        return (
            ("perplexity", self.perplexity_ratio, thresholds.max_perplexity_ratio),
            ("KL on prose", self.kl, thresholds.max_kl),
            ("KL on chat answers", self.chat_kl, thresholds.max_kl),
            (_COHERENCE, self.coherence, thresholds.min_coherence),
        )

    @classmethod
    def from_dict(cls, row: Mapping[str, Mapping[str, float | None] | float | None]) -> Damage:
        """Read damage from plain data; earlier versions wrote single numbers, which had no interval."""
        return cls(**{name: _interval(value) for name, value in row.items()})

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """The intervals as plain data."""
        return {field.name: getattr(self, field.name).to_dict() for field in fields(self)}

    @property
    def _deciding(self) -> tuple[Interval, ...]:
        return self.perplexity_ratio, self.kl, self.chat_kl, self.coherence

    def __str__(self) -> str:
        parts = (
            _text("perplexity", self.perplexity_ratio, "× {:.2f}"),
            _text("KL on prose", self.kl, "{:.3f}", " nats per token"),
            _text("KL on chat answers", self.chat_kl, "{:.3f}", " nats per token"),
            _text("coherence", self.coherence.scaled(100), "{:.0f}", " % of the untreated model's"),
        )
        return ", ".join(parts)


def _text(name: str, interval: Interval, template: str, unit: str = "") -> str:
    if not interval.defined:
        return f"{name} not measured"
    value = f"{name} {template.format(interval.value)}{unit}"
    if interval.low == interval.high:
        return value
    ends = " to ".join(template.removeprefix("× ").format(end) for end in (interval.low, interval.high))
    return f"{value} ({ends})"


def _interval(value: Mapping[str, float | None] | float | None) -> Interval:
    if isinstance(value, Mapping):
        return Interval.from_dict(value)
    return UNDEFINED if value is None else Interval.exact(value)
