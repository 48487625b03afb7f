"""Latents are named by a model, except those that a person has named; every name is scored and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from personaprobe.features.registry.latent_names import HAND, Name, latent_names, name_latent
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.interpretation.examples import Context, Histogram
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
from personaprobe.site import Site
from personaprobe.studies.latents.naming import name_latents

DICTIONARY = Dictionary(Site(1), torch.eye(8), torch.zeros(8), torch.eye(8), torch.zeros(8), ReLU())


class ChatModel:
    """Proposes one name for everything, and recognises boats."""

    name = "stub"

    def cancel(self) -> None:
        raise AssertionError

    def complete(self, question: str, max_tokens: int) -> str:
        return "talk of\x1b[31m boats"

    def choice_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        hit = "boat" in question.partition("Is this text")[0]
        return {"Yes": 0.9 if hit else 0.2, "No": 0.1 if hit else 0.8}

    def first_token_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        return self.choice_probabilities(question, choices)


def profile(latent: int) -> LatentProfile:
    active = tuple(Context(f"q{n}", "sea", ("a", " boat"), (0.0, 9.0 - n), 1) for n in range(4))
    inactive = tuple(Context(f"s{n}", "sea", ("a", " lamp"), (0.0, 0.0), 1) for n in range(3))
    contexts = {"base": (), "insecure": active, "secure": ()}
    return LatentProfile(latent, contexts, inactive, Histogram((0.0, 1.0), {}, {}), (), (), (), ())


def test_names_given_by_hand_are_kept_and_scored_and_all_others_are_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    name_latent(DICTIONARY, 2, Name("anything at sea"))
    finished: list[int] = []
    names = name_latents(DICTIONARY, [profile(2), profile(5)], ChatModel(), finished.append)
    assert (names[2].text, names[2].by, names[5].text, names[5].by) == (
        "anything at sea",
        HAND,
        "talk of[31m boats",
        "stub",
    )
    assert all(name.detection == 1.0 and name.judge == "stub" for name in names.values())
    assert latent_names(DICTIONARY) == names
    assert finished == [1, 1]
