"""One spelling names latents everywhere; what it cannot mean is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.features.sae.latent_spelling import find_latents, parse_latents
from personaprobe.site import Site


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoints folder with one dictionary."""
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    rows = torch.eye(8)
    dictionary = Dictionary(Site(1), rows, torch.zeros(8), rows.clone(), torch.zeros(8), ReLU(), name="eight")
    save_dictionary(dictionary, tmp_path / "saes" / "eight")
    save_dictionary(replace(dictionary, name="other"), tmp_path / "elsewhere" / "other")
    return tmp_path


@pytest.mark.parametrize(
    ("spelling", "name", "latents"),
    [
        ("sae:advice-21/812,77", "advice-21", (812, 77)),
        ("sae:runs/my sae/5", "runs/my sae", (5,)),
        ("812", None, (812,)),
        ("812,77", None, (812, 77)),
    ],
)
def test_latents_are_spelled_with_or_without_their_dictionary(
    spelling: str, name: str | None, latents: tuple[int, ...]
) -> None:
    assert parse_latents(spelling) == (name, latents)


@pytest.mark.parametrize(
    "spelling", ["", "-1", "seven", "sae:/3", "sae:name", "sae:name/", "3,", "sae:a/3,b"]
)
def test_any_other_spelling_is_refused(spelling: str) -> None:
    with pytest.raises(FeatureError, match="sae:NAME/812,77"):
        parse_latents(spelling)


def test_bare_numbers_and_spellings_may_be_mixed_where_they_mean_one_dictionary(shipped: Path) -> None:
    dictionary, latents = find_latents(["sae:eight/1,2", "5"])
    assert (dictionary.name, latents) == ("eight", [1, 2, 5])
    assert find_latents(["3"], "eight")[1] == [3]
    assert find_latents([])[1] == []


def test_latents_of_two_dictionaries_or_none_that_exist_are_refused(shipped: Path) -> None:
    other = shipped / "elsewhere" / "other"
    with pytest.raises(FeatureError, match="one dictionary at a time"):
        find_latents(["sae:eight/1", f"sae:{other}/2"])
    with pytest.raises(FeatureError, match="one dictionary at a time"):
        find_latents(["sae:eight/1"], str(other))
    with pytest.raises(FeatureError, match="0 to 7"):
        find_latents(["8"])
    with pytest.raises(FeatureError, match="give each once"):
        find_latents(["1", "sae:eight/1"])


@pytest.mark.parametrize("spelling", ["9" * 5000, f"sae:eight/{'9' * 10}", "१", "sae:eight/-1", "x" * 5000])
def test_an_index_that_no_dictionary_has_is_refused_in_one_short_line(spelling: str) -> None:
    with pytest.raises(FeatureError, match="cannot read the latents") as refused:
        parse_latents(spelling)
    assert len(str(refused.value)) < 300
