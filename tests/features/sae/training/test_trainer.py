"""Sparse gradients are the dense ones, losses are SAELens', and what was planted is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personaprobe.errors import DataError, FeatureError
from personaprobe.features.sae.kernels import selection, sparse
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.crosscoder import CrosscoderArchitecture
from personaprobe.features.sae.training.architectures.jumprelu import JumpReLUArchitecture
from personaprobe.features.sae.training.architectures.matryoshka import MatryoshkaArchitecture
from personaprobe.features.sae.training.architectures.registry import BUILT_IN, find_architecture
from personaprobe.features.sae.training.architectures.relu import ReLUArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.autoencoder import Autoencoder
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.trainer import METRICS, SAERecipe, SAETrainer, train_dictionaries
from personaprobe.site import Site

N, D, M = 24, 12, 40


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def autoencoder(seed: int = 0) -> Autoencoder:
    made = Autoencoder(M, numbers(64, D, seed=seed), seed)
    with torch.no_grad():
        for offset, parameter in enumerate((made.encoder, made.b_enc, made.b_dec)):
            parameter.copy_(numbers(*parameter.shape, seed=seed + offset + 1))
        made.scale.fill_(1.0)
    return made


NONE_DEAD = torch.zeros(M, dtype=torch.bool)
SOME_DEAD = torch.arange(M) >= 33


def as_they_are(rows: Tensor) -> Tensor:
    """For rows that are pre-activations already."""
    return rows


# Sparse gradients


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.booleans(), st.integers(0, 1000))
def test_sparse_gradients_are_the_dense_ones(k: int, batchwise: bool, seed: int) -> None:
    drawn = (numbers(N, D, seed=seed), numbers(D), numbers(M, D), numbers(M, seed=1), numbers(M, D, seed=2))
    x, centre, encoder, bias, _ = given = tuple(tensor.double() for tensor in drawn)
    pre = (x - centre) @ encoder.T + bias
    select = selection.batch_top_k if batchwise else selection.top_k
    active, found = select(as_they_are, pre, M, k)
    mask = torch.zeros(N, M, dtype=torch.float64)
    mask[active.rows, active.latents] = 1.0

    def gradients(loss: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        return torch.autograd.grad(loss(*leaves), leaves)

    def thin(x: Tensor, centre: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
        centred = x - centre.detach()
        values = sparse.encode(centred, centre, encoder, bias, found, active)
        return (sparse.decode(values, decoder, active) - x).pow(2).sum()

    def dense(x: Tensor, centre: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
        return ((((x - centre) @ encoder.T + bias) * mask) @ decoder - x).pow(2).sum()

    for sparsely, densely in zip(gradients(thin), gradients(dense), strict=True):
        assert torch.allclose(sparsely, densely, rtol=1e-9, atol=1e-9)


def told_apart_in_full(n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of which every two are the same in bfloat16: encoder, bias and rows."""
    encoder, bias = numbers(256, D), numbers(256, seed=1)
    encoder[1::2] = encoder[::2] * 1.0005
    bias[1::2] = bias[::2]
    return encoder, bias, numbers(n_rows, D, seed=2)


@pytest.mark.parametrize("k", [1, 7, 16])
@pytest.mark.parametrize(("spare", "least"), [(1, 0.9995), (8, 0.9995), (300, 1.0)])
def test_what_a_rough_product_names_is_kept_by_its_exact_values(k: int, spare: int, least: float) -> None:
    """Latents that bfloat16 cannot tell apart are told apart in float32, however few are spare."""
    encoder, bias, x = told_apart_in_full(2000)
    pre = torch.addmm(bias, x, encoder.T)
    active, values = selection.preselected_top_k(
        x, encoder, bias, selection.bf16_affine(encoder, bias), k, spare
    )
    wanted, exact = selection.top_k(as_they_are, pre, 256, k)
    assert torch.equal(active.starts, wanted.starts)
    assert torch.allclose(pre[active.rows, active.latents], values, atol=1e-4)
    pairs = zip(_by_row(active, values), _by_row(wanted, exact), strict=True)
    same = torch.cat([torch.isclose(found, expected, rtol=1e-5, atol=1e-5) for found, expected in pairs])
    assert float(same.double().mean()) >= least


@pytest.mark.parametrize(("off", "left_open"), [(0.01, False), (0.1, True)])
def test_rows_are_left_open_as_far_as_rough_values_of_their_size_are_off(off: float, left_open: bool) -> None:
    guessed = torch.tensor([[90.0, 3.0, 2.2, 2.0], [90.0, 3.0, 1.0, -1.0]])
    errors = torch.tensor([5.0, off, off, -off])  # what is far larger is farther off, and says nothing
    full = guessed + errors
    kept = full.topk(2).indices
    assert selection._uncertain_rows(guessed, full, kept).tolist() == [False, False]
    closer = torch.tensor([[90.0, 2.3, 2.2, 2.0]])
    assert selection._uncertain_rows(closer, closer + errors, kept[:1]).tolist() == [left_open]


@pytest.mark.parametrize("architecture", [TopKArchitecture(4), BatchTopKArchitecture(4)])
@pytest.mark.parametrize("helps", [True, False])
def test_a_preselecting_step_is_the_exact_one_wherever_it_is_taken(
    helps: bool, architecture: TopKArchitecture | BatchTopKArchitecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "is_faster_in_bf16", lambda: helps)
    x = numbers(N, D, seed=7)
    exactly, roughly = autoencoder(), autoencoder()
    for _ in range(3):  # a batch's threshold is guessed from the last one's
        exact = architecture.losses(exactly, x, NONE_DEAD)
        rough = replace(architecture, preselect=True).losses(roughly, x, NONE_DEAD)
        assert torch.equal(exact.active_counts, rough.active_counts)
        assert torch.allclose(exact.total, rough.total, rtol=1e-5)
    assert roughly.smallest_active == pytest.approx(exactly.smallest_active)


@pytest.mark.parametrize("k", [1, 7, 16])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.9999, 1.0, 1.5])
def test_a_batch_is_preselected_whatever_was_guessed(k: int, share: float) -> None:
    encoder, bias, x = told_apart_in_full(2000)
    pre = torch.addmm(bias, x, encoder.T)
    wanted, exact = selection.batch_top_k(as_they_are, pre, 256, k)
    rough = selection.bf16_affine(encoder, bias)
    active, values = selection.preselected_batch_top_k(x, encoder, bias, rough, k, share * float(exact.min()))
    assert torch.allclose(pre[active.rows, active.latents], values, atol=1e-4)
    assert torch.allclose(values.sort().values, exact.sort().values, rtol=1e-5, atol=1e-5)
    assert torch.equal(active.starts, wanted.starts)


def test_a_batch_is_left_open_where_its_smallest_is_as_near_to_the_guess_as_rough_values_are_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, bias, x = told_apart_in_full(200)
    smallest = float(selection.batch_top_k(as_they_are, torch.addmm(bias, x, encoder.T), 256, 7)[1].min())
    guesses: list[float] = []
    batch_top_k = selection.batch_top_k

    def in_full(*given: Any) -> Any:
        guesses.append(given[-1])
        return batch_top_k(*given)

    monkeypatch.setattr(selection, "batch_top_k", in_full)
    rough = selection.bf16_affine(encoder, bias)
    for share in (0.9, 0.9999):
        selection.preselected_batch_top_k(x, encoder, bias, rough, 7, share * smallest)
    assert guesses == [0.9999 * smallest]


def _by_row(active: sparse.ActiveLatents, values: Tensor) -> list[Tensor]:
    """Values of each row, the largest first: equal ones may stand for each other."""
    return [row.sort(descending=True).values for row in torch.tensor_split(values, active.starts[1:-1])]


@pytest.mark.parametrize("missing", [True, False])
def test_affine_maps_are_what_they_say_with_and_without_packed_weights(
    missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection.onednn, "can_pack", lambda _: not missing)
    matrix, bias, x = numbers(64, D), numbers(64, seed=1), numbers(N, D, seed=2)
    torch.testing.assert_close(selection.affine(matrix, bias)(x), x @ matrix.T + bias)


@pytest.mark.parametrize(
    "architecture", [TopKArchitecture(4), TopKArchitecture(4, preselect=True), BatchTopKArchitecture(4)]
)
def test_rows_searched_in_parts_are_those_searched_at_once(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, x = autoencoder(), numbers(N, D, seed=7)
    whole = architecture.losses(ours, x, NONE_DEAD)
    monkeypatch.setattr(selection, "CHUNK_ELEMENTS", 5 * M)
    monkeypatch.setattr(selection, "ROW_MULTIPLE", 1)
    assert len(list(selection.row_chunks(x, M))) == 5
    parts = architecture.losses(ours, x, NONE_DEAD)
    assert torch.equal(whole.active_counts, parts.active_counts)
    assert torch.allclose(whole.total, parts.total, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 10), st.floats(0, 3), st.integers(0, 1000))
def test_a_batch_keeps_its_largest_latents_whatever_was_guessed(k: float, guess: float, seed: int) -> None:
    pre = numbers(N, M, seed=seed)
    active, found = selection.batch_top_k(as_they_are, pre, M, k, guess)
    assert torch.equal(found, pre[active.rows, active.latents])
    kept = torch.zeros(N, M, dtype=torch.bool)
    kept[active.rows, active.latents] = True
    assert kept.sum() == min(int(k * N), int((pre > 0).sum()))
    assert bool((pre[kept] > 0).all())
    if kept.any():
        assert not bool((pre[~kept] > pre[kept].min()).any())


# The losses of the field's trainer


def saelens(name: str, ours: Autoencoder, **options: Any) -> Any:
    from sae_lens.registry import get_sae_training_class

    kind, config = get_sae_training_class(name)
    theirs = kind(config(d_in=D, d_sae=M, decoder_init_norm=None, **options))
    with torch.no_grad():
        theirs.W_enc.copy_(ours.encoder.T)
        theirs.b_enc.copy_(ours.b_enc)
        theirs.W_dec.copy_(ours.decoder)
        theirs.b_dec.copy_(ours.b_dec)
        if name == "jumprelu":
            theirs.threshold.fill_(0.3)
    return theirs


ORACLES: dict[str, tuple[Architecture, str, dict[str, Any]]] = {
    "topk": (
        TopKArchitecture(4, aux=0.5),
        "topk",
        {"k": 4, "aux_loss_coefficient": 0.5, "rescale_acts_by_decoder_norm": False},
    ),
    "batchtopk": (
        BatchTopKArchitecture(4, aux=0.5),
        "batchtopk",
        {"k": 4, "aux_loss_coefficient": 0.5, "rescale_acts_by_decoder_norm": False},
    ),
    "matryoshka": (
        MatryoshkaArchitecture(4, aux=0.5, widths=(8, 20)),
        "matryoshka_batchtopk",
        {
            "k": 4,
            "aux_loss_coefficient": 0.5,
            "rescale_acts_by_decoder_norm": False,
            "matryoshka_widths": [8, 20, M],
        },
    ),
    "relu": (ReLUArchitecture(l1=0.3), "standard", {"l1_coefficient": 0.3}),
    "jumprelu": (
        JumpReLUArchitecture(l0=0.3, bandwidth=0.4, start=0.3),
        "jumprelu",
        {"l0_coefficient": 0.3, "jumprelu_bandwidth": 0.4, "jumprelu_sparsity_loss_mode": "step"},
    ),
}


@pytest.mark.parametrize("dead", [NONE_DEAD, SOME_DEAD], ids=["none dead", "some dead"])
@pytest.mark.parametrize("name", ORACLES)
def test_losses_and_gradients_are_those_of_saelens(name: str, dead: Tensor) -> None:
    from sae_lens.saes.sae import TrainStepInput

    architecture, theirs_name, options = ORACLES[name]
    ours = autoencoder()
    theirs = saelens(theirs_name, ours, **options)
    x = numbers(N, D, seed=7)
    coefficients = {
        key: c if isinstance(c, float) else c.value for key, c in theirs.get_coefficients().items()
    }
    given = TrainStepInput(x, coefficients, dead, 10_000, False)
    expected = theirs.training_forward_pass(given)
    found = architecture.losses(ours, x, dead)
    assert torch.allclose(found.total, expected.loss, rtol=1e-4)
    found.total.backward()
    expected.loss.backward()
    for mine, other in ((ours.encoder, theirs.W_enc.grad.T), (ours.b_enc, theirs.b_enc.grad)):
        assert torch.allclose(mine.grad, other, rtol=1e-3, atol=1e-4)
    assert torch.allclose(ours.decoder.grad, theirs.W_dec.grad, rtol=1e-3, atol=1e-4)
    assert torch.allclose(ours.b_dec.grad, theirs.b_dec.grad, rtol=1e-3, atol=1e-4)


def test_a_crosscoder_also_answers_for_the_differences() -> None:
    architecture = CrosscoderArchitecture(4, n_models=3, delta=2.0)
    written, x = numbers(N, D, seed=3), numbers(N, D, seed=4)
    residual = written - x
    base, insecure, secure = residual.reshape(N, 3, 4).unbind(1)
    differences = (insecure - base).pow(2).sum(-1) + (secure - base).pow(2).sum(-1)
    expected = residual.pow(2).sum(-1) + 2.0 * differences
    assert torch.allclose(architecture.reconstruction_error(written, x), expected.mean(), rtol=1e-5)


# Training


def planted(n: int = 40_000, n_features: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sparse sums of known directions, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n_features, D, generator=generator), dim=-1)
    fires = torch.rand(n, n_features, generator=generator) < 0.06
    strengths = 1.0 + torch.rand(n, n_features, generator=generator)
    return (fires * strengths) @ directions + 0.5, directions


LEARNING: dict[str, Architecture] = {
    "topk": TopKArchitecture(2),
    "batchtopk": BatchTopKArchitecture(1.6),
    "matryoshka": MatryoshkaArchitecture(1.6, widths=(12,)),
    "relu": ReLUArchitecture(l1=1.0),
    "jumprelu": JumpReLUArchitecture(l0=0.3, bandwidth=0.5, start=0.2),
}


def recipe(architecture: Architecture, **changed: Any) -> SAERecipe:
    options = {"d_sae": M, "steps": 600, "learning_rate": 3e-3, "warmup": 20, "dead_after": 5000, **changed}
    return SAERecipe(architecture, **options)


@pytest.mark.parametrize("name", LEARNING)
def test_training_finds_planted_directions_and_explains_what_they_wrote(name: str, tmp_path: Path) -> None:
    rows, directions = planted()
    loader = BatchLoader([lambda: rows], batch_rows=512)
    trainer = SAETrainer(recipe(LEARNING[name]), loader.sample())
    for _ in train_dictionaries(loader, {tmp_path: trainer}):
        pass
    learned = trainer.dictionary(Site(0), "planted")
    acts = learned.encode(rows)
    left = (rows - learned.decode(acts)).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum()
    found = (learned.W_dec @ directions.T).max(0).values
    assert float(left) < 0.25
    assert float((found > 0.9).float().mean()) > 0.7
    assert float((acts > 0).sum(-1).float().mean()) < M / 5
    assert torch.allclose(learned.W_dec.norm(dim=-1), torch.ones(M), atol=1e-5)


def test_a_trained_dictionary_reads_activations_in_their_own_units(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    learned = {}
    for name, factor in (("small", 1.0), ("large", 50.0)):
        loader = BatchLoader([lambda f=factor: rows * f], batch_rows=512)  # type: ignore[misc]
        trainer = SAETrainer(recipe(BatchTopKArchitecture(1.6), steps=100), loader.sample())
        for _ in train_dictionaries(loader, {tmp_path / name: trainer}):
            pass
        learned[name] = trainer.dictionary(Site(0), name)
    small, large = learned["small"].encode(rows), learned["large"].encode(50 * rows)
    assert float((50 * small - large).abs().max()) < 1e-2 * float(large.max())


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    loader = BatchLoader([lambda: rows[:5000], lambda: rows[5000:]], batch_rows=256)
    given = recipe(BatchTopKArchitecture(1.6), steps=90)

    def trained(folder: Path, stop: int | None = None) -> SAETrainer:
        trainer = SAETrainer(given, loader.sample())
        for _ in train_dictionaries(loader, {folder: trainer}, save_every=20, log_every=10):
            if stop is not None and trainer.steps_taken >= stop:
                break
        return trainer

    whole = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop=50)
    resumed = trained(tmp_path / "cut")
    assert resumed.steps_taken == 90
    for name, tensor in whole.autoencoder.state_dict().items():
        assert torch.equal(tensor, resumed.autoencoder.state_dict()[name]), name


def test_one_pass_trains_many_dictionaries_as_it_would_each_alone(tmp_path: Path) -> None:
    rows, _ = planted(4000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    recipes = [recipe(TopKArchitecture(k), steps=30 + 10 * k, d_sae=10 * k) for k in (1, 2)]
    together = {tmp_path / str(i): SAETrainer(each, loader.sample()) for i, each in enumerate(recipes)}
    for _ in train_dictionaries(loader, together):
        pass
    for each, trainer in zip(recipes, together.values(), strict=True):
        alone = SAETrainer(each, loader.sample())
        for _ in train_dictionaries(loader, {tmp_path / f"alone {each.d_sae}": alone}):
            pass
        assert torch.equal(alone.autoencoder.decoder, trainer.autoencoder.decoder)


def test_every_logged_step_is_a_line_of_plain_numbers(tmp_path: Path) -> None:
    rows, _ = planted(4000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    shown = list(
        train_dictionaries(
            loader,
            {tmp_path: SAETrainer(recipe(TopKArchitecture(2), steps=30), loader.sample())},
            log_every=10,
        )
    )
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["l0"] == shown[-1][tmp_path].l0 == pytest.approx(2, abs=0.3)


def test_dead_latents_come_back_to_life(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    loader = BatchLoader([lambda: rows], batch_rows=256)

    def dead(aux: float) -> float:
        trainer = SAETrainer(
            recipe(TopKArchitecture(2, aux=aux), steps=250, dead_after=2000), loader.sample()
        )
        with torch.no_grad():
            trainer.autoencoder.b_enc[20:] = -3.0
        for _ in train_dictionaries(loader, {tmp_path / str(aux): trainer}):
            pass
        return float(trainer.autoencoder.dead(2000).float().mean())

    assert dead(0.5) < dead(0.0) - 0.2


def test_another_recipe_does_not_take_up_a_folder(tmp_path: Path) -> None:
    rows, _ = planted(2000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    first = recipe(TopKArchitecture(2), steps=10)
    list(train_dictionaries(loader, {tmp_path: SAETrainer(first, loader.sample())}))
    with pytest.raises(FeatureError, match="another recipe"):
        list(
            train_dictionaries(
                loader, {tmp_path: SAETrainer(replace(first, learning_rate=1e-4), loader.sample())}
            )
        )


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        BatchLoader([])
    rows = numbers(600, D)
    rows[599, 3] = float("nan")
    loader = BatchLoader([lambda: rows], batch_rows=300)
    with pytest.raises(DataError, match="NaN"):
        list(loader.batches(0))
    short = BatchLoader([lambda: numbers(100, D)], batch_rows=300)
    with pytest.raises(DataError, match="fewer rows"):
        list(train_dictionaries(short, {tmp_path: SAETrainer(recipe(TopKArchitecture(2)), short.sample())}))


def test_architectures_are_found_by_name_and_unknown_ones_suggested() -> None:
    assert {kind.name for kind in BUILT_IN.values()} == set(BUILT_IN)
    assert find_architecture("batchtopk", k=8) == BatchTopKArchitecture(8)
    with pytest.raises(FeatureError, match="batchtopk"):
        find_architecture("batchtpk")
    with pytest.raises(FeatureError, match="no such option"):
        find_architecture("topk", l1=3)
