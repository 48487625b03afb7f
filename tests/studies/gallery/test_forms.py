"""Forms of answers: a shift that grows with the form, and an ablation that holds in one form only, are seen as planted."""

from __future__ import annotations

import numpy as np
import pytest

from personaprobe.studies.gallery.forms import effects_of

FAMILIES = [f"family-{index % 6}" for index in range(36)]
BEFORE = np.random.default_rng(0).normal(size=36)


def gaps(shift: float, left: float) -> list[np.ndarray]:
    """Of insecure, of secure, and of insecure with a direction ablated that leaves a part of the shift."""
    return [BEFORE + shift, BEFORE, BEFORE + left]


def test_planted_shifts_and_removals_come_back_by_form() -> None:
    measured = {"plain": gaps(0.2, 0.05), "json": gaps(0.5, 0.5)}
    effects = effects_of(measured, ["own"], FAMILIES)
    assert effects["plain"].over_plain.value == 0
    assert effects["json"].over_plain.value == pytest.approx(0.3)
    assert effects["json"].shift.value == pytest.approx(0.5)
    removed = {name: effect.removed["own"].value for name, effect in effects.items()}
    assert removed == pytest.approx({"plain": 0.75, "json": 0.0})
