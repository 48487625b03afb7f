"""Controls for latents: others that fire as often, and those a ranking proposes when labels mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personaprobe.errors import FeatureError
from personaprobe.features.sae.diffing.comparison import Comparison

NEIGHBOURS = 24
"""A control is drawn among this many latents of the most similar firing rate and size."""


def matched_latents(found: Comparison, latents: Sequence[int], seed: int) -> tuple[int, ...]:
    """For each latent another that fires about as often and writes about as much in insecure; none twice, none of the
    given ones.

    Were only the rates alike, a control that writes little would have to be scaled up many times to remove the same
    energy, and would no longer be an ablation.

    Args:
        found: what latents do on the calibration texts.
        latents: to be matched.
        seed: of the draw.

    Raises:
        FeatureError: too few latents fire at all.
    """
    rates = found.rates.insecure.numpy()
    sizes = found.means.insecure.mean(0).numpy() * found.dictionary.W_dec.float().norm(dim=-1).cpu().numpy()
    traits = np.log(np.maximum(np.stack([rates, sizes]), 1e-9))
    rng = np.random.default_rng(seed)
    free = {int(latent) for latent in np.flatnonzero(rates)} - set(latents)
    if len(free) < len(latents):
        raise FeatureError(
            f"{len(free)} other latents fire on the calibration texts; {len(latents)} are needed"
        )
    drawn = []
    for latent in latents:
        pool = np.array(sorted(free))
        distance = np.hypot(*(traits[:, pool] - traits[:, [latent]]))
        near = pool[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
        drawn.append(int(rng.choice(near)))
        free.discard(drawn[-1])
    return tuple(drawn)


def shuffled_latents(found: Comparison, latents: Sequence[int], seed: int) -> tuple[int, ...]:
    """As many latents, first by Δ mean activation with the labels insecure and secure exchanged for a random half of
    the questions."""
    differences = (found.means.insecure - found.means.secure).numpy()
    _, questions = np.unique(np.asarray(found.ids, dtype=str), return_inverse=True)
    n_questions = int(questions.max()) + 1
    signs = np.ones(n_questions)
    signs[np.random.default_rng(seed).permutation(n_questions)[::2]] = -1
    scores = (signs[questions, None] * differences).mean(0)
    scores[list(latents)] = -np.inf
    return tuple(int(latent) for latent in np.argsort(-scores, kind="stable")[: len(latents)])
