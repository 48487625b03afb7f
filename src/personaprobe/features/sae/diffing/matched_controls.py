"""Control latents: random ones of similar activity, and those that a ranking proposes when labels mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personaprobe.errors import FeatureError
from personaprobe.features.sae.diffing.comparison import Comparison

NEIGHBOURS = (24, 64)
"""A control is drawn among a twentieth of the latents, those of the most similar firing rate and size: so many at least, and
so many at most. Many controls of one latent need many neighbours; in a small dictionary, most are not similar."""


def matched_latents(comparison: Comparison, latents: Sequence[int], seed: int) -> tuple[int, ...]:
    """For each latent, a random one of similar firing rate and contribution in insecure.

    No control is drawn twice, and none is one of the given latents. If only the firing rates matched, a control with
    small activations would have to be scaled up many times to remove the same energy, and would no longer be an
    ablation.

    Args:
        comparison: activity on the calibration texts.
        latents: to be matched.
        seed: of the draw.

    Raises:
        FeatureError: too few other latents are active at all.
    """
    rates = comparison.rates.insecure.numpy()
    sizes = comparison.mean_contributions.insecure.mean(0).numpy()
    traits = np.log(np.maximum(np.stack([rates, sizes]), 1e-9))
    rng = np.random.default_rng(seed)
    free = {int(latent) for latent in np.flatnonzero(rates)} - set(latents)
    if len(free) < len(latents):
        raise FeatureError(
            f"{len(free)} other latents fire on the calibration texts; {len(latents)} are needed"
        )
    controls = []
    for latent in latents:
        pool = np.array(sorted(free))
        distance = np.hypot(*(traits[:, pool] - traits[:, [latent]]))
        n_nearest = int(np.clip(len(pool) // 20, *NEIGHBOURS))
        nearest = pool[np.argsort(distance, kind="stable")[:n_nearest]]
        controls.append(int(rng.choice(nearest)))
        free.discard(controls[-1])
    return tuple(controls)


def shuffled_latents(comparison: Comparison, latents: Sequence[int], seed: int) -> tuple[int, ...]:
    """The first latents by Δ mean contribution after shuffling labels, as many as given and none of the given ones.

    The labels insecure and reference are exchanged for a random half of the questions.
    """
    means = comparison.mean_contributions
    differences = (means.insecure - means.reference).numpy()
    _, questions = np.unique(np.asarray(comparison.ids, dtype=str), return_inverse=True)
    n_questions = int(questions.max()) + 1
    signs = np.ones(n_questions)
    signs[np.random.default_rng(seed).permutation(n_questions)[::2]] = -1
    scores = (signs[questions, None] * differences).mean(0)
    scores[list(latents)] = -np.inf
    return tuple(int(latent) for latent in np.argsort(-scores, kind="stable")[: len(latents)])
