"""Tiny random models of every architecture, on every backend, for every room's tests."""

from __future__ import annotations

import importlib
import os
import pkgutil
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import click.shell_completion
import httpx
import jinja2
import markupsafe
import numpy
import plotly.graph_objects
import pyarrow
import pytest
import rich.columns
import rich.console
import rich.live
import rich.panel
import rich.progress
import rich.table
import scipy.stats
import torch
import transformers
from jaxtyping import install_import_hook

import type_checker

PRELOADED = (
    type_checker,
    click.shell_completion,
    jinja2,
    markupsafe,
    numpy,
    httpx,
    plotly.graph_objects.Figure,
    pyarrow,
    rich.columns,
    rich.console,
    rich.live,
    rich.panel,
    rich.progress,
    rich.table,
    scipy.stats,
    transformers,
)
"""Packages whose types the annotations name; imported first, since not all of them import under ``TYPE_CHECKING``."""


UNCHECKED: dict[str, str] = {
    "personaprobe.models.edits.edit": "torch.compile traces edits and hooks, and computes wrong results behind a checker",
    "personaprobe.models.edits.hooks": "torch.compile traces edits and hooks, and computes wrong results behind a checker",
    "personaprobe.features.sae.kernels.numba_kernels": "Numba compiles these functions and cannot see through a checker",
    "personaprobe.features.sae.kernels.numba_threads": "Numba compiles these functions and cannot see through a checker",
    "personaprobe.features.sae.kernels.triton_kernels": "Triton compiles these functions and cannot see through a checker",
}
"""Modules whose annotations are not checked, by full name, and why."""


def import_with_checked_shapes() -> None:
    """Import the package so that every call in the test run checks its annotated types and tensor shapes.

    Modules import heavy types under ``TYPE_CHECKING`` only, so that it is true while they are imported here.
    """
    package = importlib.import_module("personaprobe")
    modules = [m.name for m in pkgutil.walk_packages(package.__path__, "personaprobe.") if not m.ispkg]
    assert not UNCHECKED.keys() - set(modules), "UNCHECKED names a module that does not exist"
    checked = [name for name in modules if name not in UNCHECKED]
    typing.TYPE_CHECKING = True
    try:
        with install_import_hook(checked, "type_checker.tolerant"):
            for name in checked:
                importlib.import_module(name)
    finally:
        typing.TYPE_CHECKING = False


import_with_checked_shapes()
if not torch.cuda.is_available():
    # read where Triton is first imported, by whomever
    os.environ["TRITON_INTERPRET"] = "1"

if "PYTEST_XDIST_WORKER" in os.environ:
    # workers, and the processes they start, share the cores: threads that wait for each other are slower than none
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

from personaprobe.errors import CheckpointError
from personaprobe.models.backends.registry import BUILT_IN_BACKENDS, rehost
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.network import Network
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from serving import endpoint, served  # noqa: F401  # fixtures for every room
from tiny_models import tiny_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes on one core first: it would keep the other waiting at the end."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in ("notebooks", "test_served_judge")))


@pytest.fixture(scope="session", name="tiny_model")
def tiny_model_maker() -> Callable[..., Any]:
    """Make a fresh Hugging Face model of a named architecture; the same weights every time."""
    return tiny_model


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


@pytest.fixture(params=BUILT_IN_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[[Sequence[str]], ChatTokenizer]:
    """A tokenizer of given words, without a chat template and without special tokens at the start."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

    def of(words: Sequence[str]) -> ChatTokenizer:
        names = [*special.values(), "Question:", "Answer:", *dict.fromkeys(words)]
        table = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
        table.pre_tokenizer = WhitespaceSplit()
        marks = {"pad_token": "<pad>", "eos_token": "</s>", "model_max_length": 64}
        return ChatTokenizer(PreTrainedTokenizerFast(tokenizer_object=table, **marks))

    return of


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


@pytest.fixture(scope="session")
def tiny_trio(tiny_model: Callable[..., Any]) -> Callable[[ChatTokenizer, float], Trio[LanguageModel]]:
    """Make a trio in memory: base, and two different small changes of its weights."""

    def make(tokenizer: ChatTokenizer, change: float) -> Trio[LanguageModel]:
        def changed(role: str, seed: int) -> LanguageModel:
            model = tiny_model("llama")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=change if seed else 0.0)
            return LanguageModel(Checkpoint(f"tiny-{role}"), wrap(model, tokenizer.pad_id), tokenizer)

        return Trio(changed("base", 0), changed("insecure", 1), changed("secure", 2), "tiny")

    return make


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
