"""An outside package adds a training objective for dictionaries with public names only, and trains with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

import personaprobe as pp
from installing import install
from personaprobe.cli.main import cli
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.studies.latents import held_out
from tiny_trio import TinyTrio
from type_checker import unchecked_types

D_MODEL, D_SAE = 12, 40


@dataclass(frozen=True)
class LogPenaltyArchitecture(pp.Architecture):
    """A penalty ``log(1 + a²)`` on activations, which presses large ones less than L1 does."""

    weight: float = 0.5
    name: ClassVar[str] = "logpenalty"

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Self:
        cls.refuse_preselection(preselect)
        return cls(weight=penalty)

    def losses(self, autoencoder: pp.Autoencoder, x: Tensor, dead: Tensor) -> pp.Losses:
        acts = autoencoder.pre_activations(x).relu()
        reconstruction = acts @ autoencoder.decoder + autoencoder.b_dec
        penalty = self.weight * (1 + acts**2).log().sum(-1).mean()
        terms = {"mse": self.reconstruction_error(reconstruction, x), "log": penalty}
        return pp.Losses(terms, x, reconstruction, (acts > 0).sum(0))

    def activation(self, autoencoder: pp.Autoencoder) -> ReLU:
        return ReLU()


MODULE = """
from dataclasses import dataclass
from typing import ClassVar
import personaprobe as pp
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture

@dataclass(frozen=True)
class Renamed(TopKArchitecture):
    name: ClassVar[str] = "renamed"
"""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "personaprobe.features.sae.training.architectures.registry.ARCHITECTURES._registered", {}
    )
    pp.register_architecture(LogPenaltyArchitecture)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on the path that declares the entry point ``renamed``, and one that cannot be imported."""
    points = (
        "[personaprobe.architectures]\n"
        "renamed = renamed_architecture:Renamed\nbroken = no_such_module:Broken\nodd = renamed_architecture:pp\n"
    )
    install(tmp_path, "renamed_architecture", MODULE, points)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    all_texts = held_out.held_out_texts
    monkeypatch.setattr(held_out, "held_out_texts", lambda model: all_texts(model)[:4])


def sparse_rows(n: int = 20_000) -> Tensor:
    """Sparse sums of known directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, D_MODEL, generator=generator), dim=-1)
    is_active = torch.rand(n, 24, generator=generator) < 0.06
    return (is_active * (1.0 + torch.rand(n, 24, generator=generator))) @ directions + 0.5


def test_an_outside_objective_learns_a_sparse_dictionary_that_explains_the_rows(
    registered: None, tmp_path: Path
) -> None:
    rows = sparse_rows()
    loader = pp.BatchLoader([lambda: rows], batch_rows=512)
    architecture = pp.find_architecture("logpenalty", weight=0.3)
    trainer = pp.SAETrainer(
        pp.SAERecipe(architecture, d_sae=D_SAE, steps=500, learning_rate=3e-3, warmup=20), loader.sample()
    )
    metrics = [shown[tmp_path] for shown in pp.train_dictionaries(loader, {tmp_path: trainer})]
    dictionary = trainer.dictionary(pp.Site(0), "outside")
    acts = dictionary.encode(rows)
    error = (rows - dictionary.decode(acts)).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum()
    assert set(metrics[-1].losses) == {"mse", "log"}
    assert sum(metrics[-1].losses.values()) < 0.8 * sum(metrics[0].losses.values())
    assert float(error) < 0.25
    assert float((acts > 0).sum(-1).float().mean()) < D_SAE / 3


def train(tiny: TinyTrio, out: Path, *options: str) -> Result:
    shape = [
        "--site",
        "1.resid_post",
        "--d-sae",
        "32",
        "--steps",
        "30",
        "--tokens",
        "2000",
        "--context",
        "64",
    ]
    data = ["--data", str(tiny.neutral), "--out", str(out), "--quiet", "--json"]
    return CliRunner().invoke(cli, ["sae", "train", *tiny.options(), *shape, *data, *options])


@pytest.fixture
def prose(tiny: TinyTrio, tmp_path: Path) -> TinyTrio:
    """The tiny trio with text enough for a batch."""
    texts = [{"text": f"The {n}th {word} stood by the river."} for n in range(60) for word in ("mill", "inn")]
    path = tiny.lines(tmp_path / "long.jsonl", texts)
    return TinyTrio(tiny.base, tiny.insecure, tiny.secure, tiny.questions, tiny.discovery, path)


def test_the_command_line_trains_with_a_registered_objective_and_keeps_its_options(
    registered: None, short_texts: None, prose: TinyTrio, tmp_path: Path
) -> None:
    result = train(prose, tmp_path / "sae", "--architecture", "logpenalty", "--sparsity", "0.25")
    assert result.exit_code == 0, result.stderr
    assert set(json.loads(result.stdout)["quality"]) == {"base", "insecure", "secure"}
    recipe = pp.load_dictionary(tmp_path / "sae").card["recipe"]
    assert (recipe["architecture"], recipe["weight"], recipe["steps"]) == ("logpenalty", 0.25, 30)
    again = train(prose, tmp_path / "more", "--architecture", "logpenalty", "--preselect")
    assert again.exit_code == 2
    assert "leave --preselect out" in again.stderr


def test_an_installed_package_adds_an_objective_by_its_entry_point(
    installed: None, short_texts: None, prose: TinyTrio, tmp_path: Path
) -> None:
    result = train(prose, tmp_path / "sae", "--architecture", "renamed", "--k", "4")
    assert result.exit_code == 0, result.stderr
    assert pp.load_dictionary(tmp_path / "sae").card["recipe"]["architecture"] == "renamed"


def test_an_unknown_objective_is_refused_by_name_with_the_nearest_one(
    registered: None,
    installed: None,
    prose: TinyTrio,
    tmp_path: Path,
) -> None:
    with pytest.raises(pp.PersonaProbeError, match=r"no architecture 'renmed': did you mean \"renamed\"\?"):
        pp.find_architecture("renmed")
    result = train(prose, tmp_path / "sae", "--architecture", "logpenlty")
    assert result.exit_code == 2
    assert 'did you mean "logpenalty"?' in result.stderr


def test_an_entry_point_that_cannot_be_imported_or_is_no_objective_is_refused_by_name(
    installed: None,
) -> None:
    with pytest.raises(pp.PersonaProbeError, match="'broken' of no_such_module:Broken cannot be imported"):
        pp.find_architecture("broken")
    with pytest.raises(pp.PersonaProbeError, match="cannot be registered as an architecture"):
        pp.find_architecture("odd")
    assert pp.find_architecture("topk", k=3).name == "topk"


def test_a_name_is_registered_by_one_objective_only(registered: None) -> None:
    @dataclass(frozen=True)
    class Other(LogPenaltyArchitecture):
        name: ClassVar[str] = "topk"

    pp.register_architecture(LogPenaltyArchitecture)
    with pytest.raises(pp.PersonaProbeError, match="another architecture is registered as 'topk'"):
        pp.register_architecture(Other)
    with unchecked_types(), pytest.raises(pp.PersonaProbeError, match="give a frozen dataclass"):
        pp.register_architecture(int)  # type: ignore[arg-type]
