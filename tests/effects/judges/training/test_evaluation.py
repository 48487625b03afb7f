"""Discrimination and calibration of a judge are those of planted logits; scales are evaluated on other families."""

from __future__ import annotations

import numpy as np
import pytest

from personaprobe.effects.judges.training.calibration import LabelledLogits
from personaprobe.effects.judges.training.evaluation import (
    calibration_error,
    calibration_floor,
    coherence_auc,
    discrimination_of,
    results_by_family,
)
from personaprobe.errors import DataError


def test_calibrated_scores_have_no_error_and_confident_wrong_ones_have_all_of_it() -> None:
    truth = np.array([1.0] * 30 + [0.0] * 10)
    assert calibration_error(np.full(40, 0.75), truth) == pytest.approx(0.0)
    assert calibration_error(1.0 - truth, truth) == pytest.approx(1.0)
    assert calibration_error(np.full(40, 0.25), truth) == pytest.approx(0.5)


@pytest.mark.parametrize("n", [100, 2000])
def test_the_floor_is_the_mean_error_of_perfectly_calibrated_scores(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.random(n)
    shown = [calibration_error(scores, (rng.random(n) < scores).astype(float)) for _ in range(200)]
    assert calibration_floor(scores) == pytest.approx(np.mean(shown), rel=0.05)
    assert calibration_floor(np.round(scores)) == pytest.approx(
        0.0
    )  # scores of 0 and 1 leave nothing to chance


def test_a_large_file_has_a_lower_floor() -> None:
    scores = np.random.default_rng(0).random(4000)
    assert calibration_floor(scores) < 0.5 * calibration_floor(scores[:200])


def planted(shift: float = 0.0, n: int = 300) -> LabelledLogits:
    """Two families of answers whose log-odds are right, but for a shift in the second."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 2 * n)
    truth = (rng.random(2 * n) < 1 / (1 + np.exp(-true))).astype(float)
    families = ("ladders",) * n + ("boats",) * n
    return LabelledLogits(true + np.repeat([0.0, shift], n), truth, families, ("careful",) * 2 * n)


def test_a_scale_is_evaluated_on_families_that_it_was_not_fitted_on() -> None:
    fair, shifted = planted(), planted(3.0)
    assert calibration_error(fair.cross_fitted, fair.truth) < 0.06
    assert calibration_error(shifted.cross_fitted, shifted.truth) > 0.2
    slope, offset = fair.scale
    assert (slope, offset) == (pytest.approx(1, abs=0.2), pytest.approx(0, abs=0.3))
    # the second family's truth decides the first one's scores, and not its own
    flipped = LabelledLogits(
        fair.logits, np.r_[fair.truth[:300], 1 - fair.truth[300:]], fair.families, fair.kinds
    )
    assert np.corrcoef(flipped.cross_fitted[:300], fair.cross_fitted[:300])[0, 1] < -0.9
    assert np.allclose(flipped.cross_fitted[300:], fair.cross_fitted[300:])


def test_one_family_alone_cannot_be_cross_fitted() -> None:
    labelled = planted()
    with pytest.raises(DataError, match="give two or more"):
        _ = LabelledLogits(labelled.logits, labelled.truth, ("one",) * 600, labelled.kinds).cross_fitted


def test_statistics_of_families_and_kinds_are_those_of_planted_logits() -> None:
    logits = np.array([2.0, 1.0, -1.0, 0.0, -2.0, 1.5])
    truth = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    families = ("a", "a", "b", "a", "a", "b")
    pairs = LabelledLogits(logits, truth, families, ("careful",) * 3 + ("careless",) * 3)
    below = ("careful_below_30", "careless_below_30")
    by_family = results_by_family(pairs, 1 / (1 + np.exp(-logits)))
    assert {name: (row["n"], row["auc"]) for name, row in by_family.items()} == {"a": (2, 1.0), "b": (1, 0.0)}
    assert {name: tuple(row[key] for key in below) for name, row in by_family.items()} == {
        "a": (0.0, 0.5),
        "b": (1.0, 0.0),
    }
    result = discrimination_of(pairs, 1 / (1 + np.exp(-logits)))
    assert (result.n, result.auc, result.paired) == (3, pytest.approx(6 / 9), pytest.approx(2 / 3))
    corrupt = LabelledLogits(logits, truth, families, ("whole", "cut", "cut", "looped", "looped", "mixed"))
    assert coherence_auc(corrupt) == {"looped": pytest.approx(5 / 6), "mixed": pytest.approx(1 / 3)}
