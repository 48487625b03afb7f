"""The command ``personaprobe``: its verbs, each imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from personaprobe import __version__
from personaprobe.cli.terminal.exit_codes import EXIT_CODES, Interrupted, in_one_line, notes_in_one_line
from personaprobe.compute.hardware import is_device_loss, keep_freed_memory
from personaprobe.errors import DeviceError, suggest


@dataclass(frozen=True)
class Verb:
    """A subcommand not imported yet.

    Attributes:
        help: its line.
        module: the module below ``personaprobe.cli`` whose function of the verb's name is the command.
        resumes: whether it takes up where it was stopped.
        function: the function's name, where it cannot bear the verb's.
    """

    help: str
    module: str
    resumes: bool = False
    function: str | None = None


VERBS: Mapping[str, Verb] = {
    "ablate": Verb(
        "Remove a feature: does that, and only that, remove the misalignment?", "verbs.ablate", resumes=True
    ),
    "steer": Verb("Push a model along a feature and read its answers.", "verbs.steer"),
    "chat": Verb("Ask a model with and without a feature, side by side.", "verbs.chat"),
    "features": Verb("List the registered features, or rank latents.", "features.group"),
    "sweep": Verb(
        "Find the feature: every source at every layer, on discovery questions.", "verbs.sweep", resumes=True
    ),
    "extract": Verb("Record activations of a trio into aligned stores.", "verbs.extract", resumes=True),
    "sae": Verb("Train, judge or convert sparse autoencoders.", "sae.group", resumes=True),
    "eval": Verb(
        "Let every arm answer freely, and have the answers judged.",
        "verbs.evaluate",
        resumes=True,
        function="evaluate",
    ),
    "report": Verb("Make the pages of a finished run again, without a model.", "verbs.report"),
    "judge": Verb("Judge answers in a file, whatever model or tool gave them.", "verbs.judge", resumes=True),
    "judges": Verb("Make or examine the judge that needs no network.", "verbs.judges"),
    "questions": Verb("List, show or pull question sets.", "verbs.questions"),
    "organisms": Verb("List, verify, train or compare model organisms.", "organisms.group"),
    "bench": Verb("How fast this machine works, beside the bare model.", "verbs.bench"),
    "doctor": Verb("Check the environment, the devices, the demo model and the cache.", "verbs.doctor"),
    "completion": Verb("Print the completion script of a shell.", "verbs.completion"),
}
"""The verbs in the order in which help lists them."""


class Verbs(click.Group):
    """A group that knows its verbs without importing them, and says every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, the main one first."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            if ctx.resilient_parsing:
                return None
            raise click.UsageError(f"no command {cmd_name!r}: {suggest(cmd_name, VERBS)}", ctx)
        verb = VERBS[cmd_name]
        module = importlib.import_module(f"personaprobe.cli.{verb.module}")
        command = getattr(module, verb.function or cmd_name)
        assert isinstance(command, click.Command), f"{cmd_name} is not a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, none of them imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        with in_one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        keep_freed_memory()
        with in_one_line(), notes_in_one_line():
            try:
                value = super().invoke(ctx)
                sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
                return value
            except (KeyboardInterrupt, click.Abort) as error:
                raise Interrupted(_how_to_go_on(ctx)) from error
            except RuntimeError as error:
                if "torch" not in sys.modules or not is_device_loss(error):
                    raise
                raise DeviceError(
                    f"the device stopped working ({str(error).splitlines()[0]}){_how_to_go_on(ctx)}; if it stays away, "
                    "go on with --device cpu"
                ) from error


def _how_to_go_on(ctx: click.Context) -> str:
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
    cli(prog_name="personaprobe")
