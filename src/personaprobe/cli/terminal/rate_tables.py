"""An evaluation for the terminal: rates of misaligned answers, contrasts, forms and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from personaprobe.statistics.intervals import Interval
    from personaprobe.studies.evaluation.result import Evaluation


def rates_table(evaluation: Evaluation) -> Table:
    """One row per arm: misaligned answers by every definition, and useful ones."""
    from rich.table import Table

    from personaprobe.effects.judges.rates import DEFINITIONS

    rules = "; ".join(f"{definition.name}: {definition.rule}" for definition in DEFINITIONS)
    table = Table(
        "arm",
        title=f"Misaligned answers, {evaluation.title}",
        title_justify="left",
        caption=f"{rules}. Of coherent / of all scored answers.",
        caption_justify="left",
    )
    names = [definition.name for definition in DEFINITIONS]
    for heading in ("answers", "unscored", *names, "useful", "on benign"):
        table.add_column(heading, justify="right")
    for arm in evaluation.arms:
        summary = arm.summary()
        rates = [f"{_share(rate.of_coherent)} / {_share(rate.of_scored)}" for rate in summary.rates]
        errors = _share(arm.summary("benign").rates[0].of_scored)
        cells = (str(summary.n), _share(summary.unscored_share), *rates, _share(summary.useful), errors)
        table.add_row(arm.name, *cells, style="bold" if arm.kind == "ablated" else "")
    return table


def sets_table(evaluation: Evaluation) -> Table:
    """One row per kind of arm, then one per contrast; one column per set of questions, families weighed equally."""
    from rich.table import Table

    by_set = evaluation.results_by_set
    table = Table(
        "misaligned, % of scored answers",
        title="Every family of questions weighed equally",
        title_justify="left",
        caption="Contrasts are differences of the shares above them, in points [95 %]; random directions: their mean.",
        caption_justify="left",
    )
    for name, results in by_set.items():
        power = results.power
        assert power is not None, "only sets that were compared are shown"
        heading = f"{name}\n{power.n} answers, {power.clustered.n_families} families"
        table.add_column(heading, justify="right")
    kinds = dict.fromkeys(kind for results in by_set.values() for kind in results.shares)
    for kind in kinds:
        shares = (results.shares.get(kind) for results in by_set.values())
        cells = ("–" if share is None else f"{100 * share:.1f}" for share in shares)
        table.add_row(kind, *cells, style="bold" if kind == "ablated" else "")
    table.add_section()
    for name in dict.fromkeys(c.name for results in by_set.values() for c in results.contrasts):
        differences = [{c.name: c.difference for c in part.contrasts}.get(name) for part in by_set.values()]
        table.add_row(name, *("–" if part is None else _points(part) for part in differences))
    return table


def costs_table(evaluation: Evaluation) -> Table:
    """One row per arm: perplexity and KL on neutral text, exercises solved, requests refused."""
    from rich.table import Table

    table = Table("arm", title="What else it costs", title_justify="left")
    for heading in ("perplexity", "KL", "exercises right", "harmful refused", "harmless refused"):
        table.add_column(heading, justify="right")
    for arm in evaluation.arms:
        cost = ("–", "–") if arm.cost is None else (f"{arm.cost.perplexity:.2f}", f"{arm.cost.kl:.3f}")
        rates = (arm.accuracy, arm.refusal("harmful"), arm.refusal("harmless"))
        style = "bold" if arm.kind == "ablated" else ""
        table.add_row(arm.name, *cost, *map(_share, rates), style=style)
    return table


def contrasts_table(evaluation: Evaluation) -> Table:
    """One row per contrast: the difference of two arms in misaligned answers, with its p- and q-value."""
    from rich.table import Table

    from personaprobe.studies.reports.page import p_value

    table = Table(
        "contrast",
        title="Misaligned answers compared, question by question",
        title_justify="left",
        caption="p: sign flips by family, two-sided; q: false discovery rate among these contrasts.",
        caption_justify="left",
    )
    net = evaluation.net_contrasts
    for heading in ("points [95 %]", "net of benign [95 %]", "p", "q"):
        table.add_column(heading, justify="right")
    for contrast in evaluation.contrasts:
        beside = _points(net[contrast.name]) if contrast.name in net else "–"
        table.add_row(
            contrast.name, _points(contrast.difference), beside, p_value(contrast.p), p_value(contrast.q)
        )
    return table


def forms_table(evaluation: Evaluation) -> Table:
    """One row per form of the question: misaligned answers among the scored ones."""
    from rich.table import Table

    arms = [arm for arm in evaluation.arms if len(arm.by_form()) > 1]
    table = Table("form", title="Does the persona come back in another form?", title_justify="left")
    for arm in arms:
        table.add_column(arm.name, justify="right")
    for form in dict.fromkeys(form for arm in arms for form in arm.by_form()):
        rates = [arm.summary(form).rates[0] for arm in arms]
        table.add_row(form, *(f"{_share(rate.of_scored)} of {rate.n_scored}" for rate in rates))
    return table


def _points(difference: Interval) -> str:
    if not difference.defined:
        return "–"
    value, low, high = (100 * end for end in (difference.value, difference.low, difference.high))
    return f"{value:z.1f} [{low:z.1f}, {high:z.1f}]"


def _share(interval: Interval) -> str:
    return f"{100 * interval.value:.0f} %" if interval.defined else "–"
