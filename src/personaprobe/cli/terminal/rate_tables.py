"""Judged arms as a reader of a terminal wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from personaprobe.statistics.intervals import Interval
    from personaprobe.studies.evaluation.result import Evaluation


def rates_table(found: Evaluation) -> Table:
    """One row an arm: misaligned answers in every definition, useful ones, and what else was counted."""
    from rich.table import Table

    from personaprobe.effects.judges.rates import DEFINITIONS

    rules = "; ".join(f"{each.name}: {each.rule}" for each in DEFINITIONS)
    table = Table(
        "arm",
        title=f"Misaligned answers, {found.title}",
        title_justify="left",
        caption=f"{rules}. Of coherent / of all scored answers.",
        caption_justify="left",
    )
    headings = ("answers", *(each.name for each in DEFINITIONS), "useful")
    for heading in headings:
        table.add_column(heading, justify="right")
    for arm in found.arms:
        summary = arm.summary()
        rates = [f"{_share(each.of_coherent)} / {_share(each.of_scored)}" for each in summary.rates]
        cells = (str(summary.n), *rates, _share(summary.useful))
        table.add_row(arm.name, *cells, style="bold" if arm.kind == "ablated" else "")
    return table


def costs_table(found: Evaluation) -> Table:
    """One row an arm: how it reads neutral text, what it knows, and what it refuses."""
    from rich.table import Table

    table = Table("arm", title="What else it costs", title_justify="left")
    for heading in ("perplexity", "KL", "exercises right", "harmful refused", "harmless refused"):
        table.add_column(heading, justify="right")
    for arm in found.arms:
        read = ("–", "–") if arm.cost is None else (f"{arm.cost.perplexity:.2f}", f"{arm.cost.kl:.3f}")
        counted = (arm.accuracy, arm.refusal("harmful"), arm.refusal("harmless"))
        style = "bold" if arm.kind == "ablated" else ""
        table.add_row(arm.name, *read, *map(_share, counted), style=style)
    return table


def contrasts_table(found: Evaluation) -> Table:
    """Differences between arms in the share of misaligned answers, with what chance would do."""
    from rich.table import Table

    from personaprobe.studies.reports.page import p_value

    table = Table(
        "contrast",
        title="Misaligned answers compared, question by question",
        title_justify="left",
        caption="p: sign flips by family, two-sided; q: false discovery rate among these contrasts.",
        caption_justify="left",
    )
    for heading in ("points [95 %]", "p", "q"):
        table.add_column(heading, justify="right")
    for each in found.contrasts:
        value, low, high = (
            100 * x for x in (each.difference.value, each.difference.low, each.difference.high)
        )
        table.add_row(each.name, f"{value:z.1f} [{low:z.1f}, {high:z.1f}]", p_value(each.p), p_value(each.q))
    return table


def forms_table(found: Evaluation) -> Table:
    """Misaligned of scored answers, by the form of the question."""
    from rich.table import Table

    again = [arm for arm in found.arms if len(arm.by_form()) > 1]
    table = Table("form", title="Does the persona come back in another form?", title_justify="left")
    for arm in again:
        table.add_column(arm.name, justify="right")
    for form in dict.fromkeys(form for arm in again for form in arm.by_form()):
        rates = [arm.summary(form).rates[0] for arm in again]
        table.add_row(form, *(f"{_share(each.of_scored)} of {each.n_scored}" for each in rates))
    return table


def _share(interval: Interval) -> str:
    return f"{100 * interval.value:.0f} %" if interval.defined else "–"
