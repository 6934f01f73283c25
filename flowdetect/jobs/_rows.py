"""What passes from a source to the core: batches of rows with their numbers, and rows that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

__all__ = ["MISSING_TEXTS", "Partition", "Rejected", "Rows", "shorten"]

# The texts of a csv file that pandas.read_csv takes for a missing entry.
MISSING_TEXTS = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)

_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be scored.

    Parameters
    ----------
    partition : str
        Where it stands: a file, a query, standard input.
    row : int
        Its number among the data rows of the partition, from 1.
    column : str or None
        Where the rule is broken; None if by the row as a whole.
    rule : str
        "fields" (more or fewer than the header has), "utf-8", "number", "bool", "infinity", "integer",
        "range" (of 64 bits), "date", "duration", "missing" (where training saw nothing missing) or "type".
    value : str or None
        What stands there, shortened; None if it is a missing entry.
    """

    partition: str
    row: int
    column: str | None
    rule: str
    value: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Successive rows of a partition.

    Parameters
    ----------
    batch : RecordBatch of n_rows rows
        The rows that could be read, as the source has them: text for csv.
    numbers : ndarray of int64, shape (n_rows,)
        Their numbers among the data rows of the partition, from 1.
    rejected : tuple of Rejected
        Rows before, between and after them that could not be read.
    partition : str
        Name of the partition.
    missing_texts : frozenset of str or None
        For a source of texts (csv): those that mean a missing entry. None where the source has types and
        marks missing entries itself.
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    rejected: tuple[Rejected, ...] = ()
    partition: str = ""
    missing_texts: frozenset[str] | None = None

    def take(self, start: int, stop: int) -> Rows:
        """Return some of the rows; those that could not be read go with the first of them."""
        return Rows(
            self.batch.slice(start, stop - start),
            self.numbers[start:stop],
            self.rejected if start == 0 else (),
            self.partition,
            self.missing_texts,
        )


class Partition(Protocol):
    """One file of a glob or folder, one query, or standard input."""

    @property
    def name(self) -> str:
        """Path, or URL without secrets."""

    path: Path | None  # None where there is no file
    inside: str  # path below the folder, or the fixed part of the glob, that was named

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch."""

    def fingerprint(self) -> str | None:
        """Return the sha256 of the file's bytes, in hex; None where there is no file."""

    def batches(self, n_rows: int) -> Iterator[Rows]:
        """Yield the rows in order, at most `n_rows` at a time, in bounded memory.

        At least one `Rows` comes, without rows if the partition has none.
        """


def shorten(value: object) -> str:
    """Return a value as a quarantine shows it: one that is long without its end."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
