"""A selected control: the best of as many matched candidates as the feature was chosen from, chosen on discovery as well.

A feature that is the best of a hundred on discovery questions beats an average random direction on test questions even if
nothing is specific about it. So it is compared with the best of a hundred random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from personaprobe.effects.targets.feature import Feature
from personaprobe.questions.pairs import PairSet
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.controls import Control, candidate_controls
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms

ROUNDS = ((1.0, 2), (0.12, 6), (0.04, 16))
"""Successive halving: the share of candidates in each round, and the discovery questions that they answer by then."""

MATCHING_TEXTS = 2
"""Texts on which candidates are matched; the one that is selected is matched on as many as other controls."""


def n_candidates(feature: Feature) -> int:
    """How many candidates a feature was chosen from, as its evidence tells; 1 where it was not chosen."""
    evidence = feature.evidence
    if "candidates" in evidence:
        return int(evidence["candidates"])
    return max(1, len(evidence.get("sweep", ())), len(evidence.get("singles", ())))


def selected_control(
    arms: StudyArms, others: Sequence[Arm], n: int, questions: PairSet, run: RunContext, seed: int
) -> list[Arm]:
    """The candidate that lowers the preference for careless answers most on discovery; none for a feature not chosen.

    Most candidates are dropped after a few questions (successive halving, Jamieson & Talwalkar 2016).

    Args:
        arms: of the study.
        others: arms that candidates must differ from.
        n: candidates.
        questions: discovery questions.
        run: cache and progress.
        seed: of the study.
    """
    if n < 2:
        return []
    controls = candidate_controls(n, seed)
    matched_on_few = replace(arms, texts=arms.texts.spread(MATCHING_TEXTS))
    with run.progress("candidates", n, "directions") as advance:
        candidates: list[tuple[Control, Arm]] = []
        for control in controls:
            taken = [*others, *(arm for _, arm in candidates)]
            arm = matched_on_few.control(control, taken)
            candidates += [] if arm is None else [(control, arm)]
            advance(1)
    n_drawn = len(candidates)
    order = questions.spread(ROUNDS[-1][1])
    gaps: dict[str, list[float]] = {control.name: [] for control, _ in candidates}
    answered = 0
    for share, n_questions in ROUNDS:
        candidates = candidates[: max(1, round(share * n_drawn))]
        further = PairSet(order.name, order.pairs[answered:n_questions])
        measured = measure_gaps([arm for _, arm in candidates], further, run)
        for (control, _), of_arm in zip(candidates, measured, strict=True):
            gaps[control.name] += of_arm.gaps
        candidates.sort(key=lambda candidate: fmean(gaps[candidate[0].name]))
        answered = n_questions
    best = arms.control(candidates[0][0], others)
    assert best is not None, "a candidate that could be drawn beside all others can be drawn again"
    return [replace(best, name=f"best of {n_drawn} candidates", kind="selected")]
