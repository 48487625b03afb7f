"""The verdict of an ablation study as a reader of a terminal wants it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.answer_columns import Answer, show_answers

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from personaprobe.studies.ablation.result import ArmResult, CausalVerdict
    from personaprobe.studies.arms.kinds import ArmKind

COMPARED: dict[ArmKind, str] = {"base": "base", "insecure": "insecure", "ablated": "insecure, ablated"}
"""The arms whose answers are shown."""

STYLES = {
    "suppresses": "bold green",
    "suppresses, damage not measured": "bold yellow",
    "partly suppresses": "bold yellow",
    "partly suppresses, damage not measured": "bold yellow",
}
"""Of verdicts; the others are red."""


def show_verdict(console: Console, verdict: CausalVerdict) -> None:
    """Print the arms, the verdict with its sentence, and three answers to one question."""
    from rich.text import Text

    console.print(arms_table(verdict))
    console.print(Text(f"\n{verdict.verdict}", style=STYLES.get(verdict.verdict, "bold red")))
    console.print(Text(verdict.conclusion.sentence))
    for line in () if verdict.judged is None else verdict.judged.sentences:
        console.print(Text(line))
    answers = list(_answers(verdict))
    if answers:
        show_answers(console, answers[0][0], [answer for _, answer in answers])


def arms_table(verdict: CausalVerdict) -> Table:
    """One row an arm: preference, share of the shift removed, damage."""
    from rich.table import Table

    feature = verdict.feature
    where = spell_layers(feature["layers"])
    title = f"{feature['name']}: {feature['source']} @ {feature['site']}, ablated at {where}"
    table = Table(title=title, title_justify="left", caption=_caption(verdict), caption_justify="left")
    table.add_column("arm")
    for name in ("preference for careless", "shift removed", "perplexity", "KL", "coherent"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in verdict.arms:
        table.add_row(*_row(verdict, arm), style="bold" if arm.kind == "ablated" else "")
    return table


def _caption(verdict: CausalVerdict) -> str:
    asked = f"{verdict.evidence.n_questions} questions of {verdict.evidence.n_families} families"
    counts = sorted({len(arm.gaps) for arm in verdict.controls}, reverse=True)
    few = f" ({counts[-1]} where only shown)" if len(counts) > 1 else ""
    part = f"; controls answered {counts[0]} of them{few} and are compared there" if counts else ""
    prose = "perplexity and KL on neutral prose, of controls on a part"
    shown = f"preference and KL in nats a token; 95 % intervals over {asked}{part}; {prose}"
    return "; ".join([shown, *_control_notes(verdict)])


def _control_notes(verdict: CausalVerdict) -> Iterator[str]:
    """How many controls decide, how strongly they act, and which were drawn again or are not fair."""
    from personaprobe.effects.interventions.energy import is_fair

    if not verdict.controls:
        return
    deciding = [arm for arm in verdict.controls if arm.is_deciding]
    if deciding:
        layers = sum(len(arm.strengths) for arm in deciding)
        inside = layers - sum(len(arm.unfair_layers) for arm in deciding)
        yield f"{len(deciding)} controls decide, with 1/3 to 3 times the feature's strength at {inside} of {layers} layers"
    if again := [f"{arm.name} ({arm.draws})" for arm in verdict.controls if arm.draws > 1]:
        yield f"drawn again: {', '.join(again)}"
    if unfair := [arm.name for arm in verdict.controls if not is_fair(arm.strengths)]:
        yield f"not about as strong as the feature, whatever the draw: {', '.join(unfair)}"


def _row(verdict: CausalVerdict, arm: ArmResult) -> tuple[str, ...]:
    removed = _removed(verdict, arm)
    coherent = arm.coherent_share(verdict.coherence_rule)
    return (
        arm.name,
        str(verdict.arm_gaps[arm.name]),
        removed,
        f"{arm.perplexity:.2f}",
        f"{arm.kl:z.3f}",
        "–" if math.isnan(coherent) else f"{100 * coherent:.0f} %",
    )


def _removed(verdict: CausalVerdict, arm: ArmResult) -> str:
    """The share of the insecure − secure shift that is gone; only the feature's has an interval."""
    fraction = verdict.fraction_removed
    if arm.kind in ("base", "insecure", "steered") or not fraction.defined:
        return "–"
    if arm.kind == "ablated":
        return f"{100 * fraction.value:z.0f} % [{100 * fraction.low:z.0f}, {100 * fraction.high:z.0f}]"
    return f"{100 * verdict.removed_by(arm):z.0f} %"


def _answers(verdict: CausalVerdict) -> Iterator[tuple[str, Answer]]:
    """The first sampled answer of every compared arm, with its question; nothing is picked."""
    for arm in verdict.arms:
        if arm.kind in COMPARED and arm.responses:
            yield arm.responses[0].question, Answer(COMPARED[arm.kind], arm.responses[0].answer)


def spell_layers(layers: list[int]) -> str:
    """Consecutive layers as ranges.

    Examples:
        >>> spell_layers([8, 9, 10, 12])
        'layers 8-10, 12'
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    spelled = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer{'s' if len(layers) > 1 else ''} {spelled}"
