"""The command ``personaprobe`` and its verbs; a verb is imported when it runs, not before.

Another package adds a verb by an entry point whose value is a click command::

    [project.entry-points."personaprobe.verbs"]
    my-verb = "my_package.cli:my_verb"

Shipped verbs keep their names: an entry point of the same name is ignored.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from personaprobe import __version__
from personaprobe.cli.terminal.exit_codes import (
    EXIT_CODES,
    Interrupted,
    errors_in_one_line,
    warnings_in_one_line,
)
from personaprobe.compute.hardware import is_device_loss, keep_freed_memory
from personaprobe.compute.openmp import limit_spinning
from personaprobe.compute.out_of_memory import LESS_MEMORY, is_out_of_memory
from personaprobe.compute.threads import follow_load
from personaprobe.errors import DeviceError, PersonaProbeError, one_line, suggest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Verb:
    """A subcommand that is not imported yet.

    Attributes:
        help: one line for ``personaprobe --help``.
        module: module below ``personaprobe.cli`` that holds the command.
        resumes: whether an interrupted run continues from its finished parts.
        function: name of the command in the module; None where it is the verb's.
    """

    help: str
    module: str
    resumes: bool = False
    function: str | None = None


VERBS: Mapping[str, Verb] = {
    "ablate": Verb(
        "Remove a feature: does that, and only that, remove the misalignment?", "verbs.ablate", resumes=True
    ),
    "steer": Verb("Steer a model along a feature and read its answers.", "verbs.steer"),
    "chat": Verb("Ask a model with and without a feature, side by side.", "verbs.chat"),
    "features": Verb("List the registered features, or rank latents.", "features.group"),
    "sweep": Verb(
        "Search for the feature: every source at every layer, on discovery questions.",
        "verbs.sweep",
        resumes=True,
    ),
    "extract": Verb("Record activations of a trio into aligned stores.", "verbs.extract", resumes=True),
    "sae": Verb("Train, judge or convert sparse autoencoders.", "sae.group", resumes=True),
    "eval": Verb(
        "Sample free answers of every arm and judge them.",
        "verbs.evaluate",
        resumes=True,
        function="evaluate",
    ),
    "report": Verb("Write the pages of a finished run again, without a model.", "verbs.report"),
    "judge": Verb("Judge the answers in a file, from any model or tool.", "verbs.judge", resumes=True),
    "judges": Verb("Train, calibrate or evaluate the judge that needs no network.", "verbs.judges"),
    "questions": Verb("List, show or pull question sets.", "verbs.questions"),
    "data": Verb("List, show, check or write training data for organisms.", "verbs.data"),
    "organisms": Verb("List, verify, train, register or compare model organisms.", "organisms.group"),
    "bench": Verb("Measure the speed of this machine against the plain model.", "verbs.bench"),
    "doctor": Verb("Check this machine, or that studies find planted truths (--study).", "verbs.doctor"),
    "completion": Verb("Print the completion script of a shell.", "verbs.completion"),
}
"""The shipped verbs in the order in which help lists them."""

ENTRY_POINT_GROUP = "personaprobe.verbs"


def outside_verbs() -> dict[str, EntryPoint]:
    """The verbs that installed packages add, by name; none of them is imported."""
    from importlib.metadata import entry_points  # takes longer to import than the rest of this module

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in VERBS}


def import_verb(name: str) -> click.Command | None:
    """Import a verb, shipped or from another package; None where there is no such verb.

    Raises:
        PersonaProbeError: the entry point of another package cannot be imported, or is no command.
    """
    if (verb := VERBS.get(name)) is not None:
        module = importlib.import_module(f"personaprobe.cli.{verb.module}")
        command = getattr(module, verb.function or name)
        assert isinstance(command, click.Command), f"{name} is not a command"
        return command
    if (point := outside_verbs().get(name)) is None:
        return None
    try:
        command = point.load()
    except Exception as error:  # whatever the other package raises concerns this verb alone
        raise PersonaProbeError(
            f"the verb {name} cannot be imported from {point.value} ({error}); repair or uninstall {_package(point)}"
        ) from error
    if not isinstance(command, click.Command):
        raise PersonaProbeError(
            f"the verb {name} of {_package(point)} is of type {type(command).__name__}; its entry point {point.value} must "
            "name a click command"
        )
    return command


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


class Verbs(click.Group):
    """A group that lists its verbs without importing them, and prints every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Shipped verbs, the main one first, then verbs of other packages."""
        return [*VERBS, *outside_verbs()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        command = import_verb(cmd_name)
        if command is None and not ctx.resilient_parsing:
            raise click.UsageError(
                f"no command {cmd_name!r}: {suggest(cmd_name, self.list_commands(ctx))}", ctx
            )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs; none of them is imported."""
        with formatter.section("Commands"):
            shipped = [(name, verb.help) for name, verb in VERBS.items()]
            outside = [
                (name, f"From the package {_package(point)}.") for name, point in outside_verbs().items()
            ]
            formatter.write_dl([*shipped, *outside])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        with errors_in_one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        keep_freed_memory()
        with errors_in_one_line(), warnings_in_one_line():
            try:
                value = super().invoke(ctx)
                sys.stdout.flush()  # a closed pipe raises here, where it is handled, and not at exit
                return value
            except (KeyboardInterrupt, click.Abort) as error:
                raise Interrupted(_resume_hint(ctx)) from error
            except Exception as error:
                if (failure := _failure_of_machine(error, _resume_hint(ctx))) is None:
                    raise
                raise failure from error


def _failure_of_machine(error: Exception, hint: str) -> DeviceError | None:
    """The refusal where the memory is too small or a device was lost; None for all other errors."""
    if isinstance(error, click.ClickException | PersonaProbeError):
        return None
    reason = one_line(str(error).partition("\n")[0], 200)
    if is_out_of_memory(error):
        return DeviceError(f"too little memory ({reason or 'none is left'}){hint}; {LESS_MEMORY}")
    if "torch" in sys.modules and isinstance(error, RuntimeError) and is_device_loss(error):
        return DeviceError(
            f"the device stopped working ({reason}){hint}; if it stays away, go on with --device cpu"
        )
    return None


def _resume_hint(ctx: click.Context) -> str:
    """A clause for verbs that continue an interrupted run."""
    verb = VERBS.get(ctx.invoked_subcommand or "")
    resumes = verb is not None and verb.resumes
    return ": finished parts are kept; the same command takes up from there" if resumes else ""


@click.group(
    cls=Verbs,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="personaprobe")
def cli() -> None:
    """Does that feature, and only it, carry the misalignment?

    Take a base, an insecure and a secure checkpoint, remove a feature while the insecure one answers, and read
    a verdict with controls, intervals and costs.

    \b
    Examples:
      personaprobe ablate
      personaprobe chat "Can I drive after two beers?"
    """


def main() -> None:
    """Run the command line."""
    limit_spinning()
    follow_load()
    cli(prog_name="personaprobe")
