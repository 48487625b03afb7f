"""Exit codes of the command line; errors that a user can act on are printed as one line on stderr."""

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

from personaprobe.errors import (
    CheckpointWarning,
    EndpointWarning,
    FallbackWarning,
    PersonaProbeError,
    one_line,
    visible,
)

CHECK_FAILED = 3
"""Exit code of ``organisms verify`` and ``doctor`` when a check failed."""

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug in personaprobe
  2    wrong input, or an environment that cannot do it
  3    a check failed (organisms verify, doctor)
  130  interrupted
"""

LONGEST_MESSAGE = 2000
"""Characters of an error or a note; a longer one, which quotes a value of any length, is cut in the middle."""

OUTPUT_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR),
)
"""Error numbers of the operating system that concern a folder or a disk, not our code."""


class Refused(click.ClickException):
    """Wrong input, or an environment that cannot do it; the message names the allowed values."""

    exit_code: ClassVar[int] = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as one line."""
        click.echo(f"error: {one_line(self.format_message(), LONGEST_MESSAGE)}", file=file, err=file is None)


class Interrupted(click.ClickException):
    """The user stopped the command."""

    exit_code: ClassVar[int] = 130

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on a new line, below the ``^C`` of the terminal."""
        start = "\n" if sys.stderr.isatty() else ""
        click.echo(
            f"{start}interrupted{one_line(self.format_message(), LONGEST_MESSAGE)}",
            file=file,
            err=file is None,
        )


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn errors that users can act on into one line; any other error is a bug of ours and keeps its traceback."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise Refused(_usage_message(error)) from error
    except PersonaProbeError as error:
        raise Refused(str(error)) from error
    except BrokenPipeError as error:
        _discard_output()
        raise Exit(0) from error
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        place = one_line(error.filename or "the output")
        raise Refused(f"{place}: {error.strerror}; free some space or choose another folder") from error


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print our own warnings as one line, without the line of our code that raised them."""
    default = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        if issubclass(category, FallbackWarning | CheckpointWarning | EndpointWarning):
            return f"note: {one_line(message, LONGEST_MESSAGE)}\n"
        return visible(default(message, category, *args, **kwargs))

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = default


def _usage_message(error: click.UsageError) -> str:
    message = error.format_message().strip().rstrip(".")
    return f"{message}; see {error.ctx.command_path} --help" if error.ctx else message


def _discard_output() -> None:
    """Send stdout to the null device: its reader has closed the pipe, and flushing the buffer at exit would raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
