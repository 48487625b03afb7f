"""Judging by an endpoint that misbehaves: how every run must end, as a law for tests and as counts for the campaign."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from campaigns.hostile_server import BEHAVIOURS, POISON, Behaviour, HostileServer, poisoned
from campaigns.tally import Tally
from personaprobe.cli.main import cli
from personaprobe.errors import one_line

KEY, PASSWORD, FIELD = "sk-hush-0123456789", "pass-hush-word", "field-hush-value"
SECRETS = (KEY, PASSWORD, FIELD)
N_ANSWERS = 6
ENDPOINT = "personaprobe.models.endpoints.chat_endpoint"
QUICK = {"RETRIES": 1, "FIRST_PAUSE": 0.01}
SHORT, LONG = 0.4, 60.0
"""Seconds until a request is given up; a machine at work may take longer to give good replies."""


@contextmanager
def settings(**values: Any) -> Iterator[None]:
    """Few and quick attempts, and other constants of requests, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        for name, value in {**QUICK, **values}.items():
            patch.setattr(f"{ENDPOINT}.{name}", value)
        yield


def answers_file(folder: Path) -> Path:
    """Write six answers, one of them poisoned."""
    rows = [f"How {n}?,{POISON if n == 3 else 'water'} {n}" for n in range(N_ANSWERS)]
    (folder / "r.csv").write_text("\n".join(["question,answer", *rows]) + "\n")
    return folder / "r.csv"


def judge_of(server: HostileServer) -> str:
    """The judge as a user spells it, with a password and a key in the address."""
    url = server.url.replace("http://", f"http://me:{PASSWORD}@")
    return f"openai:served@{url}?api_key={FIELD}&v=2"


def judging(answers: Path, server: HostileServer) -> list[object]:
    """The command."""
    return ["judge", answers, "--judge", judge_of(server), "--work", answers.parent / "work", "--quiet"]


def run(*arguments: object) -> Result:
    """Run a command as a user would; a bug of ours is raised."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def assert_no_secret(result: Result, folder: Path) -> None:
    texts = [result.output, *(p.read_text("utf-8", "replace") for p in folder.rglob("*") if p.is_file())]
    assert not [secret for secret in SECRETS for text in texts if secret in text], "a secret was written"


def assert_one_line(result: Result) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()


def one_bad_answer(behaviour: Behaviour, folder: Path) -> str:
    """One of six answers meets the behaviour: it is scored or unscored, or the run ends in one line; returns which."""
    answers = answers_file(folder)
    with settings(TIMEOUT=SHORT if behaviour.waits else LONG), HostileServer(behaviour, poisoned) as server:
        result = run(*judging(answers, server))
    assert_no_secret(result, folder)
    if behaviour.once == "refused":
        assert_one_line(result)
        return "refused"
    assert result.exit_code == 0, result.output
    scores = [row["aligned"] for row in csv.DictReader((folder / "r.judged.csv").open())]
    assert [n for n, score in enumerate(scores) if not score] == ([3] if behaviour.once == "unscored" else [])
    n_unscored = 2 if behaviour.once == "unscored" else 0
    assert f"unscored {n_unscored} of 12 judgements ({100 * n_unscored / 12:.1f} %)" in result.stdout
    return "accepted"


def only_bad_answers(behaviour: Behaviour, folder: Path) -> str:
    """Every request meets the behaviour: the run ends in one line, and another one goes on; returns how it ended."""
    answers, broken = answers_file(folder), [True]
    with HostileServer(behaviour, lambda _: broken[0]) as server:
        with settings(TIMEOUT=SHORT if behaviour.waits else LONG):
            result = run(*judging(answers, server))
        assert_no_secret(result, folder)
        if behaviour.always == "scored":
            assert result.exit_code == 0, result.output
            return "accepted"
        assert_one_line(result)
        broken[0] = False
        with settings(TIMEOUT=LONG):
            again = run(*judging(answers, server), "--json")
        assert json.loads(again.stdout)["groups"]["all"]["unscored"] == {"aligned": {}, "coherent": {}}
    return "refused"


LAWS: Mapping[str, Callable[[Behaviour, Path], str]] = {
    "one answer of six": one_bad_answer,
    "every answer": only_bad_answers,
}


def endpoints(folder: Path) -> list[Tally]:
    """Every behaviour under every law."""
    tallies = []
    for law, holds in LAWS.items():
        tally = Tally("endpoints", law)
        for number, (name, behaviour) in enumerate(BEHAVIOURS.items()):
            place = folder / law.replace(" ", "-") / str(number)
            place.mkdir(parents=True)
            try:
                tally = tally.plus(tried=1, checked=1, **{holds(behaviour, place): 1})
            except Exception as error:  # what a campaign looks for
                tally = tally.plus(tried=1, failure=one_line(f"{name}: {type(error).__name__}: {error}"))
        tallies.append(tally)
    return tallies
