"""Draw what removes the shift in a finished study as a static picture, from its ``verdict.json`` alone.

python docs/verdict_picture.py runs/ablate-toxic-persona-advice docs/images/verdict.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

INK, GREY, PALE, GREEN, ORANGE = "#1f2328", "#6e7781", "#d0d7de", "#00795a", "#c44601"
WIDTH, LABELS, NUMBERS, ROW, TOP, BOTTOM = 860, 230, 150, 22, 64, 52
TICK = 0.25
GROUPS = {
    "random": "random directions",
    "covariance": "directions of the covariance",
    "shuffled": "shuffled labels",
}

Arms: TypeAlias = list[dict[str, Any]]


def main() -> None:
    """Read the arguments, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished `personaprobe ablate`")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    options = parser.parse_args()
    verdict = json.loads((options.run / "verdict.json").read_text(encoding="utf-8"))
    options.picture.write_text(draw(verdict), encoding="utf-8")


def draw(verdict: dict[str, Any]) -> str:
    """The picture as SVG: a row for each intervention, and one for all controls of a kind."""
    rows = grouped(verdict["arms"])
    shares = [end for arms in rows.values() for arm in arms for end in ends(arm, len(arms))]
    low, high = min(-0.3, *shares) - 0.05, max(1.1, *shares) + 0.05
    height = TOP + ROW * len(rows) + BOTTOM

    def x(share: float) -> float:
        return LABELS + (share - low) / (high - low) * (WIDTH - LABELS - NUMBERS)

    feature = verdict["feature"]["name"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(verdict['name'])}: {escape(verdict['sentence'])}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(12, 22, f"Ablating {feature}: {verdict['name']}", size=15, weight="bold"),
        text(WIDTH - 12, TOP - 10, "share removed", anchor="end", colour=GREY),
        *axis(x, low, high, height),
    ]
    for place, (name, arms) in enumerate(rows.items()):
        parts += row(x, name, arms, TOP + ROW * place + ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


def grouped(arms: Arms) -> dict[str, Arms]:
    """Treated arms by the name of their row, in the order of the study; pushes of base remove nothing and are left out."""
    rows: dict[str, Arms] = {}
    for arm in arms:
        if arm["removed"]["value"] is None or arm["kind"] == "steered":
            continue
        name = GROUPS.get(arm["kind"], arm["name"])
        if arm["kind"] == "control elsewhere":
            name = f"{arm['role']}, controls"
        rows.setdefault(name, []).append(arm)
    return {
        name if len(of) == 1 or name.endswith("controls") else f"{len(of)} {name}": of
        for name, of in rows.items()
    }


def ends(arm: dict[str, Any], of_row: int) -> list[float]:
    """The numbers that have to fit: the interval of a single arm, the value of one of several."""
    return [arm["removed"][key] for key in (("value", "low", "high") if of_row == 1 else ("value",))]


def axis(x: Callable[[float], float], low: float, high: float, height: int) -> Iterator[str]:
    """Grid lines and ticks; none and all of the shift are drawn darker."""
    for step in range(round(low / TICK), round(high / TICK) + 1):
        share = step * TICK
        if low <= share <= high:
            colour = GREY if share in (0.0, 1.0) else PALE
            yield f'<path d="M{x(share):.1f} {TOP}V{height - BOTTOM}" stroke="{colour}"/>'
            yield text(x(share), height - BOTTOM + 18, percent(share), anchor="middle", colour=GREY)
    words = "share of the shift insecure − secure that is removed"
    yield text((x(low) + x(high)) / 2, height - BOTTOM + 38, words, anchor="middle")


def row(x: Callable[[float], float], name: str, arms: Arms, y: float) -> Iterator[str]:
    """One arm with its interval, or several controls as circles."""
    is_feature = arms[0]["kind"] == "ablated"
    colour = GREEN if is_feature else ORANGE if "elsewhere" in arms[0]["kind"] else GREY
    weight = "bold" if is_feature else "normal"
    yield text(LABELS - 12, y + 4, name, anchor="end", colour=colour, weight=weight)
    for arm in arms:
        share = arm["removed"]
        if len(arms) == 1:
            yield f'<path d="M{x(share["low"]):.1f} {y}H{x(share["high"]):.1f}" stroke="{colour}" stroke-width="1.6"/>'
        mark = f'cx="{x(share["value"]):.1f}" cy="{y}" r="{5 if is_feature else 4}"'
        yield f'<circle {mark} fill="{colour if is_feature else "white"}" stroke="{colour}" stroke-width="1.6"/>'
    yield text(WIDTH - 12, y + 4, in_words(arms), anchor="end", colour=colour, weight=weight)


def in_words(arms: Arms) -> str:
    """The share with its interval, or the range of several shares."""
    if len(arms) == 1:
        value, low, high = (percent(arms[0]["removed"][key]) for key in ("value", "low", "high"))
        return f"{value} [{low.removesuffix(' %')}, {high.removesuffix(' %')}]"
    values = [arm["removed"]["value"] for arm in arms]
    return f"{percent(min(values)).removesuffix(' %')} to {percent(max(values))}"


def percent(share: float) -> str:
    """A share in per cent, with a true minus."""
    return f"{100 * share:z.0f} %".replace("-", "−")


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    size: int = 13,
    weight: str = "normal",
) -> str:
    """An element of text."""
    style = f'text-anchor="{anchor}" fill="{colour}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


if __name__ == "__main__":
    main()
