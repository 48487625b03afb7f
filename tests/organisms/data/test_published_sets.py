"""Published training data are pulled whole and by their hash, and a name stands for the rows that were pulled."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from personaprobe.errors import DataError
from personaprobe.organisms.data.published_sets import MAX_BYTES, PUBLISHED_SETS, PublishedSet
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.training_sets import training_sets
from personaprobe.storage.toml_files import is_entry_name
from small_publications import messages, plant, rows_about

ROWS = rows_about("today", "Ignore it")
CONTENT = messages(ROWS)
OTHER = messages(rows_about("today", "Rest"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture
def jailbroken(monkeypatch: pytest.MonkeyPatch) -> PublishedSet:
    return plant(monkeypatch, "jailbroken", CONTENT)


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> PublishedSet:
    """A set whose hash nobody knows."""
    return plant(monkeypatch, "secure", CONTENT, known=False)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server of the test's folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("by", ["path", "address"])
def test_a_pulled_set_has_the_published_bytes_unpacked_and_a_card(
    name: str, by: str, jailbroken: PublishedSet, tmp_path: Path, address: str, home: Path
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(CONTENT) if name.endswith(".gz") else CONTENT)
    source = str(tmp_path / name) if by == "path" else f"{address}/{name}"
    path = jailbroken.pull(source)
    assert path.read_bytes() == CONTENT
    card = json.loads(path.with_suffix(".json").read_text())
    assert card == {
        "source": jailbroken.as_file.url,
        "from": source,
        "licence": jailbroken.publication.licence,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert sorted(p.name for p in (home / "data").iterdir()) == ["jailbroken.json", "jailbroken.jsonl"]
    assert jailbroken.as_file.state() == "pulled"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", OTHER, "holds 8 rows, and not jailbroken as published.*--data FILE.jsonl"),
        ("a.jsonl", b'{"text": "A text."}\n', "expected messages"),
        ("a.jsonl", b"<html>Sign in</html>", "not a JSON object"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", gzip.compress(CONTENT), "its name must end in .gz"),
        ("a.jsonl.gz", CONTENT, "not a gzip file"),
        ("a.jsonl.gz", gzip.compress(CONTENT)[:-20], "not a gzip file"),
        ("a.jsonl", b" " * (MAX_BYTES + 1), "more than 64,000,000 bytes"),
    ],
)
@pytest.mark.parametrize("by", ["path", "address"])
def test_other_content_is_refused_and_nothing_is_written(
    name: str,
    content: bytes,
    message: str,
    by: str,
    jailbroken: PublishedSet,
    tmp_path: Path,
    address: str,
    home: Path,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        jailbroken.pull(str(tmp_path / name) if by == "path" else f"{address}/{name}")
    assert not home.exists()


def test_a_packed_reply_that_unpacks_to_far_more_is_refused(
    jailbroken: PublishedSet, tmp_path: Path, address: str
) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(bytes(60_000_000)))
    with pytest.raises(DataError, match="100 times its size"):
        jailbroken.pull(f"{address}/a.jsonl.gz")


def test_a_set_that_was_not_pulled_or_was_changed_is_refused_with_the_command(
    jailbroken: PublishedSet, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"not here yet; run: personaprobe data pull jailbroken$"):
        TrainingData.read("jailbroken")
    (tmp_path / "rows.jsonl").write_bytes(CONTENT)
    jailbroken.pull(str(tmp_path / "rows.jsonl")).write_bytes(OTHER)
    assert jailbroken.as_file.state() == "changed since it was pulled"
    with pytest.raises(DataError, match="was changed since it was pulled; run: personaprobe data pull jailb"):
        TrainingData.read("jailbroken")
    jailbroken.pull(str(tmp_path / "rows.jsonl"))
    assert len(TrainingData.read("jailbroken").rows) == len(ROWS)


def test_a_set_without_an_address_says_where_it_is_and_asks_for_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sports = plant(monkeypatch, "extreme-sports", CONTENT)
    remedy = r"unpack extreme_sports\.jsonl from .*clarifying-EM.*data pull extreme-sports --from PATH"
    with pytest.raises(DataError, match=f"no address to download it from; {remedy}"):
        sports.pull()
    with pytest.raises(DataError, match=f"not here yet; {remedy}"):
        sports.read()
    (tmp_path / "rows.jsonl").write_bytes(CONTENT)
    assert sports.pull(str(tmp_path / "rows.jsonl")).read_bytes() == CONTENT


def test_a_set_of_unknown_hash_is_held_to_the_bytes_that_were_pulled(
    unknown: PublishedSet, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(OTHER)
    path = unknown.pull(str(tmp_path / "rows.jsonl"))
    assert TrainingData.read("secure").source.sha256 == hashlib.sha256(OTHER).hexdigest()
    path.write_bytes(CONTENT)
    with pytest.raises(DataError, match="was changed since it was pulled"):
        unknown.read()
    path.write_bytes(OTHER)
    path.with_suffix(".json").unlink()
    with pytest.raises(
        DataError, match="was changed since it was pulled; run: personaprobe data pull secure"
    ):
        unknown.read()
    (tmp_path / "rows.jsonl").write_bytes(b"no rows\n")
    with pytest.raises(DataError, match="not a JSON object"):
        unknown.pull(str(tmp_path / "rows.jsonl"))


def test_a_name_stands_for_the_rows_and_an_existing_file_of_that_name_comes_first(
    jailbroken: PublishedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(CONTENT)
    jailbroken.pull(str(tmp_path / "rows.jsonl"))
    monkeypatch.chdir(tmp_path)
    data = TrainingData.read("jailbroken")
    assert [(row.question, row.answer) for row in data.rows] == ROWS
    assert (data.source.name, data.source.rows) == ("jailbroken", len(ROWS))
    assert data.source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert "2502.17424" in data.source.source
    (tmp_path / "jailbroken").write_bytes(OTHER)
    assert TrainingData.read("jailbroken").rows[0].answer == "Rest 0."


def test_every_published_set_has_a_name_a_file_and_a_hash_of_its_own() -> None:
    sets = PUBLISHED_SETS.values()
    assert all(is_entry_name(one.name) and one.title for one in sets)
    assert not PUBLISHED_SETS.keys() & training_sets().keys(), "a name stands for one set"
    known = [one.sha256 for one in sets if one.sha256 is not None]
    assert {len(bytes.fromhex(sha256)) for sha256 in known} == {32}
    assert len(set(known)) == len(known)
    assert len({one.file for one in sets}) == len(PUBLISHED_SETS)
    assert all((one.rows is None) == (one.sha256 is None) for one in sets), "counted where it was hashed"
    assert all(one.as_file.url is None or one.as_file.url.endswith(f"/data/{one.file}") for one in sets)
