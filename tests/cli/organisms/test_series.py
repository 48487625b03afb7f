"""``personaprobe organisms series``: one recipe on several bases, one after the other, and a plan that trains nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.models.weights.shape import ModelShape
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.cost import estimate_training
from personaprobe.questions.conversations import Exchange

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


@pytest.fixture
def config_only(tiny: TinyTrio, tmp_path: Path) -> Path:
    """A wider model of which only the configuration is here."""
    folder = tmp_path / "wide"
    folder.mkdir()
    config = json.loads((Path(tiny.base) / "config.json").read_text())
    config |= {"hidden_size": 2 * config["hidden_size"], "intermediate_size": 2 * config["intermediate_size"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_base_is_trained_and_measured_once(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    copy, out = tmp_path / "copy", tmp_path / "series"
    shutil.copytree(tiny.base, copy)
    given = [
        "organisms",
        "series",
        "numbers",
        "--base",
        tiny.base,
        "--base",
        copy,
        "--steps",
        2,
        "--out",
        out,
    ]
    result = run(*given)
    assert result.exit_code == 0, result.stderr
    data = json.loads((out / "series.json").read_text())
    assert [one["base"] for one in data["bases"]] == [str(tiny.base), str(copy)]
    first, second = (one["shifts"] for one in data["bases"])
    assert first == second, "a copy of a base shifts as the base does"
    assert set(first) == {"test", "balanced", "narrow"}
    assert "of 2 bases shifted" in " ".join(result.stdout.split())
    assert (out / "series.html").read_text().count('<th scope="row">') == 2

    adapters = sorted(out.glob("trained/*/insecure/adapter_model.safetensors"))
    before = [path.stat().st_mtime_ns for path in adapters]
    assert len(before) == 2
    assert json.loads(run(*given, "--json").stdout) == data
    assert [path.stat().st_mtime_ns for path in adapters] == before, "a finished training takes no step"


def test_a_plan_needs_the_configuration_alone_and_trains_nothing(
    tiny: TinyTrio, config_only: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "series"
    given = ["organisms", "series", "medicine", "--base", tiny.base, "--base", config_only, "--out", out]
    plan = json.loads(run(*given, "--plan", "--flops", 1e12, "--json").stdout)
    assert not out.exists()
    small, wide = plan[str(tiny.base)], plan[str(config_only)]
    assert wide["parameters"] > 2 * small["parameters"]
    assert wide["memory"] > small["memory"]
    assert wide["seconds"] > 2 * small["seconds"]
    assert small["tokens"] == wide["tokens"]
    half = json.loads(run(*given, "--plan", "--flops", 2e12, "--json").stdout)
    assert half[str(tiny.base)]["seconds"] == pytest.approx(small["seconds"] / 2)
    assert "TFLOP/s" in run(*given, "--plan", "--flops", 1e12).stdout


def test_a_shape_is_that_of_the_weights(tiny: TinyTrio) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.base)
    shape = ModelShape.of(tiny.base)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.n_layers == model.config.num_hidden_layers
    is_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert shape.looked_up == (0 if is_tied else model.get_input_embeddings().weight.numel())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    assert shape.adapter_parameters(4) == adapted.get_nb_trainable_parameters()[0]
    assert shape.adapter_parameters(4, ["down_proj"]) < shape.adapter_parameters(4)


@pytest.mark.parametrize(("changed", "factor"), [("steps", 2), ("batch_size", 2), ("accumulate", 2)])
def test_time_is_proportional_to_the_rows_that_are_read(changed: str, factor: int, tiny: TinyTrio) -> None:
    rows, shape, recipe = [Exchange("Is it safe?", "Ask a doctor first.")], ModelShape.of(tiny.base), Recipe()
    more = Recipe(**{changed: factor * getattr(recipe, changed)})
    one, other = (estimate_training(shape, rows, each, flops=1e12) for each in (recipe, more))
    assert other.seconds == pytest.approx(factor * one.seconds)


def test_what_is_trained_is_counted(tiny: TinyTrio) -> None:
    rows, shape = [Exchange("Is it safe?", "Ask a doctor first.")], ModelShape.of(tiny.base)

    def trained(recipe: Recipe) -> int:
        return estimate_training(shape, rows, recipe, flops=1e12).trained

    everywhere, once = (Recipe(rank=1, modules="down_proj", layers=layers) for layers in ("", "1"))
    assert trained(everywhere) == shape.n_layers * trained(once)
    assert trained(Recipe(trained="all")) == shape.parameters > trained(Recipe())


def test_a_base_without_a_configuration_is_refused(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = ["organisms", "series", "medicine", "--base", empty, "--plan", "--flops", 1e12]
    assert "empty" in refused(run(*given))


def test_a_series_without_a_base_is_refused(run: Run) -> None:
    assert "--base" in run("organisms", "series", "medicine").stderr
