"""One checkpoint on three backends obeys the same laws."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from personaprobe.errors import CheckpointError, PersonaProbeError, SiteError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.backends.registry import BUILT_IN_BACKENDS, rehost
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.edits.edit import Edit, EditPlan
from personaprobe.models.edits.hooks import Hooks
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.network import Fork, Network
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.self_check.self_check import self_check
from personaprobe.models.tokens import Batch, Role, Tokens, pad
from personaprobe.models.weights.adapter import LoraAdapter, LowRank
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.site import Site

D_MODEL, N_LAYERS, VOCAB = 32, 3, 128
ROWS = probe_tokens(VOCAB)
RIGHT, LEFT = pad(ROWS, 0), pad(ROWS, 0, side="left")


def random_vector(seed: int) -> Tensor:
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))


def shift(seed: int) -> Edit:
    """Add a fixed vector everywhere."""
    vector = random_vector(seed)
    return lambda x, _: x + vector


def project_out_of_responses(seed: int) -> Edit:
    """Remove a direction, at response tokens only."""
    d = torch.nn.functional.normalize(random_vector(seed), dim=0)
    return lambda x, roles: torch.where(
        (roles & Role.RESPONSE != 0)[..., None], x - (x @ d)[..., None] * d, x
    )


def everywhere(network: Network, edit: Edit) -> dict[Site, list[Edit]]:
    return {site: [edit] for site in sites_of(network)}


def sites_of(network: Network) -> list[Site]:
    return sorted(Site(layer, stream) for layer in range(network.n_layers) for stream in network.streams)


def some_edits(network: Network) -> EditPlan:
    """Several kinds of edits at every stream."""
    edits: dict[Site, list[Edit]] = {Site(1, stream): [shift(i)] for i, stream in enumerate(network.streams)}
    for i, stream in enumerate(network.streams):
        edits.setdefault(Site(i % N_LAYERS, stream), []).append(project_out_of_responses(10 + i))
    return EditPlan.of(edits)


def assert_close(one: Tensor, other: Tensor) -> None:
    """Equal to float32 rounding, relative to the largest value."""
    assert float((one - other).abs().max()) <= 1e-3 * float(other.abs().max())


def hosted(network: HuggingFaceNetwork, backend: str) -> Network:
    return rehost(LanguageModel(Checkpoint("tiny"), network, ChatTokenizer(None)), backend).network


def flops(run: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


def test_the_self_check_passes(network: Network) -> None:
    assert [check for check in self_check(network) if not check.passed] == []


@pytest.mark.parametrize("batch", [RIGHT, LEFT], ids=["right-padded", "left-padded"])
def test_backends_read_the_same_activations(network: Network, reference: Network, batch: Batch) -> None:
    sites = sites_of(reference)
    read, expected = (n.activations(batch, sites, {}) for n in (network, reference))
    assert set(read) == set(expected) == set(sites)
    for site in sites:
        assert_close(read[site][batch.mask], expected[site][batch.mask])


@pytest.mark.parametrize("batch", [RIGHT, LEFT], ids=["right-padded", "left-padded"])
def test_backends_agree_on_edited_logits_and_activations(
    network: Network, reference: Network, batch: Batch
) -> None:
    edits = some_edits(reference)
    bare, expected = reference.logits(batch, {}), reference.logits(batch, edits)
    assert float((expected - bare)[batch.mask].abs().max()) > 0.1, "the edits do something"
    assert_close(network.logits(batch, edits)[batch.mask], expected[batch.mask])
    last = [Site(N_LAYERS - 1)]
    assert_close(
        network.activations(batch, last, edits)[last[0]][batch.mask],
        reference.activations(batch, last, edits)[last[0]][batch.mask],
    )


def test_backends_edit_every_single_site_alike(network: Network, reference: Network) -> None:
    for site in sites_of(reference):
        edits = {site: [shift(3)]}
        assert_close(network.logits(RIGHT, edits)[RIGHT.mask], reference.logits(RIGHT, edits)[RIGHT.mask])


def test_backends_agree_on_log_probs(network: Network, reference: Network) -> None:
    edits = some_edits(reference)
    assert_close(network.log_probs(LEFT, edits), Network.log_probs(reference, LEFT, edits))


def test_texts_of_a_batch_have_the_activations_of_each_alone(network: Network) -> None:
    """Whether they stand in padded rows or one after another: a text sees itself and nothing else."""
    sites = [Site(0, "attn_out"), Site(2)]
    edits = some_edits(network)
    together = network.activations(RIGHT, sites, edits)
    for index, row in enumerate(ROWS):
        alone = network.activations(pad([row], 0), sites, edits)
        for site in sites:
            assert_close(together[site][index, : len(row)], alone[site][0])


def test_edits_of_a_site_act_in_the_order_given(network: Network) -> None:
    site = Site(1, "attn_out")
    double, increment = (lambda x, _: 2 * x), (lambda x, _: x + 1)
    plain, one, other = (
        network.activations(RIGHT, [site], edits)[site][RIGHT.mask]
        for edits in ({}, {site: [double, increment]}, {site: [increment, double]})
    )
    assert torch.equal(one, 2 * plain + 1)
    assert torch.equal(other, 2 * (plain + 1))


def test_edits_run_in_forward_order_with_the_roles_of_the_batch(network: Network) -> None:
    met: list[Site] = []

    def meets(site: Site) -> Edit:
        def edit(x: Tensor, roles: Tensor) -> Tensor:
            assert torch.equal(roles, LEFT.roles)
            assert x.shape == (*roles.shape, D_MODEL)
            met.append(site)
            return x * 1

        return edit

    sites = sites_of(network)
    network.logits(LEFT, {site: [meets(site)] for site in reversed(sites)})
    assert met == sites


def test_a_tap_is_bitwise_invisible(network: Network) -> None:
    taps = everywhere(network, lambda x, _: x)
    assert torch.equal(network.logits(RIGHT, taps), network.logits(RIGHT, {}))


def test_nothing_is_left_behind_when_an_edit_raises(network: Network) -> None:
    def fails(x: Tensor, roles: Tensor) -> Tensor:
        raise ZeroDivisionError("inside an edit")

    before = network.logits(RIGHT, {})
    for run in (
        lambda edits: network.logits(RIGHT, edits),
        lambda edits: network.activations(RIGHT, [Site(2)], edits),
    ):
        with pytest.raises(ZeroDivisionError, match="inside an edit"):
            run({Site(0): [shift(0)], Site(1, "mlp_out"): [fails]})
        assert torch.equal(network.logits(RIGHT, {}), before)


@pytest.mark.parametrize("batch", [RIGHT, LEFT], ids=["right-padded", "left-padded"])
def test_padding_does_not_reach_real_tokens(network: Network, batch: Batch) -> None:
    def scramble(x: Tensor, roles: Tensor) -> Tensor:
        return torch.where((roles == Role.PAD)[..., None], 100.0 + x.flip(-1), x)

    plain = network.logits(batch, {})[batch.mask]
    assert_close(network.logits(batch, everywhere(network, scramble))[batch.mask], plain)
    other = Batch(torch.where(batch.mask, batch.ids, 77), batch.roles)
    assert_close(network.logits(other, {})[batch.mask], plain)


def test_reading_a_layer_costs_only_the_layers_up_to_it(network: Network) -> None:
    costs = [flops(lambda at=at: network.activations(RIGHT, [Site(at)], {})) for at in range(N_LAYERS)]
    a_block = costs[1] - costs[0]
    assert costs[2] - costs[1] == a_block > 0
    assert costs[0] < 1.2 * a_block, "the first block, position embeddings, and nothing else"
    assert flops(lambda: network.activations(RIGHT, [Site(1, "attn_out")], {})) < costs[1]
    assert flops(lambda: network.logits(RIGHT, {})) > costs[2]


def test_edits_after_the_last_tap_do_not_run(network: Network) -> None:
    def fails(x: Tensor, roles: Tensor) -> Tensor:
        raise AssertionError("deeper than was asked for")

    read = network.activations(RIGHT, [Site(0), Site(1, "mlp_out")], {Site(1): [fails], Site(2): [fails]})
    assert set(read) == {Site(0), Site(1, "mlp_out")}


def test_a_layer_that_does_not_exist_is_refused(model: LanguageModel) -> None:
    class Deep:
        def edits(self, n_layers: int) -> dict[Site, Edit]:
            return {Site(n_layers): shift(0)}

    with pytest.raises(SiteError, match="layers 0 to 2"):
        model.activations(RIGHT, [Site(N_LAYERS)])
    with pytest.raises(SiteError, match="layers 0 to 2"):
        model.edited(Deep())


@pytest.mark.parametrize("name", BUILT_IN_BACKENDS)
def test_parallel_blocks_have_no_resid_mid(
    tiny_language_model: Callable[..., LanguageModel], name: str
) -> None:
    network = tiny_language_model("gpt_neox", name).network
    assert "resid_mid" not in network.streams
    for run in (
        lambda site: network.activations(RIGHT, [site], {}),
        lambda site: network.logits(RIGHT, {site: [shift(0)]}),
    ):
        with pytest.raises(SiteError, match="in parallel"):
            run(Site(1, "resid_mid"))


@pytest.mark.parametrize("name", BUILT_IN_BACKENDS)
def test_sequential_gpt_neox_has_resid_mid(tiny_model: Callable[..., Any], name: str) -> None:
    reference = wrap(tiny_model("gpt_neox", use_parallel_residual=False), 0)
    network = hosted(reference, name)
    edits = some_edits(reference)
    assert "resid_mid" in network.streams
    assert_close(network.logits(RIGHT, edits)[RIGHT.mask], reference.logits(RIGHT, edits)[RIGHT.mask])


@pytest.mark.parametrize("name", BUILT_IN_BACKENDS)
def test_bfloat16_models_pass_the_self_check(tiny_model: Callable[..., Any], name: str) -> None:
    network = hosted(wrap(tiny_model("llama").bfloat16(), 0), name)
    assert network.dtype == torch.bfloat16
    assert network.logits(RIGHT, {}).dtype == torch.bfloat16


# logits of the head


def test_logits_are_those_of_the_whole_hugging_face_model(network: Network, reference: Any) -> None:
    expected = reference.model(
        input_ids=LEFT.ids, attention_mask=LEFT.mask.long(), position_ids=LEFT.positions
    ).logits
    assert_close(network.logits(LEFT, {})[LEFT.mask], expected[LEFT.mask])


def test_the_soft_cap_of_gemma_2_is_applied(tiny_model: Callable[..., Any]) -> None:
    capped = wrap(tiny_model("gemma2", final_logit_softcapping=1.0), 0).logits(RIGHT, {})
    free = wrap(tiny_model("gemma2", final_logit_softcapping=None), 0).logits(RIGHT, {})
    assert float(free.abs().max()) > 2, "or the cap would not show"
    assert_close(capped, free.tanh())


@pytest.mark.parametrize(
    ("name", "scale"), [("granite", {"logits_scaling": 8.0}), ("cohere", {"logit_scale": 0.25})]
)
def test_the_scale_of_logits_is_applied(
    tiny_model: Callable[..., Any], name: str, scale: dict[str, float]
) -> None:
    scaled, model = wrap(tiny_model(name, **scale), 0), tiny_model(name, **scale)
    assert_close(scaled.logits(RIGHT, {})[RIGHT.mask], model(RIGHT.ids, RIGHT.mask.long()).logits[RIGHT.mask])


def test_a_scale_of_logits_that_the_config_does_not_tell_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("cohere", logit_scale=0.25)
    model.logit_scale = 0.5
    with pytest.raises(CheckpointError, match="logits are the model's own"):
        wrap(model, 0)


# decoding and packing, on the reference backend


PROMPTS = [Tokens(ROWS[0].ids[:4], ROWS[0].roles[:4]), Tokens(ROWS[1].ids[2:4], ROWS[1].roles[2:4])]


def decoded(network: Network, decode: Any, edits: EditPlan, rows: list[Tokens], n_steps: int) -> list[Tensor]:
    """Logits of ``n_steps`` greedy steps."""
    with decode(network, [edits]) as decoder:
        logits = [decoder.admit(rows, [edits] * len(rows), list(range(len(rows))), n_steps)]
        for _ in range(n_steps - 1):
            logits.append(decoder.step(logits[-1].argmax(-1)))
    return logits


def assert_decodes_alike(network: Network) -> None:
    edits = some_edits(network)
    cached = decoded(network, type(network).decoding, edits, PROMPTS, 6)
    uncached = decoded(network, Network.decoding, edits, PROMPTS, 6)
    for one, other in zip(cached, uncached, strict=True):
        assert_close(one, other)


def test_cached_and_uncached_decoding_agree_under_edits(reference: Network) -> None:
    assert_decodes_alike(reference)


@pytest.mark.parametrize("windowed", ["mistral", "gemma2", "gemma3_text"])
def test_cached_and_uncached_decoding_agree_behind_a_sliding_window(
    tiny_model: Callable[..., Any], windowed: str
) -> None:
    assert_decodes_alike(wrap(tiny_model(windowed, sliding_window=4), 0))


def test_an_answer_decodes_alike_with_and_without_a_batch_mate(network: Network) -> None:
    edits = some_edits(network)
    together = decoded(network, type(network).decoding, edits, PROMPTS, 3)
    alone = decoded(network, type(network).decoding, edits, PROMPTS[1:], 3)
    for one, other in zip(together, alone, strict=True):
        assert_close(one[1:], other)


def enter_and_leave(network: Network, decode: Any) -> list[Tensor]:
    """Logits of rows that enter and leave at different times, some after a common prefix, under several edits."""
    arms = [EditPlan(), some_edits(network)]
    long = [
        Tokens(ROWS[0].ids, ROWS[0].roles).followed_by([5, 6, 7, 8, 9]).followed_by([last]) for last in (3, 4)
    ]
    logits = []
    with decode(network, arms) as decoder:
        logits.append(decoder.admit(PROMPTS, arms, [0, 1, 1], 12))
        for _ in range(2):
            logits.append(decoder.step(logits[-1].argmax(-1)))
        decoder.keep([2, 1])
        late_logits = decoder.admit([*long, long[0]], [arms[0], arms[0], arms[1]], [0, 1, 2], 12)
        logits += [late_logits, decoder.step(torch.cat([logits[-1][[2, 1]], late_logits]).argmax(-1))]
        decoder.keep([0, 4, 2])
        logits.append(decoder.step(logits[-1][[0, 4, 2]].argmax(-1)))
    return logits


def test_rows_that_enter_and_leave_are_decoded_as_alone(reference: Network) -> None:
    cached, uncached = (
        enter_and_leave(reference, type(reference).decoding),
        enter_and_leave(reference, Network.decoding),
    )
    for one, other in zip(cached, uncached, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("windowed", ["mistral", "gemma2", "gemma3_text"])
def test_rows_that_enter_and_leave_keep_their_sliding_windows(
    tiny_model: Callable[..., Any], windowed: str
) -> None:
    network = wrap(tiny_model(windowed, sliding_window=4), 0)
    cached, uncached = (
        enter_and_leave(network, type(network).decoding),
        enter_and_leave(network, Network.decoding),
    )
    for one, other in zip(cached, uncached, strict=True):
        assert_close(one, other)


def test_decoding_leaves_no_hooks_behind(reference: Any) -> None:
    def fails_midway() -> None:
        edits = some_edits(reference)
        with reference.decoding([edits]) as decoder:
            decoder.admit(PROMPTS, [edits] * 2, [0, 1], 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_midway()
    assert_no_hooks(reference.model)


def assert_no_hooks(model: torch.nn.Module) -> None:
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


FORKS = [
    Fork(Tokens(ROWS[0].ids[:4], ROWS[0].roles[:4]), (ROWS[0].ids[4:], (5, 6), (7,))),
    Fork(Tokens(ROWS[1].ids[2:4], ROWS[1].roles[2:4]), ((9, 8, 7, 6),)),
]


def test_states_of_packed_answers_are_those_of_separate_rows(network: Network) -> None:
    sites, edits = [Site(1), Site(0)], some_edits(network)
    packed, separate = (
        network.fork_states(FORKS, sites, edits),
        Network.fork_states(network, FORKS, sites, edits),
    )
    for one, other in zip(packed, separate, strict=True):
        assert [len(states) for states in one] == [len(states) for states in other]
        assert_close(torch.cat(one), torch.cat(other))
        assert torch.cat(one).shape[1] == len(sites)


def assert_packs_alike(network: Network) -> None:
    edits = some_edits(network)
    packed, separate = network.fork_log_probs(FORKS, edits), Network.fork_log_probs(network, FORKS, edits)
    for one, other in zip(packed, separate, strict=True):
        assert_close(torch.cat(one), torch.cat(other))


def test_packed_answers_score_as_in_separate_rows(reference: Network) -> None:
    assert_packs_alike(reference)


@pytest.mark.parametrize("windowed", ["mistral", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("window", [4, 9])
def test_packed_answers_score_alike_behind_a_sliding_window(
    tiny_model: Callable[..., Any], windowed: str, window: int
) -> None:
    assert_packs_alike(wrap(tiny_model(windowed, sliding_window=window), 0))


# hooks


def test_early_exit_does_not_call_deeper_blocks(reference: Any) -> None:
    called: list[int] = []
    counters = [
        block.register_forward_pre_hook(lambda *_, layer=layer: called.append(layer))
        for layer, block in enumerate(reference.layout.blocks)
    ]
    try:
        reference.activations(RIGHT, [Site(0, "attn_out"), Site(1)], {})
    finally:
        for counter in counters:
            counter.remove()
    assert called == [0, 1]


def test_hooks_live_for_one_block_and_are_gone_after_an_exception(reference: Any) -> None:
    def fails_inside() -> None:
        with Hooks(reference.layout, some_edits(reference)):
            assert any(m._forward_hooks or m._forward_pre_hooks for m in reference.model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_inside()
    assert_no_hooks(reference.model)


def test_hooks_that_cannot_all_be_installed_leave_none(tiny_language_model: Callable[..., Any]) -> None:
    network = tiny_language_model("gpt_neox").network
    with pytest.raises(SiteError), Hooks(network.layout, {Site(0): [], Site(1, "resid_mid"): []}):
        pass
    assert_no_hooks(network.model)


@pytest.mark.parametrize(("name", "compiler"), [("gemma2", "eager"), ("llama", "aot_eager")])
def test_compiled_and_eager_agree_under_edits(
    tiny_model: Callable[..., Any], name: str, compiler: str
) -> None:
    network = wrap(tiny_model(name), 0)
    edits = some_edits(network)
    eager = network.hidden(RIGHT, edits)
    torch._dynamo.reset()
    decoder = torch.compile(network.layout.decoder, backend=compiler)
    with torch.no_grad(), Hooks(network.layout, edits) as hooks:
        hooks.roles = RIGHT.roles
        compiled = decoder(
            input_ids=RIGHT.ids,
            attention_mask=RIGHT.mask.long(),
            position_ids=RIGHT.positions,
            use_cache=False,
        ).last_hidden_state
    assert_close(compiled[RIGHT.mask], eager[RIGHT.mask])


# adapters


FUSED = {
    "llama": "model.layers.1.self_attn.k_proj",
    "gpt2": "transformer.h.1.attn.c_attn",
    "gpt_neox": "gpt_neox.layers.1.attention.query_key_value",
    "phi3": "model.layers.1.mlp.gate_up_proj",
}
"""A matrix to adapt; all but the first are several matrices in one, which TransformerLens takes apart."""


def adapter_of(network: Any, module: str, seed: int) -> LoraAdapter:
    """A rank-2 update of one matrix."""
    generator = torch.Generator().manual_seed(seed)
    shape = network.model.get_submodule(module).weight.shape
    d_out, d_in = shape if type(network.model.get_submodule(module)).__name__ == "Linear" else shape[::-1]
    update = LowRank(
        torch.randn(2, d_in, generator=generator), torch.randn(d_out, 2, generator=generator), 0.5
    )
    return LoraAdapter(Path(f"adapter-{seed}"), str(seed), {module: update})


@pytest.mark.parametrize("name", ["nnsight", "transformer_lens"])
@pytest.mark.parametrize("fused", FUSED)
def test_backends_switch_adapters_alike(tiny_model: Callable[..., Any], fused: str, name: str) -> None:
    reference = wrap(tiny_model(fused), 0)
    network = hosted(reference, name)
    base = network.logits(RIGHT, {})
    for seed in (1, 2):
        network.activate_adapter(adapter_of(reference, FUSED[fused], seed))
        adapted = network.logits(RIGHT, {})
        assert float((adapted - base)[RIGHT.mask].abs().max()) > 1e-2
        assert_close(adapted[RIGHT.mask], reference.logits(RIGHT, {})[RIGHT.mask])
    network.activate_adapter(None)
    assert torch.equal(network.logits(RIGHT, {}), base)


@pytest.mark.parametrize("name", ["nnsight", "transformer_lens"])
def test_backends_share_the_weights(tiny_language_model: Callable[..., LanguageModel], name: str) -> None:
    network: Any = tiny_language_model("llama", name).network
    model = network.root._module if name == "nnsight" else network.bridge.original_model
    shared = {parameter.data_ptr() for parameter in network.source.model.parameters()}
    copied = [p for p in model.parameters() if p.data_ptr() not in shared]
    assert sum(p.numel() for p in copied) <= VOCAB, "a bias of zeros that TransformerLens gives the head"


# choosing a backend


def test_a_misspelt_backend_gets_a_suggestion(tiny_language_model: Callable[..., LanguageModel]) -> None:
    with pytest.raises(PersonaProbeError, match='did you mean "nnsight"'):
        rehost(tiny_language_model("llama"), "nsight")


def test_a_rehosted_model_is_the_same_checkpoint_and_can_return_to_hooks(model: LanguageModel) -> None:
    class Nothing:
        def edits(self, n_layers: int) -> dict[Site, Edit]:
            return {}

    edited = model.edited(Nothing())
    back = rehost(edited, "hooks")
    assert (back.checkpoint, back.adapter, back.edits) == (model.checkpoint, model.adapter, edited.edits)
    assert isinstance(back.network, HuggingFaceNetwork)
    assert rehost(back, "hooks") == back


def test_an_architecture_transformer_lens_does_not_know_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.__class__ = type("UnheardForCausalLM", (type(model),), {})
    network = wrap(model, 0)
    assert hosted(network, "nnsight").n_layers == N_LAYERS
    with pytest.raises(CheckpointError, match="TransformerLens does not know UnheardForCausalLM"):
        hosted(network, "transformer_lens")


def test_backends_are_imported_only_when_used() -> None:
    script = """if 1:
        import sys, personaprobe.models.backends.registry
        print([m for m in ("nnsight", "transformer_lens", "transformers") if m in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
