"""The parts that all pages share: one Jinja environment, the spelling of numbers, scripts and their policy."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from personaprobe.errors import visible
from personaprobe.statistics.intervals import Interval
from personaprobe.storage.digests import sha256
from personaprobe.studies.reports.figures.panels import CONFIG, plotly_script

if TYPE_CHECKING:
    from jinja2 import Environment

NOT_MEASURED = "not measured"
NOT_RECORDED = "not recorded"
"""Shown on pages of older run folders, whose data lack a value."""

_DRAW = """
for (const box of document.querySelectorAll(".figure")) {
  const figure = JSON.parse(box.querySelector("script").textContent);
  Plotly.newPlot(box.querySelector(".plot"), figure.data, figure.layout, CONFIG);
}
"""


@cache
def environment() -> Environment:
    """The Jinja environment of all pages: it escapes every value, and an undefined name is an error.

    Control characters of values are spelled out: an override of direction would show other text than there is.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(packaged),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, formatted, times, share, interval, interval_ends, rate, points, p_value, reasons)
    environment.filters.update({function.__name__: function for function in filters})
    environment.globals.update({"heat": heat, "not_recorded": NOT_RECORDED})
    return environment


def _visible(value: Any) -> Any:
    """A value of a template with its control characters spelled out; markup of ours stays as it is."""
    from markupsafe import Markup

    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render_template(name: str, **values: Any) -> str:
    """Fill a template of this room."""
    return environment().get_template(name).render(**values)


def packaged(name: str) -> str:
    """The text of a template or a style sheet."""
    return (files("personaprobe.studies.reports") / "templates" / name).read_text(encoding="utf-8")


def styled(name: str = "page.css") -> Any:
    """A style sheet as markup."""
    from markupsafe import Markup

    return Markup(packaged(name))


def figure_scripts() -> dict[str, Any]:
    """The two scripts of a page with figures (plotly.js, and the one that draws), and the policy that admits them."""
    from markupsafe import Markup

    scripts = [plotly_script(), _DRAW.replace("CONFIG", json.dumps(CONFIG))]
    return {
        "scripts": [Markup(script) for script in scripts],
        "policy": " ".join(map(script_digest, scripts)),
    }


def script_digest(script: str) -> str:
    """The digest of a script, as a content security policy names it: only scripts with these bytes may run."""
    digest = sha256(script)
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def number(value: float | None, places: int = 2) -> str:
    """A number for readers: with a true minus sign, ∞ for infinity, and words where it was not measured."""
    if value is None or math.isnan(value):
        return NOT_MEASURED
    return f"{value:z.{places}f}".replace("-", "−").replace("inf", "∞")


def formatted(value: float | None, spec: str) -> str:
    """A number in printf style, such as ``%.2f``; words where it was not measured."""
    return NOT_MEASURED if value is None else spec % value


def times(value: float | None) -> str:
    """A ratio, such as × 1.04."""
    return NOT_MEASURED if value is None or math.isnan(value) else f"× {number(value)}"


def share(value: float | None, places: int = 0) -> str:
    """A share in per cent."""
    return NOT_MEASURED if value is None or math.isnan(value) else f"{number(100 * value, places)} %"


def points(value: float | None) -> str:
    """A difference of shares in percentage points."""
    return NOT_MEASURED if value is None else f"{number(100 * value, 1)} points"


def p_value(p: float | None) -> str:
    """A p- or q-value to three places; a dash where no test was made."""
    if p is None or math.isnan(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def interval(data: Mapping[str, float | None]) -> Interval:
    """An interval, read from plain data."""
    return Interval.from_dict(data)


def interval_ends(data: Mapping[str, float | None], spell: Callable[[float], str] = number) -> str:
    """The two ends of an interval, or why there are none."""
    ends = interval(data)
    return f"{spell(ends.low)} to {spell(ends.high)}" if ends.defined else "no shift to measure it by"


def rate(data: Mapping[str, float | None]) -> str:
    """A share with its interval; a dash where nothing was counted."""
    ends = interval(data)
    if not ends.defined:
        return "–"
    return f"{share(ends.value)} ({100 * ends.low:.0f}–{100 * ends.high:.0f})"


def reasons(unscored: Mapping[str, Mapping[str, int]]) -> str:
    """How many answers have no score, by rubric and reason."""
    counted = [f"{rubric} {why}: {n}" for rubric, counts in unscored.items() for why, n in counts.items()]
    return ", ".join(counted) or "none"


def heat(activation: float, highest: float) -> str:
    """The background colour of a token: the stronger the activation, the deeper."""
    return f"rgba(213, 94, 0, {0.75 * max(activation, 0.0) / highest:.2f})" if highest > 0 else "none"


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested records as lines, such as ``versions.torch`` with its value."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "none"
        else:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key}", "not given" if value is None else text
