"""However an endpoint misbehaves, a run ends in results or in one line, keeps no secret, and can be continued."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from campaigns.endpoints import (
    ENDPOINT,
    KEY,
    LONG,
    PASSWORD,
    SHORT,
    answers_file,
    assert_no_secret,
    assert_one_line,
    judge_of,
    judging,
    one_bad_answer,
    only_bad_answers,
    settings,
)
from campaigns.hostile_server import BEHAVIOURS, POISON, Behaviour, HostileServer, failing, poisoned, silent
from personaprobe.errors import EndpointWarning
from tiny_trio import TinyTrio

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with settings():
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Wait only a moment for replies; a machine at work may take longer to give good ones."""
    return lambda is_short: monkeypatch.setattr(f"{ENDPOINT}.TIMEOUT", SHORT if is_short else LONG)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return answers_file(tmp_path)


@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_one_bad_answer_among_good_ones_is_unscored_or_ends_the_run_in_one_line(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    one_bad_answer(behaviour, tmp_path)


@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_an_endpoint_that_always_misbehaves_ends_the_run_in_one_line_and_another_run_goes_on(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    only_bad_answers(behaviour, tmp_path)


def test_a_run_that_is_cut_off_keeps_its_judgements_and_requests_only_the_others(
    answers: Path, run: Run
) -> None:
    broken = [True]
    with HostileServer(BEHAVIOURS["404"], lambda request: broken[0] and poisoned(request)) as server:
        assert_one_line(run(*judging(answers, server), "--at-once", 1))
        assert len(server.requests) == 7, "three answers by both rubrics, and the poisoned one"
        broken[0] = False
        assert run(*judging(answers, server)).exit_code == 0
        assert len(server.requests) == 7 + 6


def test_an_unusable_reply_is_not_kept_and_requested_again_by_the_next_run(answers: Path, run: Run) -> None:
    broken = [True]
    with HostileServer(BEHAVIOURS["null"], lambda request: broken[0] and poisoned(request)) as server:
        first = json.loads(run(*judging(answers, server), "--json").stdout)["groups"]["all"]["unscored"]
        assert first["aligned"] == {"no usable reply: the reply is no object": 1}
        broken[0], n_before = False, len(server.requests)
        second = json.loads(run(*judging(answers, server), "--json").stdout)["groups"]["all"]["unscored"]
        assert second == {"aligned": {}, "coherent": {}}
        assert len(server.requests) - n_before == 2


def test_a_server_that_breaks_for_good_ends_the_run_before_all_answers_are_lost(
    tmp_path: Path, run: Run
) -> None:
    rows = [f"How {n}?,{'water' if n < 10 else POISON} {n}" for n in range(200)]
    (tmp_path / "r.csv").write_text("\n".join(["question,answer", *rows]) + "\n")
    with HostileServer(BEHAVIOURS["page with 200"], poisoned) as server:
        result = run(*judging(tmp_path / "r.csv", server))
        assert_one_line(result)
        assert (
            "replied to none of 20 answers in a way that can be used: no usable reply: not JSON"
            in result.stderr
        )
        assert len(server.requests) < 200


def test_the_message_says_when_to_come_back(answers: Path, run: Run) -> None:
    with HostileServer(BEHAVIOURS["429 for an hour"]) as server:
        result = run(*judging(answers, server))
        assert "429 Too Many Requests: the model was unloaded; come back in 1 h 0 min (at " in result.stderr
        assert len(server.requests) <= 8, "a server that wants to be left alone is not asked again"


def test_the_judges_name_shows_the_address_without_secrets(answers: Path, run: Run) -> None:
    with HostileServer(BEHAVIOURS["gzip"]) as server:
        record = json.loads(run(*judging(answers, server), "--json").stdout)
        host = server.url.removeprefix("http://")
    assert record["judge"] == f"openai:served@http://***@{host}?api_key=***&v=2"


@pytest.mark.parametrize(
    "judge",
    [
        f"openai:m@http://me:{PASSWORD}/x@host/v1",
        f"openai:m@http://me:{PASSWORD}@host:port/v1",
        f"openai:m@http://me:{PASSWORD}@[host/v1",
        f"openai:m@ftp://me:{PASSWORD}@host/v1",
        f"opnai:m@http://me:{PASSWORD}@host/v1",
        f"embedded:m@http://me:{PASSWORD}@host/v1",
        f"openai:m@http://me:{PASSWORD}@/v1",
    ],
)
def test_a_refused_address_is_not_shown_with_its_password(judge: str, answers: Path, run: Run) -> None:
    result = run("judge", answers, "--judge", judge, "--quiet")
    assert_one_line(result)
    assert_no_secret(result, answers.parent)


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    answers: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (f"{KEY}\nX-Other: 1", f"{KEY}ü"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        result = run("judge", answers, "--judge", "openai:m@http://127.0.0.1:9/v1", "--quiet")
        assert_one_line(result)
        assert_no_secret(result, answers.parent)


@pytest.mark.parametrize(
    ("url", "key", "warns"),
    [
        ("http://nowhere.invalid/v1", KEY, True),
        ("http://nowhere.invalid/v1", "", False),
        (f"http://me:{PASSWORD}@nowhere.invalid/v1", "", True),
        ("https://nowhere.invalid/v1", KEY, False),
        ("http://127.0.0.1:9/v1", KEY, False),
    ],
)
def test_a_key_that_would_go_over_plain_http_to_another_host_is_noted_in_one_line(
    url: str, key: str, warns: bool, answers: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EndpointWarning)
        result = run("judge", answers, "--judge", f"openai:m@{url}", "--quiet")
    notes = [str(warning.message) for warning in caught if warning.category is EndpointWarning]
    expected = (
        "the key goes over plain http to nowhere.invalid, where others on the way can read it; use https"
    )
    assert notes == ([expected] if warns else [])
    assert_no_secret(result, answers.parent)


NAMES = (
    "null",
    "page with 200",
    "logprob NaN",
    "401",
    "echoes the key in a 401",
    "429 for an hour",
    "half a body",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_ends_in_one_line_and_goes_on_from_its_finished_parts(
    name: str, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personaprobe.questions.capability import load_exercises, load_requests

    exercises, requests = load_exercises()[::40], load_requests()[::30]
    monkeypatch.setattr("personaprobe.studies.evaluation.arm_evaluator.load_exercises", lambda: exercises)
    monkeypatch.setattr("personaprobe.studies.arms.refusals.load_requests", lambda: requests)
    sets = [
        "--questions",
        tiny.questions,
        "--discovery",
        tiny.discovery,
        "--narrow",
        "none",
        "--benign",
        "none",
    ]
    drawn = ["--samples", 1, "--least", 1, "--max-new-tokens", 3, "--form", "none"]
    broken = [True]
    with HostileServer(BEHAVIOURS[name], lambda _: broken[0]) as server:
        judged = ["--judge", judge_of(server), "--out", tmp_path / "out", "--quiet"]
        command = ["eval", "--feature", "none", *tiny.options(), *sets, *drawn, *judged]
        result = run(*command)
        assert_one_line(result)
        broken[0] = False
        again = run(*command)
        assert again.exit_code == 0, again.output
    for each in (result, again):
        assert_no_secret(each, tmp_path)


ACTS = {
    "never answers": silent,
    "drips its headers": BEHAVIOURS["drips its headers"].act,
    "wants half a minute": failing("503 Later", retry_after_ms="30000"),
}


HEEDING_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Where tests run in the background of a shell, it is ignored."""

AT_ONCE = 20
"""Seconds; much less than the deadline of a request."""


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("name", ACTS)
def test_ctrl_c_ends_a_run_at_once_while_requests_hang(name: str, concurrency: int, answers: Path) -> None:
    with HostileServer(ACTS[name]) as server:
        command = [sys.executable, "-c", f"{HEEDING_CTRL_C}; from personaprobe.cli.main import main; main()"]
        given = [str(part) for part in judging(answers, server)]
        process = subprocess.Popen(
            [*command, *given, "--at-once", str(concurrency)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=dict(os.environ),
        )
        try:
            deadline = time.monotonic() + 60
            while len(server.requests) < concurrency and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=AT_ONCE)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130
    assert stderr == "interrupted: finished parts are kept; the same command takes up from there\n"


def test_the_server_stops_reading_from_a_client_that_is_gone() -> None:
    before = set(threading.enumerate())
    with HostileServer(BEHAVIOURS["gzip"]) as server:
        host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
        for cut in (b"POST / HTTP/1.1\r\nContent-", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf"):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(cut)
        deadline = time.monotonic() + 60
        while handlers := [t for t in set(threading.enumerate()) - before if "process_request" in t.name]:
            assert time.monotonic() < deadline, f"{len(handlers)} threads go on reading"
            time.sleep(0.02)


def test_nobody_waits_for_workers_of_a_judge_that_is_no_longer_needed() -> None:
    from personaprobe.effects.judges.judge import Case
    from personaprobe.effects.judges.registry import find_judge
    from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS
    from personaprobe.models.loading import Placement

    cases = [Case(DEFAULT_RUBRICS["aligned"], "How?", POISON if n else "water") for n in range(50)]
    with HostileServer(silent, poisoned) as server:
        judgements = find_judge(f"openai:m@{server.url}", Placement("cpu"), 4).judge(cases)
        next(judgements)
        started = time.monotonic()
        judgements.close()  # type: ignore[attr-defined]  # this judge is a generator
    assert time.monotonic() - started < 1.0
