"""Architectures are found by name."""

from __future__ import annotations

import pytest

from personaprobe.errors import FeatureError
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.registry import ARCHITECTURES, find_architecture


def test_architectures_are_found_by_name_and_unknown_ones_suggested() -> None:
    assert {kind.name for kind in ARCHITECTURES.builtin.values()} == set(ARCHITECTURES.builtin)
    assert find_architecture("batchtopk", k=8) == BatchTopKArchitecture(8)
    with pytest.raises(FeatureError, match="batchtopk"):
        find_architecture("batchtpk")
    with pytest.raises(FeatureError, match="no such option"):
        find_architecture("topk", l1=3)
