"""How often the verdict is wrong, and how often intervals cover the truth, on planted studies.

``python -m tests.simulations.false_verdicts --studies 1000 --seed 0`` prints the tables of docs/verdict.md. The package's
own estimators and rules decide; no language model is involved.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tests.simulations.planted_studies import NULLS, SHIFT, Layout, PlantedStudy, normal, planted_study

from personaprobe.effects.verdict import decide
from personaprobe.statistics.intervals import Interval

SELECTIONS = {"none": 1, "best of 64": 64, "best of 100": 100}
CONTROL_QUESTIONS = (24, 12)
POWER_NULLS = {"normal(−0.10, 0.013)": normal(-0.10, 0.013), **dict(list(NULLS.items())[:3])}
TRUE_SHARE = 0.8
COVERAGE_FAMILIES, COVERAGE_ICCS = (8, 12, 20), (0.0, 0.1, 0.3)


@dataclass(frozen=True)
class Rates:
    """Shares of planted studies.

    Attributes:
        suppresses: of studies with this verdict, whatever the damage.
        partly: of studies with "partly suppresses".
        fraction: whose interval of the fraction removed covers the truth.
        shift: whose interval of the shift does.
        overstated: whose interval of the share beyond controls lies above the truth; at most 2.5 % were it exact.
    """

    suppresses: float
    partly: float
    fraction: float
    shift: float
    overstated: float


def rates(studies: Sequence[PlantedStudy]) -> Rates:
    """The verdicts and the coverage of some planted studies."""
    verdicts = [decide(study.evidence).verdict for study in studies]
    pairs = [(study.evidence, study) for study in studies]
    return Rates(
        suppresses=float(np.mean([verdict.startswith("suppresses") for verdict in verdicts])),
        partly=float(np.mean([verdict.startswith("partly") for verdict in verdicts])),
        fraction=_covered([(e.fraction_removed, study.removed) for e, study in pairs]),
        shift=_covered([(e.shift, SHIFT) for e, _ in pairs]),
        overstated=float(np.mean([e.over_random.low > study.beyond for e, study in pairs])),
    )


def _covered(intervals: Sequence[tuple[Interval, float]]) -> float:
    """The share of defined intervals that cover the truth."""
    return float(np.mean([not interval.excludes(truth) for interval, truth in intervals if interval.defined]))


def false_verdict_rows(n_studies: int, seed: int) -> Iterator[tuple[str, Rates]]:
    """Features that are directions of no special meaning, with and without selection."""
    for null, draws in NULLS.items():
        for selection, candidates in SELECTIONS.items():
            for questions in CONTROL_QUESTIONS:
                rng = np.random.default_rng((seed, len(null), candidates, questions))
                layout = Layout(n_control_questions=questions)
                studies = [planted_study(rng, draws, candidates, layout) for _ in range(n_studies)]
                yield f"{null} | {selection} | {questions}", rates(studies)


def power_rows(n_studies: int, seed: int) -> Iterator[tuple[str, Rates]]:
    """A feature that removes 80 % of the shift, chosen from a hundred candidates."""
    for null, draws in POWER_NULLS.items():
        for questions in CONTROL_QUESTIONS:
            rng = np.random.default_rng((seed, len(null), questions))
            layout = Layout(n_control_questions=questions)
            studies = [planted_study(rng, draws, 100, layout, TRUE_SHARE) for _ in range(n_studies)]
            yield f"{null} | best of 100 | {questions}", rates(studies)


def coverage_rows(n_studies: int, seed: int) -> Iterator[tuple[str, Rates]]:
    """A feature that removes 80 % of the shift, by number of families and correlation in them."""
    for n_families in COVERAGE_FAMILIES:
        for icc in COVERAGE_ICCS:
            rng = np.random.default_rng((seed, n_families, round(100 * icc)))
            layout = Layout(n_families, n_control_questions=2 * n_families, icc=icc)
            draws = NULLS["normal(−0.10, 0.08)"]
            studies = [planted_study(rng, draws, 1, layout, TRUE_SHARE) for _ in range(n_studies)]
            yield f"{n_families} | {icc}", rates(studies)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def tables(n_studies: int, seed: int) -> Iterator[str]:
    """The three tables as lines of Markdown."""
    head = (
        "| null of feature and controls | selection | questions of controls | suppresses | partly suppresses "
    )
    yield f"{head}| covers fraction removed | overstates beyond controls |"
    yield "|---" * 7 + "|"
    for name, row in false_verdict_rows(n_studies, seed):
        verdicts = f"{_percent(row.suppresses)} | {_percent(row.partly)}"
        yield f"| {name} | {verdicts} | {_percent(row.fraction)} | {_percent(row.overstated)} |"
    yield ""
    beside = f"controls beside a feature that removes {100 * TRUE_SHARE:.0f} %"
    yield f"| {beside} | selection | questions of controls | suppresses | partly suppresses |"
    yield "|---" * 5 + "|"
    for name, row in power_rows(n_studies, seed):
        yield f"| {name} | {_percent(row.suppresses)} | {_percent(row.partly)} |"
    yield ""
    head = "| families of 10 questions | correlation in a family | covers shift | covers fraction removed "
    yield f"{head}| overstates beyond controls |"
    yield "|---" * 5 + "|"
    for name, row in coverage_rows(n_studies, seed):
        yield f"| {name} | {_percent(row.shift)} | {_percent(row.fraction)} | {_percent(row.overstated)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for line in tables(arguments.studies, arguments.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
