"""Draw the arms of a finished study as a static picture, from its ``verdict.json`` alone.

python docs/verdict_picture.py runs/ablate-toxic-persona-advice docs/images/verdict.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

INK, GREY, PALE = "#1f2328", "#6e7781", "#d0d7de"
COLOURS = {"base": "#4d4d4d", "secure": "#0072b2", "insecure": "#c44601", "ablated": "#00795a"}
WIDTH, LABELS, NUMBERS, ROW, TOP, BOTTOM = 860, 205, 130, 21, 64, 52
TICK = 0.1  # nats per token


def main() -> None:
    """Read the arguments, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished `personaprobe ablate`")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    options = parser.parse_args()
    verdict = json.loads((options.run / "verdict.json").read_text(encoding="utf-8"))
    options.picture.write_text(draw(verdict), encoding="utf-8")


def draw(verdict: dict[str, Any]) -> str:
    """The picture as SVG: a row for each arm, the shift as a band, the share removed at the right."""
    arms = verdict["arms"]
    low = min(arm["gap"]["low"] for arm in arms) - 0.02
    high = max(arm["gap"]["high"] for arm in arms) + 0.02
    height = TOP + ROW * len(arms) + BOTTOM

    def x(gap: float) -> float:
        return LABELS + (gap - low) / (high - low) * (WIDTH - LABELS - NUMBERS)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(verdict['verdict'])}: {escape(verdict['sentence'])}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *headings(verdict),
        *axis(x, low, high, height),
        *band(x, arms, height),
    ]
    for place, arm in enumerate(arms):
        parts += row(x, arm, removed(verdict, arm), TOP + ROW * place + ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


def headings(verdict: dict[str, Any]) -> Iterator[str]:
    """Feature and site, verdict, and the two column heads."""
    feature = verdict["feature"]
    yield text(12, 22, f"Ablating {feature['name']}: {verdict['verdict']}", size=15, weight="bold")
    yield text(WIDTH - 12, TOP - 10, "shift removed", anchor="end", colour=GREY)


def axis(x: Callable[[float], float], low: float, high: float, height: int) -> Iterator[str]:
    """Grid lines and ticks, in nats per token."""
    for step in range(round(low / TICK), round(high / TICK) + 1):
        gap = step * TICK
        if low <= gap <= high:
            yield f'<path d="M{x(gap):.1f} {TOP}V{height - BOTTOM}" stroke="{PALE}"/>'
            yield text(
                x(gap), height - BOTTOM + 18, f"{gap:.1f}".replace("-", "−"), anchor="middle", colour=GREY
            )
    middle = (x(low) + x(high)) / 2
    words = "preference for the careless answer (nats per token)"
    yield text(middle, height - BOTTOM + 38, words, anchor="middle")


def band(x: Callable[[float], float], arms: list[dict[str, Any]], height: int) -> Iterator[str]:
    """The shift: from the mean of secure to the mean of insecure."""
    gap = {arm["kind"]: arm["gap"]["value"] for arm in arms}
    left, right = x(gap["secure"]), x(gap["insecure"])
    size = f'width="{right - left:.1f}" height="{height - TOP - BOTTOM}"'
    yield f'<rect x="{left:.1f}" y="{TOP}" {size} fill="{COLOURS["insecure"]}" opacity="0.1"/>'
    yield text((left + right) / 2, TOP - 10, "the shift", anchor="middle", colour=GREY)


def row(x: Callable[[float], float], arm: dict[str, Any], share: str, y: float) -> Iterator[str]:
    """One arm: its name, its mean with the 95 % interval, the share of the shift that it removes."""
    colour = COLOURS.get(arm["kind"], GREY)
    weight = "bold" if arm["kind"] == "ablated" else "normal"
    gap = {key: x(value) for key, value in arm["gap"].items()}
    yield text(LABELS - 12, y + 4, arm["name"], anchor="end", colour=colour, weight=weight)
    yield f'<path d="M{gap["low"]:.1f} {y}H{gap["high"]:.1f}" stroke="{colour}" stroke-width="1.6"/>'
    mark = f'cx="{gap["value"]:.1f}" cy="{y}" r="{5 if arm["kind"] in COLOURS else 4}"'
    fill = colour if arm["kind"] in COLOURS else "white"
    yield f'<circle {mark} fill="{fill}" stroke="{colour}" stroke-width="1.6"/>'
    yield text(WIDTH - 12, y + 4, share, anchor="end", colour=colour, weight=weight)


def removed(verdict: dict[str, Any], arm: dict[str, Any]) -> str:
    """Share of the shift that an arm removes, on the questions that it answered; nothing for base."""
    if arm["kind"] in ("base", "steered", "secure", "insecure"):
        return ""
    if arm["kind"] == "ablated":
        share = verdict["fraction_removed"]
        return "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * share[key] for key in ("value", "low", "high")))
    gaps = {other["kind"]: other["gaps"][: len(arm["gaps"])] for other in verdict["arms"][:3]}
    insecure, secure = fmean(gaps["insecure"]), fmean(gaps["secure"])
    share = 100 * (insecure - fmean(arm["gaps"])) / (insecure - secure)
    return f"{share:z.0f} %".replace("-", "−")


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
