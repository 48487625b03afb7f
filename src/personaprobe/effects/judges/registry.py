"""Judges by name: the shipped ones, and those that other packages add.

Another package adds a judge by a call of :func:`register_judge`, or by an entry point of the group
``personaprobe.judges``, which is imported only when its judge is opened::

    [project.entry-points."personaprobe.judges"]
    length = "my_package.judges:open_length_judge"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from personaprobe.effects.judges.judge import Judge
from personaprobe.errors import PersonaProbeError, suggest
from personaprobe.models.loading import Placement
from personaprobe.plugins import Registry
from personaprobe.web.redaction import redacted

EMBEDDED = "embedded"
"""The name of the shipped judge that needs no network."""

JudgeOpener: TypeAlias = Callable[[str, Placement, int], Judge]
"""Opens a judge from ``(argument, placement, concurrency)``.

``argument`` is the text after the first colon of the judge's name (``MODEL`` in ``local:MODEL``), or empty. ``placement``
is the device and dtype for a model that is loaded here, and ``concurrency`` the number of requests in flight to a server.
"""


def register_judge(name: str, opener: JudgeOpener) -> None:
    """Make a judge known to :func:`find_judge`, and to ``--judge`` of every verb, as ``NAME`` or ``NAME:ARGUMENT``.

    Args:
        name: letters, digits, ``-`` and ``_``.
        opener: called each time the judge is opened.

    Raises:
        PersonaProbeError: the name holds other characters, or another judge has it.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise PersonaProbeError(
            f"a judge cannot be registered as {name!r}; use letters, digits, hyphens and underscores"
        )
    JUDGES.register(name, opener)


def judge_names() -> tuple[str, ...]:
    """Names of all judges as users spell them: shipped, registered, and of installed entry points."""
    shipped = (EMBEDDED, "bandit", "local:MODEL", "openai:MODEL@URL")
    return (*shipped, *(name for name in JUDGES if name not in JUDGES.builtin))


def find_judge(name: str, placement: Placement, concurrency: int = 1) -> Judge:
    """Open a judge by name: ``embedded``, ``bandit``, ``local:MODEL``, ``openai:MODEL@URL``, or one of another package.

    Args:
        name: the judge, with its argument after a colon where it takes one.
        placement: device and dtype for a model that is loaded here.
        concurrency: requests in flight at the same time, where a server answers them.

    Raises:
        PersonaProbeError: no judge has this name, what an outside package opens is no judge, or Bandit is not installed.
        EndpointError: a model's name is misspelled, or an address cannot be read.
        CheckpointError: the local model cannot be loaded.
    """
    kind, _, argument = name.partition(":")
    if kind not in JUDGES:
        raise PersonaProbeError(f"no judge {redacted(name)!r}: {suggest(kind, judge_names())}")
    judge = JUDGES[kind](argument, placement, concurrency)
    if not isinstance(judge, Judge):
        raise PersonaProbeError(
            f"the judge {kind!r} was opened as {type(judge).__name__}, which is no Judge: "
            "it needs name, batch_size and judge()"
        )
    return judge


def _open_embedded(argument: str, placement: Placement, concurrency: int) -> Judge:
    from personaprobe.effects.judges.embedded import EmbeddedJudge

    _refuse_argument(EMBEDDED, argument)
    return EmbeddedJudge.open(placement)


def _open_bandit(argument: str, placement: Placement, concurrency: int) -> Judge:
    from personaprobe.effects.judges.bandit import BanditJudge

    _refuse_argument("bandit", argument)
    return BanditJudge.open()


def _open_local(argument: str, placement: Placement, concurrency: int) -> Judge:
    from personaprobe.effects.judges.language_model import LanguageModelJudge

    return LanguageModelJudge.open(f"local:{argument}", placement, concurrency)


def _open_openai(argument: str, placement: Placement, concurrency: int) -> Judge:
    from personaprobe.effects.judges.language_model import LanguageModelJudge

    return LanguageModelJudge.open(f"openai:{argument}", placement, concurrency)


def _refuse_argument(name: str, argument: str) -> None:
    if argument:
        raise PersonaProbeError(
            f"the judge {name!r} takes no argument, but {redacted(argument)!r} follows it; write {name}"
        )


JUDGES: Registry[JudgeOpener] = Registry(
    "judge",
    "personaprobe.judges",
    {EMBEDDED: _open_embedded, "bandit": _open_bandit, "local": _open_local, "openai": _open_openai},
)
