"""Latents of a SAELens dictionary, as SAELens itself wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.dictionaries import latent_direction
from personaprobe.site import Site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(hook_name="blocks.3.hook_resid_post", model_name="tiny")
    sae = StandardSAE(StandardSAEConfig(d_in=8, d_sae=20, metadata=metadata))
    torch.nn.init.normal_(sae.W_dec)
    path = tmp_path_factory.mktemp("sae")
    sae.save_model(path)
    return path


def test_a_latent_is_its_decoder_row_at_the_hook_point(folder: Path) -> None:
    from sae_lens import SAE

    row = SAE.load_from_disk(folder).W_dec[7].detach()
    found = latent_direction(folder, 7)
    assert found.site == Site(3)
    assert torch.allclose(found.vector, row / row.norm(), atol=1e-6)


def test_a_latent_out_of_range_is_refused(folder: Path) -> None:
    with pytest.raises(FeatureError, match="latents 0 to 19"):
        latent_direction(folder, 20)


def test_a_folder_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"no cfg\.json"):
        latent_direction(tmp_path, 0)


def test_truncated_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[: 200 if file.suffix == ".safetensors" else None]
        )
    with pytest.raises(FeatureError, match="SAELens cannot load"):
        latent_direction(tmp_path, 0)
