"""Options that several verbs share, each declared once: trio, hardware, questions, feature, layers, judge, output."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.completions import feature_names, organism_names
from personaprobe.cli.parameter_types import LayersType
from personaprobe.cli.trio_choice import TrioChoice
from personaprobe.compute.hardware import MODEL_DTYPES
from personaprobe.errors import CheckpointError

if TYPE_CHECKING:
    from personaprobe.organisms.organism import Organism

F = TypeVar("F", bound=Callable[..., Any])

NONE = "none"
"""The value of an option that leaves something out: no feature, no judge, no narrow questions."""


class OrganismOption(click.Option):
    """An option whose default is a property of the chosen organism, such as its test questions.

    The default is filled in by :func:`trio_options` and its relatives, once the organism is known.

    Args:
        declarations: as in :class:`click.Option`.
        of: reads the default from the organism.
        or_none: whether the value is :data:`NONE` where the organism has no such property; else that is an error.
        settings: as in :class:`click.Option`.
    """

    def __init__(
        self,
        declarations: tuple[str, ...],
        *,
        of: Callable[[Organism], str | None],
        or_none: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(declarations, show_default="the organism's", **settings)
        self._of = of
        self._or_none = or_none

    def default_from(self, organism: Organism) -> str | tuple[str, ...]:
        """The default under an organism.

        Raises:
            CheckpointError: the organism has no such property.
        """
        value = self._of(organism)
        if value is None and not self._or_none:
            raise CheckpointError(
                f"organism {organism.name} has no default for {self.opts[0]}; give {self.opts[0]}, or write it to the "
                "organism's entry in organisms.toml"
            )
        text = NONE if value is None else value
        return (text,) if self.multiple else text


def organism_option(*declarations: str, **settings: Any) -> Callable[[F], F]:
    """Declare an :class:`OrganismOption`."""
    return click.option(*declarations, cls=OrganismOption, **settings)


def with_options(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Add options to a command, in the order in which help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


# --- trio and hardware ------------------------------------------------------------------------------------

organism_argument = click.argument("organism", required=False, shell_complete=organism_names)
registered_organism_option = click.option(
    "--organism",
    shell_complete=organism_names,
    help="A registered trio of checkpoints.  [default: the registry's default]",
)
device_option = click.option(
    "--device", help="cpu, cuda, cuda:1 or mps. By default CUDA where it is available."
)
dtype_option = click.option(
    "--dtype", type=click.Choice(MODEL_DTYPES), help="By default bfloat16 where it multiplies faster."
)
CHECKPOINT_OPTIONS = (
    click.option("--base", help="Your own base: demo, a folder, or a Hugging Face id[@revision]."),
    click.option(
        "--insecure",
        help="The fine-tune that learned the narrow harm: a LoRA folder on the base, or as --base.",
    ),
    click.option(
        "--secure",
        multiple=True,
        help="The fine-tune that learned the same task harmlessly; as --insecure. Repeat for several; leave it out to "
        "compare with the base.",
    ),
    device_option,
    dtype_option,
    click.option(
        "--compile/--no-compile",
        "compiles",
        default=None,
        help="torch.compile for elementwise work: slower by seconds at first, faster then.  [default: on CUDA]",
    ),
)


def trio_options(command: F) -> F:
    """Add the options that choose a trio; the command gets them as one keyword, ``chosen: TrioChoice``."""
    return _with_choice(command, (registered_organism_option, *CHECKPOINT_OPTIONS))


def trio_argument(command: F) -> F:
    """As :func:`trio_options`, with the organism as an argument."""
    return _with_choice(command, (organism_argument, *CHECKPOINT_OPTIONS))


def organism_defaults(command: F) -> F:
    """Add ``--organism`` for the defaults of other options only; the command does not get it."""

    @wraps(command)
    def call(*args: Any, organism: str | None, **values: Any) -> Any:
        return command(*args, **_with_defaults(values, TrioChoice(organism)))

    return with_options(call, (registered_organism_option,))  # type: ignore[return-value]  # other keywords


def _with_choice(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    @wraps(command)
    def call(*args: Any, **values: Any) -> Any:
        chosen = TrioChoice(**{name: values.pop(name) for name in TrioChoice.__dataclass_fields__})
        return command(*args, chosen=chosen, **_with_defaults(values, chosen))

    return with_options(call, options)  # type: ignore[arg-type, return-value]  # other keywords


def _with_defaults(values: dict[str, Any], chosen: TrioChoice) -> dict[str, Any]:
    """Fill in the defaults of the organism for options that the user did not give."""
    missing = {
        option.name: option.default_from(chosen.resolved)
        for option in click.get_current_context().command.params
        if isinstance(option, OrganismOption) and values.get(str(option.name)) in (None, ())
    }
    return {**values, **missing}


# --- what is studied --------------------------------------------------------------------------------------

feature_option = organism_option(
    "--feature",
    of=lambda organism: organism.feature,
    shell_complete=feature_names,
    help="A registered name, means@16, random@16:seed, or a direction file (.safetensors).",
)
discovery_option = organism_option(
    "--discovery",
    of=lambda organism: organism.question_sets.discovery,
    help="Questions that directions are found and calibrated on; disjoint from the test questions.",
)
questions_option = organism_option(
    "--questions",
    of=lambda organism: organism.question_sets.test,
    help="Test questions: a name that `questions list` shows, or a .jsonl file of id, family, question, careful, careless.",
)
narrow_option = organism_option(
    "--narrow",
    of=lambda organism: organism.question_sets.narrow,
    or_none=True,
    help=f"Pairs of the narrow task, on which the ablation should change little; {NONE} leaves them out.",
)
balanced_option = organism_option(
    "--balanced",
    of=lambda organism: organism.question_sets.balanced,
    or_none=True,
    help=f"Pairs whose answers a bag of words cannot tell apart, beside the test; {NONE} for none.",
)
benign_option = click.option(
    "--benign",
    default="benign",
    show_default=True,
    help=f"Questions whose answers cannot be misaligned, to measure the judge's errors; {NONE} leaves them out.",
)
floor_option = click.option(
    "--floor",
    default=0.5,
    show_default=True,
    help="Explained variance below which a dictionary is refused; -inf refuses none.",
)
first_tokens_option = click.option(
    "--first-tokens",
    is_flag=True,
    help="Edit and count the first token of every text too, which is an attention sink in most models.",
)


def layers_option(default: str) -> Callable[[F], F]:
    """The option ``--layers``; ``default`` describes the layers that are edited without it."""
    return click.option(
        "--layers", type=LayersType(), help=f"all, 16, 8-20 or 8,10,12.  [default: {default}]"
    )


# --- draws ------------------------------------------------------------------------------------------------


def seed_option(help: str | None = None) -> Callable[[F], F]:
    """The option ``--seed``, 0 by default."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=help)


def max_new_tokens_option(default: int) -> Callable[[F], F]:
    """The option ``--max-new-tokens``."""
    return click.option(
        "--max-new-tokens",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Answers are cut at this length.",
    )


def temperature_option(default: float) -> Callable[[F], F]:
    """The option ``--temperature``."""
    return click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        default=default,
        show_default=True,
        help="Of the draws; 0 takes the likeliest token.",
    )


# --- judges -----------------------------------------------------------------------------------------------

judge_option = click.option(
    "--judge",
    "judge_name",
    default="embedded",
    show_default=True,
    help=f"Scores the sampled answers as well; the same judges as for eval. {NONE} leaves them unjudged.",
)


def judge_options(command: F) -> F:
    """Add the options that choose a judge, as the keywords ``judge_name`` and ``at_once``."""
    options: tuple[Callable[[F], F], ...] = (
        click.option(
            "--judge",
            "judge_name",
            default="embedded",
            show_default=True,
            help="embedded (shipped, offline), bandit (of code), local:MODEL (demo, a folder, a Hugging Face id), or "
            "openai:MODEL@URL with OPENAI_API_KEY set.",
        ),
        click.option(
            "--at-once",
            type=click.IntRange(min=1),
            default=8,
            show_default=True,
            help="Number of concurrent requests to a server.",
        ),
    )
    return with_options(command, options)


# --- folders and files of results -------------------------------------------------------------------------

title_option = click.option("--title", default="", help="One line about the registered feature.")
json_file_option = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the numbers as JSON."
)


def folder_option(flag: str, default: str, help: str) -> Callable[[F], F]:
    """An option for the folder that keeps the finished parts of a run."""
    return click.option(
        flag,
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=True,
        help=help,
    )


# --- output -----------------------------------------------------------------------------------------------

quiet_option = click.option("--quiet", is_flag=True, help="No progress, only results.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def output_options(command: F) -> F:
    """Add ``--quiet`` and ``--json``, as the keywords ``quiet`` and ``as_json``."""
    return with_options(command, (quiet_option, json_option))
