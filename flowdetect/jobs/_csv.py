"""csv, read as the text that stands there: a row that cannot be read is set aside, the others go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from flowdetect.jobs._csv_text import BLOCK, UNDECODED, CsvText, RowCounter, show_undecoded
from flowdetect.jobs._errors import InputError
from flowdetect.jobs._files import STANDARD_INPUT, fingerprint, open_stream, reading
from flowdetect.jobs._rows import MISSING_TEXTS, Rejected, Rows, shorten

__all__ = ["CsvPartition"]


class CsvPartition:
    """A csv file, compressed or not, or standard input.

    Parameters
    ----------
    path : Path or None
        None is standard input.
    codec : {"gzip", "zstd"} or None
    missing_texts : frozenset of str
        Texts that mean a missing entry.
    """

    def __init__(
        self,
        path: Path | None,
        codec: str | None = None,
        *,
        missing_texts: frozenset[str] = MISSING_TEXTS,
    ) -> None:
        self.path = path
        self.name = STANDARD_INPUT if path is None else str(path)
        self.inside = "rows" if path is None else path.name
        self._codec = codec
        self._missing_texts = missing_texts
        self._opened: CsvText | None = None
        self._names: list[str] | None = None

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch: text in all columns.

        Raises
        ------
        InputError
            If the file cannot be read, has no header, or repeats a name.
        """
        if self._names is None:
            stream = self._open()
            self._names = stream.header(self.name)
            if self.path is None:
                self._opened = stream  # it cannot be read a second time
            else:
                stream.close()
        return pa.schema([(name, pa.string()) for name in self._names])

    def fingerprint(self) -> str | None:
        """Return the sha256 of the file's bytes, in hex; None for standard input."""
        return None if self.path is None else fingerprint(self.path)

    def batches(self, n_rows: int) -> Iterator[Rows]:
        """Yield the rows in order, at most `n_rows` at a time.

        Raises
        ------
        InputError
            If the file cannot be read to its end: truncated, a quote that is never closed, another header.
        """
        schema = self.schema
        stream, self._opened = self._opened or self._open(), None
        try:
            counter = RowCounter(self.name)
            yielded = False
            for rows in self._read(stream, schema, counter):
                for start in range(0, max(rows.batch.num_rows, 1), n_rows):
                    yield rows.take(start, min(start + n_rows, rows.batch.num_rows))
                    yielded = True
            rest = counter.take_all()
            if rest or not yielded:
                nothing = pa.RecordBatch.from_pylist([], schema)
                yield Rows(nothing, np.zeros(0, np.int64), rest, self.name, self._missing_texts)
        finally:
            if self.path is not None:
                stream.close()

    def _open(self) -> CsvText:
        with reading(self.name):
            return CsvText(open_stream(self.path, self._codec))

    def _read(self, stream: CsvText, schema: pa.Schema, counter: RowCounter) -> Iterator[Rows]:
        if stream.header(self.name) != schema.names:
            raise InputError(f"'{self.name}' has changed since its header was read; run the job again.")
        # Names of our own: those of the file may be empty.
        names = [str(k) for k in range(len(schema))]
        last = ""
        with counter.reading(), self._reader(stream, names, counter) as reader:
            while True:
                with counter.reading():
                    batch = next(reader, None)
                if batch is None:
                    break
                if batch.num_rows:
                    last = batch.column(len(names) - 1)[batch.num_rows - 1].as_py()
                    decoded = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                    rows = Rows(decoded, *counter.number(batch.num_rows), self.name, self._missing_texts)
                    yield _decoded_only(rows) if stream.has_undecoded else rows
        counter.check_end(last, stream.tail)

    def _reader(self, stream: CsvText, names: list[str], counter: RowCounter) -> Any:
        return pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows_after_names=1, use_threads=False, block_size=BLOCK
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=counter.add_ragged
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )


def _decoded_only(rows: Rows) -> Rows:
    """Set the rows aside that hold bytes which are not UTF-8."""
    rejected, undecoded = list(rows.rejected), np.zeros(rows.batch.num_rows, dtype=bool)
    for name, column in zip(rows.batch.schema.names, rows.batch.columns, strict=True):
        found = np.asarray(pc.match_substring_regex(column, UNDECODED)) & ~undecoded
        undecoded |= found
        for row in np.flatnonzero(found):
            value = shorten(show_undecoded(column[row].as_py()))
            rejected.append(Rejected(rows.partition, int(rows.numbers[row]), name, "utf-8", value))
    return replace(
        rows,
        batch=rows.batch.filter(pa.array(~undecoded)),
        numbers=rows.numbers[~undecoded],
        rejected=tuple(sorted(rejected, key=lambda each: each.row)),
    )
