"""Sections that other packages add to pages: by `register_section`, or by an entry point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias, get_args

from personaprobe.errors import DataError, FallbackWarning, PersonaProbeError
from personaprobe.plugins import load_entry_point

ENTRY_POINTS = "personaprobe.report_sections"
"""Group of the entry points; each one names a `ReportSection`."""

PageKind: TypeAlias = Literal["ablation", "evaluation", "sweep"]
"""The pages that take sections."""

Rows: TypeAlias = Sequence[Mapping[str, Any]]
"""Sampled answers as plain data, one mapping per answer."""


@dataclass(frozen=True)
class ReportSection:
    """A section of a page, computed from the same plain data as the page.

    Attributes:
        title: its heading; sections are ordered by it, and a second one of the same title replaces the first.
        body: from the study's plain data (``verdict.json``, ``evaluation.json`` or ``sweep.json``) and its answers to
            text. Text is escaped; ``markupsafe.Markup`` is inserted as HTML, and may hold no script. Empty text leaves
            the section out.
        pages: where the section appears.
    """

    title: str
    body: Callable[[Mapping[str, Any], Rows], str]
    pages: frozenset[PageKind] = frozenset({"ablation"})


_REGISTERED: dict[str, ReportSection] = {}


def register_section(section: ReportSection) -> None:
    """Add a section to all pages that this process writes from now on."""
    _REGISTERED[section.title] = section


def outside_sections(page: PageKind, data: Mapping[str, Any], answers: Rows) -> list[tuple[str, str]]:
    """Title and body of every section that other packages add to a page, in the order of titles.

    A section that fails must not cost a study its page: the page then says so in its place, and so does a warning.

    Raises:
        DataError: an entry point that is not a `ReportSection`.
    """
    sections = {section.title: section for section in _installed()} | _REGISTERED
    bodies = {s.title: _body(s, data, answers) for s in sections.values() if page in s.pages}
    return [(title, bodies[title]) for title in sorted(bodies) if bodies[title]]


def _installed() -> list[ReportSection]:
    """The sections that installed packages declare."""
    loaded = {point.name: _loaded(point) for point in entry_points(group=ENTRY_POINTS)}
    for name, section in loaded.items():
        if not isinstance(section, ReportSection):
            raise DataError(
                f"the entry point {name!r} of {ENTRY_POINTS} is a {type(section).__name__}; "
                "it must name a ReportSection"
            )
    return list(loaded.values())


def _loaded(point: EntryPoint) -> Any:
    """The value of an entry point; where it cannot be imported, a section that fails and says why."""
    try:
        return load_entry_point("report section", point)
    except PersonaProbeError as error:
        failure = error

    def fail(data: Mapping[str, Any], answers: Rows) -> str:
        raise failure

    return ReportSection(point.name, fail, frozenset(get_args(PageKind)))


def _body(section: ReportSection, data: Mapping[str, Any], answers: Rows) -> str:
    try:
        return section.body(data, answers)
    except Exception as error:  # code from outside may raise anything
        failure = f"This section could not be made: {type(error).__name__}: {error}"
        warnings.warn(f"report section {section.title!r}: {failure}", FallbackWarning, stacklevel=2)
        return failure
