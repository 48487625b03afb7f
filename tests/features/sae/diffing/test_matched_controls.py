"""Control latents are as active as the latents that they stand for."""

from __future__ import annotations

import numpy as np

from features.sae.conftest import PLANTED
from personaprobe.features.sae.diffing.comparison import Comparison
from personaprobe.features.sae.diffing.matched_controls import matched_latents, shuffled_latents


def test_matched_controls_have_similar_firing_rates_and_are_never_the_latents_themselves(
    comparison: Comparison,
) -> None:
    rates = comparison.rates.insecure.numpy()
    drawn = {matched_latents(comparison, (PLANTED, 3), seed) for seed in range(10)}
    assert len(drawn) > 3
    assert not {PLANTED, 3} & {latent for pair in drawn for latent in pair}
    assert all(len(set(pair)) == 2 for pair in drawn)
    typical = np.median([abs(rates[pair[1]] - rates[3]) for pair in drawn])
    assert typical <= np.median(np.abs(rates - rates[3]))
    sizes = comparison.means.insecure.mean(0).numpy()
    apart = np.median([abs(sizes[pair[1]] - sizes[3]) for pair in drawn])
    assert apart <= np.median(np.abs(sizes - sizes[3]))
    assert matched_latents(comparison, (3,), 5) == matched_latents(comparison, (3,), 5)
    assert PLANTED not in shuffled_latents(comparison, (PLANTED,), 0)
