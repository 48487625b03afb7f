"""Cases from public bug reports of neighbouring tools: what people bring, and what the program makes of it now.

Every case has a number, a kind, what happened before it was looked at, and the command that a user would type (or the call,
where there is no verb). What is right is decided by code: a refusal says the reason in one line, and what is accepted is
compared with an independent number, such as PEFT's logits or the ids of the chat template. ``python -m campaigns.campaign``
writes the table of the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from campaigns.forked import Ended, ForkServer
from campaigns.small_runs import WRITING, Workplace, workplace
from campaigns.tally import Tally

Measured = tuple[str, bool]
"""A number with the words around it, and whether it is right."""
Builder = Callable[[Workplace, Path], list[object]]
"""Makes the files of a case in a folder, and returns its command."""
Measure = Callable[[Workplace, Path], Measured]
"""Compares the outcome of a case with an independent one, after its command has ended."""

SHOWN = 150
"""Letters of a line that stand in the table."""
DEADLINE = 60.0
WARMED = ("extract", "judge", "organisms train", "sae convert", "organisms compare")
"""Verbs whose imports serve all cases."""
UNSHOWN = ("--quiet", "--json", "--dtype float32", "--out FOLDER/out")
"""Options of a command that say nothing about its case."""


@dataclass(frozen=True)
class Case:
    """What somebody brings, and what is right.

    Attributes:
        number: of the case; several inputs may have one.
        kind: of the case, with a few words about this input.
        before: what the program did when the case was collected.
        command: makes the input and returns the arguments of the command line; None where there is no verb for it.
        code: the right exit code.
        says: a regular expression that the line of the error, or what a command that ends otherwise prints, holds.
        measure: the number of what was accepted.
        call: of the library, where there is no command.
        is_slow: whether it takes seconds.
    """

    number: str
    kind: str
    before: str
    command: Builder | None
    code: int = 2
    says: str = ""
    measure: Measure | None = None
    call: str = ""
    is_slow: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: that was tried.
        command: as a user would type it, with placeholders for files.
        now: what the program did: exit code and beginning of the line, or the number.
        fault: what is not right about it; None where it is right.
        code: exit code; None where there was no command.
    """

    case: Case
    command: str
    now: str
    fault: str | None
    code: int | None

    def tally(self) -> Tally:
        """The counts of this one input."""
        refused = self.code == 2 or self.now.startswith("refused: ")
        failure = None if self.fault is None else f"case {self.case.number}, {self.case.kind}: {self.fault}"
        counts = {"accepted": int(not refused and self.code in (0, None)), "refused": int(refused)}
        checked = int(self.case.measure is not None)
        return Tally("cases", self.case.number).plus(tried=1, checked=checked, failure=failure, **counts)


def cases(seed: int, size: int, folder: Path) -> list[Tally]:
    """Try every case, counted by number.

    Args:
        seed: there is nothing to choose.
        size: as seed.
        folder: an empty one, for everything.
    """
    return tallies(outcomes(folder))


def outcomes(folder: Path) -> list[Outcome]:
    """Try every case.

    Args:
        folder: an empty one, for everything.
    """
    from campaigns.case_inputs.all_cases import CASES

    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        server = stack.enter_context(ForkServer())
        warm(place, server)
        return list(run_cases(CASES, place, server))


def warm(place: Workplace, server: ForkServer) -> None:
    """Import what the verbs of the cases need."""
    for verb in WARMED:
        place.clean()
        server.run(replace(place.job(WRITING[verb](place)), warms=True))
    place.clean()


def run_cases(chosen: Iterable[Case], place: Workplace, server: ForkServer) -> Iterator[Outcome]:
    """Run cases one after the other, each in a folder of its own.

    Args:
        chosen: the cases.
        place: where they run.
        server: runs their commands.
    """
    place.prepare()
    for number, case in enumerate(chosen):
        folder = place.run / f"case-{number}"
        folder.mkdir(parents=True)
        yield _try(case, place, server, folder)


def _try(case: Case, place: Workplace, server: ForkServer, folder: Path) -> Outcome:
    """Run a case's command, if it has one, and take its number, if all is right so far."""
    named = placeholders(place, folder)
    command, now, fault, code = case.call, "", None, None
    if case.command is not None:
        arguments = case.command(place, folder)
        ended = server.run(replace(place.job(arguments), deadline=DEADLINE))
        command, code, fault = shown_command(arguments, named), ended.code, fault_of(case, ended)
        now = f"exit {code}{_line(case, ended, named)}"
    if case.measure is not None and fault is None:
        try:
            measured, is_right = case.measure(place, folder)
        except Exception as error:  # whatever stops a comparison is a failure of the case
            measured, is_right = f"{type(error).__name__}: {error}", False
        now = f"{now}; {measured}" if case.command is not None else measured
        fault = None if is_right else measured
    return Outcome(
        case, command, _renamed(now, named), None if fault is None else _renamed(fault, named), code
    )


def fault_of(case: Case, ended: Ended) -> str | None:
    """What is wrong with the end of a case's command; None where it is the right one."""
    if ended.fault is not None:
        return ended.fault
    if ended.code != case.code:
        return f"exit code {ended.code} in place of {case.code}: {ended.err.strip()[-SHOWN:]}"
    printed = ended.refusal if ended.refusal is not None else f"{ended.out}\n{ended.err}"
    if not re.search(case.says, printed):
        return f"does not say {case.says!r}: {' '.join(printed.split())[:400]}"
    return None


def _line(case: Case, ended: Ended, named: dict[str, str]) -> str:
    """The line of an error, the first note, or what the case looks for in what was printed."""
    lines = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    if case.says:
        lines += [line.strip(" │") for line in ended.out.splitlines() if re.search(case.says, line)]
    line = ended.refusal or next(iter(lines), "")
    text = " ".join(_renamed(line.removeprefix("error: "), named).split())
    return f": {text[:SHOWN]}{'…' * (len(text) > SHOWN)}" if text else ""


# --- the table ----------------------------------------------------------------------------------------------------


def placeholders(place: Workplace, folder: Path) -> dict[str, str]:
    """The words that stand for paths, the longest path first."""
    trio = place.trio
    named = {name.upper(): getattr(trio, name) for name in ("base", "insecure", "secure")}
    named |= {"QUESTIONS": trio.questions, "DISCOVERY": trio.discovery, "NEUTRAL": trio.neutral}
    named |= {"FOLDER": folder, "SEED": place.seed, "ANSWERS": place.answers, "RUN": place.run}
    paths = {str(path): name for name, path in named.items()} | {place.judge: "openai:MODEL@URL"}
    return dict(sorted(paths.items(), key=lambda pair: -len(pair[0])))


def _renamed(text: str, named: dict[str, str]) -> str:
    for path, name in named.items():
        text = text.replace(path, name)
    return text


def shown_command(arguments: Sequence[object], named: dict[str, str]) -> str:
    """A command as a user would type it."""
    words = (_renamed(str(argument), named) for argument in arguments)
    command = " ".join(f'"{word}"' if " " in word else word for word in ("personaprobe", *words))
    for option in UNSHOWN:
        command = command.replace(f" {option}", "")
    return command


def rows(tried: Iterable[Outcome]) -> list[tuple[str, str, str, str, str]]:
    """The rows of the table: number, kind, before, now, command."""
    return [(one.case.number, one.case.kind, one.case.before, _now(one), f"`{one.command}`") for one in tried]


def _now(outcome: Outcome) -> str:
    now = outcome.now.replace("`", "'")
    return f"`{now}`" if outcome.fault is None else f"**not right:** `{outcome.fault.replace('`', chr(39))}`"


def table(tried: Iterable[Outcome]) -> str:
    """The cases as a Markdown table."""
    lines = ["| no. | kind | before | now | command |", "|---|---|---|---|---|"]
    for row in rows(tried):
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tallies(tried: Iterable[Outcome]) -> list[Tally]:
    """The counts by number of the case."""
    by_number: dict[str, Tally] = {}
    for outcome in tried:
        one, before = outcome.tally(), by_number.get(outcome.case.number)
        if before is not None:
            counts = {
                name: getattr(before, name) + getattr(one, name)
                for name in ("tried", "accepted", "refused", "checked")
            }
            one = replace(one, failures=(*before.failures, *one.failures), **counts)
        by_number[outcome.case.number] = one
    return list(by_number.values())
