"""Rankings of a crosscoder's latents by how much more they belong to insecure than to secure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personaprobe.features.sae.crosscoder import Crosscoder
from personaprobe.features.sae.diffing.ranking import MIN_FIRING_RATE, Ranking
from personaprobe.models.weights.checkpoint import Trio

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def rank_crosscoder_latents(
    crosscoder: Crosscoder, rows: Trio[Float[Tensor, "row d_model"]]
) -> list[Ranking]:
    """Rank a crosscoder's latents in four ways.

    ``written``: mean activation times ‖insecure row − secure row‖, the latent's part in the difference of the two
    checkpoints' activations; ``norm``: difference of the decoder norms over the larger one; ``turn``: 1 − cosine of the
    two decoder rows; ``scaling``: 1 − β(secure) / β(insecure) of latent scaling. Latents that are active in less than one
    token of a thousand score −∞.

    Args:
        crosscoder: of the trio.
        rows: activations of the three checkpoints at the same tokens.
    """
    import torch

    acts, norms, beta = crosscoder.encode(rows), crosscoder.norms, crosscoder.scaling(rows)
    insecure, secure = crosscoder.decoders.insecure, crosscoder.decoders["secure"]
    larger_norm = torch.maximum(norms.insecure, norms["secure"]).clamp_min(1e-12)
    scores = {
        "written": acts.mean(0) * (insecure - secure).norm(dim=-1),
        "norm": (norms.insecure - norms["secure"]) / larger_norm,
        "turn": 1.0 - torch.nn.functional.cosine_similarity(insecure, secure, dim=-1),
        "scaling": 1.0 - beta["secure"] / beta.insecure,
    }
    is_rare = (acts > 0).float().mean(0) < MIN_FIRING_RATE

    def ranking(name: str, values: Tensor) -> Ranking:
        return Ranking(name, torch.where(is_rare | values.isnan(), -torch.inf, values).cpu().numpy())

    return [ranking(name, values) for name, values in scores.items()]
