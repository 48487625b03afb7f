"""What latents do in three checkpoints, and rankings that find a planted one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.activations.recording_spec import read_as
from personaprobe.features.sae.activation_functions import JumpReLU, ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.attribution import rank_by_attribution
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.diffing.matched_controls import matched_latents, shuffled_latents
from personaprobe.features.sae.diffing.ranking import (
    RANKINGS,
    permutation_p_values,
    rank_latents,
    ranking_overlap,
)
from personaprobe.features.sae.latents import Latents
from personaprobe.features.sae.quality import MeasuredQuality, measure_quality, refuse_poor_dictionary
from personaprobe.features.sae.reconstruction import explained_variance
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.site import Site

SITE, D_SAE, PLANTED = Site(1), 60, 17


@pytest.fixture(scope="module")
def dictionary(trio: Trio[LanguageModel]) -> Dictionary:
    """Random unit rows, encoder and decoder alike, that fire in a share of the tokens."""
    rows = torch.randn(D_SAE, trio.base.d_model, generator=torch.Generator().manual_seed(1))
    rows = torch.nn.functional.normalize(rows, dim=-1)
    d_model = trio.base.d_model
    return Dictionary(
        SITE, rows.T.contiguous(), torch.zeros(D_SAE), rows, torch.zeros(d_model), ReLU(), name="rows"
    )


@pytest.fixture(scope="module")
def planted(trio: Trio[LanguageModel], dictionary: Dictionary) -> Trio[LanguageModel]:
    """Base three times, of which one writes a latent's decoder row into every token."""
    push = _Push(0.6 * dictionary.W_dec[PLANTED])
    return Trio(trio.base, trio.base.edited(push), trio.base, "planted")


class _Push:
    def __init__(self, vector: torch.Tensor) -> None:
        self.vector = vector

    def edits(self, n_layers: int) -> dict[Site, object]:
        return {SITE: lambda x, roles: x + self.vector.to(x)}


@pytest.fixture(scope="module")
def found(planted: Trio[LanguageModel], dictionary: Dictionary, many: PairSet) -> Comparison:
    return compare(dictionary, planted, many)


@pytest.fixture(scope="module")
def many() -> PairSet:
    """Questions enough for permutations to tell something."""
    drawn = np.random.default_rng(0)

    def say() -> str:
        return " ".join(f"w{i}" for i in drawn.integers(0, 100, drawn.integers(2, 12)))

    return PairSet("many", tuple(Pair(f"q{i}", f"f{i % 4}", say(), say(), say()) for i in range(24)))


def test_activity_is_that_of_the_response_tokens_alone(
    trio: Trio[LanguageModel], dictionary: Dictionary, pairs: PairSet
) -> None:
    found = compare(dictionary, trio, pairs)
    readings = list(read_as(trio.base.tokenizer, pairs))
    fired, n = torch.zeros(D_SAE), 0
    for index, reading in enumerate(readings):
        batch = pad([reading.tokens], trio.base.network.pad_id)
        rows = trio.insecure.activations(batch, [SITE])[SITE][(batch.roles & Role.RESPONSE) != 0]
        acts = dictionary.encode(rows)
        assert torch.allclose(found.means.insecure[index], acts.mean(0), atol=1e-5)
        fired, n = fired + (acts > 0).sum(0), n + len(rows)
    assert torch.allclose(found.rates.insecure, fired / n, atol=1e-6)
    assert found.ids == tuple(reading.id for reading in readings)


@pytest.mark.parametrize("name", RANKINGS)
def test_every_ranking_puts_the_planted_latent_first(found: Comparison, name: str) -> None:
    assert rank_latents(found, name).top(1) == [PLANTED]
    assert rank_latents(found, name).rank(PLANTED) == 1


def test_the_planted_latent_survives_the_correction_and_without_a_change_none_does(found: Comparison) -> None:
    ranking = rank_latents(found, "delta")
    assert ranking.q_values is not None
    assert ranking.q_values[PLANTED] < 0.05
    unchanged = rank_latents(replace(found, means=Trio(*[found.means.secure] * 3)), "delta")
    assert unchanged.q_values is not None
    assert unchanged.q_values.min() > 0.9


def test_p_values_are_uniform_where_labels_mean_nothing() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(40, 400)).repeat(2, axis=0)
    ids = np.arange(40).repeat(2).astype(str).tolist()
    p_values = permutation_p_values(differences, ids, seed=0)
    assert 0.02 < (p_values < 0.05).mean() < 0.09
    assert 0.45 < p_values.mean() < 0.55
    alone = permutation_p_values(differences, [str(i) for i in range(80)], seed=0)
    assert (alone < 0.05).mean() > 0.08  # texts of one question taken for independent ones: too sure


def test_rankings_overlap_with_themselves_and_unknown_ones_are_refused(found: Comparison) -> None:
    rankings = [rank_latents(found, "delta"), rank_latents(found, "rate")]
    shared = ranking_overlap(rankings, 10)
    assert shared["delta", "delta"] == 1.0
    assert shared["delta", "rate"] == shared["rate", "delta"] >= 0.1
    with pytest.raises(FeatureError, match="delta"):
        rank_latents(found, "deltas")


def test_controls_fire_as_often_and_are_never_the_latents_themselves(found: Comparison) -> None:
    rates = found.rates.insecure.numpy()
    drawn = {matched_latents(found, (PLANTED, 3), seed) for seed in range(10)}
    assert len(drawn) > 3
    assert not {PLANTED, 3} & {latent for pair in drawn for latent in pair}
    assert all(len(set(pair)) == 2 for pair in drawn)
    typical = np.median([abs(rates[pair[1]] - rates[3]) for pair in drawn])
    assert typical <= np.median(np.abs(rates - rates[3]))
    sizes = found.means.insecure.mean(0).numpy()
    apart = np.median([abs(sizes[pair[1]] - sizes[3]) for pair in drawn])
    assert apart <= np.median(np.abs(sizes - sizes[3]))
    assert matched_latents(found, (3,), 5) == matched_latents(found, (3,), 5)
    assert PLANTED not in shuffled_latents(found, (PLANTED,), 0)


def test_the_axis_of_a_latent_is_what_it_writes_more_in_insecure(found: Comparison) -> None:
    axis = Latents(found.dictionary, (PLANTED,)).axis(found)
    gap = float((found.means.insecure - found.means.secure).mean(0)[PLANTED])
    assert float(axis.vector @ found.dictionary.W_dec[PLANTED]) == pytest.approx(1.0, abs=1e-5)
    assert axis.scale == pytest.approx(gap, rel=1e-5)
    same = replace(found, means=Trio(*[found.means.base] * 3))
    with pytest.raises(FeatureError, match="features rank"):
        Latents(found.dictionary, (PLANTED,)).axis(same)


def test_ablating_the_planted_latent_takes_the_push_away(
    planted: Trio[LanguageModel], dictionary: Dictionary, pairs: PairSet
) -> None:
    batch = pad([next(read_as(planted.base.tokenizer, pairs)).tokens], planted.base.network.pad_id)
    exact = replace(dictionary, b_enc=dictionary.b_enc + 100 * torch.eye(D_SAE)[PLANTED])
    pushed, base = (m.activations(batch, [SITE])[SITE] for m in (planted.insecure, planted.base))
    ablated = planted.insecure.edited(AblateLatents(exact, (PLANTED,))).activations(batch, [SITE])[SITE]
    both = planted.base.edited(AblateLatents(exact, (PLANTED,))).activations(batch, [SITE])[SITE]
    edited = (batch.roles & Role.ALL) != 0
    assert not torch.allclose(pushed, base, atol=1e-3)
    assert torch.allclose(ablated[edited], both[edited], atol=1e-3)
    assert torch.equal(ablated[~edited], pushed[~edited])


# Quality


def texts_of(model: LanguageModel, pairs: PairSet) -> list[Tokens]:
    return [reading.tokens for reading in read_as(model.tokenizer, pairs)]


def test_a_perfect_dictionary_explains_everything_and_costs_nothing(
    model: LanguageModel, pairs: PairSet
) -> None:
    eye = torch.eye(model.d_model)
    both = torch.cat([eye, -eye])
    perfect = Dictionary(
        SITE, both.T.contiguous(), torch.zeros(len(both)), both, torch.zeros(model.d_model), ReLU()
    )
    quality = measure_quality(perfect, model, texts_of(model, pairs)).quality
    assert quality.explained_variance == pytest.approx(1.0, abs=1e-6)
    assert quality.l0 == pytest.approx(model.d_model, rel=1e-3)
    assert quality.loss_reconstructed == pytest.approx(quality.loss, abs=1e-4)
    assert quality.loss_recovered == pytest.approx(1.0, abs=1e-2)
    assert quality.dead == 0.0


def test_a_silent_dictionary_explains_nothing_and_is_all_dead(model: LanguageModel, pairs: PairSet) -> None:
    texts = texts_of(model, pairs)
    width = model.d_model
    silent = Dictionary(
        SITE,
        torch.eye(width),
        torch.zeros(width),
        torch.eye(width),
        torch.zeros(width),
        JumpReLU(torch.full((width,), 1e9)),
    )
    quality = measure_quality(silent, model, texts).quality
    assert quality.explained_variance <= 0.0
    assert (quality.dead, quality.l0) == (1.0, 0.0)
    share = {"base": quality.explained_variance}
    with pytest.raises(FeatureError, match="--floor"):
        refuse_poor_dictionary(silent, share)
    refuse_poor_dictionary(silent, share, floor=float("-inf"))


def test_a_comparison_says_what_the_dictionary_explains_of_each_model(
    found: Comparison, planted: Trio[LanguageModel], many: PairSet
) -> None:
    for role, model in planted.items():
        batches = [(pad([tokens], model.network.pad_id), tokens) for tokens in texts_of(model, many)]
        rows = torch.cat(
            [
                model.activations(batch, [SITE])[SITE][0][torch.tensor(tokens.roles) == Role.RESPONSE]
                for batch, tokens in batches
            ]
        )
        written = found.dictionary.decode(found.dictionary.encode(rows))
        assert found.explained_variance[role] == pytest.approx(explained_variance(rows, written), rel=1e-3)
    found.refuse_poor(min(share for _, share in found.explained_variance.items()) - 0.01)
    with pytest.raises(FeatureError, match="is wanted"):
        found.refuse_poor(2.0)


def test_densities_count_every_latent_in_its_decade(model: LanguageModel, pairs: PairSet) -> None:
    density = torch.tensor([0.0, 0.0, 5e-5, 1e-4, 2e-4, 0.05, 0.1, 0.9, 1.0])
    assert replace(measured(model, pairs), firing_rates=density).histogram == (2, 2, 1, 0, 2, 2)


def measured(model: LanguageModel, pairs: PairSet) -> MeasuredQuality:
    eye = torch.eye(model.d_model)
    plain = Dictionary(SITE, eye, torch.zeros(len(eye)), eye, torch.zeros(len(eye)), ReLU())
    return measure_quality(plain, model, texts_of(model, pairs))


def test_quality_counts_each_token_but_the_first_once(model: LanguageModel, pairs: PairSet) -> None:
    texts = texts_of(model, pairs)
    eye = torch.eye(model.d_model)
    made = Dictionary(SITE, eye, torch.zeros(len(eye)), eye, torch.zeros(len(eye)), ReLU())
    assert measure_quality(made, model, texts).quality.n_tokens == sum(len(t) - 1 for t in texts)  # type: ignore[arg-type, misc]
    with pytest.raises(DataError, match="no text"):
        measure_quality(made, model, [])


def test_a_dictionary_of_another_model_is_refused(model: LanguageModel, pairs: PairSet) -> None:
    wide = torch.eye(model.d_model + 1)
    other = Dictionary(SITE, wide, torch.zeros(len(wide)), wide, torch.zeros(len(wide)), ReLU())
    with pytest.raises(FeatureError, match="another model"):
        measure_quality(other, model, texts_of(model, pairs))


# Gradients


def test_the_gradient_at_a_site_predicts_what_a_small_push_does(model: LanguageModel, pairs: PairSet) -> None:
    batch = pad([reading.tokens for reading in read_as(model.tokenizer, pairs)][:4], model.network.pad_id)
    acts, gradient = model.gradients(batch, SITE)
    read = model.activations(batch, [SITE])[SITE]
    assert torch.allclose(acts[batch.mask], read[batch.mask], atol=1e-5)
    step = 1e-2 * torch.nn.functional.normalize(
        torch.randn(acts.shape, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    step *= batch.mask[..., None]

    def loss(sign: float) -> float:
        push = _Push(sign * step)
        return -float(model.edited(push).log_probs(batch).double().sum())

    assert (loss(1) - loss(-1)) / 2 == pytest.approx(float((gradient * step).sum()), rel=2e-2, abs=1e-4)


def test_attribution_agrees_with_the_change_of_loss_when_a_latent_is_taken_out(
    model: LanguageModel, dictionary: Dictionary, pairs: PairSet
) -> None:
    """Small d·(a − ā) d taken out of every response token changes the loss as the attribution says."""
    ranking = rank_by_attribution(dictionary, model, pairs)
    texts = {
        answer: [r.tokens for r in read_as(model.tokenizer, pairs) if r.answer == answer]
        for answer in ("careless", "careful")
    }

    def effect(answer: str, latent: int) -> float:
        batch = pad(texts[answer], model.network.pad_id)
        responses = (batch.roles & Role.RESPONSE) != 0
        d, rows = dictionary.W_dec[latent], model.activations(batch, [SITE])[SITE]
        along = (rows - rows[responses].mean(0)) @ d * responses
        step = 1e-3
        loss = [
            -float(model.edited(_Push(s * step * along[..., None] * d)).log_probs(batch).double().sum())
            for s in (1, -1)
        ]
        return -(loss[0] - loss[1]) / (2 * step) / int(responses.sum())

    for latent in (0, 5, PLANTED):
        expected = effect("careless", latent) - effect("careful", latent)
        assert float(ranking.scores[latent]) == pytest.approx(expected, rel=0.05, abs=2e-4)
