"""Training curves for TensorBoard, beside the metrics that are always written as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personaprobe.errors import OutputError
from personaprobe.features.sae.training.trainer import TrainingMetrics


@contextmanager
def tensorboard_writer(folder: Path) -> Iterator[Callable[[TrainingMetrics], None]]:
    """Open a writer of TensorBoard event files; yields a function that writes the metrics of a step.

    On resume, events at or after the first step written are purged (``purge_step``), since an interrupted training may
    have written them already.

    Args:
        folder: receives the event files.

    Raises:
        OutputError: TensorBoard is not installed.
    """
    refuse_missing_tensorboard()
    opened: list[Any] = []

    def write(metrics: TrainingMetrics) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if not opened:
            opened.append(SummaryWriter(str(folder), purge_step=metrics.step))
        curves = {f"loss/{term}": value for term, value in metrics.losses.items()}
        curves |= {name: getattr(metrics, name) for name in ("explained_variance", "l0", "dead")}
        for name, value in curves.items():
            opened[0].add_scalar(name, value, metrics.step)

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()


def refuse_missing_tensorboard() -> None:
    """Raise if TensorBoard is not installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise OutputError("TensorBoard is not installed: pip install 'personaprobe[tensorboard]'")
