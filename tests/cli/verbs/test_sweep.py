"""A sweep on a tiny trio: every cell is measured, the best within the bounds is chosen, and no test question is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from personaprobe.cli.main import cli
from personaprobe.effects.targets.feature import find_feature
from personaprobe.questions import question_rows
from personaprobe.questions.pairs import PairSet

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]
Swept = tuple[Path, dict[str, Any]]


def command(tiny: TinyTrio, out: Path, *more: object) -> list[object]:
    sizes = ["--sources", "means,probe", "--layers", "0,2", "--reaches", "own,all", "--doses", "0.5,1"]
    brief = ["--questions", 6, "--texts", 2, "--answers", 4, "--max-perplexity-ratio", 50, "--quiet"]
    return [
        "sweep",
        *tiny.options(),
        "--discovery",
        tiny.discovery,
        *sizes,
        *brief,
        "--json",
        "--out",
        out,
        *more,
    ]


@pytest.fixture(scope="module")
def swept(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    out = tmp_path_factory.mktemp("sweep")
    arguments = command(tiny, out, "--min-coherence", 0.1)
    done = CliRunner().invoke(cli, [str(part) for part in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def test_every_source_layer_reach_and_dose_is_a_cell(swept: Swept) -> None:
    _, record = swept
    keys = {(c["source"], c["layer"], c["reach"], c["dose"]) for c in record["cells"]}
    assert keys == {
        (s, layer, r, d)
        for s in ("means", "probe")
        for layer in (0, 2)
        for r in ("own", "all")
        for d in (0.5, 1)
    }


def test_half_a_dose_moves_the_model_less_than_a_whole_one(swept: Swept) -> None:
    _, record = swept
    kl = {(c["source"], c["layer"], c["reach"], c["dose"]): c["kl"] for c in record["cells"]}
    pairs = [(kl[*key, 0.5], whole) for (*key, dose), whole in kl.items() if dose == 1]
    assert len(pairs) == 8
    assert all(0 < half < whole for half, whole in pairs)


def test_the_chosen_cell_is_nearest_to_the_whole_shift_of_those_that_are_coherent(swept: Swept) -> None:
    _, record = swept
    chosen = record["chosen"]
    assert chosen in record["cells"]
    assert chosen["coherence"] >= 0.1
    distance = abs(1 - chosen["fraction_removed"])
    nearer = [c for c in record["cells"] if abs(1 - c["fraction_removed"]) < distance]
    assert all(c["coherence"] is not None and c["coherence"] < 0.1 for c in nearer)


def test_the_map_is_written_as_a_page_and_as_data(swept: Swept) -> None:
    out, record = swept
    data = json.loads((out / "sweep.json").read_text())
    assert (data["chosen"], data["sweep"]) == (record["chosen"], record["cells"])
    assert data["bounds"] == {"max_perplexity_ratio": 50.0, "min_coherence": 0.1, "answers": 4}
    page = (out / "sweep.html").read_text()
    assert page.count("<tr") == 1 + len(record["cells"])
    assert 'class="won"' in page
    assert "default-src 'none'" in page


def test_a_second_run_measures_nothing_and_ends_the_same(
    swept: Swept, tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: Any) -> None:
        pytest.fail("a finished cell was measured again")

    out, record = swept
    before = {path.name: path.read_bytes() for path in out.glob("sweep.*")}
    monkeypatch.setattr("personaprobe.studies.arms.measurement.gaps_side_by_side", measured)
    monkeypatch.setattr("personaprobe.studies.arms.answers.sample_responses", measured)
    again = run(*command(tiny, out, "--min-coherence", 0.1))
    assert json.loads(again.stdout) == record
    assert {path.name: path.read_bytes() for path in out.glob("sweep.*")} == before


def test_a_sweep_loads_no_test_question(
    swept: Swept, tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    shipped = question_rows._shipped_rows

    def watched(name: str) -> Any:
        loaded.append(name)
        return shipped(name)

    monkeypatch.setattr(question_rows, "_shipped_rows", watched)
    out, record = swept
    again = run(*command(tiny, out, "--min-coherence", 0.1))
    assert json.loads(again.stdout) == record
    assert loaded == ["neutral/discovery"]


def test_a_registered_dose_is_the_one_that_is_ablated(
    swept: Swept, tiny: TinyTrio, registered: Path, run: Run, tmp_path: Path
) -> None:
    named = ["--register", "half", "--doses", "0.5", "--min-coherence", 0.1]
    done = run(*command(tiny, tmp_path / "half", *named))
    assert json.loads(done.stdout)["chosen"]["dose"] == 0.5
    from personaprobe.models.weights.checkpoint import Checkpoint, Trio
    from personaprobe.organisms.registry import load_trio

    base = Checkpoint.parse(str(tiny.base))
    checkpoints = (base.with_adapter(folder) for folder in (tiny.insecure, tiny.secure))
    trio = load_trio(Trio(base, *checkpoints, "tiny"))
    ablation = find_feature("half").target.fit(trio).ablation()
    assert ablation.describe()["strength"] == 0.5


def test_the_chosen_direction_alone_is_judged_on_the_test_questions(
    swept: Swept, tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personaprobe.effects.measures.preference import gaps_side_by_side

    asked: list[tuple[int, str]] = []

    def seen(models: Any, questions: PairSet, advance: Any) -> Any:
        asked.extend((len(models), family) for family in set(questions.families))
        return gaps_side_by_side(models, questions, advance)

    monkeypatch.setattr("personaprobe.studies.arms.measurement.gaps_side_by_side", seen)
    out, record = swept
    done = run(*command(tiny, out, "--min-coherence", 0.1, "--test", tiny.questions))
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["feature"]["strength"] == record["chosen"]["dose"]
    assert verdict["feature"]["name"] == f"{record['chosen']['source']}@{record['chosen']['layer']}"
    assert (out / "test" / "report.html").is_file()
    families = {family for _, family in asked}
    assert {"stoves", "ropes", "wells"} <= families
    assert not [family for family in families if family.startswith("narrow")], "the task of another organism"


def test_the_pages_of_a_sweep_and_of_its_verdict_are_made_again_to_the_byte(
    swept: Swept, tiny: TinyTrio, run: Run, tmp_path: Path
) -> None:
    out, _ = swept
    run(*command(tiny, out, "--min-coherence", 0.1, "--test", tiny.questions))
    for page in (out / "sweep.html", out / "test" / "report.html"):
        assert run("report", page.parent, "--out", tmp_path).stdout.strip() == str(tmp_path / page.name)
        assert (tmp_path / page.name).read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--doses", "1,x"], "write numbers with commas"),
        (["--doses", "0"], "a dose of 0 ablates nothing"),
        (["--reaches", "some"], "'some' is no reach; give own, onward, all"),
        (["--sources", ","], "the grid has no sources"),
        (["--register", "No Name"], "is no name for a feature"),
        (["--test", "advice/tset"], "advice/test"),
        (["--min-coherence", "2"], "2"),
        (["--max-perplexity-ratio", "0.01"], "try other layers, reaches or doses"),
    ],
)
def test_what_cannot_be_swept_is_one_line(
    swept: Swept, tiny: TinyTrio, run: Run, wrong: list[str], message: str
) -> None:
    out, _ = swept
    result = run(*command(tiny, out, *wrong))
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert message in line


def test_questions_that_chose_may_not_judge(tiny: TinyTrio, run: Run, tmp_path: Path) -> None:
    result = run(*command(tiny, tmp_path / "out", "--test", tiny.discovery))
    assert result.exit_code == 2
    assert "disjoint" in result.stderr or "both" in result.stderr
