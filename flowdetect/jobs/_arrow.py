"""parquet, arrow and feather files, read batch by batch with their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flowdetect.jobs._errors import InputError
from flowdetect.jobs._files import STANDARD_INPUT, fingerprint, reading, standard_input
from flowdetect.jobs._rows import Rows

__all__ = ["ArrowPartition", "ParquetPartition", "check_names", "numbered"]

_FILE_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_BUFFER = 2**20  # bytes of each column read ahead


class _TypedPartition:
    """Batches with types, and columns that the names of the folders add.

    Parameters
    ----------
    path : Path or None
        None is standard input.
    added : mapping of str to (str or None), optional
        Names and values of the folders of a partitioned table: ``year=2026``. A column of the file wins.

    Attributes
    ----------
    folder_columns : tuple of str
        Columns that only the names of folders give; known when the schema is.
    """

    def __init__(self, path: Path | None, added: Mapping[str, str | None] | None = None) -> None:
        self.path = path
        self.name = STANDARD_INPUT if path is None else str(path)
        self.inside = "rows" if path is None else path.name
        self.folder_columns: tuple[str, ...] = ()
        self._added = dict(added or {})
        self._schema: pa.Schema | None = None

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch.

        Raises
        ------
        InputError
            If the file cannot be read, or repeats a name.
        """
        if self._schema is None:
            with self._reader() as (schema, _):
                self._schema = self._extended(schema)
        return self._schema

    def fingerprint(self) -> str | None:
        """Return the sha256 of the file's bytes, in hex; None for standard input."""
        return None if self.path is None else fingerprint(self.path)

    def batches(self, n_rows: int) -> Iterator[Rows]:
        """Yield the rows in order, at most `n_rows` at a time.

        Raises
        ------
        InputError
            If the file cannot be read to its end.
        """
        with self._reader(n_rows) as (schema, reader):
            schema = self._schema = self._extended(schema)
            yield from numbered(self._typed(reader, schema), schema, self.name, n_rows)

    def _typed(self, reader: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        while True:
            with reading(self.name):
                batch = next(reader, None)
            if batch is None:
                return
            added = [
                pa.repeat(pa.scalar(self._added[name], pa.string()), batch.num_rows)
                for name in schema.names[batch.num_columns :]
            ]
            yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    def _extended(self, schema: pa.Schema) -> pa.Schema:
        check_names(schema.names, self.name)
        self.folder_columns = tuple(name for name in self._added if name not in schema.names)
        for name in self.folder_columns:
            schema = schema.append(pa.field(name, pa.string()))
        return schema.remove_metadata()

    def _reader(self, n_rows: int = 1) -> Any:
        raise NotImplementedError


class ParquetPartition(_TypedPartition):
    """A parquet file."""

    @contextmanager
    def _reader(self, n_rows: int = 1) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        with reading(self.name):
            # Not mapped: what was read stays accounted to the process, and is given back.
            file = pq.ParquetFile(self.path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER)
        with file:
            yield file.schema_arrow, file.iter_batches(n_rows, use_threads=False)


class ArrowPartition(_TypedPartition):
    """An arrow (feather) file, or a stream of standard input."""

    @contextmanager
    def _reader(self, n_rows: int = 1) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        del n_rows  # batches are as large as they were written
        if self.path is None:
            yield self._standard_input
            return
        with reading(self.name):
            file = open(self.path, "rb")  # noqa: SIM115
        with file:
            with reading(self.name):
                is_file = file.read(len(_FILE_MAGIC)) == _FILE_MAGIC
                file.seek(0)
                opened = _open_file(file) if is_file else _open_stream(file)
            yield opened

    @cached_property
    def _standard_input(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The stream of standard input, whose beginning cannot be read a second time."""
        with reading(self.name):
            return _open_stream(standard_input())


def _open_file(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    reader = pa.ipc.open_file(file)
    return reader.schema, map(reader.get_batch, range(reader.num_record_batches))


def _open_stream(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    watched = _Watched(file)
    reader = pa.ipc.open_stream(pa.PythonFile(watched, mode="r"))
    return reader.schema, _to_the_end(reader, watched)


def _to_the_end(reader: Any, file: _Watched) -> Iterator[pa.RecordBatch]:
    yield from reader
    # The reader takes a stream that was cut between two batches for a whole one.
    if file.tail != _END_OF_STREAM:
        raise pa.ArrowInvalid("the stream ends without its end mark, it is truncated.")
    if file.read(1):
        raise pa.ArrowInvalid("something follows the end of the stream.")


class _Watched:
    """A binary file that remembers the last bytes read."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.tail = (self.tail + piece[-len(_END_OF_STREAM) :])[-len(_END_OF_STREAM) :]
        return piece

    def close(self) -> None:
        """Leave the file to who opened it."""


def numbered(batches: Iterator[pa.RecordBatch], schema: pa.Schema, name: str, n_rows: int) -> Iterator[Rows]:
    """Cut batches into pieces of at most `n_rows` and number the rows; at least one piece comes."""
    seen = 0
    for batch in batches:
        for start in range(0, batch.num_rows, n_rows):
            piece = batch.slice(start, n_rows)
            yield Rows(piece, np.arange(seen + 1, seen + piece.num_rows + 1), partition=name)
            seen += piece.num_rows
    if not seen:
        yield Rows(pa.RecordBatch.from_pylist([], schema), np.zeros(0, np.int64), partition=name)


def check_names(names: list[str], source: str) -> None:
    """Refuse names that are there twice.

    Raises
    ------
    InputError
    """
    repeated = sorted({f"'{name}'" for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"'{source}' cannot be read: names of columns must be unique; repeated: {', '.join(repeated)}."
        )
