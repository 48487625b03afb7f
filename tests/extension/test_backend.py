"""An outside package adds a backend: by a registration call, or by an entry point; the self-check proves it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import personaprobe as pp
from installing import install
from personaprobe.models.backends import registry
from personaprobe.models.tokens import pad

CPU = pp.Placement("cpu", "float32")

PACKAGE = """
from personaprobe.models.backends.hosted import Hosted

class Counting(Hosted):
    passes = 0

    def logits(self, batch, edits):
        Counting.passes += 1
        return self.source.logits(batch, edits)

    def activations(self, batch, sites, edits):
        Counting.passes += 1
        return self.source.activations(batch, sites, edits)

class Blind(Counting):
    def activations(self, batch, sites, edits):
        return self.source.activations(batch, sites, {})
"""
ENTRY_POINTS = "[personaprobe.backends]\ncounting = their_backends:Counting\nblind = their_backends:Blind\n"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the import path, its metadata not yet written."""
    monkeypatch.setattr(registry.BACKENDS, "_registered", {})
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "their_backends.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("their_backends", None)


@pytest.mark.parametrize("backend", ["nnsight", "transformer_lens"])
def test_other_libraries_compute_what_plain_hooks_compute(
    saved_model: Callable[..., str], backend: str
) -> None:
    folder = saved_model("llama")
    hooks, other = pp.load(folder, CPU), pp.load(folder, CPU, backend=backend)
    assert type(other.network) is not type(hooks.network)
    batch = pad([hooks.tokenizer.text("word1 word2 word3")], hooks.tokenizer.pad_id)
    torch.testing.assert_close(other.logits(batch), hooks.logits(batch), atol=1e-3, rtol=1e-3)


def test_a_trio_runs_on_another_backend(saved_model: Callable[..., str], tmp_path: Path) -> None:
    base = shutil.copytree(saved_model("llama"), tmp_path / "base")
    insecure = saved_model("llama", attention_bias=True)
    trio = pp.load_trio(base=str(base), insecure=insecure, device="cpu", dtype="float32", backend="nnsight")
    assert {type(model.network).__name__ for _, model in trio.items()} == {"NNsightNetwork"}


def test_a_backend_registered_by_a_call_is_used(saved_model: Callable[..., str]) -> None:
    from their_backends import Counting  # type: ignore[import-not-found]

    pp.register_backend("counting", Counting)
    model = pp.load(saved_model("llama"), CPU, backend="counting")
    before = Counting.passes
    assert before > 0, "the self-check ran on it"
    model.chat("word1", max_new_tokens=3)
    assert Counting.passes > before


def test_a_backend_of_an_installed_package_is_imported_when_it_is_used(
    saved_model: Callable[..., str], package: Path
) -> None:
    install(package, "their_backends", PACKAGE, ENTRY_POINTS)
    folder = saved_model("llama")
    pp.load(folder, CPU)
    assert "their_backends" not in sys.modules
    assert type(pp.load(folder, CPU, backend="counting").network).__name__ == "Counting"


def test_a_backend_that_ignores_edits_fails_the_self_check(
    saved_model: Callable[..., str], package: Path
) -> None:
    install(package, "their_backends", PACKAGE, ENTRY_POINTS)
    with pytest.raises(pp.PersonaProbeError, match=r"self-check on Blind: .*is written"):
        pp.load(saved_model("llama"), CPU, backend="blind")


def test_an_unknown_backend_is_refused_with_the_names_of_all(package: Path) -> None:
    install(package, "their_backends", PACKAGE, ENTRY_POINTS)
    with pytest.raises(
        pp.PersonaProbeError,
        match=r'did you mean "nnsight"\? Allowed: blind, counting, hooks, nnsight, transformer_lens',
    ):
        pp.load("demo", CPU, backend="nsight")


def test_the_name_of_another_backend_is_refused() -> None:
    with pytest.raises(pp.PersonaProbeError, match="another backend is registered as 'hooks'"):
        pp.register_backend("hooks", lambda network: network)
