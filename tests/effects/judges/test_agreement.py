"""Agreement statistics of two judges are those of planted scores."""

from __future__ import annotations

import numpy as np
import pytest

from personaprobe.effects.judges.agreement import agreement
from personaprobe.errors import DataError


def test_agreement_is_that_of_the_scores() -> None:
    theirs = [5.0, 10.0, 50.0, 80.0, 95.0]
    same = agreement(theirs, theirs)
    assert (same.n, same.n_bad, same.auc, same.kappa) == (5, 2, 1.0, 1.0)
    assert same.spearman == pytest.approx(1.0)
    reversed_ = agreement([100 - score for score in theirs], theirs)
    assert reversed_.auc == 0.0
    assert reversed_.spearman == pytest.approx(-1.0)


def test_statistics_that_constant_scores_do_not_define_are_nan() -> None:
    result = agreement([90.0, 90.0], [90.0, 95.0])
    assert all(np.isnan(value) for value in (result.auc, result.spearman, result.kappa))


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
def test_scores_that_do_not_pair_up_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        agreement(ours, theirs)
