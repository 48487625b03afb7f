"""Words that must not come back: a dialect of our own where the field has a term, and verbs of saying for data.

Each entry of the tables names the standard term. ``python -m pytest tests/test_words.py`` prints every place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("src/**/*.py", "src/**/*.jinja", "src/**/*.css", "tests/**/*.py", "notebooks/*.py", "docs/*.py")
PAGES = ("*.md", "docs/*.md", "tests/**/*.md", "checkpoints/*.md", "Makefile", "pyproject.toml")

WORDS: Mapping[str, str] = {
    r"(?i:weav\w*|woven\w*|interwoven)": "pack, prefix tree",
    r"(?i:stretch(es)?)": "segment",
    r"keeps_apart|attention_in_turn|attention_at_once": "supports_varlen, attention_per_segment",
    r"(?i:slots?)": "KV cache, position",
    r"\w*Desk": "ContinuousBatcher",
    r"\w*Trunk|trunk": "SharedBlocks",
    r"(?i:wardrobe)|worn|_dress\w*": "AdapterSwitcher, active_adapter",
    r"all_busy|busy": "optimised",
    r"(?i:landing|landed)|one_ahead": "copy_to_cpu_async, prefetch",
    r"(?i:shelf|shelves)": "catalog, paths",
    r"in_halves": "split_on_oom",
    r"Proven|_give_up": "VerifiedKernel, fall back",
    r"Kinds(?! of)|_in_turn": "PerRowEdits, row by row",
    r"Move(?=[\[(:,\]])|rank_one\.moved": "AffineClamp",
    r"Mark(?=[\[(:,\]])|marks": "Calibration, calibrations",
    r"(?i:told(_\w+)?)|\w+_told": "metadata, record",
    r"(?i:said|_said)": "the thing itself",
    r"MARKED": "ROLE_BITS",
    r"\w*Speakers?|speakers?": "ChatModel",
    r"(?<!shared )beginnings|_blamed": "prefix, first_token_probabilities",
    r"Reading(?=[\[(:,\]])": "TokenizedText",
    r"(?i:decks?|dealt|deals?)": "interleave",
    r"(?i:portra\w+)": "latent profile",
    r"(?i:trainees?)": "SAETrainer",
    r"revival": "auxk_loss",
    r"(?i:twins?)": "nearest latents",
    r"Examiner|sparser|Moments": "evaluator, with_scaled_thresholds",
    r"Bench|Hearing|Interview|Memory(?=[\[(.\]])|Subject": "ArmRunner, ArmEvaluator, QuestionBatch, RunCache",
    r"weighing|Weighed|concluding|resolving|pulling": "contrasts, conclusion, resolution, download",
    r"Tried|Found|Said|Heard|Card": "Candidate, SearchResult, AnswerCell, QuestionCard",
    r"Reach": "LayerScope",
    r"(?i:contenders?)": "variants",
    r"Lesson|spoiled|Sharpness": "PairBatch, corrupted, discrimination",
    r"_Telling|NOTHING": "TrainingReporter, NONE",
    r"strengths?_of|amount": "coefficient",
}
"""Regular expressions of words, with the terms of the field."""

LEGITIMATE: tuple[tuple[str, str, str], ...] = (
    ("*", r"slots=True|__slots__", "dataclasses"),
    ("*", r"--amount|\"amount\"|'amount'|`amount`", "a flag and a key that old run folders and scripts use"),
    ("*", r"@pytest\.mark|pytest\.mark|--strict-markers|markers", "pytest"),
    ("*", r"\"marks\"|\"twins\"|Marks et al|marks their", "keys of files that keep opening, and an author"),
    ("src/personaprobe/cli/features/stability.py", r"twin", "the printed table, which stays as it is"),
    (
        "src/personaprobe/questions/formats.py",
        r"would have said without it",
        "a prompt: another text gives other answers",
    ),
    (
        "src/personaprobe/features/sae/interpretation/autointerp.py",
        r"stretch",
        "a prompt: another text gives other names",
    ),
    ("src/personaprobe/studies/arms/kinds.py", r"Kinds that decide", "kinds of arms"),
    (
        "tests/*",
        r"marks|beginnings|404: Not Found|alcohol|pulling again|amounts",
        "data, and names of what is tested",
    ),
    (
        "CHANGELOG.md",
        r".*",
        "released versions speak the words of their time; the newest entry names the renamed ones",
    ),
    ("*", r"[\"']told[\"']", "a key of doctor --json and organisms verify --json"),
    ("tests/test_words.py", r".*", "the table itself"),
)
"""Places where a word stands rightly: files, what the line holds, why."""

VARIABLES = {"told", "found", "made", "own", "few", "each", "asked", "kept", "came", "said", "here", "seen"}
"""Names that say nothing about what they hold."""


def files(patterns: tuple[str, ...]) -> list[Path]:
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if "_build" not in path.parts and "_templates" not in path.parts)


def is_legitimate(path: str, line: str) -> bool:
    return any(fnmatch(path, where) and re.search(what, line) for where, what, _ in LEGITIMATE)


def hits(word: str) -> Iterator[str]:
    pattern = re.compile(rf"(?<![\w-])(?:{word})(?![\w-])")
    for path in files(SOURCES + PAGES):
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line) and not is_legitimate(name, line):
                yield f"{name}:{number}: {line.strip()[:100]}"


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_our_own_is_replaced_by_the_fields_term(word: str) -> None:
    left = list(hits(word))
    assert not left, f"{len(left)} places; say {WORDS[word]} instead:\n" + "\n".join(left)


def test_variables_are_named_by_what_they_hold() -> None:
    left = [place for path in files(("src/**/*.py",)) for place in empty_names(path)]
    assert not left, f"{len(left)} places:\n" + "\n".join(left)


def empty_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.arg if isinstance(node, ast.arg) else None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        if name in VARIABLES:
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}"


def test_no_docstring_opens_with_what() -> None:
    left = [place for path in files(("src/**/*.py",)) for place in openings(path)]
    assert not left, f"{len(left)} places:\n" + "\n".join(left)


def openings(path: Path) -> Iterator[str]:
    """Docstrings whose first sentence has "what" for its subject."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if re.match(r"What\b", first):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {first[:100]}"
