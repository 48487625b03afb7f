"""Progress on stderr, results on stdout, and no control characters of a model."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from personaprobe.cli.terminal import console
from personaprobe.errors import PersonaProbeError


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bar("reading", 10, "rows") as advance, console.spinner("loading"):
        advance(10)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time that passes only when it is called, and lines of progress without delay."""
    now = [0.0]
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_seconds(seconds: float) -> None:
        now[0] += seconds

    return pass_seconds


def test_long_work_tells_a_log_how_fast_it_goes_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with console.progress_bar("reading", 10, "rows") as advance:
        for _ in range(2):
            clock(4)
            advance(2)
    assert capsys.readouterr().err.splitlines()[-1] == "reading: 4/10 rows, 0.5/s, 12 s left"


def test_a_slow_start_and_parts_of_an_earlier_run_do_not_enter_the_estimate(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with console.progress_bar("judging", 1000, "answers") as advance:
        clock(500)
        advance(800)
        assert "left" not in capsys.readouterr().err
        for _ in range(10):
            clock(10)
            advance(10)
    assert capsys.readouterr().err.splitlines()[-1] == "judging: 900/1,000 answers, 1.0/s, 1 min 40 s left"


def test_the_estimate_is_that_of_the_last_minute(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with console.progress_bar("judging", 1000, "answers") as advance:
        for seconds in (1, *[1] * 20, *[10] * 10):
            clock(seconds)
            advance(10)
    assert "1.0/s" in capsys.readouterr().err.splitlines()[-1]


def test_work_of_unknown_length_is_counted(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with console.study_progress(quiet=False)("reading", 0, "tokens") as advance:
        for _ in range(2):
            clock(1)
            advance(1000)
    assert capsys.readouterr().err.splitlines()[-1] == "reading: 2,000 tokens, 1,000/s"


def test_quiet_work_says_nothing_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    monkeypatch.setattr(console, "BAR_DELAY", 0.0)
    with console.progress_bar("reading", 10, "rows", quiet=True) as advance, console.spinner("x", quiet=True):
        time.sleep(0.05)
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_rate_and_eta_and_results_stay_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "BAR_DELAY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress_bar("reading", 100, "rows") as advance:
        for _ in range(10):
            time.sleep(0.03)
            advance(10)
        print("result")
    out, err = capsys.readouterr()
    assert out == "result\n"
    assert re.search(r"reading .*100/100 rows, [\d,.]+/s", err)


def test_errors_pass_through_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(PersonaProbeError), console.progress_bar("reading", 10, "rows"), console.spinner("x"):
        raise PersonaProbeError("no")
