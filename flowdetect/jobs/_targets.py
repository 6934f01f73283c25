"""Where a job writes: a file, a folder of files, standard output or a table: all of it, or nothing."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowdetect._utils.files import atomic_file
from flowdetect.jobs._errors import StorageError, UsageError
from flowdetect.jobs._files import STANDARD_INPUT, first_line
from flowdetect.jobs._rows import Partition
from flowdetect.jobs._sources import FORMATS, SUFFIXES, format_of, is_sql

__all__ = ["RUN_KEY", "FileTarget", "FolderTarget", "Target", "Writer", "open_target", "output_names"]

STANDARD_OUTPUT = STANDARD_INPUT
# The column of a table of a database whose entries name the rows that a run replaces.
RUN_KEY = "run_key"


@dataclass
class Writer:
    """What takes the rows of one output.

    Attributes
    ----------
    name : str
        Path, or URL without secrets.
    n_rows : int
        Rows written so far.
    size, sha256 : int and str, or None
        Of the finished file; None for other targets, and before it is finished.
    """

    name: str
    _write: Callable[[pa.RecordBatch], None]
    n_rows: int = 0
    size: int | None = None
    sha256: str | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._write(batch)
        self.n_rows += batch.num_rows


class Target(Protocol):
    """Where rows go. What is there already stays until the block of `begin` ends without an exception."""

    name: str
    has_types: bool  # or everything in it is text

    def begin(self, output: str, schema: pa.Schema) -> AbstractContextManager[Writer]:
        """Open an output: one for all rows, or in a folder the one of this name."""


def open_target(
    spec: str, *, format: str | None = None, run_id: str | None = None, run_key: str | None = None
) -> Target:
    """Return a target that nothing has been written to yet.

    Parameters
    ----------
    spec : str
        A file; a folder, if it ends in "/" or is one; "-" for standard output; or a URL of SQLAlchemy with
        ``#table``.
    format : str, optional
        One of `FORMATS`. Without it the name of a file tells; standard output is csv, a folder gets parquet.
    run_id : str, optional
        In a table, the rows of this run replace those with the same ``run_id``.
    run_key : str, optional
        In a table, they also replace those with the same ``run_key``, a column that is added.

    Raises
    ------
    UsageError
        If the format is not known, or there is no such folder.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"a format is one of {', '.join(FORMATS)}; got '{format}'.")
    if is_sql(spec):
        from flowdetect.jobs._sql_target import SqlTarget

        return SqlTarget(spec, run_id, run_key)
    if spec == STANDARD_OUTPUT:
        return StandardOutput(SUFFIXES[f".{format or 'csv'}"])
    if spec.endswith(("/", os.sep)) or os.path.isdir(spec):
        return FolderTarget(Path(spec), f".{format or 'parquet'}")
    kind = format_of(spec) if format is None else SUFFIXES[f".{format}"]
    if kind is None:
        raise UsageError(
            f"the name of '{spec}' does not tell its format: it ends in none of {', '.join(SUFFIXES)}. "
            "Name it with --out-format; a folder ends in '/'."
        )
    if os.path.exists(spec) and not os.path.isfile(spec):
        # A device or a pipe would be replaced by a file.
        raise UsageError(f"'{spec}' is no file that can be replaced; '-' is standard output.")
    if not Path(spec).absolute().parent.is_dir():
        raise UsageError(f"there is no folder '{Path(spec).parent}' to write '{Path(spec).name}' in.")
    return FileTarget(Path(spec), kind)


def output_names(partitions: Sequence[Partition]) -> list[str]:
    """Return the name of each partition's output in a folder, without suffix.

    It is the path below the folder that was named as the source, so that it does not depend on what else
    is read.

    Raises
    ------
    UsageError
        If two would have the same.
    """
    names = [_stem(partition.inside) for partition in partitions]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(
            f"two sources would be written to the same file of the folder, '{repeated[0]}': name the folder "
            "that both lie in as the source."
        )
    return names


def _stem(path: str) -> str:
    ends = [suffix for suffix in SUFFIXES if path.lower().endswith(suffix)]
    return path[: -len(max(ends, key=len))] if ends else path


class FileTarget:
    """One file, replaced in one step.

    Parameters
    ----------
    path : Path
    kind : tuple of str and (str or None)
        Format and compression.
    """

    def __init__(self, path: Path, kind: tuple[str, str | None]) -> None:
        self.path = path
        self.name = str(path)
        self.has_types = kind[0] != "csv"
        self._kind = kind

    @contextmanager
    def begin(self, output: str, schema: pa.Schema) -> Iterator[Writer]:
        """Open the file; the name of the output says nothing here.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        del output
        with storing(self.name), atomic_file(self.path) as raw:
            hashed = _Hashed(raw)
            with _encoded(hashed, schema, self._kind, self.name) as write:
                writer = Writer(self.name, write)
                yield writer
        writer.size, writer.sha256 = hashed.size, hashed.digest.hexdigest()


class FolderTarget:
    """A folder with a file for each partition.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    suffix : str
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.path = folder
        self.name = str(folder)
        self.has_types = SUFFIXES[suffix][0] != "csv"
        self._suffix = suffix

    def file(self, output: str) -> Path:
        """Return the path of an output."""
        return self.path / f"{output}{self._suffix}"

    @contextmanager
    def begin(self, output: str, schema: pa.Schema) -> Iterator[Writer]:
        """Open the file of an output.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = self.file(output)
        with storing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with FileTarget(path, SUFFIXES[self._suffix]).begin(output, schema) as writer:
            yield writer


class StandardOutput:
    """Standard output, for a pipe: rows go as they come."""

    name = STANDARD_OUTPUT

    def __init__(self, kind: tuple[str, str | None]) -> None:
        if kind[0] == "parquet":
            raise UsageError("parquet cannot be written to standard output; take arrow.")
        self.has_types = kind[0] != "csv"
        self._kind = ("stream", None) if kind[0] == "arrow" else kind

    @contextmanager
    def begin(self, output: str, schema: pa.Schema) -> Iterator[Writer]:
        """Open it.

        Raises
        ------
        StorageError
            If the other end of the pipe was closed.
        """
        del output
        with storing("standard output"):
            stream = sys.stdout.buffer
            try:
                with _encoded(_Hashed(stream), schema, self._kind, self.name) as write:
                    yield Writer(self.name, write)
                stream.flush()
            except BrokenPipeError:
                # Else the interpreter would try once more to write what is left, and complain.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise


@contextmanager
def storing(name: str) -> Iterator[None]:
    """Turn what writing raises into one sentence.

    Raises
    ------
    StorageError
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        shown = name if name == "standard output" else f"'{name}'"
        raise StorageError(f"{shown} cannot be written: {first_line(error)}") from error


class _Hashed(io.RawIOBase):
    """A binary file that sums up what is written to it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._file.write(piece)
        self.digest.update(piece)
        self.size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.size


@contextmanager
def _encoded(
    file: _Hashed, schema: pa.Schema, kind: tuple[str, str | None], name: str
) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Return what writes batches to a file in a format; the file is complete when the block ends."""
    format_, codec = kind
    if format_ == "parquet":
        # Looking for repetitions in numbers costs four times what writing them does, and finds none.
        texts = [field.name for field in schema if not _is_number(field.type)]
        with pq.ParquetWriter(file, schema, use_dictionary=texts or False) as parquet:
            yield parquet.write_batch
    elif format_ == "arrow":
        with pa.ipc.new_file(file, schema) as arrow:
            yield arrow.write_batch
    elif format_ == "stream":
        with pa.ipc.new_stream(file, schema) as stream:
            yield stream.write_batch
    else:
        with _compressed(file, codec) as text:
            text.write(_header(schema.names))
            yield lambda batch: text.write(_lines(batch, name)) and None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


@contextmanager
def _compressed(file: _Hashed, codec: str | None) -> Iterator[Any]:
    if codec == "gzip":
        # Without a time in it: the same rows give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
            yield stream
    elif codec == "zstd":
        with pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd") as stream:
            yield stream
    else:
        yield file


def _header(names: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode()


def _lines(batch: pa.RecordBatch, name: str) -> bytes:
    """Return rows as lines of csv: quotes only where they are needed, a missing entry as nothing."""
    if not batch.num_rows:
        return b""
    fields = [_texts(column, field, name) for column, field in zip(batch.columns, batch.schema, strict=True)]
    if len(fields) == 1:  # a line with nothing in it would be no row
        fields = [pc.if_else(pc.equal(pc.fill_null(fields[0], ""), ""), _text('""'), fields[0])]
    lines = pc.binary_join_element_wise(*fields, _text(","), null_handling="replace", null_replacement="")
    ended = pc.binary_join_element_wise(lines, _text("\n"), _text(""))
    _, offsets, data = ended.buffers()
    first, last = (ended.offset * 8, (ended.offset + len(ended)) * 8)
    bounds = [int.from_bytes(offsets[place : place + 8].to_pybytes(), "little") for place in (first, last)]
    return data[bounds[0] : bounds[1]].to_pybytes()


def _texts(column: pa.Array, field: pa.Field, name: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, _text("True"), _text("False"))
    try:
        texts = column.cast(pa.large_string())
    except pa.ArrowException as error:
        raise StorageError(
            f"'{name}' cannot be written: column '{field.name}' holds {field.type}, which csv cannot hold. "
            "Take parquet."
        ) from error
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return texts
    inside = pc.replace_substring(texts, '"', '""')
    quoted = pc.binary_join_element_wise(_text('"'), inside, _text('"'), _text(""))
    return pc.if_else(pc.match_substring_regex(texts, '[",\r\n]'), quoted, texts)


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())
