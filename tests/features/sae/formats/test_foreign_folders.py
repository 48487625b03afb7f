"""Folders of other libraries: what they compute is what their library computes, or the folder is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from personaprobe.errors import FallbackWarning, FeatureError
from personaprobe.features.sae.activation_functions import JumpReLU, TopK
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.site import Site
from random_dictionaries import D_MODEL, D_SAE, ROWS, jumping, numbers

STANDARD = {
    "W_enc": numbers(D_MODEL, D_SAE, seed=1),
    "b_enc": numbers(D_SAE, seed=2),
    "W_dec": numbers(D_SAE, D_MODEL, seed=3),
    "b_dec": numbers(D_MODEL, seed=4),
}
THRESHOLD = {"threshold": numbers(D_SAE, seed=5).abs()}
JUMPING = {**STANDARD, **THRESHOLD}
FACTORS = {**STANDARD, "scaling_factor": numbers(D_SAE, seed=5).abs()}
GATED = {
    **{name: STANDARD[name] for name in ("W_enc", "W_dec", "b_dec")},
    **{name: numbers(D_SAE, seed=6 + seed) for seed, name in enumerate(("b_gate", "r_mag", "b_mag"))},
}

OLD = {
    "d_in": D_MODEL,
    "d_sae": D_SAE,
    "dtype": "float32",
    "device": "cpu",
    "model_name": "m",
    "hook_name": "blocks.3.hook_resid_post",
    "hook_layer": 3,
    "hook_head_index": None,
    "prepend_bos": True,
    "dataset_path": "texts",
    "context_size": 128,
    "normalize_activations": "none",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "sae_lens_training_version": "3.1.0",
    "seqpos_slice": [None],
}


def saelens(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor] = STANDARD) -> Path:
    """A folder of an old version, unless the configuration has metadata."""
    folder.mkdir(exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, folder / "sae_weights.safetensors"
    )
    (folder / "cfg.json").write_text(json.dumps({**OLD, **config}))
    return folder


AS_SAELENS_READS: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "nothing": ({}, STANDARD),
    "standard": (
        {"architecture": "standard", "activation_fn_str": "relu", "activation_fn_kwargs": {}},
        STANDARD,
    ),
    "topk in an activation function": (
        {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}},
        STANDARD,
    ),
    "topk in an activation function alone": (
        {"activation_fn": "topk", "activation_fn_kwargs": {"k": 5}},
        STANDARD,
    ),
    "topk with k among the arguments": ({"architecture": "topk", "activation_fn_kwargs": {"k": 5}}, STANDARD),
    "not centred": ({"apply_b_dec_to_input": False}, STANDARD),
    "normalisation that is false": ({"normalize_activations": False}, STANDARD),
    "factors of one": ({}, {**STANDARD, "scaling_factor": torch.ones(D_SAE)}),
    "jumprelu": ({"architecture": "jumprelu"}, JUMPING),
    "gated": ({"architecture": "gated"}, GATED),
    "an older name of the hook": ({"hook_name": None, "hook_point": "blocks.3.hook_resid_post"}, STANDARD),
    "rescaled topk": ({"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True}, STANDARD),
}


@pytest.mark.parametrize("case", AS_SAELENS_READS)
def test_old_folders_of_saelens_compute_what_saelens_computes(case: str, tmp_path: Path) -> None:
    from sae_lens import SAE

    config, weights = AS_SAELENS_READS[case]
    folder = saelens(
        tmp_path / "sae", {name: value for name, value in config.items() if value is not None}, weights
    )
    theirs, mine = SAE.load_from_disk(folder, device="cpu"), load_dictionary(folder)
    acts = mine.encode(ROWS)
    torch.testing.assert_close(mine.decode(acts), theirs(ROWS), rtol=1e-4, atol=1e-4)
    assert torch.equal(acts > 0, theirs.encode(ROWS) > 0)
    assert mine.site == Site(3)


def test_tanh_relu_is_read_as_saelens_reads_it_and_says_so(tmp_path: Path) -> None:
    from sae_lens import SAE

    folder = saelens(tmp_path / "sae", {"activation_fn_str": "tanh-relu"})
    with pytest.warns(FallbackWarning, match="tanh-relu"):
        mine = load_dictionary(folder)
    torch.testing.assert_close(mine.encode(ROWS), SAE.load_from_disk(folder, device="cpu").encode(ROWS))


def changed(name: str, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    weights = JUMPING if name == "threshold" else STANDARD if name in STANDARD else GATED
    return {**weights, name: change(weights[name])}


def nan(tensor: Tensor) -> Tensor:
    return torch.where(torch.arange(tensor.numel()).reshape(tensor.shape) == 3, torch.nan, tensor)


V6 = {"metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.3.hook_resid_post"}}

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Tensor], str]] = {
    "topk without k": ({"architecture": "topk"}, STANDARD, "lacks 'k'"),
    "old topk without k": ({"activation_fn_str": "topk"}, STANDARD, "lacks 'k'"),
    "two k": ({"architecture": "topk", "k": 4, "activation_fn_kwargs": {"k": 5}}, STANDARD, "k is '4'"),
    "new standard with topk": ({**V6, "activation_fn_str": "topk", "k": 5}, STANDARD, "activation_fn_str"),
    "topk in a jumprelu": ({"architecture": "jumprelu", "activation_fn_str": "topk"}, JUMPING, "activation_fn_str"),
    "another function": ({"activation_fn_str": "gelu"}, STANDARD, "activation_fn_str is 'gelu'"),
    "other arguments": ({"activation_fn_kwargs": {"postact": "abs"}}, STANDARD, "activation_fn_kwargs.postact"),
    "factors": ({"finetuning_scaling_factor": True}, FACTORS, "scaling_factor"),
    "factors without a mark": ({}, FACTORS, "scaling_factor"),
    "a mark without factors": ({"finetuning_scaling_factor": True}, STANDARD, "finetuning_scaling_factor"),
    "threshold in a standard one": ({}, JUMPING, "'threshold'"),
    "W_skip": ({}, {**STANDARD, "W_skip": numbers(D_MODEL, D_MODEL)}, "'W_skip'.*transcoder"),
    "b_dec_out": ({}, {**STANDARD, "b_dec_out": numbers(D_MODEL)}, "'b_dec_out'.*transcoder"),
    "an unknown tensor": ({}, {**STANDARD, "gain": numbers(D_SAE)}, "'gain'"),
    "b_enc in a gated one": ({"architecture": "gated"}, {**GATED, "b_enc": numbers(D_SAE)}, "'b_enc'"),
    "heads": ({"reshape_activations": "hook_z"}, STANDARD, "reshape_activations is 'hook_z'"),
    "one head": ({"hook_head_index": 0}, STANDARD, "hook_head_index"),
    "one head in the metadata": ({"metadata": {**V6["metadata"], "hook_head_index": 2}}, STANDARD, "hook_head_index"),
    "positions": ({"seqpos_slice": [5, -5]}, STANDARD, "seqpos_slice"),
    "positions in the metadata": ({"metadata": {**V6["metadata"], "seqpos_slice": [5, None]}}, STANDARD, "seqpos_slice"),
    "another output": ({"hook_name_out": "blocks.3.hook_mlp_out"}, STANDARD, "hook_name_out.*transcoder"),
    "a transcoder": ({"architecture": "transcoder"}, STANDARD, "architecture is 'transcoder'"),
    "a transcoder's width": ({"d_out": D_MODEL}, STANDARD, "d_out.*transcoder"),
    "an unknown option": ({"input_scale": 2.0}, STANDARD, "input_scale is '2.0'"),
    "an unknown option in the metadata": ({"metadata": {**V6["metadata"], "output_gain": 3}}, STANDARD, "output_gain"),
    "a norm that is learned": ({"normalize_activations": "layer_norm"}, STANDARD, "layer_norm"),
    "an old norm": ({"normalize_activations": True}, STANDARD, "normalize_activations"),
    "rescaled jumprelu": ({"architecture": "jumprelu", "rescale_acts_by_decoder_norm": True}, JUMPING, "rescale_acts"),
    "text for false": ({"apply_b_dec_to_input": "false"}, STANDARD, "apply_b_dec_to_input is 'false', expected true"),
    "a number for true": ({"apply_b_dec_to_input": 1}, STANDARD, "apply_b_dec_to_input"),
    "text for rescaling": ({"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": "no"}, STANDARD, "rescale_acts"),
    "null for true": ({"apply_b_dec_to_input": None}, STANDARD, "apply_b_dec_to_input"),
    "k without an architecture": ({"k": 5}, STANDARD, "k is '5', which the architecture 'standard' does not have"),
    "k of another architecture": ({"architecture": "jumprelu", "k": 5}, JUMPING, "k is '5'"),
    "an architecture that is no name": ({"architecture": {}}, STANDARD, "architecture is"),
    "an architecture in a list": ({"architecture": ["topk"]}, STANDARD, "architecture is"),
    "another d_in": ({"d_in": D_MODEL + 1}, STANDARD, "d_in is '17'"),
    "another d_sae": ({"d_sae": 2 * D_SAE}, STANDARD, "d_sae"),
    "a width that is true": ({"d_in": True}, STANDARD, "d_in"),
    "metadata in a list": ({"metadata": [1]}, STANDARD, "metadata"),
    "no hook": ({"hook_name": ""}, STANDARD, "at which hook"),
    "two layers": ({"hook_layer": 4}, STANDARD, "hook_name says 3.resid_post, hook_layer says 4.resid_post"),
    "two hooks": ({"hf_hook_name": "model.layers.3.mlp"}, STANDARD, "hf_hook_name says 3.mlp_out"),
    **{
        f"k {k!r}": ({"architecture": "topk", "k": k}, STANDARD, "k is")
        for k in (0, -1, True, 3.7, "5", [5], D_SAE + 1)
    },
    **{f"NaN in {name}": ({}, changed(name, nan), name) for name in STANDARD},
    **{f"NaN in {name}": ({"architecture": "gated"}, changed(name, nan), name) for name in ("b_gate", "r_mag", "b_mag")},
    "NaN in threshold": ({"architecture": "jumprelu"}, changed("threshold", nan), "threshold"),
    "a gain without bound": ({"architecture": "gated"}, changed("r_mag", lambda r: r + 1000), "gain"),
    "a threshold too short": ({"architecture": "jumprelu"}, changed("threshold", lambda t: t[:5]), "threshold has shape"),
    "a gain too short": ({"architecture": "gated"}, changed("r_mag", lambda t: t[:5]), "r_mag has shape"),
    "float64 beyond float32": ({}, changed("W_enc", lambda W: W.double() * 1e300), "W_enc holds NaN or infinite"),
    "a vector for a matrix": ({}, changed("W_enc", lambda W: W[0]), "W_enc has shape"),
    "three dimensions": ({}, changed("W_dec", lambda W: W[None]), "W_dec has shape"),
    "a matrix for a bias": ({}, changed("b_enc", lambda b: b[None]), "b_enc has shape"),
    "complex numbers": ({}, changed("W_enc", lambda W: W.to(torch.complex64)), "W_enc is of torch.complex64"),
    "an empty matrix": ({}, changed("W_enc", lambda W: W[:0]), "W_enc has shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_folder_of_saelens_says_and_we_do_not_compute_is_refused_by_name(
    case: str, tmp_path: Path
) -> None:
    config, weights, complaint = REFUSED[case]
    with pytest.raises(FeatureError, match=complaint) as refusal:
        load_dictionary(saelens(tmp_path / "sae", config, weights))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[["k", 3]]', "null", "[" * 100_000, '{"k": 1, "k": 2}', "\ud800"]
)
def test_a_configuration_that_is_no_object_is_one_line(text: str, tmp_path: Path) -> None:
    folder = saelens(tmp_path / "sae", {})
    (folder / "cfg.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(FeatureError, match=r"cfg\.json is not (a JSON object|JSON|UTF-8 text)"):
        load_dictionary(folder)


HOOKS = {
    **{f"blocks.3.hook_{stream}": Site(3, stream) for stream in ("resid_pre", "resid_mid", "resid_post")},
    "blocks.3.hook_mlp_out": Site(3, "mlp_out"),
    "blocks.3.hook_attn_out": Site(3, "attn_out"),
    "blocks.15.hook_out": Site(15),
    "blocks.15.hook_in": Site(15, "resid_pre"),
    "blocks.15.mlp.hook_out": Site(15, "mlp_out"),
    "model.layers.15": Site(15),
    "model.language_model.layers.15": Site(15),
    "gpt_neox.layers.15.attention": Site(15, "attn_out"),
    "layers.15.self_attn": Site(15, "attn_out"),
    "transformer.h.3.mlp": Site(3, "mlp_out"),
    "h.5": Site(5),
}

NO_HOOKS = (
    "blocks.3.attn.hook_z",
    "blocks.3.hook_mlp_in",
    "blocks.3.ln2.hook_normalized",
    "blocks.3.mlp.hook_post",
    "blocks.-3.hook_resid_post",
    "blocks.3",
    "model.layers.3.mlp.down_proj",
    "model.layers.3.input_layernorm",
    "model.embed_tokens",
    "hook_embed",
    "encoder.layers.3",
    f"model.layers.{'9' * 5000}",
)


@pytest.mark.parametrize("hook", HOOKS)
def test_plain_spellings_of_a_site_are_read(hook: str, tmp_path: Path) -> None:
    folder = saelens(tmp_path / "sae", {"hook_name": hook, "hook_layer": str(HOOKS[hook].layer)})
    assert load_dictionary(folder).site == HOOKS[hook]


@pytest.mark.parametrize("hook", NO_HOOKS)
def test_a_hook_that_is_no_site_we_know_is_refused(hook: str, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no site we know"):
        load_dictionary(saelens(tmp_path / "sae", {"hook_name": hook, "hook_layer": None}))


LINEAR = {
    "encoder.weight": STANDARD["W_enc"].T.contiguous(),
    "encoder.bias": STANDARD["b_enc"],
    "decoder.weight": STANDARD["W_dec"].T.contiguous(),
}

TOP = {**LINEAR, "b_dec": STANDARD["b_dec"], "k": torch.tensor(4), "threshold": torch.tensor(0.3)}

TRAINER = {
    "trainer_class": "TopKTrainer",
    "dict_class": "AutoEncoderTopK",
    "activation_dim": D_MODEL,
    "dict_size": D_SAE,
    "layer": 3,
    "lm_name": "m",
    "k": 4,
    "lr": 1e-4,
    "auxk_alpha": 0.03125,
    "seed": 0,
    "device": "cuda:0",
}


def dictionary_learning(
    folder: Path, tensors: Mapping[str, Any], buffer: Mapping[str, Any] | None = None, **trainer: Any
) -> Path:
    folder.mkdir()
    torch.save(dict(tensors), folder / "ae.pt")
    config = {"trainer": {**TRAINER, **trainer}, "buffer": {"io": "out", "ctx_len": 128, **(buffer or {})}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


SUBMODULES = {
    **dict.fromkeys((None, "resid_post_layer_3", "resid_3", "model.layers.3", "transformer.h.3"), Site(3)),
    "resid_pre_layer_3": Site(3, "resid_pre"),
    **dict.fromkeys(("mlp_layer_3", "mlp_out_layer_3", "mlp_3", "transformer.h.3.mlp"), Site(3, "mlp_out")),
    **dict.fromkeys(("attn_layer_3", "attn_out_layer_3", "model.layers.3.self_attn"), Site(3, "attn_out")),
}


@pytest.mark.parametrize("layer", [3, "3", None])
@pytest.mark.parametrize("submodule", SUBMODULES)
def test_the_submodule_of_dictionary_learning_says_where_it_was_trained(
    submodule: str | None, layer: Any, tmp_path: Path
) -> None:
    if submodule is None and layer is None:
        layer = 3
    folder = dictionary_learning(tmp_path / "sae", TOP, submodule_name=submodule, layer=layer)
    mine = load_dictionary(folder)
    assert mine.site == SUBMODULES[submodule]
    assert mine.activation == TopK(4)


REFUSED_THERE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "two layers": (TOP, {"submodule_name": "resid_post_layer_7"}, "submodule_name says 7.resid_post"),
    "an unknown place": (TOP, {"submodule_name": "ln_layer_3"}, "submodule_name 'ln_layer_3'"),
    "embeddings": (TOP, {"submodule_name": "embed"}, "'embed'"),
    "no layer": (TOP, {"layer": None}, "does not say where"),
    "a layer below 0": (TOP, {"layer": -1}, "layer"),
    "a layer that is true": (TOP, {"layer": True}, "layer"),
    "a layer that is no number": (TOP, {"layer": "last"}, "layer"),
    "an input": (TOP, {"buffer": {"io": "in"}}, "io is 'in'"),
    "another width": (TOP, {"activation_dim": 5}, "activation_dim"),
    "another size": (TOP, {"dict_size": 5}, "dict_size"),
    "groups": (TOP, {"activation": "groupmax"}, "activation is 'groupmax'"),
    "an unknown class": (TOP, {"dict_class": "GroupMaxSAE"}, "class 'GroupMaxSAE'"),
    "a crosscoder": (TOP, {"dict_class": "CrossCoder"}, "class 'CrossCoder'"),
    "a class in a list": (TOP, {"dict_class": ["AutoEncoder"]}, "class"),
    "an unknown option": (TOP, {"input_scale": 2}, "input_scale"),
    "an unknown tensor": ({**TOP, "W_skip": torch.ones(D_MODEL, D_MODEL)}, {}, "'W_skip'.*transcoder"),
    "a tensor that is none": ({**TOP, "extra": "text"}, {}, "extra is of str"),
    "k above the latents": ({**TOP, "k": torch.tensor(D_SAE + 1)}, {}, "k is"),
    "k of a fraction": ({**TOP, "k": torch.tensor(3.7)}, {}, "k is"),
    "k of several": ({**TOP, "k": torch.tensor([3, 4])}, {}, "k is"),
    "k of a training that is no number": ({k: v for k, v in TOP.items() if k != "k"}, {"k": True}, "k is"),
    "a threshold that is no number": (
        {**TOP, "threshold": torch.tensor(torch.nan)},
        {"dict_class": "BatchTopKSAE"},
        "threshold holds NaN",
    ),
    "a threshold that was not set": (
        {**TOP, "threshold": torch.tensor(-1.0)},
        {"dict_class": "BatchTopKSAE"},
        "without a threshold",
    ),
    "no threshold": (
        {**LINEAR, "b_dec": STANDARD["b_dec"]},
        {"dict_class": "BatchTopKSAE"},
        "lacks 'threshold'",
    ),
    "a vector for a matrix": ({**TOP, "encoder.weight": torch.ones(D_SAE)}, {}, "encoder.weight has shape"),
    "matrices that do not multiply": ({**TOP, "decoder.weight": torch.ones(3, D_SAE)}, {}, "W_dec has shape"),
}


@pytest.mark.parametrize("case", REFUSED_THERE)
def test_what_a_folder_of_dictionary_learning_says_and_we_do_not_compute_is_refused_by_name(
    case: str, tmp_path: Path
) -> None:
    tensors, options, complaint = REFUSED_THERE[case]
    with pytest.raises(FeatureError, match=complaint) as refusal:
        load_dictionary(dictionary_learning(tmp_path / "sae", tensors, **options))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04]", b"text", bytes(range(256))])
def test_a_damaged_file_of_pytorch_is_one_line(content: bytes, tmp_path: Path) -> None:
    folder = dictionary_learning(tmp_path / "sae", TOP)
    (folder / "ae.pt").write_bytes(content)
    with pytest.raises(FeatureError, match=r"ae\.pt"):
        load_dictionary(folder)


def sparsify(folder: Path, tensors: Mapping[str, Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True)
    weights = {
        "encoder.weight": LINEAR["encoder.weight"],
        "encoder.bias": LINEAR["encoder.bias"],
        "W_dec": STANDARD["W_dec"],
        "b_dec": STANDARD["b_dec"],
    }
    save_file({**weights, **(tensors or {})}, folder / "sae.safetensors")
    options = {
        "d_in": D_MODEL,
        "num_latents": D_SAE,
        "expansion_factor": 32,
        "k": 4,
        "transcode": False,
        **config,
    }
    (folder / "cfg.json").write_text(json.dumps(options))
    return folder


@pytest.mark.parametrize(
    "name", ["layers.5", "model.layers.5", "h.5", "layers.5.mlp", "gpt_neox.layers.5.attention"]
)
def test_the_name_of_a_folder_of_sparsify_says_where_it_was_trained(name: str, tmp_path: Path) -> None:
    stream = {"mlp": "mlp_out", "attention": "attn_out"}.get(name.rpartition(".")[2], "resid_post")
    mine = load_dictionary(
        sparsify(tmp_path / name, multi_topk=True, normalize_decoder=True, skip_connection=False)
    )
    assert (mine.site.layer, mine.site.stream) == (5, stream)
    assert (
        load_dictionary(sparsify(tmp_path / "one" / name, num_latents=0, expansion_factor=3)).d_sae == D_SAE
    )


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "transcoder"),
        ({"activation": "groupmax"}, "groupmax"),
        ({"signed": True}, "signed"),
        ({"k": 0}, "k is"),
        ({"k": True}, "k is"),
        ({"k": 4.5}, "k is"),
        ({"k": D_SAE + 1}, "k is"),
        ({"d_in": 4}, "d_in"),
        ({"num_latents": 4}, "num_latents"),
        ({"num_latents": True}, "num_latents"),
        ({"num_latents": 0}, "expansion_factor"),
        ({"encoder_kind": "pkm"}, "encoder_kind"),
        ({"tensors": {"W_skip": torch.ones(D_MODEL, D_MODEL)}}, "'W_skip'.*transcoder"),
        ({"tensors": {"b_dec": torch.full((D_MODEL,), torch.inf)}}, "b_dec holds NaN or infinite"),
    ],
)
def test_what_a_folder_of_sparsify_says_and_we_do_not_compute_is_refused_by_name(
    config: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(FeatureError, match=complaint):
        load_dictionary(sparsify(tmp_path / "layers.5", **config))


@pytest.mark.parametrize(
    "changed",
    [
        {"activation": JumpReLU(torch.full((D_SAE,), torch.nan))},
        {"activation": JumpReLU(torch.zeros(3))},
        {"activation": TopK(0)},
        {"activation": TopK(D_SAE + 1)},
    ],
)
def test_a_dictionary_in_memory_is_checked_like_one_on_disk(changed: dict[str, Any]) -> None:
    with pytest.raises(FeatureError):
        jumping(**changed)
