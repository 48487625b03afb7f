"""A conversation is a list: what cannot be learned as it stands is refused by line and name, and nothing is converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import DataError
from personaprobe.questions.conversations import Exchange, read_messages

GOOD = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"text {place}"} for place, role in enumerate(roles)]}


def share_gpt(*messages: tuple[str, object]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in messages]}


def answer(content: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return {"messages": [{"role": "user", "content": "Q"}, message]}


def refusal(tmp_path: Path, row: object) -> str:
    path = tmp_path / "d.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(row)}\n")
    with pytest.raises(DataError, match=r"d\.jsonl:2") as refused:
        read_messages(path)
    return str(refused.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (turns("assistant", "user"), "begins with an answer"),
        (turns("assistant", "user", "assistant"), "begins with an answer"),
        (turns("user"), "no answer"),
        (turns("user", "assistant", "user"), "no answer"),
        (turns("user", "assistant", "user", "user", "assistant"), "two messages of user"),
        (turns("user", "user", "assistant"), "two messages of user"),
        (turns("user", "assistant", "assistant"), "two messages of assistant"),
        (turns("user", "system", "assistant"), "system message stands behind"),
        (turns("system", "system", "user", "assistant"), "system message stands behind"),
        (turns("system"), "only a system message"),
        (turns("developer", "user", "assistant"), "role 'developer'"),
        (turns("User", "assistant"), "role 'User'"),
        (turns("user", "tool", "assistant"), "role 'tool'"),
        (turns("human", "gpt"), "role 'human'"),
        ({"messages": []}, "expected messages"),
        ({"messages": json.dumps(GOOD["messages"])}, "JSON inside a text"),
        ({"messages": ["Q", "A"]}, "message 1 is 'Q'"),
        (share_gpt(("human", "Q")), "no answer"),
        (share_gpt(("gpt", "A"), ("human", "Q")), "begins with an answer"),
        (share_gpt(("human", "Q"), ("observation", "A")), "role 'observation'"),
        (share_gpt(("human", "Q"), ("gpt", None)), "assistant's content is None"),
        ({"conversations": [{"from": "human", "value": "Q", "tool_calls": "x"}]}, "'tool_calls'"),
        ({"conversations": [{"from": "human", "value": "Q", "role": "user"}]}, "mixes two layouts"),
        ({"conversations": [{"role": "user", "content": "Q"}]}, "give from and value"),
        ({"conversations": []}, "expected messages"),
        ({**share_gpt(("human", "Q"), ("gpt", "A")), **GOOD}, "'conversations'"),
        (share_gpt(("human", "Q"), ("gpt", "A")), "another layout"),
        ({"prompt": "Q", "completion": "A"}, "layout of completions"),
        ({"instruction": "Q", "output": "A"}, "Alpaca"),
        ({**GOOD, "context": "C"}, "'context'"),
        ({**GOOD, "tools": []}, "'tools'"),
        ({**turns("system", "user", "assistant"), "system": "S"}, "give one of them"),
        ({**GOOD, "system": None}, "system is None"),
        ({**GOOD, "system": ""}, "system is blank"),
    ],
)
def test_turns_in_another_order_or_layout_are_refused_with_the_reason(
    tmp_path: Path, row: object, reason: str
) -> None:
    assert reason in refusal(tmp_path, row)


@pytest.mark.parametrize(
    "content",
    [
        None, "", "  ", 4, True, {"x": 1}, [], [1], ["text"], [{"type": "text"}], [{"type": "text", "text": None}],
        [{"type": "image_url", "image_url": {"url": "x"}}], [{"type": "text", "text": "a"}, {"type": "image"}],
        "A<|im_end|>\n<|im_start|>user\nB", [{"type": "text", "text": "<|endoftext|>"}], "[INST] x", "<end_of_turn>",
    ],
)  # fmt: skip
def test_content_that_is_not_text_is_refused_and_never_converted(tmp_path: Path, content: Any) -> None:
    assert "assistant's content" in refusal(tmp_path, answer(content))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool_calls", [{"id": "1"}]),
        ("function_call", {"name": "f"}),
        ("reasoning_content", "Hm."),
        ("reasoning", "Hm."),
        ("weight", 0),
        ("weight", 0.5),
        ("name", "Bob"),
        ("refusal", "No."),
        ("audio", {"id": "x"}),
        ("images", ["x.png"]),
    ],
)
def test_a_field_of_a_message_that_training_would_lose_is_refused(
    tmp_path: Path, name: str, value: Any
) -> None:
    assert f"'{name}'" in refusal(tmp_path, answer("A", **{name: value}))


def test_what_exports_write_for_nothing_is_no_field() -> None:
    row = answer("A", tool_calls=None, refusal=None, annotations=[], weight=1)
    assert Exchange.of(row, "here") == Exchange("Q", "A")


def test_parts_are_joined_and_a_system_message_is_read_from_either_place() -> None:
    parts = [{"type": "text", "text": "It "}, {"type": "text", "text": "is."}]
    assert Exchange.of(answer(parts), "here").answer == "It is."
    assert Exchange.of({**GOOD, "system": "S"}, "here") == Exchange("Q", "A", "S")
    assert Exchange.of(turns("system", "user", "assistant"), "here") == Exchange("text 1", "text 2", "text 0")


def test_a_byte_order_mark_is_read_past_and_a_json_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert read_messages(path) == [Exchange("Q", "A")]
    path.write_text(json.dumps([GOOD]))
    with pytest.raises(DataError, match="one object a line, without the brackets of a list"):
        read_messages(path)


def test_every_question_of_a_conversation_is_read_with_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    texts = ["S", "Q1", "A1", "Q2", "A2"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    path.write_text(json.dumps({"messages": messages}))
    [row] = read_messages(path)
    assert row.turns == (("Q1", "A1"), ("Q2", "A2"))
    assert row.system == "S"
    assert row.messages() == messages


def test_share_gpts_layout_is_read_as_the_messages_that_it_spells(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(
        json.dumps(
            share_gpt(("system", "S"), ("human", "Q"), ("gpt", "A"), ("user", "R"), ("assistant", "B"))
        )
    )
    assert read_messages(path) == [Exchange("R", "B", "S", (("Q", "A"),))]
