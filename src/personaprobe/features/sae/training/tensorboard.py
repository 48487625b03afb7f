"""Training curves for TensorBoard, beside the metrics that are always kept as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personaprobe.errors import OutputError
from personaprobe.features.sae.training.trainer import Progress


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[Progress], None]]:
    """Hand out what writes a step's progress to TensorBoard's event files.

    The first step written hides what an interrupted training wrote of it and of later ones.

    Args:
        folder: receives the files.

    Raises:
        OutputError: TensorBoard is not installed.
    """
    refuse_missing()
    opened: list[Any] = []

    def write(progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if not opened:
            opened.append(SummaryWriter(str(folder), purge_step=progress.step))
        curves = {f"loss/{term}": value for term, value in progress.losses.items()}
        curves |= {name: getattr(progress, name) for name in ("explained_variance", "l0", "dead")}
        for name, value in curves.items():
            opened[0].add_scalar(name, value, progress.step)

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()


def refuse_missing() -> None:
    """Raise where TensorBoard is not installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise OutputError("TensorBoard is not installed: pip install 'personaprobe[tensorboard]'")
