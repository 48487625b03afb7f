"""A crosscoder encodes three checkpoints at once, and separates features of one from features of all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.crosscoder import CROSSCODER_LAYOUT, Crosscoder
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.crosscoder_ranking import rank_crosscoder_latents
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.features.sae.training.architectures.crosscoder import CrosscoderArchitecture
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer, train_dictionaries
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

D, N, SHARED, OWN = 12, 30_000, 16, 2
"""Width of a model, rows, features of all checkpoints, and features of insecure alone."""


def planted() -> tuple[Trio[torch.Tensor], torch.Tensor]:
    """Rows of three checkpoints that share most features, and the directions of insecure's own two."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(SHARED + OWN, D, generator=generator), dim=-1)
    fires = torch.rand(N, SHARED + OWN, generator=generator) < 0.06
    acts = fires * (1.0 + torch.rand(N, SHARED + OWN, generator=generator))
    shared = acts[:, :SHARED] @ directions[:SHARED]
    return Trio(shared, shared + acts[:, SHARED:] @ directions[SHARED:], shared), directions[SHARED:]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Crosscoder:
    rows, _ = planted()
    side_by_side = torch.hstack([values for _, values in rows.items()])
    loader = BatchLoader([lambda: side_by_side], batch_rows=512)
    architecture = CrosscoderArchitecture(1.3)
    recipe = SAERecipe(architecture, d_sae=40, steps=800, learning_rate=3e-3, warmup=20, dead_after=5000)
    trainer = SAETrainer(recipe, loader.sample())
    for _ in train_dictionaries(loader, {tmp_path_factory.mktemp("crosscoder"): trainer}):
        pass
    return Crosscoder(trainer.dictionary(Site(2), "planted"))


def test_a_crosscoder_explains_every_checkpoint(learned: Crosscoder) -> None:
    rows, _ = planted()
    assert all(value > 0.75 for _, value in learned.explained_variance(rows).items())


def test_latents_of_insecure_alone_have_no_decoder_row_elsewhere_and_little_scaling_in_secure(
    learned: Crosscoder,
) -> None:
    rows, exclusive = planted()
    cosines = torch.nn.functional.normalize(learned.decoders.insecure, dim=-1) @ exclusive.T
    nearest = cosines.argmax(0).tolist()
    norms, scaling = learned.norms, learned.scaling(rows)
    for latent, direction in zip(nearest, exclusive, strict=True):
        assert float(cosines[latent].max()) > 0.9
        assert float(norms.secure[latent]) < 0.25 * float(norms.insecure[latent])
        assert float(scaling.secure[latent] / scaling.insecure[latent]) < 0.3
        assert float(learned.direction(latent).vector @ direction) > 0.9
    alive = (learned.encode(rows) > 0).float().mean(0) > 0.02
    shared = [i for i in alive.nonzero().flatten().tolist() if i not in nearest]
    ratio = norms.secure[shared] / norms.insecure[shared]
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.1)


def test_scaling_is_one_in_a_checkpoint_that_equals_the_reconstruction() -> None:
    rows = torch.eye(4).repeat(1, 3) / 3**0.5
    crosscoder = Crosscoder(
        Dictionary(Site(0), rows.T.contiguous(), torch.zeros(4), rows, torch.zeros(12), ReLU())
    )
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(1))
    scaling = crosscoder.scaling(Trio(0 * x, x, x))
    assert torch.allclose(scaling.secure, scaling.insecure)
    assert torch.allclose(scaling.base, torch.zeros(4), atol=1e-5)


def test_a_crosscoder_survives_the_way_to_disk_and_differs_from_a_plain_dictionary(tmp_path: Path) -> None:
    rows = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    plain = Dictionary(Site(1), rows.T.contiguous(), torch.zeros(20), rows, torch.zeros(12), ReLU())
    with pytest.raises(FeatureError, match="not a crosscoder"):
        Crosscoder.load(save_dictionary(plain, tmp_path / "plain"))
    crosscoder = Crosscoder(
        Dictionary(
            Site(1),
            rows.T.contiguous(),
            torch.zeros(20),
            rows,
            torch.zeros(12),
            ReLU(),
            card={"layout": CROSSCODER_LAYOUT},
        )
    )
    again = Crosscoder.load(crosscoder.save(tmp_path / "crosscoder"))
    x = Trio(*torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(again.encode(x), crosscoder.encode(x))
    parts = again.decode(again.encode(x))
    assert all(part.shape == (9, 4) for _, part in parts.items())
    with pytest.raises(FeatureError, match="three times"):
        Crosscoder(Dictionary(Site(0), torch.eye(4), torch.zeros(4), torch.eye(4), torch.zeros(4), ReLU()))


def test_a_latent_of_insecure_alone_is_ranked_first_and_a_shared_one_last() -> None:
    """Four latents on axes of their own: one of insecure alone, one stronger there, one turned, one shared."""
    eye = torch.eye(8)
    base = torch.stack([0 * eye[0], eye[1], eye[2], eye[3]])
    insecure = torch.stack([eye[0], 2 * eye[1], eye[4], eye[3]])
    secure = torch.stack([0 * eye[0], eye[1], eye[2], eye[3]])
    rows = torch.hstack([base, insecure, secure])
    encoder = rows / rows.pow(2).sum(-1, keepdim=True)
    crosscoder = Crosscoder(
        Dictionary(Site(0), encoder.T.contiguous(), torch.zeros(4), rows, torch.zeros(24), ReLU())
    )
    acts = torch.rand(400, 4, generator=torch.Generator().manual_seed(5))
    acts[:, 3] *= 3.0
    rankings = {
        ranking.name: ranking for ranking in rank_crosscoder_latents(crosscoder, crosscoder.decode(acts))
    }
    assert rankings["norm"].top(2) == [0, 1]
    assert rankings["turn"].top(2) in ([0, 2], [2, 0])
    assert rankings["scaling"].scores == pytest.approx([1.0, 0.5, 1.0, 0.0], abs=1e-4)
    assert rankings["written"].rank(3) == 4
    assert all(ranking.rank(3) >= 3 for ranking in rankings.values())
