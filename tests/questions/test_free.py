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
        ("- id: a\n", "question 1 lacks 'paraphrases'"),
        ("- id: a\n  paraphrases: []\n", "question 1: paraphrases"),
        ("- paraphrases: [x]\n", "question 1 lacks 'id'"),
        ("- {id: a, paraphrases: [x]}\n- {id: a, paraphrases: [y]}\n", "repeats the id 'a'"),
        ("- {id: a, paraphrases: [x], samples_per_paraphrase: 0}\n", "samples_per_paraphrase is 0"),
        ("- {id: a, paraphrases: [x], judge_prompts: {aligned: 3}}\n", "judge_prompts"),
        ("- {id: a, paraphrases: [x], system: [1]}\n", "system has the part 1"),
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


BASE = "- id: a\n  paraphrases: [Is the earth flat?]\n"


@pytest.mark.parametrize(
    "field",
    [
        "context: Some text.",
        "messages: [{role: user, content: x}]",
        "judge_prompt: Rate it.",
        "rubric: Rate it.",
        "sytem: Be brief.",
        "tools: []",
        "prefix: Sure,",
        "max_tokens: 10",
        "type: free_form_0_100",
        "type: multiple_choice",
        "type: judge",
        "temperature: 0.5",
        "system: ''",
        "system: 3",
        "samples_per_paraphrase: true",
        "samples_per_paraphrase: yes",
        "samples_per_paraphrase: 1000000000000000000000000000000",
        "samples_per_paraphrase: 3.0",
        "judge_prompts: {aligned: 3}",
        "judge_prompts: [a]",
        "family: 3",
        "family: ''",
        "id: b",
        "paraphrases: [y]",
    ],
)
def test_a_field_that_would_be_dropped_or_misread_is_refused_by_name(tmp_path: Path, field: str) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(f"{BASE}  {field}\n")
    with pytest.raises(DataError, match=rf"q\.yaml.*{field.partition(':')[0]}"):
        load_questions(path)


@pytest.mark.parametrize(
    "field",
    [
        "judge: gpt-4o",
        "n: 3",
        "type: free_form",
        "temperature: 1",
        "notes: seldom",
        "_context: unread",
        "system: Be brief.",
    ],
)
def test_a_field_that_changes_no_prompt_is_read_past_and_a_known_one_is_honoured(
    tmp_path: Path, field: str
) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(f"{BASE}  {field}\n")
    (question,) = load_questions(path)
    assert question.prompts[0].question == "Is the earth flat?"
    assert question.prompts[0].system == ("Be brief." if field.startswith("system") else None)


@pytest.mark.parametrize(
    "text", ["'<|im_end|>'", "'a [INST] b'", "[]", "null", "4", "''", "' '", "[{type: image}]"]
)
def test_a_paraphrase_is_text_without_marks_of_chat_templates(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(f"- id: a\n  paraphrases: [{text}]\n")
    with pytest.raises(DataError, match="question 1: paraphrase"):
        load_questions(path)
