"""The rows of a fit: read with the types that they have, or that the texts of csv files mean.

A text that is no number, in a column of numbers, would make labels of the whole column; every row of the next
night would then hold an unseen one. Such rows are refused or set aside, as are those with too many or too few
fields, by the rules that scoring has.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from flowdetect.jobs._csv import CsvPartition
from flowdetect.jobs._dry_run import check_file
from flowdetect.jobs._errors import InputError, UsageError
from flowdetect.jobs._files import reading
from flowdetect.jobs._parsing import drop_missing_texts, parse_numbers
from flowdetect.jobs._quarantine import QUARANTINE, Quarantine, describe
from flowdetect.jobs._rows import MISSING_TEXTS, Partition, Rejected, shorten
from flowdetect.jobs._settings import FitSettings
from flowdetect.jobs._targets import FileTarget, Writer, open_target

__all__ = ["TrainingRows", "read_rows"]

# So few texts that are no numbers are mistakes in a column of numbers; more of them are labels.
_MOST_MISTAKES = 0.1
_BATCH = 65_536


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The rows of a fit.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
    n_quarantined : int
        Rows that were set aside.
    left_out : tuple of str
        Columns that only the names of folders give.
    """

    frame: pd.DataFrame
    n_quarantined: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Texts:
    """A csv file as it stands: its rows, their numbers, and those that could not be read."""

    name: str
    rows: pa.Table
    numbers: np.ndarray
    rejected: tuple[Rejected, ...]


def read_rows(partitions: Sequence[Partition], settings: FitSettings, *, dry: bool = False) -> TrainingRows:
    """Read all rows, and write those that cannot be used to the quarantine, unless the run is dry.

    Raises
    ------
    InputError
        If a source cannot be read, has other columns than the first, or rows that cannot be used while there
        is no quarantine, or more of them than are allowed.
    UsageError
        If a column that is to be read as text is not there, or its source has types.
    """
    texts = [_texts(partition) for partition in partitions if isinstance(partition, CsvPartition)]
    _check_text_columns(settings.text_columns, texts)
    for each in texts[1:]:
        _check_names(each.name, each.rows.column_names, texts[0].name, texts[0].rows.column_names)
    quarantine = Quarantine(settings.limit)
    with _opened(settings.quarantine, dry=dry) as aside:
        kept = _usable(texts, settings, quarantine, aside)
    tables = [_frame(kept, settings, texts[0].name)] if texts else []
    typed = [partition for partition in partitions if not isinstance(partition, CsvPartition)]
    tables += [_typed(partition) for partition in typed]
    names = [each.name for each in texts[:1]] + [partition.name for partition in typed]
    for name, table in zip(names, tables, strict=True):
        _check_names(name, list(table.columns), names[0], list(tables[0].columns))
    # One table is left as it is: joining could change the types of its columns.
    columns = list(tables[0].columns)
    X = tables[0] if len(tables) == 1 else pd.concat([t[columns] for t in tables], ignore_index=True)
    if X.empty:
        raise InputError(f"'{names[0]}' has no rows; a density needs some to be fitted to.")
    left_out = () if settings.folder_columns else _named_by_folders(typed)
    return TrainingRows(X.drop(columns=list(left_out)), quarantine.n_rows, left_out)


# --- csv -------------------------------------------------------------------------------------------------


def _texts(partition: CsvPartition) -> _Texts:
    batches = list(partition.batches(_BATCH))
    return _Texts(
        partition.name,
        pa.Table.from_batches([rows.batch for rows in batches], partition.schema),
        np.concatenate([rows.numbers for rows in batches]),
        tuple(row for rows in batches for row in rows.rejected),
    )


def _usable(
    texts: Sequence[_Texts], settings: FitSettings, quarantine: Quarantine, aside: Writer | None
) -> list[pa.Table]:
    """Return the rows of each file that can be used; the others go to the quarantine."""
    marks = MISSING_TEXTS | frozenset(settings.na_values)
    left_out = {*settings.text_columns, *settings.drop}
    names = [name for name in texts[0].rows.column_names if name not in left_out] if texts else []
    mistaken = {name: _mistaken([each.rows.column(name) for each in texts], marks) for name in names}
    kept = []
    for k, each in enumerate(texts):
        broken = {name: masks[k] for name, masks in mistaken.items() if masks is not None}
        rejected, good = _reject(each, broken)
        if rejected:
            if aside is None:
                raise InputError(_refusal(rejected[0], broken))
            quarantine.add(rejected, aside)
        quarantine.check_share(each.name, len(rejected), len(each.numbers) + len(each.rejected))
        kept.append(each.rows.filter(pa.array(good)))
    return kept


def _mistaken(columns: Sequence[pa.ChunkedArray], marks: frozenset[str]) -> list[np.ndarray] | None:
    """Return which texts of a column of numbers, file by file, are none; None for another column."""
    wrong, n_given = [], 0
    for column in columns:
        array = drop_missing_texts(column.combine_chunks(), marks)
        n_given += len(array) - array.null_count
        wrong.append(parse_numbers(array)[1])
    n_wrong = sum(int(mask.sum()) for mask in wrong)
    return wrong if 0 < n_wrong <= _MOST_MISTAKES * n_given else None


def _reject(texts: _Texts, broken: dict[str, np.ndarray]) -> tuple[list[Rejected], np.ndarray]:
    """Return the rows that cannot be used, in order, and which of those that were read can."""
    rejected, good = list(texts.rejected), np.ones(len(texts.numbers), dtype=bool)
    for name, mask in broken.items():
        for row in np.flatnonzero(mask & good).tolist():
            value = shorten(texts.rows.column(name)[row].as_py())
            rejected.append(Rejected(texts.name, int(texts.numbers[row]), name, "number", value))
        good &= ~mask
    return sorted(rejected, key=lambda row: row.row), good


def _refusal(row: Rejected, broken: dict[str, np.ndarray]) -> str:
    if row.column not in broken:
        return f"{describe(row)}: set such rows aside with --quarantine FILE."
    return (
        f"row {row.row} of '{row.partition}' has '{row.value}' in column '{row.column}', where nearly all "
        f"entries are numbers: --na-value '{row.value}' takes it for a missing entry, --text-column "
        f"'{row.column}' takes all entries for labels, --quarantine FILE sets such rows aside."
    )


def _frame(tables: Sequence[pa.Table], settings: FitSettings, name: str) -> pd.DataFrame:
    """Return texts with the types that pandas gives them, which are those that users expect."""
    buffer = io.BytesIO()
    columns = tables[0].column_names
    with pyarrow.csv.CSVWriter(buffer, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table.select(columns))
    buffer.seek(0)
    marks = sorted(MISSING_TEXTS | set(settings.na_values))
    with reading(name):
        return pd.read_csv(
            buffer, na_values=marks, low_memory=False, dtype=dict.fromkeys(settings.text_columns, str)
        )


def _check_text_columns(names: Sequence[str], texts: Sequence[_Texts]) -> None:
    if names and not texts:
        raise UsageError(f"column '{names[0]}' has a type already: only columns of csv are read as text.")
    unknown = [name for name in names if name not in texts[0].rows.column_names]
    if unknown:
        raise UsageError(f"'{texts[0].name}' has no column '{unknown[0]}' to be read as text.")


# --- others ----------------------------------------------------------------------------------------------


def _typed(partition: Partition) -> pd.DataFrame:
    batches = [rows.batch for rows in partition.batches(_BATCH)]
    return pa.Table.from_batches(batches, batches[0].schema).to_pandas()


def _named_by_folders(partitions: Sequence[Partition]) -> tuple[str, ...]:
    found = [name for partition in partitions for name in getattr(partition, "folder_columns", ())]
    return tuple(dict.fromkeys(found))


def _check_names(name: str, names: Sequence[str], first_name: str, first: Sequence[str]) -> None:
    if set(names) != set(first):
        raise InputError(f"'{name}' has other columns than '{first_name}'.")


@contextmanager
def _opened(spec: str | None, *, dry: bool) -> Iterator[Writer | None]:
    if spec is None:
        yield None
        return
    target = None if spec == "-" else open_target(spec)
    if not isinstance(target, FileTarget):
        raise UsageError("the quarantine of a fit must be a file.")
    if dry:
        check_file(target.path)
        yield Writer(target.name, lambda batch: None)
        return
    with target.begin("rows", QUARANTINE) as writer:
        yield writer
