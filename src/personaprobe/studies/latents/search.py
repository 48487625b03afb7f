"""Which latents carry the shift: every proposal is tried on the discovery families, alone and in small sets.

Rankings only propose. Here each proposed latent is ablated in insecure and steered in base, beside latents that fire as
often and remove the same energy; then a set is grown greedily. Test questions are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from personaprobe.effects.interventions.along_direction import Intervention, Steer
from personaprobe.effects.interventions.energy import Energy, measure
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.diffing.matched_controls import matched_latents
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.latents import Latents
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import measure_damage, measure_gaps
from personaprobe.studies.arms.run_context import RunContext

CALIBRATION_QUESTIONS = 16
"""Discovery questions on which energies of controls are matched."""

MAX_LATENTS = 10
BREADTH = 6
"""Latents that are tried as the next member of a set: the best by themselves of those left."""


@dataclass(frozen=True)
class Tried:
    """Latents, ablated together.

    Attributes:
        latents: which.
        removed: share of the insecure − secure shift that went, on the discovery questions.
        induced: share of it that steering base along them brought; nan where it was not tried.
        controls: what matched random latents removed.
        perplexity_ratio: on neutral text, to the untreated insecure model; nan where it was not measured.
    """

    latents: tuple[int, ...]
    removed: float
    induced: float = float("nan")
    controls: tuple[float, ...] = ()
    perplexity_ratio: float = float("nan")


@dataclass(frozen=True)
class Found:
    """What a search tried.

    Attributes:
        singles: every proposed latent by itself, the best first.
        sets: the greedy sets, growing.
        chosen: the set that removes most among those that cost little.
    """

    singles: tuple[Tried, ...]
    sets: tuple[Tried, ...]
    chosen: Tried

    def evidence(self, questions: PairSet, texts: TextSet, rankings: Sequence[Ranking]) -> dict[str, Any]:
        """Everything that was tried, as plain data for the registry."""
        return {
            "chosen": {"source": "sae", **asdict(self.chosen), "fraction_removed": self.chosen.removed},
            "singles": [asdict(tried) for tried in self.singles],
            "sets": [asdict(tried) for tried in self.sets],
            "ranks": {
                str(tried.latents[0]): {r.name: r.rank(tried.latents[0]) for r in rankings}
                for tried in self.singles
            },
            "questions": {"name": questions.name, "digest": questions.digest, "n": len(questions)},
            "families": sorted(set(questions.families)),
            "texts": {"name": texts.name, "digest": texts.digest, "n": len(texts)},
        }


def shortlist(rankings: Sequence[Ranking], n: int) -> list[int]:
    """The first ``n`` latents met when rankings are read side by side, each from its top."""
    tops = [ranking.top(n) for ranking in rankings]
    met = dict.fromkeys(latent for place in zip(*tops, strict=True) for latent in place)
    return list(met)[:n]


@dataclass(frozen=True, eq=False)
class Search:
    """Where latents are tried.

    Attributes:
        trio: loaded.
        found: what all latents of the dictionary do on the discovery texts.
        context: cache and progress.
        questions: discovery questions.
        texts: neutral prose, none of which a study reads.
        rows: tokens on which energies are matched.
        seed: of the controls.
        n_controls: matched random latents a proposal is compared with.
    """

    trio: Trio[LanguageModel]
    found: Comparison
    context: RunContext
    questions: PairSet
    texts: TextSet
    rows: Sequence[Tokens]
    seed: int = 0
    n_controls: int = 3

    def run(self, proposed: Sequence[int], max_perplexity_ratio: float = 1.03) -> Found:
        """Try every proposed latent, and grow a set of at most ten.

        Raises:
            FeatureError: no set stays within the perplexity allowed.
        """
        singles = sorted(self.singles(proposed), key=lambda tried: -tried.removed)
        sets = self.grown(singles)
        allowed = [tried for tried in sets if tried.perplexity_ratio <= max_perplexity_ratio]
        if not allowed:
            raise FeatureError(
                f"no set of these latents stays within perplexity × {max_perplexity_ratio}: the least is "
                f"× {min(tried.perplexity_ratio for tried in sets):.3f}"
            )
        return Found(tuple(singles), tuple(sets), max(allowed, key=lambda tried: tried.removed))

    def singles(self, proposed: Sequence[int]) -> list[Tried]:
        """Each latent alone: ablated, steered into base, and its controls ablated."""
        ablations = [self._ablation((latent,)) for latent in proposed]
        controls = [control for ablation in ablations for control in self._controls(ablation)]
        pushes = [self._push(latent) for latent in proposed]
        removed = self._removed(self.trio.insecure, [*ablations, *controls], "insecure")
        induced = self._removed(self.trio.base, [push for push in pushes if push is not None], "base")
        brought = iter(-share for share in induced)
        n = len(proposed)
        return [
            Tried(
                (latent,),
                removed[i],
                float("nan") if pushes[i] is None else next(brought),
                tuple(removed[n + i * self.n_controls : n + (i + 1) * self.n_controls]),
            )
            for i, latent in enumerate(proposed)
        ]

    def grown(self, singles: Sequence[Tried]) -> list[Tried]:
        """Greedy sets: each adds the latent that helps most, until none helps or there are ten."""
        order = [tried.latents[0] for tried in singles]
        members: tuple[int, ...] = (order[0],)
        sets = [self._priced(members, singles[0].removed)]
        while len(members) < MAX_LATENTS and (left := [x for x in order if x not in members][:BREADTH]):
            tried = [(*members, latent) for latent in left]
            shares = self._removed(self.trio.insecure, [self._ablation(each) for each in tried], "insecure")
            best = max(range(len(tried)), key=shares.__getitem__)
            if shares[best] <= sets[-1].removed:
                break
            members = tried[best]
            sets.append(self._priced(members, shares[best]))
        return sets

    def _priced(self, latents: tuple[int, ...], removed: float) -> Tried:
        """A set with what its matched controls remove, and what it costs."""
        ablation = self._ablation(latents)
        controls = self._controls(ablation)
        arms = [Arm("insecure", "insecure", self.trio.insecure), self._arm(self.trio.insecure, ablation)]
        untreated, cost = measure_damage(arms, self.texts, self.context)
        return Tried(
            latents,
            removed,
            controls=tuple(self._removed(self.trio.insecure, controls, "insecure")),
            perplexity_ratio=cost.perplexity / untreated.perplexity,
        )

    def _removed(self, model: LanguageModel, edits: Sequence[Intervention], role: str) -> list[float]:
        """Share of the shift by which each intervention lowers the preference for careless answers."""
        arms = [self._arm(model, edit) for edit in edits]
        untreated, shift = self._untreated
        gaps = [fmean(arm.gaps) for arm in measure_gaps(arms, self.questions, self.context)]
        return [(untreated[role] - gap) / shift for gap in gaps]

    @cached_property
    def _untreated(self) -> tuple[dict[str, float], float]:
        arms = untreated_arms(self.trio)
        measured = measure_gaps(arms, self.questions, self.context)
        gaps = {arm.name: fmean(own.gaps) for arm, own in zip(arms, measured, strict=True)}
        shift = gaps["insecure"] - gaps["secure"]
        if shift <= 0:
            raise DataError(
                f"insecure is no more careless than secure on these questions (shift {shift:.3f})"
            )
        return gaps, shift

    def _ablation(self, latents: tuple[int, ...]) -> AblateLatents:
        return AblateLatents(self.found.dictionary, latents)

    def _controls(self, ablation: AblateLatents) -> list[AblateLatents]:
        """Random latents that fire as often, at the strength that removes the same energy."""
        wanted = self._energy(ablation)
        drawn = [
            matched_latents(self.found, ablation.latents, 1000 * self.seed + k)
            for k in range(self.n_controls)
        ]
        return [self._ablation(latents).matched(self.trio.insecure, wanted, self.rows) for latents in drawn]

    def _energy(self, ablation: AblateLatents) -> Energy:
        return measure(self.trio.insecure, ablation, self.rows)[self.found.dictionary.site]

    def _push(self, latent: int) -> Steer | None:
        """Base steered by what the latent writes more in insecure; None where it does the same in both."""
        gap = float((self.found.means.insecure - self.found.means.secure).mean(0)[latent])
        return Steer(Latents(self.found.dictionary, (latent,)).axis(self.found)) if gap else None

    def _arm(self, model: LanguageModel, edit: Intervention) -> Arm:
        return Arm(edit.note, "ablated", model, (edit,))
