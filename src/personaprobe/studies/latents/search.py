"""The search for latents that carry the shift: candidates are tried on discovery questions, alone and in small sets.

Rankings only propose. Each proposed latent is ablated in insecure and steered in base, beside random latents that are
active as often and remove the same energy. Then a set is grown greedily. Test questions are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from personaprobe.effects.interventions.along_direction import Intervention, Steer
from personaprobe.effects.interventions.energy import Energy, measure
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.all_rankings import all_rankings
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.diffing.matched_controls import matched_latents
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.latents import Latents
from personaprobe.features.sae.quality import MIN_EXPLAINED_VARIANCE
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet, load_texts
from personaprobe.studies.arms.arm import Arm, calibration_rows, untreated_arms
from personaprobe.studies.arms.measurement import measure_damage, measure_gaps
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.latents.search_result import Candidate, SearchResult

CALIBRATION_QUESTIONS = 16
"""Discovery questions on which energies of controls are matched."""

NEUTRAL_TEXTS = 16
"""Neutral texts on which perplexity is measured."""

MAX_LATENTS = 10
"""Latents of a set at most."""

BREADTH = 6
"""Latents that are tried as the next member of a set: the best single ones that remain."""


@dataclass(frozen=True)
class SearchOptions:
    """Size of a search.

    Attributes:
        n_questions: discovery questions that each candidate is tried on.
        n_proposed: latents from the tops of all rankings.
        n_controls: matched random latents per candidate.
        max_perplexity_ratio: the most that the chosen set may cost.
        seed: of the permutations and the controls.
        floor: explained variance below which the dictionary is refused.
    """

    n_questions: int = 24
    n_proposed: int = 64
    n_controls: int = 1
    max_perplexity_ratio: float = 1.03
    seed: int = 0
    floor: float = MIN_EXPLAINED_VARIANCE


def search_latents(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    questions: PairSet,
    context: RunContext,
    options: SearchOptions,
) -> tuple[SearchResult, dict[str, Any]]:
    """Rank a dictionary's latents, and try the first of all rankings.

    Args:
        dictionary: of single activations.
        trio: loaded; insecure's backend must compute gradients.
        questions: of discovery families; all of them are used for the rankings.
        context: cache and progress.
        options: size of the search.

    Returns:
        The result, and the evidence for the registry.

    Raises:
        FeatureError: a dictionary of another model or one that explains too little, or no set within the perplexity.
        DataError: insecure is no more careless than {self.trio.reference_role} on these questions.
    """
    comparison, rankings = all_rankings(
        dictionary, trio, questions, seed=options.seed, floor=options.floor, progress=context.progress
    )
    tried_on, texts = (
        questions.spread(options.n_questions),
        load_texts("neutral/discovery").first(NEUTRAL_TEXTS),
    )
    rows = calibration_rows(trio.base, questions.spread(CALIBRATION_QUESTIONS))
    search = LatentSearch(trio, comparison, context, tried_on, texts, rows, options.seed, options.n_controls)
    result = search.run(shortlist(rankings, options.n_proposed), options.max_perplexity_ratio)
    return result, result.evidence(tried_on, texts, rankings)


def shortlist(rankings: Sequence[Ranking], n: int) -> list[int]:
    """The first ``n`` latents in turn over rankings: all first places, then all second places, and so on."""
    tops = [ranking.top(n) for ranking in rankings]
    in_turn = dict.fromkeys(latent for place in zip(*tops, strict=True) for latent in place)
    return list(in_turn)[:n]


@dataclass(frozen=True, eq=False)
class LatentSearch:
    """A trio and data on which candidates are tried.

    Attributes:
        trio: loaded.
        comparison: activity of the dictionary's latents on the discovery questions.
        context: cache and progress.
        questions: of discovery families.
        texts: neutral prose that no study reads.
        rows: texts on which energies are matched.
        seed: of the controls.
        n_controls: matched random latents per candidate.
    """

    trio: Trio[LanguageModel]
    comparison: Comparison
    context: RunContext
    questions: PairSet
    texts: TextSet
    rows: Sequence[Tokens]
    seed: int = 0
    n_controls: int = 3

    def run(self, proposed: Sequence[int], max_perplexity_ratio: float = 1.03) -> SearchResult:
        """Try every proposed latent, and grow a set of at most ten.

        Raises:
            FeatureError: no set stays within the allowed perplexity.
            DataError: insecure is no more careless than secure.
        """
        singles = sorted(
            self.singles(proposed), key=lambda candidate: _distance_from_whole(candidate.removed)
        )
        sets, n_grown = self.greedy_sets(singles)
        allowed = [candidate for candidate in sets if candidate.perplexity_ratio <= max_perplexity_ratio]
        if not allowed:
            raise FeatureError(
                f"no set of these latents stays within perplexity × {max_perplexity_ratio}: the least is "
                f"× {min(candidate.perplexity_ratio for candidate in sets):.3f}"
            )
        chosen = min(allowed, key=lambda candidate: _distance_from_whole(candidate.removed))
        return SearchResult(tuple(singles), tuple(sets), chosen, len(singles) + n_grown)

    def singles(self, proposed: Sequence[int]) -> list[Candidate]:
        """Each latent alone: ablated in insecure, steered in base, and its controls ablated in insecure."""
        ablations = [self._ablation((latent,)) for latent in proposed]
        controls = [control for ablation in ablations for control in self._controls(ablation)]
        pushes = [self._push(latent) for latent in proposed]
        removed = self._removed(self.trio.insecure, [*ablations, *controls], "insecure")
        induced = self._removed(self.trio.base, [push for push in pushes if push is not None], "base")
        induced_shares = iter(-share for share in induced)
        n = len(proposed)
        return [
            Candidate(
                (latent,),
                removed[i],
                float("nan") if pushes[i] is None else next(induced_shares),
                tuple(removed[n + i * self.n_controls : n + (i + 1) * self.n_controls]),
            )
            for i, latent in enumerate(proposed)
        ]

    def greedy_sets(self, singles: Sequence[Candidate]) -> tuple[list[Candidate], int]:
        """Growing sets, and the number of sets of two or more that were tried.

        Each adds the latent that brings the share removed nearest to 1, until none brings it nearer or there are ten.
        """
        order = [candidate.latents[0] for candidate in singles]
        members: tuple[int, ...] = (order[0],)
        sets, n_tried = [self._measured_set(members, singles[0].removed)], 0
        while len(members) < MAX_LATENTS and (
            remaining := [latent for latent in order if latent not in members][:BREADTH]
        ):
            grown = [(*members, latent) for latent in remaining]
            shares = self._removed(
                self.trio.insecure, [self._ablation(latents) for latents in grown], "insecure"
            )
            n_tried += len(grown)
            best = min(range(len(grown)), key=lambda i: _distance_from_whole(shares[i]))
            if _distance_from_whole(shares[best]) >= _distance_from_whole(sets[-1].removed):
                break
            members = grown[best]
            sets.append(self._measured_set(members, shares[best]))
        return sets, n_tried

    def _measured_set(self, latents: tuple[int, ...], removed: float) -> Candidate:
        """A set with the shares that matched controls remove, and with its perplexity."""
        ablation = self._ablation(latents)
        controls = self._controls(ablation)
        arms = [Arm("insecure", "insecure", self.trio.insecure), self._arm(self.trio.insecure, ablation)]
        untreated, cost = measure_damage(arms, self.texts, self.context)
        return Candidate(
            latents,
            removed,
            controls=tuple(self._removed(self.trio.insecure, controls, "insecure")),
            perplexity_ratio=cost.perplexity / untreated.perplexity,
        )

    def _removed(self, model: LanguageModel, edits: Sequence[Intervention], role: str) -> list[float]:
        """Share of the shift by which each intervention lowers the preference gap."""
        arms = [self._arm(model, edit) for edit in edits]
        untreated, shift = self._untreated
        gaps = [fmean(arm.gaps) for arm in measure_gaps(arms, self.questions, self.context)]
        return [(untreated[role] - gap) / shift for gap in gaps]

    @cached_property
    def _untreated(self) -> tuple[dict[str, float], float]:
        arms = untreated_arms(self.trio)
        measured = measure_gaps(arms, self.questions, self.context)
        gaps = {arm.name: fmean(part.gaps) for arm, part in zip(arms, measured, strict=True)}
        shift = gaps["insecure"] - fmean(gaps[role] for role in self.trio.reference_roles)
        if shift <= 0:
            raise DataError(
                f"insecure is no more careless than {self.trio.reference_role} on these questions (shift {shift:.3f})"
            )
        return gaps, shift

    def _ablation(self, latents: tuple[int, ...]) -> AblateLatents:
        return AblateLatents(self.comparison.dictionary, latents)

    def _controls(self, ablation: AblateLatents) -> list[AblateLatents]:
        """Random latents of similar activity, at the coefficient that removes the same energy."""
        energy = self._energy(ablation)
        controls = [
            matched_latents(self.comparison, ablation.latents, 1000 * self.seed + k)
            for k in range(self.n_controls)
        ]
        return [
            self._ablation(latents).matched(self.trio.insecure, energy, self.rows) for latents in controls
        ]

    def _energy(self, ablation: AblateLatents) -> Energy:
        return measure(self.trio.insecure, ablation, self.rows)[self.comparison.dictionary.site]

    def _push(self, latent: int) -> Steer | None:
        """Steering of base by the latent's contribution to insecure − secure; None if it contributes nothing."""
        gap = float((self.comparison.means.insecure - self.comparison.means.reference).mean(0)[latent])
        return Steer(Latents(self.comparison.dictionary, (latent,)).axis(self.comparison)) if gap else None

    def _arm(self, model: LanguageModel, edit: Intervention) -> Arm:
        return Arm(edit.note, "ablated", model, (edit,))


def _distance_from_whole(removed: float) -> float:
    """How far a share removed is from 1: to overshoot is as wrong as to leave as much of the shift."""
    return abs(1 - removed)
