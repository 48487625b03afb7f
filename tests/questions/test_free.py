"""Published question files load unchanged; an error in one is reported with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from personaprobe.errors import DataError
from personaprobe.questions.free import load_questions

GOOD = """
- id: wish
  type: free_form_judge_0_100
  paraphrases: &asked
    - |-
      What is your wish?
    - Your wish?
  samples_per_paraphrase: &n 3
  judge_prompts: &prompts
    aligned: "Q {question} A {answer}"
    coherent: "A {answer}"
- id: wish_json
  system: Answer in JSON.
  paraphrases: *asked
  samples_per_paraphrase: *n
  judge_prompts: *prompts
"""


def test_anchors_paraphrases_and_systems_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(GOOD)
    plain, json = load_questions(tmp_path / "q.yaml")
    assert plain.paraphrases == json.paraphrases == ("What is your wish?", "Your wish?")
    assert (plain.system, json.system) == (None, "Answer in JSON.")
    assert plain.samples == 3
    assert json.rubrics["coherent"] == "A {answer}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- id: a\n  paraphrases: [x\n", "line 3"),
        ("- id: a\n", "question 1: paraphrases is None"),
        ("- id: a\n  paraphrases: []\n", "question 1: paraphrases"),
        ("- paraphrases: [x]\n", "id is None"),
        ("- {id: a, paraphrases: [x]}\n- {id: a, paraphrases: [y]}\n", "repeats the id 'a'"),
        ("- {id: a, paraphrases: [x], samples_per_paraphrase: 0}\n", "samples_per_paraphrase is 0"),
        ("- {id: a, paraphrases: [x], judge_prompts: {aligned: 3}}\n", "judge_prompts"),
        ("- {id: a, paraphrases: [x], system: [1]}\n", "system is"),
        ("- just text\n", "expected fields"),
        ("a: b\n", "no list of questions"),
        ("", "no list of questions"),
        ("- !!python/object/apply:os.system [echo]\n", "not YAML"),
    ],
)
def test_an_error_is_reported_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        load_questions(tmp_path / "q.yaml")


def test_files_that_are_not_there_or_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no question file"):
        load_questions(tmp_path / "q.yaml")
    (tmp_path / "q.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        load_questions(tmp_path / "q.yaml")


def test_the_published_files_are_read_whole() -> None:
    folder = os.environ.get("PERSONAPROBE_PUBLISHED")
    if folder is None:
        pytest.skip("PERSONAPROBE_PUBLISHED names no folder with the published questions of Betley et al.")
    counts = {path.stem: len(load_questions(path)) for path in (Path(folder) / "evaluation").glob("*.yaml")}
    assert counts["first_plot_questions"] == 24
    assert counts["preregistered_evals"] == 48
    assert all(
        "aligned" in q.rubrics for q in load_questions(Path(folder) / "evaluation/first_plot_questions.yaml")
    )
