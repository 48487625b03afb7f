"""Readers under randomly changed files: a value that is right, or one error of ours; no other exception, and no hang."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from campaigns.mutations import mutation_of
from campaigns.tally import Tally
from personaprobe.errors import PersonaProbeError, one_line

SECONDS = 10
"""A reader that takes longer hangs."""

SHOWN = 12
"""Failures of one reader that are kept with their files; the others are counted."""


class Hang(Exception):
    """A reader took too long."""


@dataclass(frozen=True)
class Reader:
    """A reader of strangers' files.

    Attributes:
        name: in the table of counts.
        files: valid content by the name of each file; a name without one is a folder's.
        read: reads the folder of the files whole.
        wrong: compares what was read with an independent reading of the same folder, and says what is wrong; None where
            nothing is.
        every: of so many accepted inputs, one is compared: an independent reading may take long.
        unchanged: files that are left as they are.
        share: of a campaign's inputs, where reading one takes long.
    """

    name: str
    files: Mapping[str, bytes]
    read: Callable[[Path], Any]
    wrong: Callable[[Path, Any], str | None]
    every: int = 1
    unchanged: frozenset[str] = field(default=frozenset())
    share: float = 1.0

    def write(self, folder: Path, changed: Mapping[str, bytes] | None = None) -> Path:
        """Write the files, some of them with other content."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in {**self.files, **(changed or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


def fuzz(reader: Reader, seed: int, n: int, folder: Path) -> Tally:
    """Read ``n`` changed inputs.

    Args:
        reader: the reader.
        seed: equal seeds give equal inputs.
        n: number of inputs.
        folder: for the files; inputs on which the reader fails are kept in it.

    Raises:
        AssertionError: the reader fails on its valid files, so that its campaign would say nothing.
    """
    valid = reader.write(folder / "valid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = reader.wrong(valid, reader.read(valid))
        assert problem is None, f"{reader.name}: valid files are read wrongly: {problem}"
        tally = [Tally("readers", reader.name)]
        changeable = sorted(set(reader.files) - reader.unchanged)

        def one(data: DataObject) -> None:
            name = data.draw(st.sampled_from(changeable))
            content = mutation_of(name)(data, reader.files[name])
            number = tally[0].tried
            place = reader.write(folder / "changed", {name: content})
            counts, problem = outcome(reader, place, number)
            if problem is not None:
                problem = f"seed {seed}, input {number}, {name}: {problem}"
                if len(tally[0].failures) < SHOWN:
                    shutil.copytree(place, folder / "failures" / f"{seed}-{number}", dirs_exist_ok=True)
            tally[0] = tally[0].plus(tried=1, failure=problem, **counts)

        _repeated(one, seed, n)
    return tally[0]


def outcome(reader: Reader, place: Path, number: int) -> tuple[dict[str, int], str | None]:
    """What to count of one input, and what is wrong about it."""
    try:
        with time_limit(SECONDS):
            value = reader.read(place)
    except PersonaProbeError as error:
        return {"refused": 1}, None if str(error).strip() else "a refusal without words"
    except Hang:
        return {}, f"longer than {SECONDS} s"
    except Exception as error:  # what a campaign looks for
        return {}, one_line(f"{type(error).__name__}: {error}")
    if number % reader.every:
        return {"accepted": 1}, None
    try:
        return {"accepted": 1, "checked": 1}, reader.wrong(place, value)
    except Exception as error:  # the independent reading refuses what was accepted
        return {"accepted": 1, "checked": 1}, one_line(f"accepted, but {type(error).__name__}: {error}")


def _repeated(one: Callable[[DataObject], None], seed: int, n: int) -> None:
    drawn = settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(st.data())(one))
    hypothesis.seed(seed)(drawn)()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`Hang` in the main thread after some seconds."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
