"""How a command ends: the exit codes, and every refusal in one line on stderr."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import click
from click.exceptions import Exit, NoArgsIsHelpError

from personaprobe.errors import FallbackWarning, PersonaProbeError

CHECK_FAILED = 3
"""Exit code of ``organisms verify`` and ``doctor`` where something was tried and is not right."""

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug in personaprobe
  2    wrong input, or an environment that cannot do it
  3    a check failed (organisms verify, doctor)
  130  interrupted
"""

PLACES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the operating system says about a place rather than about our code."""


class Refused(click.ClickException):
    """What came cannot be done; the message says what is allowed."""

    exit_code: ClassVar[int] = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as one line."""
        click.echo(f"error: {' '.join(self.format_message().split())}", file=file, err=file is None)


class Interrupted(click.ClickException):
    """The user stopped it."""

    exit_code: ClassVar[int] = 130

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on a line of its own, below the terminal's ``^C``."""
        start = "\n" if sys.stderr.isatty() else ""
        click.echo(f"{start}interrupted{self.format_message()}", file=file, err=file is None)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Say what users can act on in one line; anything else is our bug and keeps its traceback."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise Refused(_usage(error)) from error
    except PersonaProbeError as error:
        raise Refused(str(error)) from error
    except BrokenPipeError as error:
        _stop_writing()
        raise Exit(0) from error
    except OSError as error:
        if error.errno not in PLACES:
            raise
        place = error.filename or "the output"
        raise Refused(f"{place}: {error.strerror}; free some space or choose another folder") from error


@contextmanager
def notes_in_one_line() -> Iterator[None]:
    """Say how work goes on without the place in our code where that was decided."""
    usual = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> str:
        if issubclass(category, FallbackWarning):
            return f"note: {' '.join(str(message).split())}\n"
        return usual(message, category, *rest, **more)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _usage(error: click.UsageError) -> str:
    said = error.format_message().strip().rstrip(".")
    return f"{said}; see {error.ctx.command_path} --help" if error.ctx else said


def _stop_writing() -> None:
    """Whoever read our output has gone; what is still buffered must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
