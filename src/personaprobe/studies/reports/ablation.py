"""The study as a page that works offline, and as data: ``report.html, verdict.json, responses.parquet``."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.energy import FAIR, MOST_UNFAIR
from personaprobe.effects.measures.responses import Response
from personaprobe.effects.verdict import THRESHOLDS, rules
from personaprobe.models.massive_tokens import MassiveToken
from personaprobe.statistics.intervals import Interval
from personaprobe.storage.digests import sha256
from personaprobe.storage.files import write_atomically, write_text
from personaprobe.studies.ablation.result import ArmResult, CausalVerdict
from personaprobe.studies.arms.kinds import SPEAKING, ArmKind
from personaprobe.studies.reports import figures

if TYPE_CHECKING:
    from jinja2 import Environment
    from pyarrow import Table

NOT_MEASURED = "not measured"
_DRAW = """
for (const box of document.querySelectorAll(".figure")) {
  const figure = JSON.parse(box.querySelector("script").textContent);
  Plotly.newPlot(box.querySelector(".plot"), figure.data, figure.layout, CONFIG);
}
"""


@dataclass(frozen=True)
class Answer:
    """One sampled answer as the page shows it."""

    arm: str
    kind: ArmKind
    sample: int
    text: str
    coherent: bool


@dataclass(frozen=True)
class Card:
    """The answers to one question: the first sample of one arm of each kind side by side, and all others."""

    family: str
    question: str
    shown: tuple[Answer, ...]
    others: tuple[Answer, ...]


LONG = ("evidence.sweep", "evidence.singles", "evidence.sets", "evidence.ranks")
"""Parts of a feature's evidence that are drawn, or too long to be listed."""


def write_report(verdict: CausalVerdict, folder: Path) -> Path:
    """Write what a study found, for a reader, a program and a table; every file is whole or absent.

    Args:
        verdict: what the study found.
        folder: made where it does not exist. The page is written last.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: the folder cannot be written.
    """
    page, table = render(verdict), responses_table(verdict)
    return write_files(
        (folder / "responses.parquet", table),
        (folder / "verdict.json", verdict.to_dict()),
        (folder / "report.html", page),
    )


def write_files(
    table: tuple[Path, Table], data: tuple[Path, Mapping[str, Any]], page: tuple[Path, str]
) -> Path:
    """Write a table, plain data and a page, each to its place and whole, the page last; returns the page's path."""
    from pyarrow import parquet

    told = spelled(data[1])
    write_atomically(table[0], lambda path: parquet.write_table(table[1], path))
    write_text(data[0], told)
    write_text(*page)
    return page[0]


def spelled(data: Mapping[str, Any]) -> str:
    """Plain data as the JSON text of a file."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def responses_table(verdict: CausalVerdict) -> Table:
    """Every sampled answer of every arm, one a row, with what its coherence was judged by."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    columns = {"arm": text, "kind": text, "question_id": text, "family": text, "question": text}
    columns |= {"sample": number, "seed": number, "answer": text}
    columns |= {"base_log_prob": pa.float64(), "distinct": pa.float64(), "coherent": pa.bool_()}
    own = ("arm", "kind", "coherent")
    rows = [
        {name: getattr(response, name) for name in columns if name not in own}
        | {"arm": arm.name, "kind": arm.kind, "coherent": verdict.coherence_rule.holds(response)}
        for arm in verdict.arms
        for response in arm.responses
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def render(verdict: CausalVerdict) -> str:
    """The page as text: its policy forbids browsers to load anything, or to run any script but its own two."""
    from markupsafe import Markup

    scripts = drawing()
    template = environment().from_string(packaged("report.html.jinja"))
    return template.render(
        verdict=verdict,
        css=Markup(packaged("report.css")),
        infinity=math.inf,
        fewest=min(len(arm.gaps) for arm in verdict.arms),
        deciding_asked=max((len(arm.gaps) for arm in verdict.controls), default=0),
        own_thresholds=verdict.thresholds == THRESHOLDS,
        organism=verdict.provenance.get("organism", ""),
        massive=[MassiveToken(**token) for token in verdict.provenance.get("massive_tokens", ())],
        fair=FAIR,
        most_unfair=MOST_UNFAIR,
        styles=figures.STYLES,
        numbers=key_numbers(verdict),
        figures={name: Markup(drawn) for name, drawn in _figures(verdict)},
        cards=list(cards(verdict)),
        rules=[
            (*rule, place == verdict.conclusion.rule) for place, rule in enumerate(rules(verdict.thresholds))
        ],
        provenance=list(flat(verdict.provenance)),
        feature=[line for line in flat(verdict.feature) if not line[0].startswith(LONG)],
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(map(fingerprint, scripts)),
    )


def key_numbers(verdict: CausalVerdict) -> list[tuple[str, str, str]]:
    """The numbers the verdict rests on: what, how much, and the interval or the limit beside it."""
    found, limits = verdict.evidence, verdict.thresholds
    damage = found.damage
    shares = {
        "of the shift removed": found.fraction_removed,
        "removed by random directions of the same energy": found.random_fraction_removed,
        "removed beyond random": found.over_random,
    }
    detectable = f"would show a shift of {number(found.detectable_shift)}"
    return [
        *((name, share(interval.value), interval_of(interval, share)) for name, interval in shares.items()),
        ("shift, nats per token", number(found.shift.value), interval_of(found.shift)),
        (
            "perplexity, relative",
            times(damage.perplexity_ratio),
            f"limit {times(limits.max_perplexity_ratio)}",
        ),
        ("KL, nats per token", number(damage.kl), f"limit {number(limits.max_kl)}"),
        ("coherent answers, relative", share(damage.coherence), f"limit {share(limits.min_coherence)}"),
        (f"questions of {found.n_families} families", str(found.n_questions), detectable),
    ]


def cards(verdict: CausalVerdict) -> Iterator[Card]:
    """The sampled answers by question, in the order in which questions were sampled."""
    first = {kind: next((arm.name for arm in verdict.arms if arm.kind == kind), "") for kind in SPEAKING}
    by_question: dict[str, list[tuple[ArmResult, Response]]] = {}
    for arm in verdict.arms:
        for response in arm.responses:
            by_question.setdefault(response.question_id, []).append((arm, response))
    for given in by_question.values():
        lead = min(response.sample for _, response in given)
        beside = [r.sample == lead and first.get(arm.kind) == arm.name for arm, r in given]
        answers = [
            Answer(arm.name, arm.kind, r.sample, r.answer.strip(), verdict.coherence_rule.holds(r))
            for arm, r in given
        ]
        shown = tuple(answer for answer, is_beside in zip(answers, beside, strict=True) if is_beside)
        others = tuple(answer for answer, is_beside in zip(answers, beside, strict=True) if not is_beside)
        yield Card(given[0][1].family, given[0][1].question, shown, others)


def number(value: float, places: int = 2) -> str:
    """A number as it is read: a true minus sign, ∞, and words for NaN."""
    if math.isnan(value):
        return NOT_MEASURED
    return f"{value:z.{places}f}".replace("-", "−").replace("inf", "∞")


def times(value: float) -> str:
    """A ratio, such as × 1.04."""
    return NOT_MEASURED if math.isnan(value) else f"× {number(value)}"


def share(value: float) -> str:
    """A share in per cent."""
    return NOT_MEASURED if math.isnan(value) else f"{number(100 * value, 0)} %"


def interval_of(interval: Interval, show: Any = number) -> str:
    """The two ends, or why there are none."""
    return (
        f"{show(interval.low)} to {show(interval.high)}" if interval.defined else "no shift to measure it by"
    )


def rate(interval: Interval) -> str:
    """A share with its interval, or a dash where nothing was counted."""
    if not interval.defined:
        return "–"
    return f"{share(interval.value)} ({100 * interval.low:.0f}–{100 * interval.high:.0f})"


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested records as lines: ``versions.torch`` and its value."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "none"
        else:
            said = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key}", "not given" if value is None else said


def _figures(verdict: CausalVerdict) -> Iterator[tuple[str, str]]:
    drawn = {
        "arms": figures.arms_figure(verdict),
        "sweep": figures.layer_source_map(verdict),
        "doses": figures.dose_figure(verdict),
        "families": figures.family_figure(verdict),
    }
    yield from ((name, figures.figure_json(figure)) for name, figure in drawn.items() if figure is not None)


def drawing() -> list[str]:
    """The scripts of a page with figures: plotly, and what draws."""
    return [figures.plotly_script(), _DRAW.replace("CONFIG", json.dumps(figures.CONFIG))]


def fingerprint(script: str) -> str:
    """A script's name in a content security policy: only scripts with these bytes may run."""
    return f"'sha256-{base64.b64encode(sha256(script)).decode()}'"


def packaged(name: str) -> str:
    """A template or a style sheet of this room."""
    return (files("personaprobe.studies.reports") / "templates" / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Where pages are made: everything that is shown is escaped, and a name that is not given is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown: Iterable[Any] = (number, times, share, interval_of, rate)
    environment.filters.update({function.__name__: function for function in shown})
    return environment
