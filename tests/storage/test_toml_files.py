"""TOML files: any text survives the way to disk and back, comments stay, and a file is never left unreadable."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import CheckpointError, OutputError
from personaprobe.storage.toml_files import read_toml, remove_entry, write_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
VALUE = TEXT | NUMBER | st.booleans() | st.lists(TEXT, max_size=4) | st.lists(st.integers(0, 99), max_size=9)
ENTRY = st.dictionaries(KEY, VALUE, max_size=5)

PERSONS = """# kept by hand
[first] # the one that was there first
title = "one"  # why it is called so

# names of latents
[latents.c0e7.4140]
text = "waves a risk away"
"""


@given(first=ENTRY, second=ENTRY, name=KEY)
def test_any_text_and_number_reads_back_as_it_was_written(first: dict, second: dict, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.toml"
        write_entry(path, ["outer", name], first, heading="A registry.")
        write_entry(path, ["other"], second)
        assert read_toml(path) == {"outer": {name: first}, "other": second}
        write_entry(path, ["outer", name], second)
        write_entry(path, ["other"], first)
        assert read_toml(path) == {"outer": {name: second}, "other": first}
        remove_entry(path, ["other"])
        assert read_toml(path) == {"outer": {name: second}}


@pytest.mark.parametrize(
    "text", ["🙂", "naïve", "\x00\x1f\x7f", 'a "quoted" \\ word', "line\nline", "'''", '"""', "﻿"]
)
def test_text_that_breaks_other_writers_reads_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "registry.toml"
    write_entry(path, ["feature"], {"title": text})
    assert read_toml(path) == {"feature": {"title": text}}


def test_comments_and_other_entries_stay_as_a_person_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(PERSONS, encoding="utf-8")
    write_entry(path, ["first"], {"title": "two", "layers": [1, 2]})
    write_entry(path, ["latents", "c0e7", "7"], {"text": "🙂"})
    write_entry(path, ["last"], {"title": "three"})
    text = path.read_text(encoding="utf-8")
    assert all(
        comment in text
        for comment in ("# kept by hand", "# the one that was there first", "# names of latents")
    )
    assert tomllib.loads(text) == {
        "first": {"title": "two", "layers": [1, 2]},
        "latents": {"c0e7": {"4140": {"text": "waves a risk away"}, "7": {"text": "🙂"}}},
        "last": {"title": "three"},
    }


@pytest.mark.parametrize("value", ["\ud800", None, object(), {1, 2}])
def test_an_entry_that_toml_cannot_hold_is_refused_and_the_file_stays(tmp_path: Path, value: object) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(PERSONS, encoding="utf-8")
    with pytest.raises(OutputError, match=r"'first'.*left as it was|left as it was.*'first'"):
        write_entry(path, ["first"], {"title": value})
    assert path.read_text(encoding="utf-8") == PERSONS


def test_a_file_that_is_not_toml_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_text("[half", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not valid TOML"):
        write_entry(path, ["first"], {"title": "one"})
    assert path.read_text(encoding="utf-8") == "[half"


def test_text_that_would_not_read_back_as_given_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(PERSONS, encoding="utf-8")
    monkeypatch.setattr(
        "tomlkit.dumps", lambda document: '[first]\ntitle = "two"\n'
    )  # all other tables are lost
    with pytest.raises(OutputError, match="would not read back"):
        write_entry(path, ["first"], {"title": "two"})
    assert path.read_text(encoding="utf-8") == PERSONS
