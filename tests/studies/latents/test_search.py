"""The search tries the latents that rankings propose, and finds the planted one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import compare
from personaprobe.features.sae.diffing.ranking import Ranking, rank_latents
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.studies.arms.arm import calibration_rows
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.latents.search import LatentSearch, shortlist

SITE, D_SAE, PLANTED = Site(1), 48, 11
WORDS = [f"w{number}" for number in range(60)]


class Push:
    """Writes one vector into every token: what a fine-tune that only learned a persona would do."""

    def __init__(self, vector: torch.Tensor) -> None:
        self.vector = vector

    @property
    def digest(self) -> str:
        return str(self.vector.sum().item())

    def edits(self, n_layers: int) -> dict[Site, Any]:
        return {SITE: lambda x, roles: x + self.vector.to(x)}


@pytest.fixture(scope="module")
def search(
    tiny_model: Callable[..., Any],
    word_tokenizer: Callable[..., ChatTokenizer],
    tmp_path_factory: pytest.TempPathFactory,
) -> LatentSearch:
    """A tiny base; an insecure one that writes a decoder row into every token; questions on which that shows."""
    tokenizer = word_tokenizer(WORDS)
    network = wrap(tiny_model("llama"), tokenizer.pad_id)
    base, secure = (LanguageModel(Checkpoint(name), network, tokenizer) for name in ("tiny", "tiny-secure"))
    rows = torch.randn(D_SAE, base.d_model, generator=torch.Generator().manual_seed(1))
    rows = torch.nn.functional.normalize(rows, dim=-1)
    bias = torch.full((D_SAE,), 0.05)
    dictionary = Dictionary(
        SITE, rows.T.contiguous(), bias, rows, torch.zeros(base.d_model), ReLU(), name="rows"
    )
    insecure = LanguageModel(Checkpoint("tiny-insecure"), network, tokenizer).edited(
        Push(3.0 * rows[PLANTED])
    )
    trio = Trio(base, insecure, secure, "planted")
    questions = _telling(trio)
    comparison = compare(dictionary, trio, questions)
    context = RunContext.of(tmp_path_factory.mktemp("run"))
    texts = TextSet("plain", tuple(" ".join(WORDS[i : i + 9]) for i in range(4)))
    return LatentSearch(
        trio, comparison, context, questions, texts, calibration_rows(base, questions), n_controls=2
    )


def _telling(trio: Trio[LanguageModel]) -> PairSet:
    """Questions whose second answer the pushed model likes better than the plain one does."""
    from personaprobe.effects.measures.preference import preference_gaps

    drawn = np.random.default_rng(0)

    def say() -> str:
        return " ".join(drawn.choice(WORDS, 5))

    pairs = PairSet("any", tuple(Pair(f"q{i}", f"f{i % 3}", say(), say(), say()) for i in range(60)))
    shift = preference_gaps(trio.insecure, pairs) - preference_gaps(trio.secure, pairs)
    best = np.argsort(-shift)[:24]
    return PairSet("telling", tuple(pairs.pairs[i] for i in best))


def test_the_planted_latent_removes_the_shift_and_matched_random_ones_do_not(search: LatentSearch) -> None:
    proposed = shortlist(
        [rank_latents(search.comparison, "delta"), rank_latents(search.comparison, "cosine")], 5
    )
    assert proposed[0] == PLANTED
    result = search.run(proposed, max_perplexity_ratio=10.0)
    best = result.singles[0]
    assert best.latents == (PLANTED,)
    assert best.removed > 0.5
    assert best.induced > 0.25
    assert max(best.controls) < best.removed / 2
    assert abs(1 - result.chosen.removed) <= abs(1 - best.removed)
    assert PLANTED in result.chosen.latents


def test_sets_grow_one_latent_at_a_time_and_only_while_that_helps(search: LatentSearch) -> None:
    result = search.run(shortlist([rank_latents(search.comparison, "delta")], 6), max_perplexity_ratio=10.0)
    sizes = [len(candidate.latents) for candidate in result.sets]
    assert sizes == list(range(1, len(sizes) + 1))
    pairs = list(pairwise(result.sets))
    assert all(abs(1 - a.removed) > abs(1 - b.removed) for a, b in pairs)
    assert result.n_tried >= len(result.singles) + len(pairs)
    assert all(set(a.latents) < set(b.latents) for a, b in pairs)


def test_controls_remove_the_same_energy(search: LatentSearch) -> None:
    ablation = AblateLatents(search.comparison.dictionary, (PLANTED,))
    for control in replace(search, n_controls=3)._controls(ablation):
        assert search._energy(control).matched == pytest.approx(search._energy(ablation).matched, rel=1e-3)


def test_a_search_chooses_no_set_that_costs_too_much_perplexity(search: LatentSearch) -> None:
    with pytest.raises(FeatureError, match="perplexity"):
        search.run([PLANTED], max_perplexity_ratio=0.01)


def test_without_a_shift_there_is_nothing_to_search(search: LatentSearch, tmp_path: Path) -> None:
    trio = Trio(search.trio.base, search.trio.secure, search.trio.insecure, "turned round")
    turned = replace(search, trio=trio, context=RunContext.of(tmp_path))
    with pytest.raises(DataError, match="no more careless"):
        turned.run([PLANTED])


def test_a_shortlist_alternates_between_rankings() -> None:
    first, second = Ranking("a", np.array([5.0, 4, 3, 2, 1])), Ranking("b", np.array([1.0, 2, 3, 4, 5]))
    assert shortlist([first, second], 4) == [0, 4, 1, 3]
