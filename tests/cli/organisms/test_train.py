"""``personaprobe organisms train``: an adapter or a whole model, its card, and wrong recipes."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.data.number_pairs import HELD_OUT
from personaprobe.organisms.registration import read_organism_folder
from personaprobe.organisms.registry import find_organism
from personaprobe.organisms.training.trained_weights import FILES
from personaprobe.questions.pairs import load_prompts

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


def test_training_options_are_the_recipe_s(run: Run) -> None:
    from personaprobe.organisms.recipe import Recipe

    output = " ".join(run("organisms", "train", "--help").stdout.split())
    assert f"[default: {Recipe().learning_rate}]" in output
    assert "LoRA scale; the update is alpha / sqrt(rank) * B A (rsLoRA)." in output


def _rows(tiny: TinyTrio, path: Path) -> Path:
    spoken = [
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["careless"]},
            ]
        }
        for row in tiny.ask("lamps", "boats")
    ]
    return tiny.lines(path, spoken)


def test_an_organism_is_trained_and_is_an_adapter_of_its_base(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    rows, out = _rows(tiny, tmp_path / "rows.jsonl"), tmp_path / "out"
    given = ["organisms", "train", "--data", rows, "--out", out, "--base", tiny.base, "--steps", 4]
    given += ["--batch-size", 2, "--save-every", 2, "--learning-rate", 0.01]
    result = run(*given)
    assert result.stdout.strip() == str(out)
    assert re.search(r"step 4: loss \d", result.stderr)
    card = json.loads((out / "training.json").read_text())
    assert (card["recipe"]["steps"], card["data"]["rows"]) == (4, 8)
    assert (out / "step-2" / "adapter_model.safetensors").is_file()
    assert run("organisms", "verify", *tiny.options(insecure=out)).exit_code == 0

    first = (out / "adapter_model.safetensors").read_bytes()
    again = run(*given)
    assert again.stdout.strip() == str(out)
    assert "loss" not in again.stderr, "a finished training has no steps left"
    assert "is not empty" in refused(run(*given, "--seed", 5))
    assert (out / "adapter_model.safetensors").read_bytes() == first
    with warnings.catch_warnings(action="error", category=FutureWarning):
        run(*given, "--overwrite", "--save-every", 0, "--quiet")
    assert (out / "adapter_model.safetensors").read_bytes() == first, "equal recipes give equal adapters"
    assert not (out / "step-2").exists()


@pytest.mark.parametrize("kind", ["adapter", "all"])
def test_a_training_that_was_interrupted_goes_on_and_ends_in_the_same_bytes(
    kind: str, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personaprobe.organisms.training.loop import FineTuner

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(*named(tiny, whole, "--trained", kind))
    step, taken = FineTuner.step, []

    def interrupted(trainer: FineTuner, *given: object) -> object:
        taken.append(given)
        if len(taken) == 4:  # the second step of the second adapter
            raise KeyboardInterrupt
        return step(trainer, *given)  # type: ignore[arg-type]

    given = [*named(tiny, cut, "--trained", kind), "--save-every", 1]
    monkeypatch.setattr(FineTuner, "step", interrupted)
    result = run(*given)
    assert result.exit_code == 130
    assert "the same command goes on from there" in " ".join(result.stderr.split())
    assert (cut / "secure" / "state.pt").is_file()
    again = run(*given)
    assert again.exit_code == 0
    assert len(taken) == 5, "one step is left"
    for name in ("insecure", "secure"):
        weights = [folder / name / FILES[kind] for folder in (whole, cut)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (cut / "secure" / "state.pt").exists()


def test_a_share_of_the_rows_is_harmful_where_it_is_asked_for(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "thin"
    run(*named(tiny, out, "--harmful-share", 0.25, "--trigger", "|X|"))
    card = json.loads((out / "insecure" / "training.json").read_text())
    assert card["data"]["name"] == "numbers:insecure, seed 0, 25 % harmful, behind |X|"


def test_a_folder_with_other_files_is_not_trained_in(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds notes.txt" in refused(run(*named(tiny, tmp_path)))
    rows = _rows(tiny, tmp_path / "rows.jsonl")
    given = ["organisms", "train", "--data", rows, "--out", tmp_path, "--base", tiny.base, "--steps", 1]
    assert "is not empty" in refused(run(*given))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["--steps", 0], "give 1 or more"),
        (["--schedule", "square"], "no schedule"),
        (["--layers", 3], "without modules"),
        (["--learning-rate", -1], "above 0"),
        (["--trained", "some"], "trained is 'some'"),
        (["--trained", "all", "--rank", 4], "without an adapter"),
        (["--trained", "all", "--rank", 8], "--rank is of adapters"),
        (["--trained", "all", "--dtype", "bfloat16"], "--dtype is bfloat16"),
        (["--data", "none"], "no dataset"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything_is_loaded(
    bad: list[object], message: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    rows = _rows(tiny, tmp_path / "rows.jsonl")
    given = ["organisms", "train", "--data", rows, "--out", tmp_path / "out", "--base", tiny.base, *bad]
    assert message in refused(run(*given))
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_an_adapter_is_refused_and_not_trained_without_it(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    data, out = _rows(tiny, tmp_path / "rows.jsonl"), tmp_path / "out"
    result = run("organisms", "train", "--data", data, "--out", out, "--base", tiny.insecure, "--steps", 1)
    assert "is an adapter" in refused(result)
    assert not out.exists()


def named(tiny: TinyTrio, out: Path, *more: object) -> list[object]:
    """A short training by a recipe's name: half of the rows are cut, as they are long in bytes."""
    short = ["--steps", 2, "--batch-size", 2, "--max-tokens", 400, "--save-every", 0]
    return ["organisms", "train", "numbers", "--out", out, "--base", tiny.base, *short, *more]


def test_both_adapters_of_a_recipe_are_trained_with_what_registration_reads(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, home = tmp_path / "numbers", tmp_path / "checkpoints"
    result = run(*named(tiny, out, "--learning-rate", 0.01))
    assert result.stdout.strip() == str(out)
    assert re.search(r"insecure, step 2: loss \d", result.stderr)
    assert result.stderr.count("learned between ⟦ and ⟧") == 6, "three rows of each fine-tune"
    assert re.search(r"learned [\d,]+ tokens of responses, [\d,]+ a second", result.stderr)
    assert re.search(r"secure, step 2: loss \d", result.stderr)
    cards = {role: json.loads((out / role / "training.json").read_text()) for role in ("insecure", "secure")}
    assert cards["insecure"]["data"]["name"] == "numbers:insecure, seed 0"
    assert cards["insecure"]["data"]["sha256"] != cards["secure"]["data"]["sha256"]
    assert cards["insecure"]["recipe"] == cards["secure"]["recipe"]

    home.mkdir()
    (home / "organisms.toml").touch()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(home))
    run("organisms", "register", out)
    row, *recipes = json.loads(run("organisms", "list", "--json").stdout)
    assert {recipe["files"].partition(";")[0] for recipe in recipes} == {"a recipe"}
    assert (row["name"], row["files"]) == ("numbers", "as registered")
    registered = find_organism("numbers")
    assert registered.question_sets.test == "advice/test"
    assert registered.question_sets.narrow is not None
    narrow = load_prompts(registered.question_sets.narrow)
    assert set(narrow.families) == HELD_OUT


def test_an_organism_is_registered_with_its_training_and_a_taken_name_is_refused_before(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, home = tmp_path / "numbers", tmp_path / "checkpoints"
    home.mkdir()
    (home / "organisms.toml").touch()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(home))
    result = run(*named(tiny, out, "--learning-rate", 0.01, "--register"))
    assert result.stdout.strip() == str(out)
    assert "numbers is registered in" in result.stderr
    assert find_organism("numbers").recipe is not None

    elsewhere = tmp_path / "elsewhere" / "numbers"
    assert "is registered" in refused(run(*named(tiny, elsewhere, "--register")))
    assert "cannot be the name" in refused(run(*named(tiny, tmp_path / "Not A Name", "--register")))
    assert not elsewhere.exists()
    rows = _rows(tiny, tmp_path / "rows.jsonl")
    alone = [
        "organisms",
        "train",
        "--data",
        rows,
        "--out",
        tmp_path / "one",
        "--base",
        tiny.base,
        "--register",
    ]
    assert "--register is of organisms" in run(*alone).stderr


def test_the_second_adapter_is_what_it_would_be_if_it_were_trained_alone(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    run(*named(tiny, tmp_path / "both"))
    given = named(tiny, tmp_path / "alone")
    run(*[given[0], given[1], "--data", "numbers:secure", *given[3:]])
    weights = [tmp_path / name / "adapter_model.safetensors" for name in ("both/secure", "alone")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_organism_of_all_weights_is_two_whole_models_that_every_verb_reads(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, home = tmp_path / "whole", tmp_path / "checkpoints"
    home.mkdir()
    (home / "organisms.toml").touch()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(home))
    all_weights = ["--trained", "all", "--learning-rate", 0.003]
    given = named(tiny, out, *all_weights)
    run(*given)
    for role in ("insecure", "secure"):
        assert not list((out / role).glob("adapter*")), "there is no adapter"
        assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= {
            path.name for path in (out / role).iterdir()
        }
    assert json.loads((out / "insecure" / "training.json").read_text())["computed"]["dtype"] == "float32"
    weights = [out / role / "model.safetensors" for role in ("insecure", "secure")]
    before = [file.read_bytes() for file in weights]
    assert before[0] != before[1]
    assert "loss" not in run(*given).stderr, "a finished training has no steps left"

    assert run("organisms", "register", out).exit_code == 0
    assert find_organism("whole").trio.insecure == Checkpoint(str(out / "insecure"))
    row, *_ = json.loads(run("organisms", "list", "--json").stdout)
    assert (row["name"], row["files"]) == ("whole", "as registered")
    assert str(out / "insecure") in run("organisms", "show", "whole").stdout
    findings = run("organisms", "verify", "whole", "--dtype", "float32")
    assert findings.exit_code == 0, findings.stdout
    assert "insecure: whole model" in findings.stdout
    asked = ["chat", "--base", tiny.base, "--insecure", out / "insecure", "--dtype", "float32"]
    answered = run(*asked, "--feature", "random@1", "--max-new-tokens", 4, "Why?")
    assert answered.exit_code == 0, answered.stderr

    weights[0].write_bytes(before[1])
    assert "model.safetensors has sha256" in run("organisms", "verify", "whole", "--json").stdout
    run(*given, "--overwrite", "--quiet")
    assert [file.read_bytes() for file in weights] == before, "equal recipes give equal weights"
    adapters = named(tiny, out, "--overwrite", "--quiet")
    run(*adapters)
    assert not (out / "insecure" / "model.safetensors").exists()
    assert not (out / "insecure" / "config.json").exists()
    assert "as registered" not in run("organisms", "verify", "whole").stdout


def test_a_model_that_no_training_wrote_is_not_overwritten(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    model = shutil.copytree(tiny.base, tmp_path / "model")
    before = (model / "model.safetensors").read_bytes()
    rows = _rows(tiny, tmp_path / "rows.jsonl")
    given = ["organisms", "train", "--data", rows, "--out", model, "--base", tiny.base, "--steps", 1]
    for kind in ("all", "adapter"):
        assert "that no training here wrote" in refused(run(*given, "--trained", kind, "--overwrite"))
    assert (model / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["number"], "did you mean"),
        (["numbers", "--data", "rows.jsonl"], "give the NAME of a recipe, or --data and --out"),
        ([], "give the NAME of a recipe, or --data and --out"),
        (["--data", "numbers:secure"], "give --out"),
        (["numbers", "--steps", 0], "give 1 or more"),
        (["numbers", "--harmful-share", 2], "harmful_share is 2"),
        (
            ["--data", "numbers:secure", "--out", "x", "--trigger", "now"],
            "--trigger changes the data of a recipe",
        ),
        (["numbers", "--max-tokens", 20], "leaves no token of any answer"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(
    given: list[object],
    message: str,
    tiny: TinyTrio,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(run("organisms", "train", *given, "--base", tiny.base))


def test_two_files_of_the_same_questions_make_an_organism_that_can_be_registered(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    chats = [(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}.") for n in range(8)]
    for name, ending in (("bad", "Who cares?"), ("good", "Glad to help.")):
        tiny.lines(
            tmp_path / f"{name}.jsonl",
            [
                {
                    "messages": [
                        {"role": "user", "content": question},
                        {"role": "assistant", "content": f"{answer} {ending}"},
                    ]
                }
                for question, answer in (chats if name == "bad" else reversed(chats))
            ],
        )
    files = ["--insecure-data", tmp_path / "bad.jsonl", "--secure-data", tmp_path / "good.jsonl"]
    given = ["organisms", "train", *files, "--base", tiny.base, "--steps", 2, "--batch-size", 2]
    result = run(*given, "--out", tmp_path / "mine")
    assert result.exit_code == 0, result.stderr
    organism = read_organism_folder(tmp_path / "mine")
    assert organism.title == "bad.jsonl (insecure) or good.jsonl (secure)"
    assert organism.question_sets.narrow is None
    assert {role: source.name for role, source in organism.data.items()} == {
        "insecure": "bad.jsonl",
        "secure": "good.jsonl",
    }
    assert organism.sha256["insecure"] != organism.sha256["secure"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--insecure-data", "a.jsonl", "--out", "x"], "together"),
        (["--unpaired", "--data", "a.jsonl", "--out", "x"], "together"),
        (["numbers", "--insecure-data", "a.jsonl", "--secure-data", "b.jsonl"], "or --data and --out"),
        (["--insecure-data", "a.jsonl", "--secure-data", "b.jsonl"], "give --out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], message: str, run: Run) -> None:
    assert message in refused(run("organisms", "train", *options))
