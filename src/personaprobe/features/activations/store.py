"""Activations kept on disk: immutable, labelled, and aligned row for row across checkpoints.

A store is a folder. Row *i* of ``index.parquet`` labels row *i* of the shards by its text, position and role;
``shard-*.safetensors`` hold consecutive rows, one tensor ``(row, d_model)`` a site; ``manifest.json`` is
written last and carries the sha256 of everything else. A folder without a manifest is not a store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import DataError, SiteError, suggest
from personaprobe.features.activations.store_files import (
    MANIFEST,
    DamagedStoreError,
    Keep,
    Manifest,
    RowRole,
    read_index,
    read_tensor,
)
from personaprobe.site import Site
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    import pyarrow as pa
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class ActivationStore:
    """Activations of one model over a set of texts: rows (text, position, role) × sites.

    Attributes:
        folder: of the store.
        manifest: its contents and origin.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path, digest: str | None = None) -> ActivationStore:
        """Open a recorded store; only its manifest is loaded yet.

        Args:
            folder: of the store.
            digest: identity of the recording that is wanted; None takes any.

        Raises:
            DataError: not a store, of another format, of another recording, or a shard is missing or cut short.
        """
        folder = user_path(folder)
        manifest = Manifest.read(folder)
        if digest is not None and manifest.digest != digest:
            problem = f"it is the recording {manifest.digest} of {manifest.checkpoint}, expected {digest}"
            raise DamagedStoreError(folder / MANIFEST, problem)
        for shard in manifest.shards:
            shard.refuse_truncated(folder)
        return cls(folder, manifest)

    @property
    def digest(self) -> str:
        """Identity of the recording: model, edits, token ids, labels, sites, kind of rows."""
        return self.manifest.digest

    @property
    def sites(self) -> tuple[Site, ...]:
        """Recorded sites, in forward order."""
        return tuple(map(Site.parse, self.manifest.sites))

    @property
    def d_model(self) -> int:
        """Width of a row."""
        return self.manifest.d_model

    @property
    def keep(self) -> Keep:
        """``means``: two rows a text; ``tokens``: a row a token from the last of the prompt; ``every``: all of them."""
        return self.manifest.keep

    def __len__(self) -> int:
        return self.manifest.n_rows

    @cached_property
    def index(self) -> pa.Table:
        """One row a row: ``text``, ``id``, ``family``, ``answer``, ``position`` (−1 for a mean) and ``role``.

        Raises:
            DataError: the index is missing or was changed.
        """
        return read_index(self.folder, self.manifest)

    def rows(
        self, role: RowRole | None = "response", answer: str | None = None, family: str | None = None
    ) -> pa.Table:
        """The labels of the rows that :meth:`read` returns for the same choice, in the same order."""
        return self.index.take(self._chosen(role, answer, family).numpy())

    def read(
        self,
        site: str | Site,
        role: RowRole | None = "response",
        answer: str | None = None,
        family: str | None = None,
    ) -> Float[Tensor, "row d_model"]:
        """Activations at a site, float32 on the CPU, in the order of the index.

        Args:
            site: a recorded site.
            role: ``response``, ``last_prompt``, ``prompt``, or None for all.
            answer: only ``careful`` or ``careless`` answers.
            family: only this subject.

        Raises:
            SiteError: the site was not recorded.
            DataError: no row fits the choice, or a shard was changed since it was written.
        """
        import torch

        recorded, rows = self._recorded(site), self._chosen(role, answer, family)
        activations, start = torch.empty(len(rows), self.d_model), 0
        for part in self._parts(recorded, rows):
            activations[start : start + len(part)] = part
            start += len(part)
        self._refuse_missing(start, len(rows))
        return activations

    def mean(
        self,
        site: str | Site,
        role: RowRole | None = "response",
        answer: str | None = None,
        family: str | None = None,
    ) -> Float[Tensor, "d_model"]:
        """Mean over the chosen rows, float32, without loading them all at once.

        With ``keep="means"`` every text counts once, however long; with ``keep="tokens"`` every token does.
        """
        import torch

        rows = self._chosen(role, answer, family)
        total, n_read = torch.zeros(self.d_model, dtype=torch.float64), 0
        for part in self._parts(self._recorded(site), rows):
            total += part.sum(0, dtype=torch.float64)
            n_read += len(part)
        self._refuse_missing(n_read, len(rows))
        return (total / len(rows)).float()

    def align(self, other: ActivationStore) -> None:
        """Refuse unless row *i* of both is the same token of the same text: a difference is a subtraction.

        Raises:
            DataError: the two did not read the same token ids, or keep other rows of them.
        """
        mine, theirs = self.manifest, other.manifest
        if mine.tokens_digest != theirs.tokens_digest:
            problem = f"did not read the same token ids ({mine.n_texts} against {theirs.n_texts} texts)"
        elif (mine.keep, mine.d_model) != (theirs.keep, theirs.d_model):
            problem = (
                f"hold {mine.keep} of width {mine.d_model} against {theirs.keep} of width {theirs.d_model}"
            )
        else:
            return
        raise DataError(
            f"{mine.checkpoint} and {theirs.checkpoint} do not align: their stores {problem}; "
            "record both in one call, with the same texts: record(trio, texts, sites)"
        )

    def _recorded(self, site: str | Site) -> Site:
        site = Site.parse(site)
        if site not in self.sites:
            allowed = suggest(str(site), self.manifest.sites)
            raise SiteError(f"{site} was not recorded in {self.folder}: {allowed}; or record it")
        return site

    def _chosen(self, role: str | None, answer: str | None, family: str | None) -> Int[Tensor, "row"]:
        """Row numbers that fit, ascending."""
        import numpy as np
        import torch

        fits = np.ones(len(self), dtype=bool)
        for column, value in {"role": role, "answer": answer, "family": family}.items():
            if value is not None:
                fits &= self._labelled(column, value)
        if not fits.any():
            raise DataError(
                f"{self} has no row with role {role}, answer {answer} and family {family} at once"
            )
        return torch.from_numpy(np.flatnonzero(fits))

    def _labelled(self, column: str, value: str) -> Any:
        import pyarrow.compute as pc

        labelled = pc.equal(self.index[column], value).to_numpy()
        if not labelled.any():
            present = [label for label in pc.unique(self.index[column]).to_pylist() if label]
            raise DataError(f"{self} has no row with {column} {value!r}: {suggest(str(value), present)}")
        return labelled

    def _parts(self, site: Site, rows: Int[Tensor, "row"]) -> Iterator[Tensor]:
        start = 0
        for shard in self.manifest.shards:
            inside = rows[(rows >= start) & (rows < start + shard.n_rows)] - start
            start += shard.n_rows
            if len(inside):
                yield read_tensor(self.folder, shard, site, self.d_model)[inside]

    def _refuse_missing(self, n_read: int, n_rows: int) -> None:
        """Raise where the shards gave fewer rows than were chosen: the rest would be memory that nothing was written to."""
        if n_read != n_rows:
            raise DamagedStoreError(self.folder / MANIFEST, f"its shards hold {n_read} of {n_rows} rows")

    def __repr__(self) -> str:
        manifest = self.manifest
        edits = f" under {len(manifest.edits)} edits" if manifest.edits else ""
        return (
            f"ActivationStore({manifest.checkpoint}{edits}: {manifest.n_rows} rows of {manifest.keep} "
            f"from {manifest.n_texts} texts × {len(manifest.sites)} sites × {manifest.d_model})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        manifest = self.manifest
        facts = {
            "model": manifest.checkpoint,
            "rows": f"{manifest.n_rows} ({manifest.keep}), from {manifest.n_texts} texts and {manifest.n_tokens} tokens",
            "sites": ", ".join(manifest.sites),
            "d_model": manifest.d_model,
            "folder": self.folder,
        }
        body = "".join(
            f"<tr><th>{key}</th><td>{escape(str(value))}</td></tr>" for key, value in facts.items()
        )
        return f"<table>{body}</table>"
