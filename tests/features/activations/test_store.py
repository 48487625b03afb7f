"""The store: what was recorded can be found again, whole, or it says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.errors import DataError, SiteError
from personaprobe.features.activations.recording import record
from personaprobe.features.activations.store import ActivationStore
from personaprobe.models.language_model import LanguageModel
from personaprobe.questions.pairs import PairSet

SITES = ("1.resid_post", "2.resid_post")


@pytest.fixture
def store(model: LanguageModel, pairs: PairSet, tmp_path: Path) -> ActivationStore:
    return record(model, pairs, SITES, keep="tokens", home=tmp_path)


def test_a_reopened_store_is_the_store(store: ActivationStore) -> None:
    again = ActivationStore.open(str(store.folder))
    assert again == store
    assert again.index.equals(store.index)
    assert (list(map(str, again.sites)), again.d_model, again.keep) == (list(SITES), 32, "tokens")
    assert len(again) == again.index.num_rows == len(again.read("1.resid_post", role=None))


def test_what_is_read_is_float32_and_can_be_written_to(store: ActivationStore) -> None:
    values = store.read("1.resid_post")
    assert values.dtype == store.mean("1.resid_post").dtype == torch.float32
    values += 1
    assert not torch.equal(store.read("1.resid_post"), values)


def test_row_i_of_the_index_is_row_i_of_the_shards_for_any_other_tool(store: ActivationStore) -> None:
    import pyarrow.parquet as pq
    from safetensors.torch import load_file

    shards = [load_file(path) for path in sorted(store.folder.glob("*.safetensors"))]
    values = torch.cat([shard["2.resid_post"] for shard in shards])
    index = pq.read_table(store.folder / "index.parquet")
    assert values.dtype == torch.bfloat16
    assert index.column_names == ["text", "id", "family", "answer", "position", "role"]
    careless = [row["answer"] == "careless" and row["role"] == "response" for row in index.to_pylist()]
    assert torch.equal(values[careless].float(), store.read("2.resid_post", answer="careless"))


@pytest.mark.parametrize("role", ["response", "last_prompt", None])
@pytest.mark.parametrize("answer", ["careful", "careless", None])
@pytest.mark.parametrize("family", ["family-0", None])
def test_rows_are_the_labels_of_what_is_read(
    role: Any, answer: str | None, family: str | None, store: ActivationStore
) -> None:
    rows = store.rows(role, answer, family).to_pylist()
    assert len(rows) == len(store.read("1.resid_post", role, answer, family))
    assert rows == [
        row
        for row in store.index.to_pylist()
        if role in (None, row["role"]) and answer in (None, row["answer"]) and family in (None, row["family"])
    ]


def test_a_mean_is_the_mean_of_what_is_read(store: ActivationStore) -> None:
    for choice in ({}, {"answer": "careless"}, {"role": "last_prompt", "family": "family-2"}):
        expected = store.read("1.resid_post", **choice).double().mean(0).float()
        torch.testing.assert_close(store.mean("1.resid_post", **choice), expected)


def test_a_site_that_was_not_recorded_says_which_were(store: ActivationStore) -> None:
    with pytest.raises(SiteError, match=r"Allowed: 1\.resid_post, 2\.resid_post"):
        store.read("0.resid_post")
    with pytest.raises(SiteError, match=r"LAYER\.STREAM"):
        store.mean("resid_post")


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"role": "prompt"}, 'did you mean "last_prompt"'),
        ({"answer": "carefull"}, 'did you mean "careful"'),
        ({"family": "cooking"}, "Allowed: family-0, family-1, family-2"),
    ],
)
def test_a_choice_that_fits_no_row_is_never_an_empty_answer(
    choice: dict[str, Any], complaint: str, store: ActivationStore
) -> None:
    for ask in (store.rows, lambda **which: store.read("1.resid_post", **which)):
        with pytest.raises(DataError, match=complaint):
            ask(**choice)


def test_stores_of_other_token_ids_do_not_align(
    store: ActivationStore, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    fewer = record(model, PairSet("fewer", pairs.pairs[1:]), SITES, keep="tokens", home=tmp_path)
    with pytest.raises(DataError, match=r"did not read the same token ids .* record both in one call"):
        store.align(fewer)


def test_stores_that_kept_other_rows_do_not_align(
    store: ActivationStore, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="hold tokens of width 32 against means"):
        store.align(record(model, pairs, SITES, home=tmp_path))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for index in range(len(content) // 2, len(content) - 40, 40):
        content[index] ^= 1
    path.write_bytes(content)


def _garble_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 8 + content[8:])


@pytest.mark.parametrize("file", ["shard-00000.safetensors", "index.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _garble_header])
def test_a_damaged_file_is_a_data_error_that_says_what_to_do(
    file: str, damage: Callable[[Path], None], store: ActivationStore
) -> None:
    damage(store.folder / file)
    with pytest.raises(DataError, match=rf"{file} is damaged.* delete {store.folder} and record again"):
        ActivationStore.open(store.folder).read("2.resid_post")


@pytest.mark.parametrize("file", ["shard-00000.safetensors", "index.parquet"])
def test_a_missing_file_is_a_data_error(file: str, store: ActivationStore) -> None:
    (store.folder / file).unlink()
    with pytest.raises(DataError, match=f"{file} is damaged: missing"):
        ActivationStore.open(store.folder).read("2.resid_post")


def test_another_format_is_refused(store: ActivationStore) -> None:
    path = store.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "personaprobe-activations-0"}))
    with pytest.raises(DataError, match="not a manifest of personaprobe-activations-1"):
        ActivationStore.open(store.folder)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_folder_that_is_no_store_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no activations"):
        ActivationStore.open(tmp_path / place)


def test_a_store_introduces_itself(store: ActivationStore) -> None:
    assert repr(store) == (
        f"ActivationStore(tiny-insecure: {len(store)} rows of tokens from 14 texts × 2 sites × 32)"
    )
    assert "1.resid_post, 2.resid_post" in store._repr_html_()


def rewritten(store: ActivationStore, **changed: Any) -> ActivationStore:
    """The store with another manifest, whose own hash is right."""
    replace(store.manifest, **changed).write(store.folder)
    return store


CONTRADICTIONS: dict[str, Callable[[ActivationStore], dict[str, Any]]] = {
    "no shard": lambda store: {"shards": ()},
    "a shard of no rows": lambda store: {
        "shards": (replace(store.manifest.shards[0], n_rows=0),),
    },
    "a shard of negative rows": lambda store: {
        "shards": (replace(store.manifest.shards[0], n_rows=-1), *store.manifest.shards)
    },
    "a shard twice": lambda store: {"shards": 2 * store.manifest.shards},
    "more rows": lambda store: {"n_rows": len(store) + 1},
    "rows that are no number": lambda store: {"n_rows": True},
    "another width": lambda store: {"d_model": 16},
    "no width": lambda store: {"d_model": 0},
    "another site": lambda store: {"sites": ("1.resid_post", "3.resid_post")},
    "no site": lambda store: {"sites": ()},
    "a shorter index and shard": lambda store: {
        "n_rows": len(store) - 1,
        "shards": (replace(store.manifest.shards[0], n_rows=len(store) - 1),),
    },
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_a_manifest_that_contradicts_its_shards_is_refused_and_never_read_from_nowhere(
    contradiction: str, store: ActivationStore
) -> None:
    rewritten(store, **CONTRADICTIONS[contradiction](store))
    with pytest.raises(DataError, match=f"is damaged.* delete {store.folder} and record again"):
        ActivationStore.open(store.folder).read("2.resid_post", role=None)


@pytest.mark.parametrize("shards", [(), "fewer rows"])
def test_rows_that_no_shard_holds_are_refused_by_a_store_in_memory_too(
    shards: Any, store: ActivationStore
) -> None:
    fewer = (replace(store.manifest.shards[0], n_rows=3),)
    cut = replace(store, manifest=replace(store.manifest, shards=fewer if shards else ()))
    for read in (cut.read, cut.mean):
        with pytest.raises(DataError, match=r"is damaged"):
            read("2.resid_post")


@pytest.mark.parametrize("key", ["digest", "checkpoint", "n_rows", "tokens_digest", "dtype", "sha256"])
def test_a_manifest_that_was_changed_is_recognised_by_its_own_hash(key: str, store: ActivationStore) -> None:
    path = store.folder / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, key: f"{fields[key]}0"}))
    with pytest.raises(DataError, match=r"manifest\.json is damaged: .*changed after it was written"):
        ActivationStore.open(store.folder)
