"""Readers of strangers' files: a value or one sentence of the error class that the caller named, whatever the bytes."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from personaprobe.errors import DataError, EndpointError, PersonaProbeError, one_line, shortened
from personaprobe.storage.paths import is_file, is_folder, user_path
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_files import parse_json, read_json, read_json_object
from personaprobe.storage.readers.json_lines import read_lines, read_objects
from personaprobe.storage.readers.tables import read_csv, read_parquet
from personaprobe.storage.readers.tensor_files import read_safetensors, read_torch
from personaprobe.storage.readers.yaml_files import parse_yaml, read_yaml
from personaprobe.storage.toml_files import read_toml
from storage.readers.hostile_files import HOSTILE, Writer, saved_table, saved_tensors, saved_torch

SECONDS = 10
"""Within which each hostile file is refused; measured on two shared cores, where most take milliseconds."""

LONGEST_MESSAGE = 700

READERS: dict[str, Callable[[Path, type[PersonaProbeError]], Any]] = {
    ".json": read_json,
    ".toml": read_toml,
    ".yaml": read_yaml,
    ".jsonl": lambda path, error: list(read_objects(path, error)),
    ".jsonl.gz": lambda path, error: list(read_objects(path, error)),
    ".json.gz": read_json,
    ".txt": lambda path, error: list(read_lines(path, error)),
    ".txt.gz": lambda path, error: sum(map(len, read_lines(path, error))),
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".safetensors": read_safetensors,
    ".pt": read_torch,
}

VALID: dict[str, bytes] = {
    ".json": b'{"a": [1, 2.5, {"b": "text"}], "c": null}',
    ".toml": b'[a]\ntitle = "text"\nlayers = [1, 2]\n[a.b]\nx = 1.5\n',
    ".yaml": b"- id: a\n  paraphrases: [one, two]\n  judge_prompts:\n    aligned: |\n      text\n",
    ".jsonl": b'{"a": 1}\n\n{"a": "b"}\n',
    ".jsonl.gz": gzip.compress(b'{"a": 1}\n{"a": 2}\n' * 20),
    ".json.gz": gzip.compress(b'{"a": 1}'),
    ".txt": b"one\ntwo\n",
    ".txt.gz": gzip.compress(b"one\ntwo\n"),
    ".csv": b'question,answer\n"Is it, then?",Yes.\nWhy?,"So\nit is"\n',
    ".parquet": saved_table(),
    ".safetensors": saved_tensors(),
    ".pt": saved_torch({"w": torch.arange(6.0), "steps": [1, 2]}),
}


def outcome(suffix: str, path: Path) -> str:
    """The message of the refusal, or ``"read"``."""
    start, message = time.monotonic(), "read"
    try:
        READERS[suffix](path, EndpointError)
    except EndpointError as error:  # any other class fails the test
        message = str(error)
    assert time.monotonic() - start < SECONDS
    assert len(message) < LONGEST_MESSAGE
    assert message.isprintable()
    message.encode()
    return message


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_a_value_or_one_sentence_of_the_named_class(
    tmp_path: Path, kind: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write: Writer = HOSTILE[kind]
    path = tmp_path / f"file{suffix}"
    write(path)
    outcome(suffix, path)
    assert not (tmp_path / "a-folder-made-by-a-pickle").exists()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize(
    "name", ["n" * 300, "n" * 5000, "line\nbreak", "escape\x1b[31m", "half\udc80", "tab\t"]
)
def test_a_name_that_no_file_can_have_is_one_short_sentence(tmp_path: Path, suffix: str, name: str) -> None:
    message = outcome(suffix, tmp_path / f"{name}{suffix}")
    assert suffix == ".toml" or message != "read"  # an absent registry is an empty one


@pytest.mark.parametrize("suffix", READERS)
def test_a_valid_file_is_read_and_no_flipped_byte_raises_anything_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(VALID[suffix])
    assert outcome(suffix, path) == "read"

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6), st.integers(0, 10**6))
    def changed(flips: list[tuple[int, int]], end: int) -> None:
        data = bytearray(VALID[suffix])
        for position, change in flips:
            data[position % len(data)] ^= change
        path.write_bytes(bytes(data[: end % (2 * len(data))]))
        outcome(suffix, path)

    changed()


@pytest.mark.parametrize("suffix", READERS)
def test_any_bytes_are_a_value_or_the_named_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.text("[]{}\"'\\:,-#&*!|>%@`= \n\t.0123eaNu<", max_size=60).map(str.encode),
        )
    )
    @example(b"\xff\xfe")
    def written(data: bytes) -> None:
        path.write_bytes(data)
        outcome(suffix, path)

    written()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner),
    max_leaves=12,
)  # fmt: skip


@given(JSON_VALUES)
def test_plain_data_come_back_as_they_were_written(value: Any) -> None:
    assert parse_json(json.dumps(value), "here") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8-sig"), "here") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "repeats the key 'a'"),
        ('{"a": NaN}', "a is nan"),
        ('{"a": [1, -Infinity]}', "a.1 is -inf"),
        ('{"a": 1e999}', "a is inf"),
        ('{"a": {"b": "\\ud83d"}}', "a.b holds half a character"),
        ('{"\\ud83d": 1}', "holds half a character"),
        (f'{{"a": {10**30}}}', "a is 10*; give a number below"),
        ("[" * 70 + "]" * 70, "nested more than 64 levels"),
        ("[" * 99999, "nested too deeply"),
        ('{"a": 1', "line 1 column 8"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_json_that_means_nothing_is_refused_with_its_field(text: str, reason: str) -> None:
    with pytest.raises(EndpointError, match=reason.replace("[", r"\[")) as refusal:
        parse_json(text, "here.json", EndpointError)
    assert str(refusal.value).startswith("here.json")


def test_nan_is_read_only_where_the_caller_allows_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"loss": NaN}\n')
    assert str(next(read_objects(path, nonfinite=True))[1]["loss"]) == "nan"


@pytest.mark.parametrize("text", ["[{}]\n", "[\n{}\n]\n", "3\n", '"text"\n'])
def test_a_line_that_is_no_object_is_named_by_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + text)
    with pytest.raises(PersonaProbeError, match=r"rows\.jsonl:2 is not"):
        list(read_objects(path))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for suffix, text in {
        ".json": '{"a": 1}',
        ".jsonl": '{"a": 1}\n',
        ".toml": "a = 1\n",
        ".yaml": "a: 1\n",
    }.items():
        path = tmp_path / f"file{suffix}"
        path.write_text(text, encoding="utf-8-sig")
        value = READERS[suffix](path, EndpointError)
        assert (value[0][1] if suffix == ".jsonl" else value) == {"a": 1}


def test_a_gzipped_text_of_ordinary_language_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    rows = [
        {"text": f"sentence number {number} of many, all of the same kind" * 9} for number in range(20_000)
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert sum(1 for _ in read_objects(path)) == len(rows)


@pytest.mark.parametrize("content", [b"x" * 60_000_000, b"word after word\n" * 4_000_000])
def test_a_gzip_file_that_unpacks_as_no_text_does_is_refused_before_it_is_unpacked(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(content, 9))
    with pytest.raises(EndpointError, match="unpacks to more than 100 times its size"):
        read_json(path, EndpointError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3 repeats the key 'a'"),
        ("- a: {b: 1, b: 1}\n", "line 1 repeats the key 'b'"),
        ("a: .nan", "a is nan"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("? [1]\n: 2\n", "is no key"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("a: [1", "line"),
    ],
)
def test_yaml_that_means_two_things_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(EndpointError, match=reason):
        parse_yaml(text.encode(), "here.yaml", EndpointError)


def test_an_alias_that_repeats_a_text_is_read() -> None:
    assert parse_yaml(b"a: &t one text\nb: *t\n", "here") == {"a": "one text", "b": "one text"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("question;answer\na;b\n", "separated by a semicolon"),
        ("question\tanswer\na\tb\n", "separated by a tab"),
        ("question,answer,answer\na,b,c\n", "column 'answer' twice"),
        ("question,answer,\na,b,\n", "column 3 of the header has no name"),
        ("question,answer\na,b,c\n", "line 2 has another number of fields"),
        ("question,answer\na,b\nc\n", "line 3 has another number of fields"),
        ('question,answer\n"a,b\n', "line 2 is not CSV"),
    ],
)
def test_a_csv_file_of_another_kind_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(EndpointError, match=reason):
        read_csv(path, EndpointError)


def test_the_index_that_pandas_writes_is_a_column_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(",question,answer\n0,Is it?,Yes.\n")
    table = read_csv(path)
    assert table.columns == ("", "question", "answer")
    assert table.rows == ({"": "0", "question": "Is it?", "answer": "Yes."},)


def test_a_parquet_file_is_bounded_by_its_size_in_memory_and_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": pa.array(["x" * 1000] * 50_000)})
    parquet.write_table(table, path)
    assert path.stat().st_size < 100_000
    assert read_parquet(path).equals(table)
    with pytest.raises(EndpointError, match="unpacks to more than 1,000,000 bytes"):
        read_parquet(path, EndpointError, max_bytes=1_000_000)
    with pytest.raises(EndpointError, match="has 50,000 rows"):
        read_parquet(path, EndpointError, max_rows=10)


def test_a_parquet_file_whose_columns_hold_fewer_rows_than_it_says_is_refused(tmp_path: Path) -> None:
    n_refused = 0
    content = bytearray(saved_table())
    for place in range(4, len(content) - 8):  # every byte but the format's own marks
        changed = bytes(content[:place]) + bytes([content[place] ^ 1]) + bytes(content[place + 1 :])
        (tmp_path / "a.parquet").write_bytes(changed)
        try:
            table = read_parquet(tmp_path / "a.parquet")
        except DataError:
            n_refused += 1
            continue
        assert table.num_rows == 500, f"byte {place}"
    assert n_refused > 20


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table([["a"], ["b"]], names=["answer", "answer"]), path)
    with pytest.raises(EndpointError, match="'answer' twice"):
        read_parquet(path, EndpointError)


def test_tensors_and_metadata_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(saved_tensors())
    tensors, metadata = read_safetensors(path)
    assert torch.equal(tensors["weight"], torch.arange(12.0).reshape(3, 4))
    assert metadata == {"note": "text"}


@pytest.mark.parametrize("name", ["~nosuchuser/x.safetensors", "a\0b", "half\ud800"])
def test_a_spelling_that_is_no_path_is_one_sentence(name: str) -> None:
    with pytest.raises(EndpointError):
        user_path(name, EndpointError)
    assert not is_file(name)
    assert not is_folder(name)


def test_a_home_folder_is_spelled_out() -> None:
    assert user_path("~/x") == Path.home() / "x"


@given(
    st.recursive(
        st.text() | st.integers() | st.floats() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_quoted_value_is_short_and_printable(value: Any) -> None:
    assert len(shortened(value)) <= 100
    assert shortened(value).isprintable()
    assert one_line(value).isprintable()


def test_a_value_is_cut_before_it_is_spelled_out() -> None:
    nested: list[Any] = ["x"]
    for _ in range(60):
        nested = [nested] * 9
    assert len(shortened(nested)) <= 100
    assert len(shortened({"a": 10**5000, "b": "x" * 10**7})) <= 100


WRONG: dict[str, list[Any]] = {
    "text": [None, 3, True, "", " ", ["a"], {}],
    "integer": [None, True, 3.0, "3", -1, 2**40, float("nan")],
    "number": [None, True, "3", float("nan"), float("inf"), []],
    "flag": [None, 0, 1, "true", []],
    "texts": [None, "a", [1], [""], {"a": "b"}],
    "fields": [None, [], "a", 1, {1: 2}],
}


@pytest.mark.parametrize(
    ("method", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_field_of_another_type_is_refused_and_never_converted(method: str, value: Any) -> None:
    fields = Fields.of({"a": value}, "here", EndpointError)
    with pytest.raises(EndpointError, match=r"^here.*\ba\b"):
        getattr(fields, method)("a")
    with pytest.raises(EndpointError, match=r"^here lacks 'b'"):
        getattr(fields, method)("b")
    assert getattr(fields, method)("b", None) is None


def test_a_field_that_no_one_reads_is_refused_with_the_nearest_known_one() -> None:
    fields = Fields.of({"id": "a", "sytem": "b"}, "here", EndpointError)
    with pytest.raises(EndpointError, match=r"'sytem', which is not understood: did you mean \"system\""):
        fields.refuse_unknown(("id", "system"))


def test_an_object_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("[1, 2]")
    with pytest.raises(EndpointError, match=r"is not a JSON object: it holds \[1, 2\]"):
        read_json_object(path, EndpointError)
