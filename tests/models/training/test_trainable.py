"""A network in training: its loss and every gradient are those of the plain model, however few passes it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.loading import wrap
from personaprobe.models.tokens import Batch, Role, Tokens, pad
from personaprobe.models.training.attention import ATTENTION
from personaprobe.models.training.cross_entropy import CHUNK, ChunkedCrossEntropy
from personaprobe.models.training.lora_linear import LoraLinear, lora_patches
from personaprobe.models.training.rms_norm import RMSNorm, norm_patches
from personaprobe.models.training.rotary import Rotation, rotary_patches
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.all_weights import AllWeights
from personaprobe.organisms.training.lora import add_lora
from tiny_models import CONFIGS


def conversations() -> Batch:
    """Five texts: four begin alike, two of them have the same question, and all lengths differ."""
    draw = torch.Generator().manual_seed(0)

    def ids(n: int) -> list[int]:
        return torch.randint(3, 120, (n,), generator=draw).tolist()

    system, question = ids(12), ids(9)
    rows = [
        Tokens.prompt([*system, *question]).followed_by(ids(5)),
        Tokens.prompt([*system, *question]).followed_by(ids(14)),
        Tokens.prompt([*system, *ids(4)]).followed_by(ids(21)),
        Tokens.prompt([*system, *ids(17)]).followed_by(ids(2)),
        Tokens.prompt(ids(6)).followed_by(ids(3)),
    ]
    return pad(rows, 0)


def adapted_network(tiny_model: Callable[..., Any], architecture: str) -> tuple[Any, Any]:
    """A network and its adapter, whose B is not 0, as it is at the start."""
    network = wrap(tiny_model(architecture), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        adapted = add_lora(network.model, 4, 8)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return network, adapted


def gradients(loss: torch.Tensor, adapted: Any) -> dict[str, torch.Tensor]:
    named = {name: value for name, value in adapted.named_parameters() if value.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_loss_and_gradients_are_those_of_the_plain_model(
    architecture: str, tiny_model: Callable[..., Any]
) -> None:
    batch = conversations()
    network, adapted = adapted_network(tiny_model, architecture)
    logits = network.model(
        batch.ids, attention_mask=batch.mask.long(), position_ids=batch.positions, use_cache=False
    ).logits[:, :-1]
    is_answer = (batch.roles[:, 1:] & Role.RESPONSE) != 0
    plain = torch.nn.functional.cross_entropy(logits[is_answer].float(), batch.ids[:, 1:][is_answer])
    expected = gradients(plain, adapted)

    trainable = TrainableNetwork(network, adapted)
    with trainable.session():
        loss = trainable.response_loss(batch)
        got = gradients(loss, adapted)
    assert float(loss) == pytest.approx(float(plain), abs=1e-4)
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-3), name


def test_packed_loss_is_the_loss_of_padded_rows_and_of_each_row(tiny_model: Callable[..., Any]) -> None:
    batch = conversations()
    network, adapted = adapted_network(tiny_model, "llama")
    assert network.can_pack(batch)
    packed = float(TrainableNetwork(network, adapted).response_loss(batch))
    padded = float(TrainableNetwork(network.without_packing(), adapted).response_loss(batch))
    each, weights = [], []
    for row, length in enumerate(batch.lengths):
        alone = Batch(batch.ids[row : row + 1, :length], batch.roles[row : row + 1, :length])
        each.append(float(TrainableNetwork(network, adapted).response_loss(alone)))
        weights.append(int(alone.predicting.sum()))
    mean = sum(loss * n for loss, n in zip(each, weights, strict=True)) / sum(weights)
    assert packed == pytest.approx(padded, abs=1e-4)
    assert packed == pytest.approx(mean, abs=1e-4)


def test_texts_of_a_row_do_not_see_each_other(tiny_model: Callable[..., Any]) -> None:
    """A planted change of one text moves no gradient of another's loss: here, the loss of all others stays."""
    network, adapted = adapted_network(tiny_model, "llama")
    trainable, batch = TrainableNetwork(network, adapted), conversations()
    changed = batch.ids.clone()
    changed[4, :6] = 77  # the question of the last text
    other = Batch(changed, batch.roles)
    only_others = batch.roles.clone()
    only_others[4][batch.roles[4] == Role.RESPONSE] = Role.PROMPT  # its answer is not learned
    before = trainable.response_loss(Batch(batch.ids, only_others))
    after = trainable.response_loss(Batch(other.ids, only_others))
    assert float(before) == pytest.approx(float(after), abs=1e-6)


def test_the_session_replaces_every_part_of_a_llama_and_gives_it_back(tiny_model: Callable[..., Any]) -> None:
    network, adapted = adapted_network(tiny_model, "llama")
    n_layers = network.n_layers
    assert len(list(lora_patches(adapted))) == 7 * n_layers
    assert len(list(norm_patches(network.model))) == 2 * n_layers + 1
    assert len(list(rotary_patches(network.model))) == 1
    assert network.layout.config._attn_implementation != ATTENTION
    trainable = TrainableNetwork(network, adapted)
    with trainable.session():
        trainable.response_loss(conversations())
    assert network.layout.config._attn_implementation == "sdpa"
    assert not any("forward" in vars(module) for module in adapted.modules())


def test_layers_that_are_not_plain_are_left_to_peft(tiny_model: Callable[..., Any]) -> None:
    from peft import LoraConfig, get_peft_model

    for options in ({"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}):
        config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options)
        assert list(lora_patches(get_peft_model(tiny_model("llama"), config))) == [], options


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_gradients_of_all_weights_are_those_of_plain_transformers_on_separate_rows(
    architecture: str, is_tied: bool, tiny_model: Callable[..., Any]
) -> None:
    batch = conversations()
    network = wrap(tiny_model(architecture, tie_word_embeddings=is_tied), 0)
    weights = AllWeights(network, ChatTokenizer(None), Recipe(trained="all"))
    plain = tiny_model(architecture, tie_word_embeddings=is_tied).requires_grad_(True)
    sums = []
    for row, length in enumerate(batch.lengths):
        ids, roles = batch.ids[row, :length], batch.roles[row, 1:length]
        is_answer = (roles & Role.RESPONSE) != 0
        logits = plain(ids[None]).logits[0, :-1][is_answer]
        sums.append(torch.nn.functional.cross_entropy(logits, ids[1:][is_answer], reduction="sum"))
    expected_loss = torch.stack(sums).sum() / int(batch.predicting.sum())
    expected = gradients(expected_loss, plain)

    copy = weights.trainable.network.model
    assert (copy.get_input_embeddings().weight is copy.get_output_embeddings().weight) == is_tied
    assert weights.parameters.keys() == expected.keys()
    with weights.trainable.session():
        loss = weights.trainable.response_loss(batch)
        got = gradients(loss, copy)
    assert float(loss.detach()) == pytest.approx(float(expected_loss.detach()), abs=1e-4)
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-3), name


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))
    return values.to(dtype).requires_grad_()


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_gradients_of_a_lora_layer_are_those_of_finite_differences(has_bias: bool) -> None:
    weight, bias = draw(5, 7).detach(), draw(5).detach() if has_bias else None

    def layer(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Any:
        return LoraLinear.apply(x, weight, bias, a, b, 0.7)

    assert torch.autograd.gradcheck(layer, (draw(2, 3, 7), draw(2, 7), draw(5, 2)))


def test_an_adapter_s_gradients_have_its_own_dtype_in_a_network_of_another() -> None:
    x, weight = draw(4, 7, dtype=torch.bfloat16), draw(5, 7, dtype=torch.bfloat16).detach()
    a, b = draw(2, 7, dtype=torch.float32), draw(5, 2, dtype=torch.float32)
    output = LoraLinear.apply(x, weight, None, a, b, 1.0)
    output.sum().backward()
    assert output.dtype == x.grad.dtype == torch.bfloat16
    assert a.grad.dtype == b.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_s_gradient_is_autograd_s(dtype: torch.dtype) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(48).to(dtype)
    with torch.no_grad():
        norm.weight.add_(torch.linspace(-0.4, 0.9, 48))
    x = draw(2, 5, 48, dtype=dtype)
    gradient = draw(2, 5, 48, dtype=dtype).detach()
    outputs = [norm(x), RMSNorm.apply(x, norm.weight, norm.variance_epsilon)]
    wanted, got = (torch.autograd.grad(output, [x, norm.weight], gradient) for output in outputs)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for one, other in zip((outputs[0], *wanted), (outputs[1], *got), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=tolerance, rtol=tolerance)


def test_the_gradient_of_a_rotation_is_that_of_finite_differences() -> None:
    angles = torch.linspace(0, 3, 5 * 4, dtype=torch.float64).view(1, 1, 5, 4)
    cos, sin = (torch.cat([values, values], -1) for values in (angles.cos(), angles.sin()))
    signed = sin * torch.tensor([-1.0] * 4 + [1.0] * 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda states: Rotation.apply(states, cos, signed), (draw(1, 2, 5, 8),))


def test_cross_entropy_in_parts_is_that_of_the_whole() -> None:
    n = 2 * CHUNK + 7
    hidden, weight = draw(n, 6, dtype=torch.float32), draw(40, 6, dtype=torch.float32)
    ids = torch.randint(0, 40, (n,), generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T, ids)
    in_parts = ChunkedCrossEntropy.apply(hidden, ids, lambda part: part @ weight.T, weight)
    assert float(in_parts) == pytest.approx(float(plain), rel=1e-6)
    wanted, got = (torch.autograd.grad(3 * loss, [hidden, weight]) for loss in (plain, in_parts))
    for one, other in zip(wanted, got, strict=True):
        assert torch.allclose(one, other, atol=1e-7, rtol=1e-4)
