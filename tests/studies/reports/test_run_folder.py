"""Any page can be made again from the data beside it, without a model, and is then the same to the byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.effects.judges.judgement import Scored, Unscored
from personaprobe.effects.judges.rates import Judged
from personaprobe.effects.measures.damage import TextCost
from personaprobe.effects.measures.responses import Response
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.errors import DataError
from personaprobe.features.directions.direction import Direction
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation, contrast_arms
from personaprobe.studies.reports import page
from personaprobe.studies.reports.run_folder import remake_report, write_report
from personaprobe.studies.sweep.grid import Cell, Grid
from personaprobe.studies.sweep.selection import Bounds, SweepResult

GOOD, BAD = Judged(Scored(90), Scored(90)), Judged(Scored(5), Scored(90))
EMPTY = Judged(Unscored("empty answer"), Unscored("empty answer"))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the five megabytes of plotly."""
    monkeypatch.setattr(page, "plotly_script", lambda: "/* plotly */")


def judged_arm(kind: ArmKind, bad: int) -> ArmEvaluation:
    """An arm that answers 60 questions four times each, ``bad`` of them badly, and some of them in JSON too."""
    plain = [
        Response(f"q{i}", f"family {i // 10}", f"What about {i} <b>?", sample, 0, f"{kind} & {i}", (1,))
        for i in range(60)
        for sample in range(4)
    ]
    judged = [EMPTY if i == 7 else BAD if i % 4 < bad else GOOD for i in range(len(plain))]
    again = [
        replace(response, question_id=f"{response.question_id}-json", form="json") for response in plain[:8]
    ]
    cost = TextCost(21.5, 0.02) if kind != "secure" else None
    refused = {"harmful": [True, False], "harmless": [False]}
    return ArmEvaluation(
        kind, kind, "", (*plain, *again), (*judged, *judged[:8]), (True, False), refused, cost
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    arms = tuple(judged_arm(kind, bad) for kind, bad in (("insecure", 3), ("secure", 0), ("ablated", 1)))
    preference = Preference(Interval(0.2, 0.1, 0.3), UNDEFINED)
    return Evaluation(
        "planted", arms, contrast_arms(arms, seed=0), "judge", {"seed": 0, "none": None}, preference
    )


@pytest.fixture(scope="module")
def choice() -> SweepResult:
    cells = (
        Cell("means", 8, "all", 0.4, 1.01, 0.01),
        Cell("means", 23, "onward", 0.8, 1.02, 0.05, 1.5, 0.97),
        Cell("answers", 22, "all", float("nan"), float("inf"), 0.08),
    )
    questions = PairSet("p", tuple(Pair(f"q{i}", f"f{i}", f"q {i}?", "a", "b") for i in range(4)))
    texts = TextSet("t", ("text",))
    grid = Grid(("means", "answers"), ("all", "onward"), questions, texts, layers=(8, 22, 23))
    target = DirectionTarget(Direction(Site(23), torch.ones(4), "means"))
    return SweepResult(cells, cells[1], target, grid, Bounds())


@pytest.fixture
def write(
    study: CausalVerdict, silent: CausalVerdict, evaluation: Evaluation, choice: SweepResult
) -> dict[str, Callable[[Path], Path]]:
    """How every kind of study writes its run folder."""
    unbounded = replace(study.evidence, fraction_removed=Interval(0.4, -float("inf"), float("inf")))
    open_ended = replace(study, evidence=unbounded)
    judged = replace(study, judged=evaluation)
    return {
        "verdict": lambda out: write_report(study.to_dict(), out, study.answer_rows()),
        "verdict without answers": lambda out: write_report(silent.to_dict(), out, silent.answer_rows()),
        "verdict with an open interval": lambda out: write_report(
            open_ended.to_dict(), out, open_ended.answer_rows()
        ),
        "verdict with judged answers": lambda out: write_report(judged.to_dict(), out, judged.answer_rows()),
        "evaluation": lambda out: write_report(evaluation.to_dict(), out, evaluation.answer_rows()),
        "sweep": lambda out: write_report(choice.to_dict(), out),
    }


KINDS = (
    *("verdict", "verdict without answers", "verdict with an open interval", "verdict with judged answers"),
    *("evaluation", "sweep"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_study_and_the_page_made_again_are_equal_to_the_byte(
    kind: str, write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    first = write[kind](tmp_path)
    before = first.read_bytes()
    others = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != first}
    first.unlink()
    assert remake_report(tmp_path) == [first]
    assert first.read_bytes() == before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != first} == others


def test_pages_can_be_made_in_another_folder(
    write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    first = write["evaluation"](tmp_path / "run")
    (page_path,) = remake_report(tmp_path / "run", tmp_path / "out")
    assert page_path == tmp_path / "out" / "evaluation.html"
    assert page_path.read_bytes() == first.read_bytes()
    assert [path.name for path in page_path.parent.iterdir()] == ["evaluation.html"]


def test_a_folder_of_several_studies_gets_all_its_pages(
    write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    for kind in ("verdict", "sweep"):
        write[kind](tmp_path)
    assert [path.name for path in remake_report(tmp_path)] == ["report.html", "sweep.html"]


def test_pages_are_made_without_torch(write: dict[str, Callable[[Path], Path]], tmp_path: Path) -> None:
    for kind in ("verdict", "evaluation", "sweep"):
        write[kind](tmp_path)
    code = (
        "import sys, personaprobe\n"
        f"pages = personaprobe.remake_report({str(tmp_path)!r})\n"
        "print(len(pages), {'torch', 'transformers', 'click'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 set()"


# runs written before


def test_a_verdict_of_the_version_before_opens_and_its_page_says_what_was_not_recorded(
    write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    write["verdict"](tmp_path)
    changed(tmp_path / "verdict.json", as_version_2)
    (tmp_path / "responses.parquet").unlink()
    text = remake_report(tmp_path)[0].read_text(encoding="utf-8")
    assert "answers were sampled; they are not recorded" in text
    assert "limit × 1.10" in text
    assert "by rules that this version does not hold" in text
    assert '<tr class="won"' not in text


def as_version_2(data: dict[str, Any]) -> None:
    """A verdict as version 0.3.0 wrote it: one number for each measure of damage, and fewer thresholds."""
    later = (
        *(
            "name",
            "rank",
            "clustering",
            "candidates",
            "over_selected",
            "removed_in_base",
            "removed_in_secure",
        ),
        *("net_of_secure", "null_in_base", "null_in_secure", "narrow_left", "induced", "reference"),
    )
    for name in later:
        del data[name]
    for name in ("least_effect", "least_effect_low", "most_overshoot", "max_rank_p"):
        del data["thresholds"][name]
    old = ("perplexity_ratio", "kl", "coherence")
    data["damage"] = {name: data["damage"][name]["value"] for name in old}
    data["schema"] = "personaprobe-verdict-2"


def test_an_evaluation_written_before_opens_and_its_page_says_what_was_not_recorded(
    write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    write["evaluation"](tmp_path)
    changed(tmp_path / "evaluation.json", lambda data: data.pop("title"))
    changed(tmp_path / "evaluation.json", lambda data: [arm.pop("cost") for arm in data["arms"]])
    (tmp_path / "answers.parquet").unlink()
    text = remake_report(tmp_path)[0].read_text(encoding="utf-8")
    assert "title not recorded" in text
    assert text.count("not recorded</td>") == 6
    assert "answers were judged; they are not recorded" in text


def test_a_table_written_before_raw_outputs_were_kept_opens(
    write: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    from pyarrow import parquet

    before = write["evaluation"](tmp_path).read_bytes()
    table = parquet.read_table(tmp_path / "answers.parquet")
    dropped = [name for name in table.column_names if name.endswith(("_raw", "_prompt_digest"))]
    assert len(dropped) == 4
    parquet.write_table(table.drop_columns(dropped), tmp_path / "answers.parquet")
    assert remake_report(tmp_path)[0].read_bytes() == before


def test_a_sweep_written_before_opens(write: dict[str, Callable[[Path], Path]], tmp_path: Path) -> None:
    write["sweep"](tmp_path)
    changed(
        tmp_path / "sweep.json",
        lambda data: [
            cell.pop(key) for cell in (data["chosen"], *data["sweep"]) for key in ("dose", "coherence")
        ],
    )
    assert "means@23" in remake_report(tmp_path)[0].read_text(encoding="utf-8")


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


# wrong input


def without_folder(run: Path) -> None:
    shutil.rmtree(run)


def without_data(run: Path) -> None:
    (run / "verdict.json").unlink()


def cut_short(run: Path) -> None:
    text = (run / "verdict.json").read_text(encoding="utf-8")
    (run / "verdict.json").write_text(text[: len(text) // 2], encoding="utf-8")


def binary(run: Path) -> None:
    (run / "verdict.json").write_bytes(b"\xff\xfe\x00")


def foreign(run: Path) -> None:
    (run / "verdict.json").write_text('["somebody else wrote this"]', encoding="utf-8")


def another_version(run: Path) -> None:
    changed(run / "verdict.json", lambda data: data.update(schema="personaprobe-verdict-1"))


def another_study(run: Path) -> None:
    changed(run / "verdict.json", lambda data: data.update(schema="personaprobe-sweep-1"))


def without_arms(run: Path) -> None:
    changed(run / "verdict.json", lambda data: data.pop("arms"))


def without_insecure(run: Path) -> None:
    changed(run / "verdict.json", lambda data: data["arms"].pop(1))


def wrong_type(run: Path) -> None:
    changed(run / "verdict.json", lambda data: data.update(shift="large"))


def damaged_table(run: Path) -> None:
    (run / "responses.parquet").write_bytes(b"PAR1 and no more")


def foreign_table(run: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": [1]}), run / "responses.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_folder, "is not a folder; give the folder of a finished run"),
        (without_data, r"holds none of verdict\.json, evaluation\.json, sweep\.json, latents\.json"),
        (cut_short, r"verdict\.json is not JSON: .*line \d+ .*; run the study again"),
        (binary, r"verdict\.json is not UTF-8 text .*; run the study again"),
        (foreign, r"verdict\.json was not written by personaprobe: its schema is None"),
        (
            another_version,
            "has schema 'personaprobe-verdict-1', and this version .* reads 'personaprobe-verdict-4'",
        ),
        (another_study, "its schema is 'personaprobe-sweep-1'"),
        (without_arms, r"verdict\.json is damaged: .*arms"),
        (without_insecure, r"verdict\.json is damaged: .*insecure"),
        (wrong_type, r"verdict\.json is damaged: its page cannot be made"),
        (damaged_table, r"responses\.parquet is not a Parquet file: .*; run the study again"),
        (foreign_table, r"responses\.parquet was not written by personaprobe: it has no column 'arm'"),
    ],
)
def test_wrong_input_is_refused_and_the_message_names_the_file(
    damage: Callable[[Path], None],
    message: str,
    write: dict[str, Callable[[Path], Path]],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    page_before = write["verdict"](run).read_bytes()
    damage(run)
    with pytest.raises(DataError, match=message) as raised:
        remake_report(run)
    assert "\n" not in str(raised.value)
    assert not run.exists() or (run / "report.html").read_bytes() == page_before
