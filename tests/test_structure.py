"""Sizes that a reader can take in; ``python -m tests.structure`` prints all of them."""

from __future__ import annotations

import structure

WIDE = "a verb of the command line: most of its lines are its options, which click passes as parameters"
LONG_FUNCTIONS = {
    "cli/verbs/evaluate.py evaluate": WIDE,
}
"""Functions above the limit, with the reason."""

LONG_MODULES = {
    "effects/verdict/rules.py": "the table of rules stands in one place, beside the words of its conditions",
}
"""Modules above the limit, with the reason."""


def test_no_folder_holds_more_files_than_a_reader_can_scan() -> None:
    assert {folder: n for folder, n in structure.files_per_folder().items() if n > 14} == {}


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {module: n for module, n in structure.lines_per_module().items() if n > 320}
    assert {module: n for module, n in long.items() if module not in LONG_MODULES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {f"{f.module} {f.name}": f.lines for f in structure.functions() if f.lines > 50}
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}


def test_no_code_asks_which_kind_of_feature_it_was_given() -> None:
    assert structure.questions_of_kind() == []
