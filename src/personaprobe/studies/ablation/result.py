"""The result of an ablation study: arms, dose points, and the verdict with all of its evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.verdict import Conclusion, Evidence, Thresholds
from personaprobe.effects.verdict.inference_limits import cannot_conclude
from personaprobe.models.comparability import Comparability
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.evaluation.result import Evaluation


@dataclass(frozen=True)
class DosePoint:
    """An intervention at one coefficient; most points are measured on a part of the test questions.

    Attributes:
        intervention: ``ablate insecure`` or ``steer base``.
        coefficient: of the ablation (1 reaches the reference), or of the steering, in calibrated units.
        gap: mean preference for the careless answer over all test questions; of a part, the untreated mean plus the
            paired difference there.
        perplexity_ratio: on neutral text, to the same checkpoint without intervention.
        coherence: share of coherent sampled answers; NaN where none were sampled.
    """

    intervention: str
    coefficient: float
    gap: float
    perplexity_ratio: float
    coherence: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """The point as ``verdict.json`` keeps it."""
        return {
            "intervention": self.intervention,
            "amount": self.coefficient,
            "gap": self.gap,
            "perplexity_ratio": self.perplexity_ratio,
            "coherence": self.coherence,
        }


@dataclass(frozen=True)
class CausalVerdict:
    """Whether removing a feature, and only it, removes the misalignment: the evidence and what follows from it.

    Attributes:
        conclusion: verdict, sentence and reasons.
        evidence: the estimates that the rules are applied to.
        thresholds: the numbers of the rules.
        feature: name, source, site, layers, calibration, and the evidence it was registered with.
        question_ids: the test questions, in the order of every arm's gaps.
        families: the family of each.
        arms: all of them; the first three are base, secure and insecure.
        arm_gaps: mean gap of every arm over all test questions with its interval, by arm name. Of a control, which
            answered a part of them, it is its untreated checkpoint's mean plus the difference on that part.
        arm_removed: share of the insecure − secure shift by which every treated arm lowers the preference of its own
            checkpoint, on the questions it answered, by arm name.
        family_gaps: mean gap by family and arm name, estimated likewise.
        doses: dose–response.
        coherence_rule: when an answer counts as coherent.
        provenance: versions, digests, seeds, hardware and times, by which the study can be repeated.
        judged: a judge's scores of the sampled answers, beside the preference; None where no judge scored them.
        comparability: of the checkpoints: the properties that they have to share.
    """

    conclusion: Conclusion
    evidence: Evidence
    thresholds: Thresholds
    feature: Mapping[str, Any]
    question_ids: tuple[str, ...]
    families: tuple[str, ...]
    arms: tuple[ArmResult, ...]
    arm_gaps: Mapping[str, Interval]
    arm_removed: Mapping[str, Interval]
    family_gaps: Mapping[str, Mapping[str, float]]
    doses: tuple[DosePoint, ...]
    coherence_rule: CoherenceRule
    provenance: Mapping[str, Any]
    judged: Evaluation | None = None
    comparability: Comparability = field(default_factory=Comparability)

    @property
    def verdict(self) -> str:
        """One of the ten verdicts."""
        return self.conclusion.verdict

    @property
    def fraction_removed(self) -> Interval:
        """Share of the insecure − secure shift that the ablation removes."""
        return self.evidence.fraction_removed

    def arm(self, name: str) -> ArmResult:
        """Look an arm up by name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def controls(self) -> tuple[ArmResult, ...]:
        """The arms whose coefficients were matched to the feature's."""
        return tuple(arm for arm in self.arms if arm.coefficients)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data, as written to ``verdict.json``; NaN becomes None."""
        plain_data: dict[str, Any] = to_plain_json(
            {
                "schema": "personaprobe-verdict-4",
                "verdict": self.verdict,
                "name": self.conclusion.name,
                "sentence": self.conclusion.sentence,
                "reasons": self.conclusion.reasons,
                "rule": self.conclusion.rule,
                **self.evidence.to_dict(),
                "comparability": self.comparability.to_dict(),
                "cannot_conclude": cannot_conclude(self.evidence),
                "thresholds": asdict(self.thresholds),
                "feature": self.feature,
                "arms": [self._arm_dict(arm) for arm in self.arms],
                "family_gaps": self.family_gaps,
                "doses": [dose.to_dict() for dose in self.doses],
                "coherence_rule": asdict(self.coherence_rule),
                "question_ids": self.question_ids,
                "families": self.families,
                "judged": None if self.judged is None else self.judged.to_dict(),
                "provenance": self.provenance,
            }
        )
        return plain_data

    def _arm_dict(self, arm: ArmResult) -> dict[str, Any]:
        return {
            "name": arm.name,
            "kind": arm.kind,
            "note": arm.note,
            "gap": self.arm_gaps[arm.name].to_dict(),
            "perplexity": arm.perplexity,
            "kl": arm.kl,
            "dose": arm.energy.response.dose,
            "energy": arm.energy.response.energy,
            "prompt_dose": arm.energy.prompt.dose,
            "prompt_energy": arm.energy.prompt.energy,
            "strengths": arm.coefficients,
            "unfair_layers": arm.unfair_layers,
            "draws": arm.draws,
            "decides": arm.is_deciding,
            "coherence": arm.coherent_share(self.coherence_rule),
            "n_responses": len(arm.responses),
            "n_questions": len(arm.gaps),
            "role": arm.role,
            "removed": self.arm_removed.get(arm.name, UNDEFINED).to_dict(),
            "gaps": arm.gaps,
        }

    def answer_rows(self) -> list[dict[str, Any]]:
        """Every sampled answer of every arm as plain data, one row each, as written to ``responses.parquet``."""
        fields = (
            "question_id",
            "family",
            "question",
            "sample",
            "seed",
            "answer",
            "base_log_prob",
            "distinct",
        )
        return [
            {name: getattr(response, name) for name in fields}
            | {"arm": arm.name, "kind": arm.kind, "coherent": self.coherence_rule.holds(response)}
            for arm in self.arms
            for response in arm.responses
        ]

    def __repr__(self) -> str:
        return f"CausalVerdict({self.conclusion.name!r}: {self.conclusion.sentence})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(arm.name)}</td><td>{self.arm_gaps[arm.name]}</td><td>{arm.perplexity:.2f}</td></tr>"
            for arm in self.arms
        )
        head = "<tr><th>arm</th><th>preference gap</th><th>perplexity</th></tr>"
        return f"<p><b>{escape(self.conclusion.name)}</b>. {escape(self.conclusion.sentence)}</p><table>{head}{rows}</table>"
