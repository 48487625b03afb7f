"""The result of a search for latents: every candidate with its effects, and the chosen set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.questions.pairs import PairSet
from personaprobe.questions.texts import TextSet


@dataclass(frozen=True)
class Candidate:
    """One or more latents that were ablated together, with the effects.

    Attributes:
        latents: that were ablated.
        removed: share of the insecure − secure shift that the ablation removed, on the discovery questions.
        induced: share of the shift that steering base along the latents induced; nan if it was not tried.
        controls: shares that ablating matched random latents removed.
        perplexity_ratio: perplexity on neutral text relative to the untreated insecure model; nan if not measured.
    """

    latents: tuple[int, ...]
    removed: float
    induced: float = float("nan")
    controls: tuple[float, ...] = ()
    perplexity_ratio: float = float("nan")


@dataclass(frozen=True)
class SearchResult:
    """All candidates of a search.

    Attributes:
        singles: every proposed latent by itself, the one whose share removed is nearest to 1 first.
        sets: the greedy sets, growing.
        chosen: the set whose share removed is nearest to 1 among those whose perplexity is allowed.
        n_tried: ablations that were tried, which the chosen one is the best of.
    """

    singles: tuple[Candidate, ...]
    sets: tuple[Candidate, ...]
    chosen: Candidate
    n_tried: int

    def evidence(self, questions: PairSet, texts: TextSet, rankings: Sequence[Ranking]) -> dict[str, Any]:
        """All candidates with the data they were tried on, as plain data for the registry."""
        return {
            "chosen": {"source": "sae", **asdict(self.chosen), "fraction_removed": self.chosen.removed},
            "candidates": self.n_tried,
            "singles": [asdict(candidate) for candidate in self.singles],
            "sets": [asdict(candidate) for candidate in self.sets],
            "ranks": {
                str(candidate.latents[0]): {
                    ranking.name: ranking.rank(candidate.latents[0]) for ranking in rankings
                }
                for candidate in self.singles
            },
            "questions": {"name": questions.name, "digest": questions.digest, "n": len(questions)},
            "families": sorted(set(questions.families)),
            "texts": {"name": texts.name, "digest": texts.digest, "n": len(texts)},
        }
