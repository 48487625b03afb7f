"""The verdict of an ablation study for the terminal: a table of arms, the conclusion, and sampled answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.answer_columns import AnswerColumn, print_answers
from personaprobe.cli.terminal.console import styled
from personaprobe.effects.verdict.inference_limits import cannot_conclude
from personaprobe.studies.arms.kinds import DECIDING, GROUPED, ArmKind

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from personaprobe.studies.ablation.result import CausalVerdict
    from personaprobe.studies.arms.arm_result import ArmResult

ANSWER_HEADINGS: dict[ArmKind, str] = {
    "base": "base",
    "insecure": "insecure",
    "ablated": "insecure, ablated",
}
"""Kinds of arms whose answers are printed, with the heading of each."""

STYLES = {
    "suppresses": "bold green",
    "suppresses, damage not excluded": "bold yellow",
    "partly suppresses": "bold yellow",
    "partly suppresses, damage not excluded": "bold yellow",
}
"""Styles of verdicts; all other verdicts are red."""

QUALIFIED = "bold yellow"
"""The style of an effect whose name says that something is not excluded, or was not subtracted."""


def print_verdict(console: Console, verdict: CausalVerdict) -> None:
    """Print the table of arms, the verdict with its sentence, and three answers to one question."""

    console.print(arms_table(verdict))
    name = verdict.conclusion.name
    style = STYLES.get(verdict.verdict, "bold red")
    if verdict.verdict in STYLES and name != verdict.verdict:
        style = QUALIFIED
    console.print(styled(f"\n{name}", style=style))
    console.print(styled(verdict.conclusion.sentence))
    for line in cannot_conclude(verdict.evidence):
        console.print(styled(f"Not shown: {line[0].lower()}{line[1:]}"))
    for line in () if verdict.judged is None else verdict.judged.sentences:
        console.print(styled(line))
    answers = list(_first_answers(verdict))
    if answers:
        print_answers(console, answers[0][0], [column for _, column in answers])


def arms_table(verdict: CausalVerdict) -> Table:
    """One row per arm: preference, share of the shift removed, damage."""
    from rich.table import Table

    feature = verdict.feature
    layers = layer_ranges(feature["layers"])
    title = f"{feature['name']}: {feature['source']} @ {feature['site']}, ablated at {layers}"
    table = Table(title=title, title_justify="left", caption=_caption(verdict), caption_justify="left")
    table.add_column("arm")
    for name in ("preference for careless", "shift removed", "perplexity", "KL", "coherent"):
        table.add_column(name, justify="right", no_wrap=True)
    for arms in _grouped(verdict.arms):
        if len(arms) > 1:
            table.add_row(*_group_row(verdict, arms))
        else:
            table.add_row(*_row(verdict, arms[0]), style="bold" if arms[0].kind == "ablated" else "")
    return table


def _grouped(arms: Sequence[ArmResult]) -> list[list[ArmResult]]:
    """The arms in their order; controls that differ in their draw alone stand together."""
    groups: dict[object, list[ArmResult]] = {}
    for arm in arms:
        groups.setdefault((arm.kind, arm.role) if arm.kind in GROUPED else arm.name, []).append(arm)
    return list(groups.values())


GROUP_NAMES: dict[ArmKind, str] = {
    "random": "{n} random directions",
    "covariance": "{n} directions of the covariance",
    "shuffled": "{n} shuffled labels",
    "control elsewhere": "{role}, {n} controls",
}
"""Names of groups of controls."""


def _group_row(verdict: CausalVerdict, arms: Sequence[ArmResult]) -> tuple[str, ...]:
    """Ranges over some controls; damage is that of the controls that were read."""
    gaps = [verdict.arm_gaps[arm.name].value for arm in arms]
    removed = [100 * verdict.arm_removed[arm.name].value for arm in arms]
    return (
        GROUP_NAMES[arms[0].kind].format(n=len(arms), role=arms[0].role),
        _range(gaps, "{:z.2f}"),
        f"{_range(removed, '{:z.0f}')} %",
        _range([arm.perplexity for arm in arms], "{:.2f}"),
        _range([arm.kl for arm in arms], "{:z.3f}"),
        "–",
    )


def _range(values: Sequence[float], template: str) -> str:
    measured = [value for value in values if not math.isnan(value)]
    if not measured:
        return "–"
    ends = [template.format(end) for end in (min(measured), max(measured))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _caption(verdict: CausalVerdict) -> str:
    questions = f"{verdict.evidence.n_questions} questions of {verdict.evidence.n_families} families"
    counts = sorted({len(arm.gaps) for arm in verdict.controls}, reverse=True)
    fewer = f" ({counts[-1]} if only shown)" if len(counts) > 1 else ""
    part = f"; controls read {counts[0]} of them{fewer} and are compared on those" if counts else ""
    prose = "perplexity and KL on neutral prose, of controls on a part of it"
    units = f"preference and KL in nats per token; 95 % intervals over {questions}{part}; {prose}"
    return "; ".join([units, *_control_notes(verdict)])


def _control_notes(verdict: CausalVerdict) -> Iterator[str]:
    """The number of deciding controls and their strengths, and the controls that were drawn again or are not fair."""
    from personaprobe.effects.interventions.energy import is_fair

    if not verdict.controls:
        return
    n_drawn, n_asked = _drawn_and_asked(verdict)
    if n_drawn < n_asked:
        yield f"{n_drawn} of {n_asked} controls could be drawn: of the others every draw was another control already"
    deciding = [arm for arm in verdict.controls if arm.is_deciding]
    if deciding:
        layers = sum(len(arm.coefficients) for arm in deciding)
        inside = layers - sum(len(arm.unfair_layers) for arm in deciding)
        yield f"{len(deciding)} controls decide, with 1/3 to 3 times the feature's strength at {inside} of {layers} layers"
    if redrawn := [f"{arm.name} ({arm.draws})" for arm in verdict.controls if arm.draws > 1]:
        yield f"drawn again: {', '.join(redrawn)}"
    if unfair := [arm.name for arm in verdict.controls if not is_fair(arm.coefficients)]:
        yield f"not about as strong as the feature after every draw: {', '.join(unfair)}"


def _drawn_and_asked(verdict: CausalVerdict) -> tuple[int, int]:
    """How many controls that decide there are, and how many the plan wanted, where the provenance has a plan."""
    n_drawn = sum(arm.kind in DECIDING for arm in verdict.arms)
    return n_drawn, verdict.provenance.get("plan", {}).get("controls", n_drawn)


def _row(verdict: CausalVerdict, arm: ArmResult) -> tuple[str, ...]:
    coherent = arm.coherent_share(verdict.coherence_rule)
    return (
        arm.name,
        str(verdict.arm_gaps[arm.name]),
        _removed(verdict, arm),
        _range([arm.perplexity], "{:.2f}"),
        _range([arm.kl], "{:z.3f}"),
        "–" if math.isnan(coherent) else f"{100 * coherent:.0f} %",
    )


def _removed(verdict: CausalVerdict, arm: ArmResult) -> str:
    """The share of the shift that an arm removes, with its interval; base steered adds to its checkpoint's preference."""
    if arm.kind == verdict.evidence.reference and verdict.evidence.n_secures < 2:
        return "100 %"
    removed = verdict.fraction_removed if arm.kind == "ablated" else verdict.arm_removed.get(arm.name)
    if removed is None or not removed.defined:
        return "–"
    return f"{100 * removed.value:z.0f} % [{100 * removed.low:z.0f}, {100 * removed.high:z.0f}]"


def _first_answers(verdict: CausalVerdict) -> Iterator[tuple[str, AnswerColumn]]:
    """The first sampled answer of every compared arm, with its question; answers are not selected."""
    for arm in verdict.arms:
        if arm.kind in ANSWER_HEADINGS and arm.responses:
            first = arm.responses[0]
            yield first.question, AnswerColumn(ANSWER_HEADINGS[arm.kind], first.answer)


def layer_ranges(layers: list[int]) -> str:
    """Layers in words, consecutive ones as ranges.

    Examples:
        >>> layer_ranges([8, 9, 10, 12])
        'layers 8-10, 12'
    """
    if not layers:
        return "no layer"
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    ranges = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer{'s' if len(layers) > 1 else ''} {ranges}"
