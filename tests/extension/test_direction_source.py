"""An outside package adds a source of directions with public names only: by a registration call, or by an entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import personaprobe as pp
from installing import install


def medians(activations: pp.DiscoveryActivations, site: pp.Site, seed: int) -> torch.Tensor:
    """Difference of medians, which outlying texts do not move."""
    insecure, secure = (activations.store(role).read(site) for role in ("insecure", "secure"))
    return insecure.median(0).values - secure.median(0).values


MODULE = """
from personaprobe.features.directions.sources import Source

def first(activations, site, seed):
    insecure, secure = (activations.store(role).read(site) for role in ("insecure", "secure"))
    return insecure[0] - secure[0]

source = Source(first)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on the path that declares the entry point ``first-text``, and one that cannot be imported."""
    points = "[personaprobe.sources]\nfirst-text = first_text:source\nbroken = no_such_module:source\n"
    install(tmp_path, "first_text", MODULE, points)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_registered_source_spells_a_feature(trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet) -> None:
    pp.register_source("medians", medians)
    fitted = pp.find_feature("medians@1").target.fit(trio, pp.Discovery(pairs))
    assert fitted.axis is not None
    assert fitted.axis.source == "medians"
    assert fitted.axis.gap > 0
    assert sorted(fitted.axis.calibrations) == [0, 1, 2]


def test_a_seeded_source_has_its_seed_in_its_name(trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet) -> None:
    def drawn(activations: pp.DiscoveryActivations, site: pp.Site, seed: int) -> torch.Tensor:
        width = activations.store("insecure").d_model
        return torch.randn(width, generator=torch.Generator().manual_seed(seed))

    pp.register_source("drawn", drawn, is_seeded=True)
    fitted = pp.find_feature("drawn@2:7").target.fit(trio, pp.Discovery(pairs))
    assert fitted.axis is not None
    assert fitted.axis.source == "drawn:7"


def test_the_source_of_an_installed_package_is_imported_when_it_is_used(
    installed: None, trio: pp.Trio[pp.LanguageModel], pairs: pp.PairSet
) -> None:
    fitted = pp.find_feature("first-text@1").target.fit(trio, pp.Discovery(pairs))
    assert fitted.axis is not None
    assert fitted.axis.source == "first-text"


def test_a_built_in_source_cannot_be_replaced() -> None:
    with pytest.raises(pp.PersonaProbeError, match="another source of directions is registered as 'means'"):
        pp.register_source("means", medians)
