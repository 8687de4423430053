"""IO. Outcomes as other people's files have them: several files, other names, other tools' formats, bad rows.

What is wrong with a file is one error. What is wrong with rows is an error too, unless rows may be left out, and those
are counted by what was wrong. Only what stands where a prompt was, and is none, is always left out.
"""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from erp_trainer.files.arrow import READ_SUFFIXES, read, table_of_records
from erp_trainer.files.file_table import Asked, FileTable, joined, listed
from erp_trainer.files.opening import first_bytes, plain_suffix
from erp_trainer.outcomes import columns
from erp_trainer.outcomes.formats.base import AT, HEAD_BYTES, Format, Reading
from erp_trainer.outcomes.formats.records import counted_once
from erp_trainer.outcomes.formats.registry import FORMATS, guessed
from erp_trainer.outcomes.names import renaming, suggested
from erp_trainer.outcomes.read import REPEATED, from_columns
from erp_trainer.outcomes.table import CONTRACT_COLUMNS, TEXT_COLUMNS, OutcomesTable
from erp_trainer.prompts.placeholders import placeholder
from litellm_erp.bundle.manifest import MAX_MODELS, MAX_NAME
from litellm_erp.errors import BadRowsError, OutcomesError

MALFORMED = "malformed rows"


@dataclass(frozen=True)
class ImportOptions:
    """How files are to be read.

    Attributes
    ----------
    wide, models, reward_model : see `read.read_outcomes`
    columns : name of the contract to the files' own name for it; inside a JSON record with dots, ``scores.accuracy``
    format : name of a foreign format, "table" for none; None guesses
    metric : which measure is the reward, where a foreign file holds several
    model : which model answered, where a foreign file does not say
    skip_bad_rows : leave out rows that cannot be used, and count them
    keep_first : of rows with the same key keep the first, and count the others
    """

    wide: bool = False
    models: Sequence[str] | None = None
    reward_model: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    metric: str | None = None
    model: str | None = None
    skip_bad_rows: bool = False
    keep_first: bool = False


@dataclass(frozen=True)
class Imported:
    """Attributes
    ----------
    files : that were read, sorted
    format : the foreign format's name; None for a plain table
    left_out : rows by why they are not in ``outcomes``
    measures : which measures of a foreign file became rewards, and of how many rows
    other_measures : those that could have been
    notes : columns that were read otherwise than as plain numbers
    """

    outcomes: OutcomesTable
    files: tuple[Path, ...]
    format: str | None
    left_out: Mapping[str, int]
    measures: Mapping[str, int] = field(default_factory=dict)
    other_measures: Sequence[str] = ()
    notes: Sequence[str] = ()


@contextmanager
def found_files(arguments: Sequence[str], stdin: BinaryIO | None = None) -> Iterator[list[Path]]:
    """The files that paths, folders, globs and ``-`` name, each once, in order.

    Parameters
    ----------
    stdin : what ``-`` reads, into a temporary file, because a table is looked at more than once

    Raises
    ------
    OutcomesError : nothing is there
    """
    with tempfile.TemporaryDirectory(prefix="erp-stdin-") as folder:
        found: dict[Path, Path] = {}
        for argument in arguments:
            for path in _named(argument, Path(folder), stdin):
                found.setdefault(path.resolve(), path)
        try:
            yield list(found.values())
        except OutcomesError as exc:
            # The temporary name means nothing to anybody.
            exc.args = (str(exc).replace(str(Path(folder) / "stdin"), "stdin"),)
            raise


def _named(argument: str, folder: Path, stdin: BinaryIO | None) -> list[Path]:
    path = Path(argument)
    if argument == "-":
        target = folder / "stdin"
        with target.open("wb") as copy:
            shutil.copyfileobj(stdin or sys.stdin.buffer, copy)
        return [target]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path)))
        return _of_one_kind(path, inside)
    if not path.exists() and glob.has_magic(argument):
        # Path.glob() takes no absolute patterns.
        matching = sorted(Path(found) for found in glob.glob(argument, recursive=True))  # noqa: PTH207
        if not matching:
            raise OutcomesError(f"{argument}: no file matches; expected at least one. Check the path and its quotes")
        return [p for p in matching if p.is_file()] or matching
    return [path]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _of_one_kind(folder: Path, inside: list[Path]) -> list[Path]:
    """Of a folder's files those of a foreign format, if there are any; else the tables."""
    foreign = [path for path in inside if guessed(path, first_bytes(path, HEAD_BYTES)) is not None]
    tables = foreign or [path for path in inside if plain_suffix(path) in READ_SUFFIXES]
    if not tables:
        raise OutcomesError(
            f"{folder}: a folder without tables; found {listed([p.name for p in inside]) or 'nothing'}, expected files "
            f"that end in {', '.join(READ_SUFFIXES)}. Name the files"
        )
    return tables


def import_outcomes(files: Sequence[Path], options: ImportOptions) -> Imported:
    """Read files into one outcomes table.

    Raises
    ------
    OutcomesError : a file that cannot be used, or rows that cannot be and may not be left out; names file and row
    """
    left_out: Counter[str] = Counter()
    asked = _asked(options, left_out)
    reading = Reading(options.metric, left_out, options.model, asked.on_bad)
    format_ = _format(files, options)
    if format_ is None:
        table = joined([read(path, asked) for path in files])
        _check_roles(table, options)
    else:
        table = _foreign(format_, files, asked, reading)
    table = _without_placeholders(table, left_out)
    notes = _unread(table, options)
    percentages = []
    for column in [name for name in table.columns if name not in TEXT_COLUMNS]:
        table, ways = columns.as_written_elsewhere(table, column)
        notes += [f"{column!r} is read as {' and '.join(ways)}"] if ways else []
        percentages += [column] if columns.PERCENTAGES in ways else []
    _check_units(table, percentages, options)
    while True:
        try:
            _check_models(table)
            outcomes = from_columns(table, wide=options.wide, models=options.models, reward_model=options.reward_model)
            _check_pool(table, outcomes.models)
        except BadRowsError as exc:
            if not (options.keep_first if exc.what == REPEATED else options.skip_bad_rows):
                raise _with_way_out(exc, options) from exc
            left_out[exc.what] += int(exc.bad_N.sum())
            table = _without(table, exc.bad_N, str(exc))
        else:
            name = None if format_ is None else format_.name
            others = [measure for measure in reading.measures if measure not in reading.rewards]
            return Imported(outcomes, tuple(files), name, dict(left_out), dict(reading.rewards), others, notes)


def _format(files: Sequence[Path], options: ImportOptions) -> Format | None:
    if options.format == "table":
        return None
    if options.format is not None:
        return next(each for each in FORMATS if each.name == options.format)
    if options.wide or options.columns:
        return None
    found = {path: guessed(path, first_bytes(path, HEAD_BYTES)) for path in files if path.is_file()}
    kinds = {None if each is None else each.name: path for path, each in found.items()}
    if len(kinds) > 1:
        raise OutcomesError(
            "files of several formats: "
            + ", ".join(f"{path} ({name or 'a table'})" for name, path in kinds.items())
            + "; expected one. Import them apart, or state --format"
        )
    return next(iter(found.values()), None)


def _asked(options: ImportOptions, left_out: Counter[str]) -> Asked:
    def count(_: str) -> None:
        left_out[MALFORMED] += 1

    wanted = set(CONTRACT_COLUMNS) | set(options.models or ())
    return Asked(
        lambda name: name in wanted or (options.wide and options.models is None),
        TEXT_COLUMNS,
        renaming(options.columns, CONTRACT_COLUMNS),
        {role: source.split(".") for role, source in options.columns.items() if "." in source},
        count if options.skip_bad_rows else None,
    )


def _check_units(table: FileTable, percentages: Sequence[str], options: ImportOptions) -> None:
    """Refuse a wide table of which some models' rewards are percentages and others' are not."""
    pool = [name for name in table.columns if name not in CONTRACT_COLUMNS] if options.wide else []
    plain = [name for name in pool if name not in percentages]
    if any(name in pool for name in percentages) and plain:
        raise OutcomesError(
            f"{table.path}: rewards of {listed(percentages)} are percentages, and those of {listed(plain)} are not; "
            "expected one unit. Write all of them alike"
        )


def _unread(table: FileTable, options: ImportOptions) -> list[str]:
    """Of a wide table whose models are named, the columns that are neither a model nor anything else."""
    if not options.wide or options.models is None:
        return []
    unread = [name for name in table.names if name not in table.columns and name not in options.columns.values()]
    if not unread or "category" in table.columns:
        return []
    return [f"not read: {listed(unread)}; say what a column is, as in --column category={unread[0]}"]


def _check_roles(table: FileTable, options: ImportOptions) -> None:
    for role, source in options.columns.items():
        if role not in table.columns:
            near = suggested([role], table.names)
            raise OutcomesError(
                f"{table.path}: no column {source!r} (for {role}); found {listed(table.names)}"
                + (f". Try {near}" if near else "")
            )


def _foreign(format_: Format, files: Sequence[Path], asked: Asked, reading: Reading) -> FileTable:
    places = _Places(files[0])
    rows = places.numbered(counted_once(format_.read(files, reading), reading))
    table = places.told(table_of_records(files[0], rows, replace(asked, where=places.at)))
    if table.n_rows == 0:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reading.skipped.items())
        raise OutcomesError(
            f"{files[0]}: no outcome found as {format_.name}{f' (left out: {why})' if why else ''}; expected "
            f"{format_.about}. Name another --format"
        )
    return table


class _Places:
    """From which record of which file each row of a foreign format is."""

    def __init__(self, first: Path) -> None:
        self._files = {first: 0}
        self._file, self._record = array("l"), array("l")

    def numbered(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The rows by their place among all, from 1."""
        for number, row in enumerate(rows, start=1):
            origin = row.get(AT)
            self._file.append(0 if origin is None else self._files.setdefault(origin.path, len(self._files)))
            self._record.append(number if origin is None else origin.record)
            yield number, {name: cell for name, cell in row.items() if name != AT}

    def at(self, number: int) -> str:
        """File and record of a row, as messages begin."""
        return f"{list(self._files)[self._file[number - 1]]}: record {self._record[number - 1]}"

    def told(self, table: FileTable) -> FileTable:
        """The table with its rows numbered as in their files."""
        rows = table.row_N - 1 if table.row_N is not None else np.arange(table.n_rows)
        file_N, record_N = np.array(self._file, dtype=np.int64)[rows], np.array(self._record, dtype=np.int64)[rows]
        firsts = np.flatnonzero(np.diff(file_N, prepend=-1)).tolist()
        paths = list(self._files)
        return replace(table, row_N=record_N, files=tuple((first, paths[file_N[first]]) for first in firsts))


def _check_models(table: FileTable) -> None:
    """Refuse here the names that no bundle may hold, and not after everything was fitted."""
    models = columns.text(table, "model")
    bad_K = np.array([not _is_name(name) for name in models.values] + [False])
    columns.fail_where(
        bad_K[models.codes_N],
        lambda row: f"{table.at(row)}: model is {models.values[models.codes_N[row]][:60]!r}; expected {_NAME}",
        "a model name that cannot be one",
    )


def _check_pool(table: FileTable, models: Sequence[str]) -> None:
    bad = [name for name in models if not _is_name(name)]
    if bad:
        raise OutcomesError(f"{table.path}: a model is called {bad[0][:60]!r}; expected {_NAME}. Rename its column")
    if len(models) > MAX_MODELS:
        raise OutcomesError(
            f"{table.path}: {len(models):,} models; expected at most {MAX_MODELS:,}. Name those to keep with --models"
        )


_NAME = f"a name of at most {MAX_NAME} characters, without control characters and line breaks"


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME and not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)


def _without_placeholders(table: FileTable, left_out: Counter[str]) -> FileTable:
    prompts = columns.text(table, "prompt")
    reasons = np.array([placeholder(text) or "" for text in prompts.values] + [""], dtype=object)
    none_K = reasons != ""
    if not none_K.any():
        return table
    for reason in dict.fromkeys(reasons[none_K]):
        left_out[reason] += int((reasons[prompts.codes_N] == reason).sum())
    return _without(table, none_K[prompts.codes_N], f"{table.path}: every prompt is a placeholder, or was cut by a log")


def _without(table: FileTable, dropped_N: np.ndarray, message: str) -> FileTable:
    kept = table.without(dropped_N)
    if kept.n_rows == 0:
        raise OutcomesError(f"{message}. No usable row is left")
    return kept


def _with_way_out(exc: BadRowsError, options: ImportOptions) -> OutcomesError:
    more = int(exc.bad_N.sum()) - 1
    others = f" ({more:,} more like it)" if more else ""
    way_out = "" if exc.what == REPEATED or options.skip_bad_rows else ". --skip-bad-rows leaves such rows out"
    return OutcomesError(f"{exc}{others}{way_out}")
