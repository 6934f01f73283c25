"""Tables from and to files. pandas is imported when a file is read: ``--help`` does not wait for it."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdetect.cli._errors import INPUT, STORAGE, USAGE, CommandError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SUFFIXES",
    "Table",
    "check_output",
    "check_suffix",
    "identifier_hints",
    "joined",
    "keep_columns",
    "like_source",
    "missing_text_hints",
    "read_table",
    "write_table",
    "time_hints",
]

# Rows that are worth taking for a series.
_LEAST_SERIES = 20

SUFFIXES = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table that was read.

    Parameters
    ----------
    values : DataFrame of shape (n_rows, n_columns)
        Typed columns with missing values marked: what is fitted.
    source : DataFrame of shape (n_rows, n_columns)
        The same rows as they stand in the file (text, for csv): what is written back unchanged.
    """

    values: pd.DataFrame
    source: pd.DataFrame


def check_suffix(path: Path, role: str, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Refuse a file whose name does not end in one of the suffixes.

    Raises
    ------
    CommandError
        With the usage code.
    """
    if not path.name.lower().endswith(suffixes):
        raise CommandError(f"{role} must end in {', '.join(suffixes)}; got '{path}'.", USAGE)


def check_output(path: Path, table: Path) -> None:
    """Refuse, before anything is fitted, a path that cannot be written to.

    Raises
    ------
    CommandError
        If the folder does not exist, `path` is a folder, or it is the table that is read.
    """
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder '{path.parent}' to write '{path.name}' in.", STORAGE)
    if path.is_dir():
        raise CommandError(f"'{path}' is a folder; name a file to write.", STORAGE)
    if path.exists() and path.samefile(table):
        raise CommandError(f"'{path}' is the table that is read; name another file to write.", USAGE)


def read_table(path: Path, na_values: list[str]) -> Table:
    """Read a csv, csv.gz or parquet file.

    Parameters
    ----------
    path : Path
        The file.
    na_values : list of str
        Texts that mean "missing", besides those that pandas knows. For csv only.

    Raises
    ------
    CommandError
        If the file is missing, cannot be read as what its name says, or holds no rows.
    """
    check_suffix(path, "TABLE")
    if not path.is_file():
        raise CommandError(f"there is no file '{path}'.", INPUT)
    if na_values and path.name.lower().endswith(".parquet"):
        raise CommandError("--na-value is for csv files; parquet marks missing values itself.", USAGE)
    table = _read(path, na_values)
    if table.values.empty:
        raise CommandError(f"'{path}' has no rows; a density needs some to be fitted to.", INPUT)
    return table


def _read(path: Path, na_values: list[str]) -> Table:
    import pandas as pd
    import pyarrow as pa

    # ValueError is the base of what pandas' parsers and the text decoder raise; the others are a broken gzip
    # stream or parquet file.
    try:
        if path.name.lower().endswith(".parquet"):
            values = pd.read_parquet(path)
            return Table(values, values)
        values = pd.read_csv(path, na_values=na_values, low_memory=False)
        if not isinstance(values.index, pd.RangeIndex):
            # pandas would take the first fields for an index, and name every other column wrongly.
            raise ValueError("its rows have more fields than its header has names.")
        return Table(values, pd.read_csv(path, dtype=str, na_filter=False))
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        raise CommandError(f"'{path}' cannot be read as a table: {_first_line(error)}", INPUT) from error


def missing_text_hints(values: pd.DataFrame) -> list[str]:
    """Return a sentence for each text that keeps otherwise numeric columns from being read as numbers.

    Parameters
    ----------
    values : DataFrame of shape (n_rows, n_columns)
        As read from a csv file.

    Examples
    --------
    >>> import pandas as pd
    >>> missing_text_hints(pd.DataFrame({"age": ["71", "?", "8"], "sex": ["F", "?", "M"]}))
    ["all entries of 'age' are numbers but '?': if that means missing, say --na-value '?'."]
    """
    import pandas as pd

    columns: dict[str, list[str]] = {}
    for name, column in values.select_dtypes(exclude=["number", "bool", "datetime"]).items():
        texts = column.dropna().astype(str)
        others = texts[pd.to_numeric(texts, errors="coerce").isna()]
        if others.nunique() == 1 and len(others) < len(texts):
            columns.setdefault(others.iloc[0], []).append(f"'{name}'")
    return [
        f"all entries of {', '.join(names)} are numbers but '{text}': "
        f"if that means missing, say --na-value '{text}'."
        for text, names in columns.items()
    ]


def time_hints(values: pd.DataFrame) -> list[str]:
    """Return a sentence for the first column of dates by which the rows follow each other, if there is one.

    Examples
    --------
    >>> import pandas as pd
    >>> days = pd.date_range("2024-01-01", periods=20).astype(str)
    >>> time_hints(pd.DataFrame({"day": days, "flow": range(20)}))
    ["the rows follow each other in time by 'day': --time 'day' looks for odd stretches instead of odd rows."]
    """
    import pandas as pd

    for name, column in values.select_dtypes(exclude=["number", "bool"]).items():
        if len(column) < _LEAST_SERIES or column.isna().any():
            continue
        try:
            times = pd.to_datetime(column, format="ISO8601", utc=True)
        except (TypeError, ValueError):
            continue
        if times.is_monotonic_increasing and times.is_unique:
            return [
                f"the rows follow each other in time by '{name}': --time '{name}' looks for odd stretches "
                "instead of odd rows."
            ]
    return []


def identifier_hints(values: pd.DataFrame) -> list[str]:
    """Return a sentence for the columns with another text in each row, if there are some.

    Examples
    --------
    >>> import pandas as pd
    >>> identifier_hints(pd.DataFrame({"name": ["Ann", "Bob", "Cy"], "sex": ["F", "M", "M"]}))
    ["each row has another text in 'name': if that only names the row, say --drop 'name'."]
    """
    texts = values.select_dtypes(exclude=["number", "bool", "datetime"])
    names = [f"'{name}'" for name, column in texts.items() if column.nunique() == len(column)]
    if not names:
        return []
    drops = " ".join(f"--drop {name}" for name in names)
    return [f"each row has another text in {', '.join(names)}: if that only names the row, say {drops}."]


def keep_columns(table: Table, names: list[str]) -> Table:
    """Return some columns of a table, its rows counted anew."""
    values = table.values[names].reset_index(drop=True)
    return Table(values, values if table.source is table.values else table.source[names])


def like_source(table: Table, rows: pd.DataFrame) -> Table:
    """Return further rows of a table, written as the file writes such entries.

    Parameters
    ----------
    table : Table
        As it was read.
    rows : DataFrame of shape (n_rows, n_columns)
        Typed as ``table.values``.

    Returns
    -------
    Table
        Of a csv file, an entry that the file has somewhere is the text that stands there, a missing one the
        text that most often means so in its column; new numbers are written without a point if all of the
        column are.
    """
    import pandas as pd

    if table.source is table.values:
        return Table(rows, rows)
    texts = {name: _texts(table.values[name], table.source[name], rows[name]) for name in rows.columns}
    return Table(rows, pd.DataFrame(texts))


def _texts(values: pd.Series, source: pd.Series, entries: pd.Series) -> pd.Series:
    known = values.notna()
    texts = dict(zip(values[known][::-1], source[known][::-1], strict=True))
    whole = source[known].str.fullmatch(r"\s*[+-]?\d+\s*").all()
    marks = source[~known].mode()
    missing = marks.iloc[0] if len(marks) else ""

    def text(entry: Any) -> str:
        return texts.get(entry) or str(int(entry) if whole else entry)

    return entries.astype(object).map(text, na_action="ignore").astype(object).where(entries.notna(), missing)


def joined(table: Table, further: Table) -> Table:
    """Return the rows of two tables with the same columns."""
    import pandas as pd

    values = pd.concat([table.values, further.values], ignore_index=True)
    if table.source is table.values:
        return Table(values, values)
    return Table(values, pd.concat([table.source, further.source], ignore_index=True))


def write_table(table: Table, columns: dict[str, Any], path: Path | None) -> None:
    """Write a table with further columns.

    Parameters
    ----------
    table : Table
        As it was read.
    columns : dict of str to array of shape (n_rows,)
        What to append.
    path : Path or None
        A csv, csv.gz or parquet file; None writes csv to stdout.

    Raises
    ------
    CommandError
        If the file, or stdout, cannot be written.
    """
    # An index that is not just the row number came from the file and belongs into the result.
    index = type(table.source.index).__name__ != "RangeIndex"
    try:
        if path is None:
            table.source.assign(**columns).to_csv(sys.stdout, index=index)
            sys.stdout.flush()
        elif path.name.lower().endswith(".parquet"):
            table.values.assign(**columns).to_parquet(path, index=index)
        else:
            table.source.assign(**columns).to_csv(path, index=index)
    except OSError as error:
        target = "stdout" if path is None else f"'{path}'"
        raise CommandError(f"{target} cannot be written: {_first_line(error)}", STORAGE) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
