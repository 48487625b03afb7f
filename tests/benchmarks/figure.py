"""The README's figure: speed compared with other libraries, and cost against size, from the files in ``results/``.

python -m tests.benchmarks.figure intel-r--xeon-r--processor-avx512-amx bfloat16
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
OURS, PEERS = "#2f6f8f", "#c9c4ba"
INK = "#333333"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machine", help="hardware, as named in the files of results")
    parser.add_argument("dtype", help="dtype of the results of speed")
    options = parser.parse_args()
    machine = options.machine
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "personaprobe", "font.family": "sans-serif"})
    speed, dictionaries = (
        json.loads((RESULTS / f"{work}-{machine}.json").read_text())
        for work in (f"speed-demo-{options.dtype}", "dictionaries")
    )
    scaling_path = RESULTS / f"scaling-{machine}.json"
    scaling = json.loads(scaling_path.read_text())["works"] if scaling_path.is_file() else {}
    works = {**dict(ratios(speed)), **dict(ratios(dictionaries))}
    figure = plt.figure(figsize=(10, 0.21 * sum(map(len, works.values())) + 0.42 * len(works) + 2.6))
    upper, lower = figure.subfigures(2, 1, height_ratios=[3.2, 1])
    bars(upper.subplots(), works)
    for place, (name, result) in enumerate(scaling.items(), 1):
        growth(lower.add_subplot(1, len(scaling), place), name, result)
    hardware = speed["hardware"]
    upper.suptitle(
        f"{hardware['cpu']}, {hardware['cores']} cores, {speed['dtype']}: speed, reference = 1",
        x=0.5,
        fontsize=9,
    )
    lower.subplots_adjust(bottom=0.25, top=0.85, wspace=0.35)
    upper.subplots_adjust(left=0.42, right=0.97, top=0.95, bottom=0.02)
    path = RESULTS / f"speed-{options.dtype}-{machine}.svg"
    figure.savefig(path, metadata={"Date": None})
    print(path)


def ratios(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each workload's name, and the speed of its variants relative to the reference."""
    for work in result["works"]:
        yield work["name"], {name: speed["ratio"] for name, speed in work["speeds"].items()}


def bars(axes: Axes, works: dict[str, dict[str, float]]) -> None:
    """Draw one bar for each variant, ours in colour."""
    place, ticks, labels = 0.0, [], []
    for name, variants in works.items():
        axes.text(
            -0.02, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center", weight="bold"
        )
        place += 1
        for variant, ratio in sorted(variants.items(), key=lambda item: -item[1]):
            is_ours = "personaprobe" in variant or "arms" in variant
            axes.barh(place, ratio, color=OURS if is_ours else PEERS, height=0.75)
            axes.text(ratio + 0.03, place, f"{ratio:.2f}", va="center", color=INK)
            ticks.append(place)
            labels.append(variant)
            place += 1
        place += 0.5
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def growth(axes: Axes, name: str, result: dict[str, Any]) -> None:
    """Plot seconds against size, with the fitted line."""
    sizes, seconds = result["sizes"], result["seconds"]
    axes.plot(sizes, [result["a piece"] * size + result["fixed"] for size in sizes], color=PEERS)
    axes.plot(sizes, seconds, "o", color=OURS, markersize=4)
    axes.set_title(f"{name} (R² {result['R2']:.3f})", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_ylabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
