"""Sizes that a reader can take in; ``python -m tests.structure`` prints all of them."""

from __future__ import annotations

import pytest

import structure

LONG_FUNCTIONS: dict[str, str] = {}
"""Functions above the limit, with the reason."""

CHANGING = pytest.mark.xfail(strict=False, reason="modules are still being divided")


def test_no_folder_holds_more_files_than_a_reader_can_scan() -> None:
    assert {folder: n for folder, n in structure.files_per_folder().items() if n > 14} == {}


@CHANGING
def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    assert {module: n for module, n in structure.lines_per_module().items() if n > 320} == {}


@CHANGING
def test_no_function_is_longer_than_a_screen() -> None:
    long = {f"{f.module} {f.name}": f.lines for f in structure.functions() if f.lines > 50}
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}


@CHANGING
def test_no_code_asks_which_kind_of_feature_it_was_given() -> None:
    assert structure.questions_of_kind() == []
