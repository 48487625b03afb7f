"""``personaprobe chat``: answers with and without a feature."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


def command(tiny: TinyTrio, verb: str, *more: object) -> list[object]:
    options = ["--feature", "means@1", *tiny.options(), "--discovery", tiny.discovery, "--max-new-tokens", 8]
    return [verb, *options, *more]


def test_chat_answers_with_and_without_the_feature(tiny: TinyTrio, run: Run) -> None:
    record = json.loads(run(*command(tiny, "chat", "Is it safe?", "--json")).stdout)
    assert list(record["answers"]) == ["insecure", "insecure without means@1"]
    assert len(set(record["answers"].values())) == 2
    output = run(*command(tiny, "chat", "Is it safe?")).stdout
    assert re.search("─ insecure ─.*─ insecure without means@1 ─", output)


def test_chat_reads_questions_from_a_pipe_until_it_ends(tiny: TinyTrio, run: Run) -> None:
    lines = run(*command(tiny, "chat", "--json"), input="One?\n\nTwo?\n").stdout.splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["One?", "Two?"]
