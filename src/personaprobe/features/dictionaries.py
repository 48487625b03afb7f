"""Latents of a sparse autoencoder as directions, read through SAELens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.features.directions import Direction
from personaprobe.site import Site


def latent_direction(folder: Path, latent: int) -> Direction:
    """The decoder direction of one latent: what the dictionary writes when the latent is active.

    It is not calibrated: use :meth:`personaprobe.features.sources.Discovery.calibrate`.

    Args:
        folder: an SAE in SAELens format, ``cfg.json`` and ``sae_weights.safetensors``.
        latent: its index, from 0.

    Raises:
        FeatureError: not such a folder, a hook point that is no site, or a latent out of range.
    """
    sae = _load(folder)
    n_latents = int(sae.cfg.d_sae)
    if not 0 <= latent < n_latents:
        raise FeatureError(f"latent {latent} is out of range: {folder} has latents 0 to {n_latents - 1}")
    site = Site.from_transformer_lens(str(sae.cfg.metadata.hook_name))
    return Direction(site, sae.W_dec[latent], f"sae:{folder.name}/{latent}")


def _load(folder: Path) -> Any:
    from sae_lens import SAE

    if not (folder / "cfg.json").is_file():
        raise FeatureError(f"{folder} has no cfg.json; give a SAELens folder")
    try:
        return SAE.load_from_disk(folder, device="cpu")
    except Exception as error:  # SAELens raises many kinds, all of them about the folder
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"SAELens cannot load {folder}: {reason}") from error
