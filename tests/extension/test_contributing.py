"""The how-tos of CONTRIBUTING are true: each block of code runs as an outside package would, and does what it says."""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner, Result

import personaprobe as pp
from extension.test_report_section import SWEEP
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS
from personaprobe.features.directions.sources import SOURCES
from personaprobe.features.sae.training.architectures.registry import find_architecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.models.loading import Placement
from personaprobe.models.tokens import pad
from personaprobe.studies.reports.run_folder import write_report

if TYPE_CHECKING:
    from tiny_trio import TinyTrio

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
MODULE = "my_package"

REGISTRIES = (
    "personaprobe.effects.judges.registry.JUDGES._registered",
    "personaprobe.models.backends.registry.BACKENDS._registered",
    "personaprobe.features.sae.training.architectures.registry.ARCHITECTURES._registered",
    "personaprobe.studies.reports.sections._REGISTERED",
)


def how_tos() -> dict[str, str]:
    """The Python of each how-to, by its heading."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- extending: begin -->")[2]
    text = text.partition("<!-- extending: end -->")[0]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    blocks = {
        section.partition("\n")[0]: re.findall(r"```(?:python|toml)\n(.*?)```", section, re.DOTALL)
        for section in sections
    }
    return {heading: "\n".join(code) for heading, code in blocks.items() if code}


HOW_TOS = how_tos()


@dataclass(frozen=True)
class World:
    """A how-to with the places that a check needs.

    Attributes:
        code: the block of the how-to, Python or TOML.
        folder: an empty folder.
        tiny: a trio of tiny checkpoints with questions.
        run: runs ``personaprobe``.
        saved_model: writes a tiny model of an architecture to a folder.
        trio: three tiny models of words.
        pairs: discovery questions for them.
    """

    code: str
    folder: Path
    tiny: TinyTrio
    run: Callable[..., Result]
    saved_model: Callable[..., str]
    trio: pp.Trio[pp.LanguageModel]
    pairs: pp.PairSet

    def execute(self) -> Mapping[str, Any]:
        """Execute the block as a module of an outside package."""
        module = sys.modules[MODULE]
        exec(compile(self.code, "CONTRIBUTING.md", "exec"), module.__dict__)
        return module.__dict__

    def execute_on(self, architecture: str) -> Mapping[str, Any]:
        """Execute the block with a tiny model in place of ``FOLDER``."""
        code = self.code.replace("FOLDER", self.saved_model(architecture))
        return replace(self, code=code).execute()

    def register_organism(self, description: str) -> Result:
        """Register the tiny trio as ``my-organism``."""
        folder = self.folder / "my-organism"
        folder.mkdir()
        for role in ("insecure", "secure"):
            shutil.copytree(getattr(self.tiny, role), folder / role)
        shutil.copy(self.tiny.discovery, folder / "discovery.jsonl")
        shutil.copy(self.tiny.questions, folder / "test.jsonl")
        (folder / "organism.toml").write_text(description.replace('"demo"', f'"{self.tiny.base}"'))
        return self.run("organisms", "register", folder, "--dtype", "float32", "--quiet")


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations of a how-to, and its module, end with its test."""
    monkeypatch.setitem(sys.modules, MODULE, types.ModuleType(MODULE))
    monkeypatch.setattr(SOURCES, "_registered", {})
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, {})


def architecture(world: World) -> None:
    model = world.execute_on("glm4")["model"]
    batch = pad([model.tokenizer.text("word1 word2 word3")], model.tokenizer.pad_id)
    sites = [pp.Site(1, stream) for stream in ("resid_mid", "mlp_out", "resid_post")]
    mid, mlp, post = (model.activations(batch, sites)[site] for site in sites)
    torch.testing.assert_close(mid + mlp, post, atol=1e-4, rtol=1e-4)


def backend(world: World) -> None:
    module = world.execute_on("llama")
    before = module["Counting"].passes
    assert before > 0, "the self-check ran on it"
    module["model"].chat("word1", max_new_tokens=2)
    assert module["Counting"].passes > before


def judge(world: World) -> None:
    world.execute()
    opened = pp.find_judge("length:4", Placement("cpu"))
    rubric = next(iter(DEFAULT_RUBRICS.values()))
    scored, unscored = opened.judge([pp.Case(rubric, "How?", answer) for answer in ("one two", "")])
    assert isinstance(scored, pp.Scored)
    assert scored.raw == "2 words"
    assert isinstance(unscored, pp.Unscored)


def source(world: World) -> None:
    world.execute()
    fitted = pp.find_feature("medians@1").target.fit(world.trio, pp.Discovery(world.pairs))
    assert fitted.axis is not None
    assert fitted.axis.source == "medians"


def intervention(world: World) -> None:
    dampen, base = world.execute()["Dampen"], world.trio.base
    assert isinstance(dampen(pp.Site(1), 0.5), pp.Intervention)
    bare, same, half = (
        pp.preference_gaps(base.edited(*edits), world.pairs)
        for edits in ((), (dampen(pp.Site(1), 1.0),), (dampen(pp.Site(1), 0.5),))
    )
    assert (bare == same).all()
    assert not (bare == half).any()


def objective(world: World) -> None:
    world.execute()
    rows = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    trainer = SAETrainer(SAERecipe(find_architecture("squared", weight=0.5), d_sae=16, steps=20), rows)
    trainer.step(rows)
    first = trainer.metrics().losses
    while not trainer.is_finished:
        trainer.step(rows)
    last = trainer.metrics().losses
    assert set(last) == {"mse", "squared"}
    assert sum(last.values()) < sum(first.values())


def organism(world: World) -> None:
    registered = world.register_organism(world.code)
    assert registered.exit_code == 0, registered.output
    listed = json.loads(world.run("organisms", "list", "--json").stdout)[0]
    assert (listed["name"], listed["files"]) == ("my-organism", "as registered")
    assert world.run("organisms", "remove", "my-organism").exit_code == 0


def verb(world: World) -> None:
    world.register_organism(HOW_TOS["An organism"])
    result = CliRunner().invoke(world.execute()["compare"], ["How?", "--organism", "my-organism"])
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.output.splitlines() if ": " in line][:1] == ["base"]
    assert all(f"{role}: " in result.output for role in ("base", "insecure", "secure"))


def section(world: World) -> None:
    world.execute()
    text = write_report(SWEEP, world.folder).read_text(encoding="utf-8")
    assert "The sweep chose layer 3 of 1 cells." in text


CHECKS: Mapping[str, Callable[[World], None]] = {
    "An architecture": architecture,
    "A backend": backend,
    "A judge": judge,
    "A source of directions": source,
    "An intervention": intervention,
    "A training objective for dictionaries": objective,
    "An organism": organism,
    "A verb": verb,
    "A section of a report": section,
}


@pytest.mark.parametrize("heading", HOW_TOS)
def test_a_how_to_does_what_it_says(
    heading: str,
    tmp_path: Path,
    tiny: TinyTrio,
    run: Callable[..., Result],
    saved_model: Callable[..., str],
    trio: pp.Trio[pp.LanguageModel],
    pairs: pp.PairSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert heading in CHECKS, "every how-to is held by a check here"
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    CHECKS[heading](World(HOW_TOS[heading], tmp_path, tiny, run, saved_model, trio, pairs))


def test_no_check_is_left_without_its_how_to() -> None:
    assert set(CHECKS) <= set(HOW_TOS)
