"""Dictionaries survive the way to disk and back, and to the formats of others and back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import Gated
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.site import Site
from random_dictionaries import ACTIVATIONS, D_MODEL, D_SAE, ROWS, jumping, numbers, random_dictionary


@pytest.fixture(params=ACTIVATIONS)
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    return random_dictionary(request.param)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """A gate's gain is stored as its logarithm, as its inventors do, and comes back rounded."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_dictionary_comes_back_from_disk_with_every_bit_and_its_card(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    again = load_dictionary(save_dictionary(dictionary, tmp_path / "sae"))
    same = close if isinstance(dictionary.activation, Gated) else torch.equal
    assert same(again.encode(ROWS), dictionary.encode(ROWS))
    assert (again.name, again.site, dict(again.card)) == ("planted", Site(3), dict(dictionary.card))


def test_saelens_reads_what_we_write_and_encodes_the_same_bits(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    from sae_lens import SAE

    theirs = SAE.load_from_disk(save_dictionary(dictionary, tmp_path / "sae"), device="cpu")
    mine = load_dictionary(tmp_path / "sae")
    same = close if isinstance(dictionary.activation, Gated) else torch.equal
    assert same(theirs.encode(ROWS), mine.encode(ROWS))
    assert same(theirs.decode(theirs.encode(ROWS)), mine.decode(mine.encode(ROWS)))
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert theirs.cfg.metadata.personaprobe["card"]["quality"] == {"base": {"l0": 6.0}}


def test_bfloat16_weights_are_read_as_the_values_that_were_stored(tmp_path: Path) -> None:
    from sae_lens import SAE

    folder = save_dictionary(jumping(), tmp_path / "sae", dtype="bfloat16")
    theirs, mine = SAE.load_from_disk(folder, device="cpu"), load_dictionary(folder)
    assert torch.equal(theirs.encode(ROWS), mine.encode(ROWS))
    assert torch.equal(mine.W_dec, jumping().W_dec.bfloat16().float())


@pytest.mark.parametrize("name", ["standard", "topk", "jumprelu", "gated"])
def test_we_read_what_saelens_writes(name: str, tmp_path: Path) -> None:
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    kind, config = get_sae_class(name)
    options = {"k": 5, "rescale_acts_by_decoder_norm": True} if name == "topk" else {}
    metadata = SAEMetadata(model_name="demo", hook_name="blocks.2.hook_mlp_out")
    theirs: SAE[Any] = kind(config(d_in=D_MODEL, d_sae=D_SAE, metadata=metadata, **options))
    with torch.no_grad():
        for seed, parameter in enumerate(theirs.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=seed))
    theirs.save_model(tmp_path / "sae")
    mine = load_dictionary(tmp_path / "sae")
    assert mine.site == Site(2, "mlp_out")
    assert torch.allclose(mine.decode(mine.encode(ROWS)), theirs(ROWS), atol=1e-4)


def dictionary_learning(folder: Path, kind: str, tensors: dict[str, torch.Tensor], **trainer: Any) -> Path:
    folder.mkdir()
    torch.save(tensors, folder / "ae.pt")
    config = {
        "dict_class": kind,
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "layer": 7,
        "lm_name": "m",
        **trainer,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": config, "buffer": {"ctx_len": 128}}))
    return folder


W, B, V, C = (
    numbers(D_SAE, D_MODEL, seed=1),
    numbers(D_SAE, seed=2),
    numbers(D_MODEL, D_SAE, seed=3),
    numbers(D_MODEL),
)


LINEAR = {"encoder.weight": W, "encoder.bias": B, "decoder.weight": V}


THRESHOLD = torch.tensor(0.7)


def top(pre: torch.Tensor, k: int) -> torch.Tensor:
    values, chosen = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, chosen, values)


def over(pre: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return pre.relu() * (pre.relu() > threshold)


PUBLISHED: dict[str, tuple[dict[str, torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "AutoEncoder": ({**LINEAR, "bias": C}, lambda x: ((x - C) @ W.T + B).relu() @ V.T + C),
    "AutoEncoderTopK": (
        {**LINEAR, "b_dec": C, "k": torch.tensor(4)},
        lambda x: top((x - C) @ W.T + B, 4) @ V.T + C,
    ),
    "BatchTopKSAE": (
        {**LINEAR, "b_dec": C, "k": torch.tensor(4), "threshold": THRESHOLD},
        lambda x: over((x - C) @ W.T + B, THRESHOLD) @ V.T + C,
    ),
    "JumpReluAutoEncoder": (
        {"W_enc": W.T, "b_enc": B, "W_dec": V.T, "b_dec": C, "threshold": B.abs()},
        lambda x: over(x @ W.T + B, B.abs()) @ V.T + C,
    ),
    "GatedAutoEncoder": (
        {
            "encoder.weight": W,
            "decoder.weight": V,
            "gate_bias": B,
            "mag_bias": B.flip(0),
            "r_mag": B / 2,
            "decoder_bias": C,
        },
        lambda x: (((x - C) @ W.T * (B / 2).exp() + B.flip(0)).relu() * (((x - C) @ W.T + B) > 0)) @ V.T + C,
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_dictionary_learning_folders_reconstruct_as_their_classes_do(kind: str, tmp_path: Path) -> None:
    tensors, reference = PUBLISHED[kind]
    mine = load_dictionary(dictionary_learning(tmp_path / "sae", kind, tensors))
    assert mine.site == Site(7)
    assert torch.allclose(mine.decode(mine.encode(ROWS)), reference(ROWS), atol=1e-4)


def test_sparsify_folders_reconstruct_as_their_class_does(tmp_path: Path) -> None:
    folder = tmp_path / "layers.5.mlp"
    folder.mkdir()
    save_file(
        {"encoder.weight": W, "encoder.bias": B, "W_dec": V.T.contiguous(), "b_dec": C},
        folder / "sae.safetensors",
    )
    (folder / "cfg.json").write_text(json.dumps({"k": 3, "d_in": D_MODEL, "num_latents": D_SAE}))
    mine = load_dictionary(folder)
    assert mine.site == Site(5, "mlp_out")
    assert torch.allclose(mine.decode(mine.encode(ROWS)), top((ROWS - C) @ W.T + B, 3) @ V.T + C, atol=1e-4)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/personaprobe-was-here"),))


def test_a_pickle_that_wants_to_run_code_is_refused_unread(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = dictionary_learning(tmp_path / "sae", "AutoEncoder", LINEAR)
    with (folder / "ae.pt").open("wb") as file:
        pickle.dump({"encoder.weight": Trap()}, file)
    with pytest.raises(FeatureError, match="refused"):
        load_dictionary(folder)
    assert not [each for each in recwarn.list if "pickle" in str(each.message)]
    assert not Path("/tmp/personaprobe-was-here").exists()


def config_of(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | changed))


def without(folder: Path, name: str) -> None:
    weights = load_file(folder / "sae_weights.safetensors")
    del weights[name]
    save_file(weights, folder / "sae_weights.safetensors")


def cut(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown architecture": (lambda f: config_of(f, architecture="jumpreluu"), "jumprelu"),
    "no threshold": (lambda f: without(f, "threshold"), "lacks 'threshold'"),
    "no decoder": (lambda f: without(f, "W_dec"), "lacks 'W_dec'"),
    "truncated": (cut, "not a safetensors file.*not saved whole"),
    "a hook that is no site": (
        lambda f: config_of(f, metadata={"hook_name": "blocks.3.attn.hook_z"}),
        "no site",
    ),
    "another normalisation": (lambda f: config_of(f, normalize_activations="layer_norm"), "layer_norm"),
    "not JSON": (lambda f: (f / "cfg.json").write_text("{"), "not JSON"),
    "no weights": (lambda f: (f / "sae_weights.safetensors").unlink(), "holds no dictionary"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_with_the_reason(damage: str, tmp_path: Path) -> None:
    folder = save_dictionary(jumping(), tmp_path / "sae")
    harm, message = DAMAGES[damage]
    harm(folder)
    with pytest.raises(FeatureError, match=message):
        load_dictionary(folder)
