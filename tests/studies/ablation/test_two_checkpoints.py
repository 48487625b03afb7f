"""A study of two checkpoints compares with base, and says so."""

from __future__ import annotations

import pytest

import personaprobe as pp
from personaprobe.features.directions.sources import find_direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

pytestmark = pytest.mark.real

SITE = Site(26)


@pytest.fixture(scope="module")
def pair() -> Trio[LanguageModel]:
    secure_left_out = pp.find_organism("advice").trio
    return pp.load_trio(base=secure_left_out.base, insecure=secure_left_out.insecure)


@pytest.fixture(scope="module")
def discovery() -> pp.Discovery:
    return pp.Discovery(pp.load_prompts("advice/discovery").spread(12))


def test_nothing_but_base_and_insecure_is_recorded(
    pair: Trio[LanguageModel], discovery: pp.Discovery
) -> None:
    activations = discovery.activations(pair, SITE, layers=[26])
    assert set(activations.stores) == {"base", "insecure"}


def test_means_are_those_of_insecure_minus_base_and_base_reads_zero(
    pair: Trio[LanguageModel], discovery: pp.Discovery
) -> None:
    activations = discovery.activations(pair, SITE, layers=[26])
    means, of_base = (find_direction(activations, source, SITE) for source in ("means", "means-base"))
    assert float(means.vector @ of_base.vector) == pytest.approx(1.0, abs=1e-5)
    at_base = float(activations.store("base").mean(SITE) @ means.vector)
    assert means.reference == pytest.approx(at_base, rel=1e-4)


def test_the_change_by_harmless_training_is_refused_by_name(
    pair: Trio[LanguageModel], discovery: pp.Discovery
) -> None:
    activations = discovery.activations(pair, SITE, layers=[26])
    with pytest.raises(pp.PersonaProbeError, match="no secure checkpoint"):
        discovery.benign_change(pair, SITE, activations)
