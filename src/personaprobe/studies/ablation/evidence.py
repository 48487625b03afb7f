"""The evidence of a study: every quantity of the verdict's rules with its interval, estimated from measured arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personaprobe.effects.measures.coherence import CoherenceRule, paired_coherence_ratio
from personaprobe.effects.measures.damage import divergence, perplexity_ratio
from personaprobe.effects.measures.responses import Response, benign_answers
from personaprobe.effects.verdict import Damage, Evidence
from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.families import family_summary
from personaprobe.statistics.fractions import (
    difference_in_differences,
    fraction_removed,
    net_fraction,
    random_fraction,
    share_of_shift,
)
from personaprobe.statistics.hypothesis_tests import RankTest, rank_test
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples, difference
from personaprobe.statistics.power import minimum_detectable, questions_needed
from personaprobe.statistics.reference_spread import ReferenceSpread
from personaprobe.studies.ablation.judged_answers import induced, judged_coherence
from personaprobe.studies.ablation.measurements import (
    FurtherQuestions,
    Questions,
    StudyMeasurements,
    first_of,
    gaps_of,
    reference_arms,
    reference_gaps,
    reference_role,
)
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.plan import StudyPlan


def estimate_evidence(study: StudyMeasurements) -> Evidence:
    """Estimate all quantities of the verdict's rules; every comparison is paired by question."""
    plan, arms = study.plan, study.arms
    insecure, ablated = (first_of(arms, kind) for kind in ("insecure", "ablated"))
    a, b, c = gaps_of(insecure), reference_gaps(arms), gaps_of(ablated)
    families, resamples = plan.test.families, study.resamples(len(plan.test))
    shift, removed = difference(a, b, resamples), fraction_removed(a, b, c, resamples)
    references = reference_arms(arms)
    spread = ReferenceSpread.of([gaps_of(arm) for arm in references], resamples)
    return Evidence(
        shift=spread.widened(shift),
        fraction_removed=spread.widened_share(removed, shift),
        damage=_damage(insecure, ablated, study),
        induced=UNDEFINED if study.judged is None else induced(study.judged, plan.seed),
        detectable_shift=minimum_detectable(a - b, families),
        questions_needed=questions_needed(plan.thresholds.smallest_shift, a - b, families),
        n_questions=len(families),
        bag_of_words=_bag_of_words(plan, plan.test),
        n_families=len(set(families)),
        clustering=family_summary(a - c, families),
        candidates=study.candidates,
        **_on_further_questions(study),
        reference=reference_role(arms),
        n_secures=sum(arm.role != "base" for arm in references),
        **_against_controls(study),
        **_elsewhere(study),
    )


def _against_controls(study: StudyMeasurements) -> dict[str, Any]:
    """The feature beside the controls that decide, and beside the control that was selected as it was."""
    controls = [gaps_of(arm) for arm in study.arms if arm.is_deciding]
    selected = [gaps_of(arm) for arm in study.arms if arm.kind == "selected"]
    beyond = (
        {"over_selected": _Compared.on_test(study, len(selected[0])).beyond(selected[0])} if selected else {}
    )
    if len(controls) < 2:
        return {
            "random_fraction_removed": UNDEFINED,
            "over_random": UNDEFINED,
            "n_controls": len(controls),
            "rank": RankTest(0, len(controls), 1.0),
            **beyond,
        }
    compared = _Compared.on_test(study, len(controls[0]))
    insecure, ablated = compared.gaps["insecure"], compared.gaps["ablated"]
    reference = compared.reference
    removed, *by_controls = (
        compared.resamples.estimate(insecure - treated) for treated in (ablated, *controls)
    )
    return {
        "random_fraction_removed": random_fraction(insecure, reference, controls, compared.resamples),
        "over_random": difference_in_differences(
            insecure, reference, ablated, controls, compared.resamples, candidates=study.candidates
        ),
        "n_controls": len(controls),
        "rank": rank_test(removed, by_controls),
        **beyond,
    }


def _elsewhere(study: StudyMeasurements) -> dict[str, Any]:
    """The same ablation, and matched controls, in base and in secure, as shares of the shift."""
    shares: dict[str, Interval] = {}
    for role in ("base", "secure"):
        for name, kind in (("removed_in", "ablated elsewhere"), ("null_in", "control elsewhere")):
            arms = [gaps_of(arm) for arm in study.arms if (arm.role, arm.kind) == (role, kind)]
            if arms:
                shares[f"{name}_{role}"] = _Compared.on_test(study, len(arms[0])).removed(role, arms)
    ablated = [arm for arm in study.arms if (arm.role, arm.kind) == ("secure", "ablated elsewhere")]
    if ablated:
        compared = _Compared.on_test(study, len(ablated[0].gaps))
        shares["net_of_secure"] = compared.net_of_secure(gaps_of(ablated[0]))
    return shares


@dataclass(frozen=True, eq=False)
class _Compared:
    """Comparisons of arms on the same questions.

    Attributes:
        gaps: of insecure, insecure ablated, and other arms, by kind.
        reference: gaps that insecure is compared with.
        resamples: of the questions.
    """

    gaps: Mapping[ArmKind, Questions]
    reference: Questions
    resamples: Resamples

    @classmethod
    def on_test(cls, study: StudyMeasurements, n: int) -> _Compared:
        """On the first ``n`` test questions; of each kind, the first arm."""
        gaps = {arm.kind: gaps_of(arm)[:n] for arm in reversed(study.arms)}
        return cls(gaps, reference_gaps(study.arms)[:n], study.resamples(n))

    @classmethod
    def on(cls, further: FurtherQuestions | None, seed: int) -> _Compared | None:
        """On further questions; None without any, and for those of a single family, which have no interval."""
        import numpy as np

        if further is None or len(set(further.questions.families)) < 2:
            return None
        gaps = {kind: np.asarray(of_kind) for kind, of_kind in further.gaps.items()}
        reference = gaps["secure" if "secure" in gaps else "base"]
        return cls(gaps, reference, Resamples.of_families(further.questions.families, seed=seed))

    def share(self, change: Questions) -> Interval:
        """A change as a share of the shift on these questions."""
        return share_of_shift(change, self.gaps["insecure"] - self.reference, self.resamples)

    def beyond(self, control: Questions) -> Interval:
        """The share that the feature removes beyond other gaps of insecure: untreated, or under a control."""
        return self.share(control - self.gaps["ablated"])

    def removed(self, role: ArmKind, arms: Sequence[Questions]) -> Interval:
        """The mean share of the shift by which some arms lower the preference of a checkpoint."""
        import numpy as np

        return self.share(self.gaps[role] - np.mean(arms, axis=0))

    def net_of_secure(self, secure_ablated: Questions) -> Interval:
        """The share removed in insecure minus that in secure, paired by question."""
        insecure, secure, ablated = (self.gaps["insecure"], self.gaps["secure"], self.gaps["ablated"])
        return net_fraction(insecure, secure, ablated, secure_ablated, self.resamples)


def _on_further_questions(study: StudyMeasurements) -> dict[str, Any]:
    """The share of the narrow task's shift that is left, and the shift on style-balanced questions with its removal."""
    import numpy as np

    shares: dict[str, Any] = {}
    if (narrow := _Compared.on(study.narrow, study.plan.seed)) is not None:
        shares["narrow_left"] = narrow.share(narrow.gaps["ablated"] - narrow.reference)
    if study.balanced is not None and (balanced := _Compared.on(study.balanced, study.plan.seed)) is not None:
        questions = study.balanced.questions
        controls = [np.asarray(of_control) for of_control in study.balanced.control_gaps]
        shares["balanced_shift"] = difference(
            balanced.gaps["insecure"], balanced.reference, balanced.resamples
        )
        shares["balanced_removed"] = balanced.beyond(balanced.gaps["insecure"])
        if controls:
            shares["balanced_null"] = balanced.removed("insecure", controls)
        shares["n_balanced"] = len(questions)
        shares["balanced_bag_of_words"] = _bag_of_words(study.plan, questions)
    return shares


def _bag_of_words(plan: StudyPlan, questions: PairSet) -> float:
    return bag_of_words(plan.discovery.pairs, questions.pairs).auc


def _damage(insecure: ArmResult, ablated: ArmResult, study: StudyMeasurements) -> Damage:
    """Every measure of damage, paired by text and by question."""
    requests = [response.family for response in benign_answers(insecure.responses)]
    return Damage(
        perplexity_ratio=perplexity_ratio(ablated.on_prose, insecure.on_prose),
        kl=divergence(ablated.on_prose),
        chat_kl=divergence(ablated.on_chat, requests),
        coherence=_coherence(insecure.responses, ablated.responses, study.coherence_rule),
        judged_coherence=UNDEFINED if study.judged is None else judged_coherence(study.judged),
    )


def _coherence(untreated: Sequence[Response], ablated: Sequence[Response], rule: CoherenceRule) -> Interval:
    """Coherent share of the ablated model's answers over that of insecure's to the same questions."""
    before, after = (
        {(r.family, r.question_id, r.sample): rule.holds(r) for r in responses}
        for responses in (untreated, ablated)
    )
    return paired_coherence_ratio(before, after)
