"""Random changes of valid content: of bytes, of plain data such as JSON holds, of tensors and of tables."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from pyarrow import parquet
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

Mutation = Callable[[DataObject, bytes], bytes]

ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "nan",
        "none",
        "None",
        "null",
        "true",
        "-1",
        "0",
        "1e999",
        "9" * 5000,
        "x" * 3000,
        "../../x",
        "~x/y",
    ),
    *(
        "/dev/null",
        "\ud800",
        "\u202eab",
        "\x1b]52;c;Zm9v\x07",
        "[/x]",
        "[red]x",
        "<script>alert(1)</script>",
        "=1+1",
        "{x}",
    ),
    *(
        "{{ 7*7 }}",
        "{% for i in range(9) %}",
        "%s",
        "<|im_end|>",
        "</s>",
        "a\nb",
        "é" * 40,
        "\ufeffx",
        "C:\\x",
        "demo",
    ),
)
ODD_NUMBERS = (
    0,
    -1,
    1,
    2,
    3.7,
    10**30,
    -(10**30),
    math.nan,
    math.inf,
    -math.inf,
    1e-300,
    5e-324,
    2**31,
    2**63,
    True,
    False,
)
ODD_VALUES: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(([], {}, [[]], [None], {"": {}}, [1, "a", None], {"x": 1})).map(copy.deepcopy),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
)
"""What a stranger's file may hold where something else is expected."""

ODD_BYTES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r\n",
        b'"',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\n\n",
        b"#",
    ),
    *(
        b"NaN",
        b"1e999",
        b"null",
        b"\\ud800",
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
        b"\x80\x04",
        b"&a [*a,*a]",
        b"!!python/name:os.system",
    ),
    *(
        b"[" * 2000,
        b"{" * 500,
        b"9" * 4400,
        b"a" * 3000,
        b"<<: *x",
        b"\x1b[2J",
        b"\xc3\x28",
        b"- - - ",
        b"---\n",
    ),
)


def changed_bytes(data: DataObject, content: bytes) -> bytes:
    """Flip, cut, repeat, remove or insert bytes at random places."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        length = data.draw(st.sampled_from((1, 1, 2, 4, 16, 100, len(changed))))
        what = data.draw(st.sampled_from(("flip", "cut", "remove", "repeat", "insert", "zero", "noise")))
        if what == "flip" and changed:
            changed[start] ^= 1 << data.draw(st.integers(0, 7))
        elif what == "cut":
            del changed[start:]
        elif what == "remove":
            del changed[start : start + length]
        elif what == "repeat":
            changed[start:start] = changed[start : start + length]
        elif what == "insert":
            changed[start:start] = data.draw(st.sampled_from(ODD_BYTES))
        elif what == "zero":
            changed[start : start + length] = bytes(len(changed[start : start + length]))
        else:
            changed[start : start + length] = data.draw(st.binary(max_size=24))
    return bytes(changed)


def changed_value(data: DataObject, value: Any) -> Any:
    """Replace, remove, rename, repeat or add parts of plain data at random places; the value itself is left as it is."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.sampled_from((1, 1, 1, 2, 4)))):
        places = list(_places(value))
        if not places:
            return data.draw(ODD_VALUES)
        container, key = places[data.draw(st.integers(0, len(places) - 1))]
        what = data.draw(st.sampled_from(("replace", "replace", "replace", "remove", "name", "copy", "wrap")))
        if what == "remove":
            del container[key]
        elif what == "name":
            _rename_or_add(data, container, key)
        else:
            container[key] = _other_part(data, what, container[key], places)
    return value


def _other_part(data: DataObject, what: str, part: Any, places: list[tuple[Any, Any]]) -> Any:
    """What comes in the place of a part: an odd value, the part inside a collection, or a copy of another part."""
    if what == "wrap":
        return data.draw(st.sampled_from(([part], {"x": part})))
    if what == "replace":
        return data.draw(ODD_VALUES)
    container, key = places[data.draw(st.integers(0, len(places) - 1))]
    return copy.deepcopy(container[key])


def _rename_or_add(data: DataObject, container: Any, key: Any) -> None:
    """Give a part of an object another name or add one; insert a value before a part of a list."""
    if isinstance(container, list):
        container.insert(key, data.draw(ODD_VALUES))
        return
    part = container.pop(key) if data.draw(st.booleans()) else data.draw(ODD_VALUES)
    names = (*ODD_TEXTS, f"{key}s", str(key).upper(), f"_{key}")
    container[data.draw(st.sampled_from(names) | st.text(max_size=8))] = part


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of plain data: what holds it, and its key or index there."""
    if isinstance(value, dict | list):
        for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(part)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_json_lines(rows: Any) -> bytes:
    return b"".join(as_json(row) + b"\n" for row in rows) if isinstance(rows, list) else as_json(rows)


def as_yaml(value: Any) -> bytes:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False)).encode("utf-8", "replace")


def as_toml(value: Any) -> bytes:
    """Plain data as TOML; what TOML cannot hold is written as it stands in JSON, which may be no TOML."""
    lines: list[str] = []

    def write(table: dict[str, Any], path: tuple[str, ...]) -> None:
        if path:
            lines.append(f"[{'.'.join(map(json.dumps, path))}]")
        tables = {key: part for key, part in table.items() if isinstance(part, dict)}
        lines.extend(
            f"{json.dumps(key)} = {json.dumps(part)}" for key, part in table.items() if key not in tables
        )
        for key, part in tables.items():
            write(part, (*path, key))

    write(value if isinstance(value, dict) else {"x": value}, ())
    return "\n".join(lines).encode("utf-8", "replace")


def structured(read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> Mutation:
    """Changes of the data that a file holds, and sometimes of its bytes."""

    def mutate(data: DataObject, content: bytes) -> bytes:
        if data.draw(st.integers(0, 3)) == 0:
            return changed_bytes(data, content)
        changed = write(changed_value(data, read(content)))
        return changed_bytes(data, changed) if data.draw(st.integers(0, 9)) == 0 else changed

    return mutate


def packed(mutate: Mutation) -> Mutation:
    """Changes of what a gzip file holds, and sometimes of its own bytes."""

    def mutate_packed(data: DataObject, content: bytes) -> bytes:
        if data.draw(st.integers(0, 3)) == 0:
            return changed_bytes(data, content)
        return gzip.compress(mutate(data, gzip.decompress(content)), 1)

    return mutate_packed


DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)


def changed_tensor(data: DataObject, tensor: torch.Tensor) -> torch.Tensor:
    """Another shape, another kind of numbers, or other numbers."""
    what = data.draw(
        st.sampled_from(
            ("nan", "inf", "zero", "scale", "cut", "flat", "turn", "stack", "empty", "kind", "noise", "pad")
        )
    )
    if what in ("nan", "inf", "zero", "scale") and tensor.numel() and tensor.is_floating_point():
        tensor = tensor.clone()
        place = data.draw(st.integers(0, tensor.numel() - 1))
        values = {
            "nan": math.nan,
            "inf": math.inf,
            "zero": 0.0,
            "scale": data.draw(st.sampled_from((1e30, -1.0, 1e-30, 7.0))),
        }
        tensor.view(-1)[place] = values[what]
        return tensor * values[what] if what == "scale" else tensor
    if what == "cut" and tensor.ndim:
        return tensor[: data.draw(st.integers(0, max(tensor.shape[0] - 1, 0)))]
    if what == "pad" and tensor.ndim:
        return torch.cat([tensor, torch.zeros_like(tensor[:1])])
    if what == "noise":
        return torch.full_like(tensor, data.draw(st.sampled_from((0, 1, 3))))
    others = {
        "flat": tensor.reshape(-1),
        "turn": tensor.T if tensor.ndim == 2 else tensor,
        "stack": tensor[None],
        "empty": tensor[:0] if tensor.ndim else tensor,
    }
    return others.get(what, tensor.to(data.draw(st.sampled_from(DTYPES))))


def changed_tensors(data: DataObject, content: bytes) -> bytes:
    """Changes of the tensors of a safetensors file, of its header, or of its bytes."""
    kind = data.draw(st.sampled_from(("tensor", "tensor", "tensor", "names", "header", "bytes")))
    if kind == "bytes":
        return changed_bytes(data, content)
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    if kind == "header":
        changed = as_json(changed_value(data, header))
        return len(changed).to_bytes(8, "little") + changed + content[8 + n :]
    tensors, metadata = load_tensors(content), header.get("__metadata__")
    name = data.draw(st.sampled_from(sorted(tensors)))
    if kind == "tensor":
        tensors[name] = changed_tensor(data, tensors[name])
    else:
        other = data.draw(
            st.sampled_from((None, "x", name.upper(), f"{name}.extra", f"module.{name}", name[:-1], ""))
        )
        kept = tensors[name] if data.draw(st.booleans()) else tensors.pop(name)
        if other is not None:
            tensors[other] = kept.clone()
    return bytes(save_tensors({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata))


def changed_parquet(data: DataObject, content: bytes) -> bytes:
    """Changes of the columns of a Parquet file, their types among them, or of its bytes."""
    if data.draw(st.booleans()):
        return changed_bytes(data, content)
    columns = changed_value(data, parquet.read_table(io.BytesIO(content)).to_pydict())
    sink = io.BytesIO()
    try:
        parquet.write_table(pa.table(columns), sink)
    except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError):  # no table at all
        return changed_bytes(data, content)
    return sink.getvalue()


def changed_torch(data: DataObject, content: bytes) -> bytes:
    """Changes of what ``torch.save`` wrote, or of its bytes."""
    if data.draw(st.booleans()):
        return changed_bytes(data, content)
    value = changed_value(data, torch.load(io.BytesIO(content), weights_only=True))
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


BY_SUFFIX: dict[str, Mutation] = {
    ".json": structured(json.loads, as_json),
    ".jsonl": structured(lambda content: [json.loads(line) for line in content.splitlines()], as_json_lines),
    ".yaml": structured(yaml.safe_load, as_yaml),
    ".safetensors": changed_tensors,
    ".parquet": changed_parquet,
    ".pt": changed_torch,
}
"""How files are changed, by the ending of their names; all others by bytes."""


def mutation_of(name: str) -> Mutation:
    """The changes that suit a file, by its name."""
    if name.endswith(".gz"):
        return packed(mutation_of(name.removesuffix(".gz")))
    if name.endswith(".toml"):
        import tomllib

        return structured(lambda content: tomllib.loads(content.decode()), as_toml)
    suffix = f".{name.rpartition('.')[2]}"
    return BY_SUFFIX.get(suffix, changed_bytes)
