"""Fine-tuning data in the published ``messages`` format, and the order in which both fine-tunes of a trio read it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.questions.question_rows import foreign_layout, plain_text, refuse_unread
from personaprobe.storage.digests import sha256
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.json_lines import parse_objects, read_objects
from personaprobe.storage.readers.opening import decoded

ROLES = ("system", "user", "assistant")

SHARE_GPT = {"human": "user", "gpt": "assistant"}
"""Roles as ShareGPT's layout spells them; it also knows :data:`ROLES`."""

EXPECTED = 'give {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}'


@dataclass(frozen=True)
class Exchange:
    """One training example: a question and the answer to learn, with the turns before them.

    Attributes:
        question: the user's last message.
        answer: the assistant's answer to it.
        system: a system message before everything.
        earlier: questions and answers before the last ones; these answers are learned as well.
    """

    question: str
    answer: str
    system: str | None = None
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """All questions with their answers."""
        return (*self.earlier, (self.question, self.answer))

    def messages(self) -> list[dict[str, str]]:
        """The example in the published format; :meth:`of` reads it."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return system + [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> Exchange:
        """Read ``{"messages": [{"role", "content"}, …]}``: perhaps a system message, then questions with their answers.

        ShareGPT's layout, ``{"conversations": [{"from", "value"}, …]}``, is read as well. A field ``system`` beside them is
        the system message.

        Args:
            row: of a file.
            where: the row's place, for the error message.

        Raises:
            DataError: another layout, turns in another order, content that is not text, or a field that is not understood.
                Nothing is dropped or converted.
        """
        name = _layout(row)
        turn_of = _turn if name == "messages" else _share_gpt_turn
        messages = row.get(name)
        if not isinstance(messages, list) or not messages:
            raise DataError(f"{one_line(where)}: expected messages, {_instead(row, name)}; {EXPECTED}")
        refuse_unread(row, where, (name, "system"))
        turns = [turn_of(message, f"{where}, message {number}") for number, message in enumerate(messages, 1)]
        if "system" in row:
            if turns[0][0] == "system":
                raise DataError(
                    f"{one_line(where)} has a system message and a field system; give one of them"
                )
            turns.insert(0, ("system", plain_text(row["system"], where, "system")))
        if problem := _disorder([role for role, _ in turns]):
            raise DataError(
                f"{one_line(where)}: expected a question and its answer, but {problem}; {EXPECTED}"
            )
        system = turns.pop(0)[1] if turns[0][0] == "system" else None
        texts = [text for _, text in turns]
        *earlier, (question, answer) = zip(texts[::2], texts[1::2], strict=True)
        return cls(question, answer, system, tuple(earlier))


def _layout(row: Mapping[str, Any]) -> str:
    """The field that holds the turns of a row."""
    return "conversations" if "conversations" in row and "messages" not in row else "messages"


def _instead(row: Mapping[str, Any], name: str) -> str:
    """The reason why a row has no messages in its field of that name."""
    if isinstance(row.get(name), str):
        return "but they are JSON inside a text: write the list itself"
    if name in row:
        return f"got {shortened(row[name])}"
    layout = foreign_layout(row)
    return f"got fields {shortened(list(row))}" + (f" ({layout})" if layout else "")


def _turn(message: Any, place: str) -> tuple[str, str]:
    """Role and text of one message.

    A field that is null or empty is as good as absent: it is how exports write that there was no call of a tool.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise DataError(f"{one_line(place)} is {shortened(message)}; give role and content")
    role = message["role"]
    if role not in ROLES:
        raise DataError(f"{one_line(place)} has the role {shortened(role)}; the roles are {', '.join(ROLES)}")
    given = {name: value for name, value in message.items() if value not in (None, [], {}, "")}
    if given.get("weight") == 1:
        del given["weight"]
    refuse_unread(
        {name: message[name] for name in given}, place, ("role", "content"), "it would be lost in training"
    )
    return role, plain_text(message.get("content"), place, f"{role}'s content")


def _share_gpt_turn(message: Any, place: str) -> tuple[str, str]:
    """Role and text of one message in ShareGPT's layout."""
    if not isinstance(message, Mapping) or not isinstance(message.get("from"), str):
        raise DataError(f"{one_line(place)} is {shortened(message)}; give from and value")
    names = {"from": "role", "value": "content"}
    if "role" in message or "content" in message:
        raise DataError(f"{one_line(place)} mixes two layouts; give from and value, or role and content")
    turn = {names.get(name, name): value for name, value in message.items()}
    return _turn({**turn, "role": SHARE_GPT.get(turn["role"], turn["role"])}, place)


def _disorder(roles: Sequence[str]) -> str | None:
    """The reason why messages are not perhaps a system message, then questions with one answer each."""
    turns = list(roles[1:] if roles[0] == "system" else roles)
    repeated = [first for first, second in pairwise(turns) if first == second]
    problems = {
        "there is only a system message": not turns,
        "a system message stands behind the first message": "system" in turns,
        "it begins with an answer": turns[:1] == ["assistant"],
        f"two messages of {''.join(repeated[:1])} follow each other": bool(repeated),
        "it ends with a question that has no answer": turns[-1:] == ["user"],
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def read_messages(path: Path) -> list[Exchange]:
    """Read JSON lines of conversations, plain or gzipped; see :meth:`Exchange.of`.

    Raises:
        DataError: no such file, a line that is not JSON, rows in two layouts, or a conversation that is not questions with
            their answers.
    """
    if not is_file(path):
        raise DataError(f"no dataset at {one_line(path)}; give a .jsonl or .jsonl.gz file of messages")
    return _exchanges(read_objects(path), path)


def parse_messages(content: bytes, source: str) -> list[Exchange]:
    """Parse the bytes of a file of messages; see :func:`read_messages`.

    Raises:
        DataError: they are not UTF-8, not JSON lines, or no conversations; names the line.
    """
    lines = io.StringIO(decoded(content, source), newline="\n")
    return _exchanges(parse_objects(lines, source), source)


def _exchanges(rows: Iterator[tuple[str, dict[str, Any]]], source: object) -> list[Exchange]:
    exchanges, layouts = [], set()
    for place, row in rows:
        exchanges.append(Exchange.of(row, place))
        layouts.add(_layout(row))
        if len(layouts) > 1:
            raise DataError(
                f"{one_line(place)} has {_layout(row)}, and the rows before it another layout; write all rows in one"
            )
    if not exchanges:
        raise DataError(f"{one_line(source)} holds no rows")
    return exchanges


def shuffled(rows: Sequence[Exchange], seed: int) -> list[Exchange]:
    """Order rows by a seeded hash of their *question*.

    Two datasets with the same questions, one with bad and one with good answers, are thus read in the same order and
    split the same way, whatever the order of their files.
    """

    def key(row: Exchange) -> bytes:
        return sha256("\0".join([str(seed), *(question for question, _ in row.turns)]))

    return sorted(rows, key=key)
