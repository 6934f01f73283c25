"""What a job reads: files, folders, globs, standard input and SQL, as partitions in a fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from flowdetect.jobs._arrow import ArrowPartition, ParquetPartition
from flowdetect.jobs._csv import CsvPartition
from flowdetect.jobs._errors import InputError, SchemaError, UsageError
from flowdetect.jobs._files import STANDARD_INPUT
from flowdetect.jobs._rows import MISSING_TEXTS, Partition

__all__ = ["FORMATS", "SUFFIXES", "check_same_columns", "format_of", "is_sql", "open_sources", "would_read"]

# How names end, and what that says: the format, and how it is compressed.
SUFFIXES = {
    ".csv": ("csv", None),
    ".csv.gz": ("csv", "gzip"),
    ".csv.zst": ("csv", "zstd"),
    ".parquet": ("parquet", None),
    ".pq": ("parquet", None),
    ".arrow": ("arrow", None),
    ".feather": ("arrow", None),
}
FORMATS = tuple(suffix[1:] for suffix in SUFFIXES if suffix not in (".pq", ".feather"))
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def open_sources(
    specs: Sequence[str],
    *,
    format: str | None = None,
    query: str | None = None,
    missing_texts: Sequence[str] = (),
) -> list[Partition]:
    """Find what there is to read. Files are opened later.

    Parameters
    ----------
    specs : sequence of str
        Each a file, a folder (all files below it, ``name=value`` folders add columns), a glob, "-" for
        standard input, or a URL of SQLAlchemy: ``sqlite:///hospital.db#visits`` reads a table. ``env:NAME``
        stands for what an environment variable holds, so that passwords stay out of the command.
    format : str, optional
        One of `FORMATS`, for all files and standard input; without it the names of files tell theirs, and
        standard input is csv.
    query : str, optional
        What to read from a database, in place of ``#table``.
    missing_texts : sequence of str, default=()
        Texts of csv files that mean a missing entry, besides those of pandas.

    Returns
    -------
    list of Partition
        In the order of the specs, the files of each by name; the same file never twice.

    Raises
    ------
    InputError
        If there is nothing to read.
    UsageError
        If a name does not tell the format, or a query and its database are not both there.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"a format is one of {', '.join(FORMATS)}; got '{format}'.")
    if query is not None and not any(is_sql(spec) for spec in specs):
        raise UsageError("a query needs a database: name its URL as the source.")
    marks = MISSING_TEXTS | frozenset(missing_texts)
    found: dict[str, Partition] = {}
    for spec in specs:
        for partition in _partitions(spec, format, query, marks):
            found.setdefault(_identity(partition), partition)
    if not found:
        raise UsageError("name at least one source.")
    return list(found.values())


def is_sql(spec: str) -> bool:
    """Return whether a source or target is a database."""
    return "://" in spec or spec.startswith("env:")


def would_read(spec: str, path: str) -> bool:
    """Return whether a folder or a glob names a file, whether it is there already or not.

    Parameters
    ----------
    spec : str
        A source.
    path : str
        A real path.
    """
    if is_sql(spec) or spec == STANDARD_INPUT:
        return False
    if os.path.isdir(spec):
        folder = os.path.realpath(spec)
        return os.path.commonpath([path, folder]) == folder
    if os.path.exists(spec) or not glob.has_magic(spec):
        return False
    folder = os.path.realpath(_fixed_part(Path(spec)))
    if os.path.commonpath([path, folder]) != folder:
        return False
    pattern = Path(spec).parts[len(_fixed_part(Path(spec)).parts) :]
    return _matches(Path(path).relative_to(folder).parts, pattern)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path are those of a glob, as `glob.glob` sees it."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**" and _matches(parts, rest):
        return True
    if not parts or (parts[0].startswith(".") and not first.startswith(".")):
        return False
    if first == "**":
        return _matches(parts[1:], pattern)
    return fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def format_of(path: str) -> tuple[str, str | None] | None:
    """Return the format of a file and how it is compressed, by its name; None if that does not tell."""
    ends = [suffix for suffix in SUFFIXES if path.lower().endswith(suffix)]
    return SUFFIXES[max(ends, key=len)] if ends else None


def check_same_columns(partitions: Sequence[Partition]) -> Iterator[Partition]:
    """Yield the partitions, and refuse the first whose columns are not those of the first one.

    Raises
    ------
    SchemaError
        If a column was added, is absent or has another type. Another order is none.
    """
    first: pa.Schema | None = None
    for partition in partitions:
        schema = partition.schema
        if first is None:
            first = schema
        _compare(partition.name, schema, partitions[0].name, first)
        yield partition


def _compare(name: str, schema: pa.Schema, first_name: str, first: pa.Schema) -> None:
    for column in [*first.names, *schema.names]:
        if column not in schema.names:
            raise SchemaError(f"'{name}' lacks column '{column}', which '{first_name}' has.")
        if column not in first.names:
            raise SchemaError(f"'{name}' has column '{column}', which '{first_name}' has not.")
        types = schema.field(column).type, first.field(column).type
        # A column in which all is missing has no type of its own.
        if types[0] != types[1] and not pa.types.is_null(types[0]):
            raise SchemaError(
                f"'{name}' has {types[0]} in column '{column}', where '{first_name}' has {types[1]}."
            )


def _identity(partition: Partition) -> str:
    return partition.name if partition.path is None else os.path.realpath(partition.path)


def _partitions(
    spec: str, format_: str | None, query: str | None, marks: frozenset[str]
) -> Iterator[Partition]:
    if is_sql(spec):
        from flowdetect.jobs._sql import SqlPartition

        yield SqlPartition(spec, query=query)
    elif spec == STANDARD_INPUT:
        yield _file(None, format_ or "csv", {}, marks)
    elif Path(spec).is_dir():
        folder = Path(spec)
        for path in _files_below(folder):
            yield _below(folder, path, format_, marks)
    elif not Path(spec).exists() and glob.has_magic(spec):
        folder = _fixed_part(Path(spec))
        paths = sorted(Path(path) for path in glob.glob(spec, recursive=True) if os.path.isfile(path))
        if not paths:
            raise InputError(f"no file matches '{spec}'.")
        for path in paths:
            yield _below(folder, path, format_, marks)
    elif not Path(spec).exists():
        raise InputError(f"there is no file '{spec}'.")
    else:
        yield _file(Path(spec), format_, {}, marks)


def _files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, without those that writers hide: names that begin with a dot or _."""
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith((".", "_")) for part in inside):
            found.append(path)
    if not found:
        raise InputError(f"there is no file in the folder '{folder}'.")
    return found


def _fixed_part(pattern: Path) -> Path:
    """Return the folder that all matches of a glob lie in."""
    parts = pattern.parts[:-1]
    n_fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:n_fixed])


def _below(folder: Path, path: Path, format_: str | None, marks: frozenset[str]) -> Partition:
    inside = path.relative_to(folder)
    partition = _file(path, format_, _folder_values(path.parts[:-1]), marks)
    partition.inside = str(inside)
    return partition


def _folder_values(parts: Sequence[str]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name and equals:
            values[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return values


def _file(
    path: Path | None, format_: str | None, added: dict[str, str | None], marks: frozenset[str]
) -> CsvPartition | ArrowPartition | ParquetPartition:
    kind = format_of(str(path)) if format_ is None else SUFFIXES[f".{format_}"]
    if kind is None:
        raise UsageError(
            f"the name of '{path}' does not tell its format: it ends in none of {', '.join(SUFFIXES)}. "
            "Name it with --format."
        )
    name, codec = kind
    if name == "csv":
        return CsvPartition(path, codec, missing_texts=marks)
    if name == "arrow":
        return ArrowPartition(path, added)
    if path is None:
        raise UsageError("parquet cannot be read from standard input: its index is at its end. Take arrow.")
    return ParquetPartition(path, added)
