"""Packages of others, put on the import path as an installer would."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, module: str, code: str, entry_points: str) -> None:
    """Write a package of one module with its metadata.

    Args:
        folder: on the import path, or about to be.
        module: its name; the distribution is named with hyphens.
        code: of the module.
        entry_points: the text of ``entry_points.txt``.
    """
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(entry_points)
