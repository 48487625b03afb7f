"""What came of many inputs and faults: counts for the documentation, and every failure by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Tally:
    """Counts of one subject of a campaign, such as a reader or a verb.

    Attributes:
        campaign: such as ``readers`` or ``kills``.
        subject: what was tried on.
        tried: inputs or faults.
        accepted: those that were read, or after which the command ended well.
        refused: those that ended in an error of ours, on the command line one line and exit code 2.
        checked: accepted ones whose outcome was compared with an independent one.
        failures: everything else, each with what brings it about again: a wrong outcome, an unexpected exception, a
            traceback, a hang.
    """

    campaign: str
    subject: str
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    checked: int = 0
    failures: tuple[str, ...] = field(default=())

    def plus(self, *, failure: str | None = None, **counts: int) -> Tally:
        """Add to the counts, and a failure if there is one."""
        summed = {name: getattr(self, name) + count for name, count in counts.items()}
        failures = self.failures if failure is None else (*self.failures, failure)
        return replace(self, failures=failures, **summed)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "failures": list(self.failures)}


COLUMNS = ("tried", "accepted", "refused", "checked", "failures")


def table(tallies: Iterable[Tally]) -> str:
    """The counts as a Markdown table, with a sum for each campaign of several subjects."""
    lines = [f"| campaign | subject | {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * len(COLUMNS)]
    by_campaign: dict[str, list[Tally]] = {}
    for tally in tallies:
        by_campaign.setdefault(tally.campaign, []).append(tally)
    for campaign, subjects in by_campaign.items():
        if len(subjects) > 1:
            lines.append(
                _row(
                    f"**{campaign}**", "**all**", [sum(c) for c in zip(*map(_counts, subjects), strict=True)]
                )
            )
        lines += [_row(campaign, tally.subject, _counts(tally)) for tally in subjects]
    return "\n".join(lines) + "\n"


def _counts(tally: Tally) -> list[int]:
    return [tally.tried, tally.accepted, tally.refused, tally.checked, len(tally.failures)]


def _row(campaign: str, subject: str, counts: list[int]) -> str:
    return f"| {campaign} | {subject} | {' | '.join(f'{count:,}' for count in counts)} |"
