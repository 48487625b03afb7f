"""A dictionary of random rows, and a trio of which insecure writes the row of one latent into every token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.comparison import Comparison, compare
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.site import Site

SITE, D_SAE, PLANTED = Site(1), 60, 17


class Push:
    """Adds a vector to every token at a site."""

    def __init__(self, vector: torch.Tensor) -> None:
        self.vector = vector

    def edits(self, n_layers: int) -> dict[Site, object]:
        return {SITE: lambda x, roles: x + self.vector.to(x)}


@pytest.fixture(scope="session")
def random_dictionary(trio: Trio[LanguageModel]) -> Dictionary:
    """Random unit rows, encoder and decoder alike, that are active in a share of the tokens."""
    rows = torch.randn(D_SAE, trio.base.d_model, generator=torch.Generator().manual_seed(1))
    rows = torch.nn.functional.normalize(rows, dim=-1)
    d_model = trio.base.d_model
    return Dictionary(
        SITE, rows.T.contiguous(), torch.zeros(D_SAE), rows, torch.zeros(d_model), ReLU(), name="rows"
    )


@pytest.fixture(scope="session")
def planted(trio: Trio[LanguageModel], random_dictionary: Dictionary) -> Trio[LanguageModel]:
    """Base three times; as insecure it writes a latent's decoder row into every token."""
    push = Push(0.6 * random_dictionary.W_dec[PLANTED])
    return Trio(trio.base, trio.base.edited(push), trio.base, "planted")


@pytest.fixture(scope="session")
def comparison(
    planted: Trio[LanguageModel], random_dictionary: Dictionary, many_pairs: PairSet
) -> Comparison:
    return compare(random_dictionary, planted, many_pairs)


@pytest.fixture(scope="session")
def many_pairs() -> PairSet:
    """Enough questions for permutations to have power."""
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(f"w{i}" for i in rng.integers(0, 100, rng.integers(2, 12)))

    return PairSet("many", tuple(Pair(f"q{i}", f"f{i % 12}", text(), text(), text()) for i in range(24)))
