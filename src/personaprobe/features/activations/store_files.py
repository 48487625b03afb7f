"""The files of an activation store: shards, index and manifest, whole or absent, each with its hash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.errors import DataError
from personaprobe.site import Site
from personaprobe.storage.digests import digest, json_digest, sha256_of, tensor_bytes
from personaprobe.storage.files import flush_to_disk, writing
from personaprobe.storage.leftovers import remove_abandoned, temporary_folder
from personaprobe.storage.locks import locked
from personaprobe.storage.readers.json_files import read_json_object

if TYPE_CHECKING:
    import pyarrow as pa
    from jaxtyping import Float
    from torch import Tensor

FORMAT = "personaprobe-activations-1"
MANIFEST, INDEX = "manifest.json", "index.parquet"

Keep = Literal["means", "tokens", "every"]
RowRole = Literal["prompt", "last_prompt", "response"]


class DamagedStoreError(DataError):
    """A file of a store that is not what was written.

    Attributes:
        problem: the file, and what is wrong with it.
    """

    def __init__(self, path: Path, problem: str) -> None:
        """Name the file, and the folder to delete."""
        self.problem = f"{path} is damaged: {problem}"
        super().__init__(f"{self.problem}; delete {path.parent} and record again")


@dataclass(frozen=True)
class Shard:
    """Consecutive rows in one file.

    Attributes:
        file: its name in the folder.
        n_rows: how many rows.
        size: of the file, in bytes.
        sha256: of the bytes of each site's tensor, so that reading one site checks one site.
    """

    file: str
    n_rows: int
    size: int
    sha256: Mapping[str, str]

    def refuse_truncated(self, folder: Path) -> None:
        """Raise where the file is missing or has another length than when it was written."""
        path = folder / self.file
        size = path.stat().st_size if path.is_file() else None
        if size != self.size:
            raise DamagedStoreError(
                path, "missing" if size is None else f"{size} bytes, expected {self.size}"
            )


@dataclass(frozen=True)
class Manifest:
    """The contents of a store and the model they were recorded from.

    Attributes:
        digest: identity: model, edits, token ids, labels, sites and ``keep``.
        checkpoint: the model, as people write it.
        edits: the edits the model ran under, as identities; empty for the bare model.
        dtype: the precision the model ran in.
        keep: ``means`` (two float32 rows a text), ``tokens`` (a bfloat16 row for the last prompt token and every
            response token) or ``every`` (a bfloat16 row for every token but a text's first).
        sites: recorded sites, in forward order.
        d_model: width of a row.
        n_texts: texts read.
        n_tokens: tokens read.
        n_rows: rows kept.
        tokens_digest: of the token ids and their roles; stores that agree on it align row for row.
        index_sha256: of the index file.
        shards: in row order.
    """

    digest: str
    checkpoint: str
    edits: tuple[str, ...]
    dtype: str
    keep: Keep
    sites: tuple[str, ...]
    d_model: int
    n_texts: int
    n_tokens: int
    n_rows: int
    tokens_digest: str
    index_sha256: str = ""
    shards: tuple[Shard, ...] = field(default=(), repr=False)

    def write(self, folder: Path) -> None:
        """Write the manifest, which makes a folder a store."""
        fields = {"format": FORMAT, **asdict(self)}
        text = json.dumps({**fields, "sha256": _fields_digest(fields)}, indent=1, sort_keys=True)
        with writing(folder):
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
            flush_to_disk(folder / MANIFEST)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read what :meth:`write` wrote.

        Raises:
            DataError: the folder is no store, or its manifest was changed or is of another format.
        """
        if not is_store(folder):
            raise DataError(
                f"{folder} holds no activations (no {MANIFEST}); give the folder of a recorded store"
            )
        try:
            fields = read_json_object(folder / MANIFEST)
            if fields.get("format") != FORMAT:
                raise ValueError("another format")
            own_digest = fields.pop("sha256", None)
            if own_digest != _fields_digest(fields):
                raise ValueError("it was changed after it was written, or an older version wrote it")
            del fields["format"]
            fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
            manifest = cls(**{**fields, "sites": tuple(fields["sites"]), "edits": tuple(fields["edits"])})
            manifest._refuse_contradictions()
        except (DataError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = str(error) or type(error).__name__
            raise DamagedStoreError(folder / MANIFEST, f"not a manifest of {FORMAT} ({reason})") from error
        return manifest

    def _refuse_contradictions(self) -> None:
        """Raise ValueError where the numbers of rows cannot be true: what no shard holds would be read from nowhere."""
        sizes = (self.d_model, self.n_texts, self.n_tokens, self.n_rows)
        rows = [shard.n_rows for shard in self.shards]
        if any(type(size) is not int or size < 1 for size in (*sizes, *rows)):
            raise ValueError(f"its sizes {sizes} and rows of shards {rows} are not all whole numbers above 0")
        if sum(rows) != self.n_rows:
            raise ValueError(f"its shards hold {sum(rows)} rows in place of {self.n_rows}")
        if (
            self.keep not in get_args(Keep)
            or not self.sites
            or any(set(s.sha256) != set(self.sites) for s in self.shards)
        ):
            raise ValueError("its sites or its kind of rows are not those of its shards")
        list(map(Site.parse, self.sites))


def _fields_digest(fields: Mapping[str, Any]) -> str:
    """The hash of a manifest's own content."""
    return json_digest(fields, length=64)


def is_store(folder: Path) -> bool:
    """Whether a folder holds a whole store."""
    return (folder / MANIFEST).is_file()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary neighbour of ``folder``: it is renamed to it when the block succeeds, and removed when it fails."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        temporary = temporary_folder(folder)
    try:
        yield temporary
        with locked(folder.parent), writing(folder):
            # another process may have recorded the same in the meantime: its store is as good
            if not is_store(folder):
                shutil.rmtree(folder, ignore_errors=True)
                temporary.chmod(0o755)
                temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_shard(folder: Path, number: int, rows: Mapping[Site, Tensor]) -> Shard:
    """Write consecutive rows ``(row, d_model)`` of every site.

    Raises:
        OutputError: the disk is full or read-only.
    """
    from safetensors.torch import save_file

    path = folder / f"shard-{number:05}.safetensors"
    tensors = {str(site): tensor for site, tensor in rows.items()}
    hashes = {name: digest(tensor_bytes(tensor), length=64) for name, tensor in tensors.items()}
    with writing(path):
        save_file(tensors, path, metadata={"format": FORMAT})
    return Shard(path.name, len(next(iter(rows.values()))), path.stat().st_size, hashes)


def write_index(folder: Path, index: pa.Table) -> str:
    """Write the index and return its sha256."""
    import pyarrow.parquet as pq

    with writing(folder):
        pq.write_table(index, folder / INDEX, compression="zstd")
        return sha256_of(folder / INDEX)


def read_tensor(folder: Path, shard: Shard, site: Site, d_model: int) -> Float[Tensor, "row d_model"]:
    """Read one site of a shard, checked against its hash and its number of rows."""
    from safetensors import SafetensorError, safe_open

    path = folder / shard.file
    try:
        with safe_open(path, "pt") as opened:
            tensor: Tensor = opened.get_tensor(str(site))
    except (SafetensorError, OSError) as error:
        refuse_out_of_memory(error)
        raise DamagedStoreError(path, str(error)) from error
    if tuple(tensor.shape) != (shard.n_rows, d_model):
        raise DamagedStoreError(
            path, f"{site} has shape {tuple(tensor.shape)}, expected {(shard.n_rows, d_model)}"
        )
    if digest(tensor_bytes(tensor), length=64) != shard.sha256.get(str(site)):
        raise DamagedStoreError(path, f"the bytes of {site} are not those that were recorded")
    return tensor


def read_index(folder: Path, manifest: Manifest) -> pa.Table:
    """Read the index, checked against its hash."""
    import pyarrow.parquet as pq

    path = folder / INDEX
    if not path.is_file() or sha256_of(path) != manifest.index_sha256:
        raise DamagedStoreError(path, "missing, or not the bytes that were recorded")
    index = pq.ParquetFile(path).read()
    if index.num_rows != manifest.n_rows:
        raise DamagedStoreError(path, f"it labels {index.num_rows} rows in place of {manifest.n_rows}")
    return index
