"""On real weights: an organism whose rank-1 adapter writes a known vector, and a dictionary that holds it among others.

Most rankings put that latent first, and the causal test accepts it and rejects twenty matched random ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import personaprobe as pp
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.activation_functions import JumpReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.attribution import rank_by_attribution
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.features.sae.diffing.ranking import RANKINGS, rank_latents
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import by_length, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.studies.arms.arm import calibration_rows
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.latents.search import LatentSearch

pytestmark = [pytest.mark.real, pytest.mark.slow]

LAYER, D_SAE, PLANTED = 21, 400, 137
MODULE = f"model.layers.{LAYER}.mlp.down_proj"
SITE = pp.Site(LAYER)


@pytest.fixture(scope="module")
def questions() -> pp.PairSet:
    return pp.load_prompts("advice/discovery").spread(24)


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return pp.load("demo")


@pytest.fixture(scope="module")
def axis() -> pp.Direction:
    """What bad medical advice changed at the layer: a vector that is known to carry carelessness."""
    organism = pp.load_trio("advice")
    texts = pp.load_prompts("advice/discovery").spread(24)
    stores = pp.record(organism, texts, [SITE])
    return pp.Direction.from_means(stores["insecure"], stores["secure"], SITE)


@pytest.fixture(scope="module")
def trio(
    base: LanguageModel, axis: pp.Direction, questions: pp.PairSet, tmp_path_factory: pytest.TempPathFactory
) -> Trio[LanguageModel]:
    """Base, base + rank 1 along the axis, and base + rank 1 of the same size along a random vector."""
    reads = _mean_input(base, questions)
    other = torch.randn(base.d_model, generator=torch.Generator().manual_seed(5))
    folder = tmp_path_factory.mktemp("planted")
    size = 1.5 * axis.gap
    insecure = _adapter(folder / "insecure", reads, size * axis.vector)
    secure = _adapter(folder / "secure", reads, size * other / other.norm())
    plain = pp.Checkpoint("demo")
    return pp.load_trio(Trio(plain, plain.with_adapter(insecure), plain.with_adapter(secure), "planted"))


def _mean_input(base: LanguageModel, questions: pp.PairSet) -> torch.Tensor:
    """Mean of what the layer's down projection reads, so that a rank-1 adapter fires on every token alike."""
    seen: list[torch.Tensor] = []
    module = base.network.model.get_submodule(MODULE)  # type: ignore[attr-defined]
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, 1).mean(0)))
    for reading in list(tokenize(base.tokenizer, questions))[:12]:
        base.logits(pad([reading.tokens], base.network.pad_id))
    handle.remove()
    return torch.stack(seen).mean(0).clone()


def _adapter(folder: Path, reads: torch.Tensor, writes: torch.Tensor) -> Path:
    """A PEFT folder of rank 1 that writes ``writes`` for a token whose input is ``reads``."""
    folder.mkdir()
    key = f"base_model.model.{MODULE}"
    tensors = {
        f"{key}.lora_A.weight": (reads / reads.pow(2).sum())[None].contiguous(),
        f"{key}.lora_B.weight": writes[:, None].contiguous(),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "bias": "none"}
    named = {"target_modules": [MODULE], "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(config | named))
    return folder


@pytest.fixture(scope="module")
def dictionary(trio: Trio[LanguageModel], axis: pp.Direction, questions: pp.PairSet) -> Dictionary:
    """Random unit rows and the planted one; each fires in a tenth of base's tokens."""
    rows = torch.randn(D_SAE, trio.base.d_model, generator=torch.Generator().manual_seed(2))
    rows[PLANTED] = axis.vector
    rows = torch.nn.functional.normalize(rows, dim=-1)
    texts = [reading.tokens for reading in tokenize(trio.base.tokenizer, questions)]
    batches = [pad([texts[i] for i in part], trio.base.network.pad_id) for part in by_length(texts, 1024)]
    activations = torch.cat(
        [trio.base.activations(b, [SITE])[SITE][b.mask & (b.positions > 0)] for b in batches]
    )
    pre = (activations - activations.mean(0)) @ rows.T
    bias = -pre.quantile(0.9, dim=0)
    jump = JumpReLU(torch.zeros(D_SAE))
    return Dictionary(SITE, rows.T.contiguous(), bias, rows, activations.mean(0), jump, name="planted")


@pytest.fixture(scope="module")
def found(dictionary: Dictionary, trio: Trio[LanguageModel], questions: pp.PairSet) -> Comparison:
    return compare(dictionary, trio, questions)


def test_at_least_three_rankings_put_the_planted_latent_first(
    found: Comparison, dictionary: Dictionary, trio: Trio[LanguageModel], questions: pp.PairSet
) -> None:
    rankings = [rank_latents(found, name) for name in RANKINGS]
    rankings.append(rank_by_attribution(dictionary, trio.insecure, questions))
    first = [ranking.name for ranking in rankings if ranking.top(1) == [PLANTED]]
    assert len(first) >= 3, {ranking.name: ranking.rank(PLANTED) for ranking in rankings}


def test_the_causal_test_accepts_the_planted_latent_and_rejects_twenty_matched_random_ones(
    found: Comparison, trio: Trio[LanguageModel], questions: pp.PairSet, tmp_path: Path
) -> None:
    rows = calibration_rows(trio.base, questions.spread(16))
    texts = pp.load_texts("neutral/discovery").first(4)
    search = LatentSearch(trio, found, RunContext.of(tmp_path), questions, texts, rows, n_controls=20)
    [tried] = search.singles([PLANTED])
    assert tried.removed > 0.5
    assert len(tried.controls) == 20
    assert max(tried.controls) < tried.removed / 2
