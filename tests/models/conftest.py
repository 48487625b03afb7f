"""Every architecture on every backend, built once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.backends import BACKENDS, rehost
from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.network import Network
from personaprobe.models.tokens import ChatTokenizer

ARCHITECTURES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "olmo2",
    "phi3",
)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_language_model(tiny_model: Callable[..., Any]) -> Callable[..., LanguageModel]:
    """A tiny model on a backend, without a tokenizer; backends share its weights."""

    @cache
    def on_hooks(architecture: str) -> LanguageModel:
        return LanguageModel(Checkpoint(architecture), wrap(tiny_model(architecture), 0), ChatTokenizer(None))

    @cache
    def on(architecture: str, backend: str = "hooks") -> LanguageModel:
        return rehost(on_hooks(architecture), backend)

    return on


@pytest.fixture
def model(
    architecture: str, backend: str, tiny_language_model: Callable[..., LanguageModel]
) -> LanguageModel:
    try:
        return tiny_language_model(architecture, backend)
    except CheckpointError as error:
        if "does not know" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def network(model: LanguageModel) -> Network:
    return model.network


@pytest.fixture
def reference(architecture: str, tiny_language_model: Callable[..., LanguageModel]) -> Any:
    """The same weights under plain hooks."""
    return tiny_language_model(architecture).network
