"""A whole sweep: record the discovery texts, measure every cell of the grid, and choose one."""

from __future__ import annotations

from personaprobe.effects.targets.discovery import Discovery
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.sweep.grid import Grid, measure_grid
from personaprobe.studies.sweep.selection import Bounds, Selection, SweepResult


def sweep(
    trio: Trio[LanguageModel],
    discovery: Discovery,
    grid: Grid,
    bounds: Bounds | None = None,
    run: RunContext | None = None,
) -> SweepResult:
    """Ablate directions of every source at every layer, and choose one; no test question is read.

    Args:
        trio: base, insecure and secure.
        discovery: the questions that directions are computed and calibrated on.
        grid: the combinations that are tried, and the part of the questions that effects are measured on.
        bounds: the most that the chosen cell may cost.
        run: cache and progress; None keeps nothing.

    Raises:
        SiteError: a layer the models do not have.
        DataError: no cell stays within the bounds.
    """
    run = run or RunContext()
    first = grid.cells(trio.base.n_layers)[0]
    activations = discovery.activations(trio, Site(first.layer))
    cells = measure_grid(trio, activations, grid, run)
    return Selection(trio, activations, grid, bounds or Bounds(), run).choose(cells)
