"""Run folders: plain data, its table of answers and its pages are written, and pages are made again from the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.effects.judges.rates import JUDGED_COLUMNS, SCORES
from personaprobe.errors import DataError, shortened
from personaprobe.storage.files import write_atomically, write_text
from personaprobe.storage.readers.json_files import read_json
from personaprobe.storage.readers.opening import MIB
from personaprobe.storage.readers.tables import read_parquet
from personaprobe.studies.reports.ablation import SCHEMA, render_ablation
from personaprobe.studies.reports.earlier_verdicts import EARLIER
from personaprobe.studies.reports.evaluation import render_evaluation
from personaprobe.studies.reports.sections import Rows
from personaprobe.studies.reports.sweep import render_sweep

if TYPE_CHECKING:
    from pyarrow import Table

_RESPONSE_COLUMNS = dict.fromkeys(("arm", "kind", "question_id", "family", "question"), "string")
_RESPONSE_COLUMNS |= {"sample": "int64", "seed": "int64", "answer": "string"}
_RESPONSE_COLUMNS |= {"base_log_prob": "double", "distinct": "double", "coherent": "bool"}

_ANSWER_COLUMNS = dict.fromkeys(
    ("arm", "kind", "question_id", "family", "form", "system", "question"), "string"
)
_ANSWER_COLUMNS |= {"sample": "int64", "seed": "int64", "answer": "string", "distinct": "double"}
_ANSWER_COLUMNS |= {name: "double" if name in SCORES else "string" for name in JUDGED_COLUMNS}

LARGEST_DATA = 2048 * MIB
"""Bytes of a run's plain data."""


@dataclass(frozen=True)
class RunFormat:
    """How one kind of study is kept in its run folder.

    Attributes:
        schema: name and version of its plain data.
        data_file: the file of the plain data.
        pages: the text of every page by file name, the main page last.
        table_file: the file of the answers; None where the study has none.
        columns: of that table: names, and types as pyarrow spells them.
        earlier: earlier schemas that open, with the function that brings their data into the present form.
    """

    schema: str
    data_file: str
    pages: Callable[[Mapping[str, Any], Rows], Mapping[str, str]]
    table_file: str | None = None
    columns: Mapping[str, str] | None = None
    earlier: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)

    @property
    def shown_columns(self) -> list[str]:
        """Columns that pages read. Raw outputs and prompt digests of judges are not shown, and older tables lack them."""
        return [name for name in self.columns or () if not name.endswith(("_raw", "_prompt_digest"))]


def _latent_pages(data: Mapping[str, Any], _: Rows) -> Mapping[str, str]:
    from personaprobe.studies.reports.latents import render_latents

    return render_latents(data)


FORMATS = (
    RunFormat(
        SCHEMA,
        "verdict.json",
        lambda data, answers: {"report.html": render_ablation(data, answers)},
        "responses.parquet",
        _RESPONSE_COLUMNS,
        EARLIER,
    ),
    RunFormat(
        "personaprobe-evaluation-1",
        "evaluation.json",
        lambda data, answers: {"evaluation.html": render_evaluation(data, answers)},
        "answers.parquet",
        _ANSWER_COLUMNS,
    ),
    RunFormat("personaprobe-sweep-1", "sweep.json", lambda data, _: {"sweep.html": render_sweep(data)}),
    RunFormat("personaprobe-latents-1", "latents.json", _latent_pages),
)
"""All kinds of run folders."""


def write_report(
    data: Mapping[str, Any], folder: str | Path, answers: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write a study's answers, its plain data and its pages; every file is whole or absent.

    Args:
        data: the study as plain data, such as `CausalVerdict.to_dict` returns it.
        folder: made where it does not exist. The main page is written last.
        answers: one row per answer, such as `CausalVerdict.answer_rows` returns them.

    Returns:
        The path of the main page.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    run_format = next(known for known in FORMATS if known.schema == data["schema"])
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    table = None if run_format.columns is None else answer_table(answers, run_format.columns)
    # pages are rendered from the content of the files, so that they are the same when they are made again
    pages = run_format.pages(json.loads(text), () if table is None else table.to_pylist())
    if table is not None and run_format.table_file is not None:
        _write_table(table, folder / run_format.table_file)
    write_text(folder / run_format.data_file, text)
    return _write_pages(pages, folder)


def remake_report(run: str | Path, out: str | Path | None = None) -> list[Path]:
    """Make the pages of a run folder again from its plain data, without a model.

    Args:
        run: a folder that holds ``verdict.json``, ``evaluation.json``, ``sweep.json`` or ``latents.json``.
        out: where the pages are written; None for the run folder itself.

    Returns:
        The path of every main page.

    Raises:
        DataError: not a run folder, or a file that is damaged, foreign or of another version.
        OutputError: the pages cannot be written.
    """
    run = Path(run)
    if not run.is_dir():
        raise DataError(f"{run} is not a folder; give the folder of a finished run")
    present = [run_format for run_format in FORMATS if (run / run_format.data_file).is_file()]
    if not present:
        names = ", ".join(run_format.data_file for run_format in FORMATS)
        raise DataError(
            f"{run} is not the folder of a finished run: it holds none of {names}; "
            "an interrupted run resumes with the command that began it"
        )
    rendered = [_rendered(run, run_format) for run_format in present]
    return [_write_pages(pages, run if out is None else Path(out)) for pages in rendered]


def answer_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Answers as a table with the given columns."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    return pa.Table.from_pylist(list(rows), schema=schema)


def _write_table(table: Table, path: Path) -> None:
    from pyarrow import parquet

    write_atomically(path, lambda temporary: parquet.write_table(table, temporary))


def _write_pages(pages: Mapping[str, str], folder: Path) -> Path:
    for name, text in pages.items():
        write_text(folder / name, text)
    return folder / list(pages)[-1]


def _rendered(run: Path, run_format: RunFormat) -> Mapping[str, str]:
    """The pages of a run folder.

    Raises:
        DataError: data that the pages cannot be rendered from.
    """
    from jinja2 import UndefinedError

    path = run / run_format.data_file
    data, answers = _read_data(path, run_format), _read_answers(run, run_format)
    try:
        upgrade = run_format.earlier.get(data["schema"])
        return run_format.pages(data if upgrade is None else upgrade(data), answers)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        UndefinedError,
    ) as error:
        # the schema is the right one, and yet a value is missing or of another type
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{path} is damaged: its page cannot be made ({reason}); run the study again"
        ) from error


def _read_data(path: Path, run_format: RunFormat) -> dict[str, Any]:
    schema = run_format.schema
    data = read_json(path, DataError, advice="run the study again", limit=LARGEST_DATA)
    present = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(present, str) or not present.startswith(schema.rpartition("-")[0]):
        raise DataError(
            f"{path} was not written by personaprobe: its schema is {shortened(present)}, not {schema!r}"
        )
    if present != schema and present not in run_format.earlier:
        raise DataError(
            f"{path} has schema {shortened(present)}, and this version of personaprobe reads {schema!r}; "
            "use the version that wrote it, or run the study again"
        )
    return dict(data)


def _read_answers(run: Path, run_format: RunFormat) -> Rows:
    """The table of answers as rows; none where the folder does not hold it, which the page then says."""
    if run_format.table_file is None or run_format.columns is None:
        return ()
    path = run / run_format.table_file
    if not path.exists():
        return ()
    table = read_parquet(path, DataError, advice="run the study again")
    if missing := [name for name in run_format.shown_columns if name not in table.column_names]:
        raise DataError(f"{path} was not written by personaprobe: it has no column {missing[0]!r}")
    rows: Rows = table.to_pylist()
    return rows
