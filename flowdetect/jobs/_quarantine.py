"""Rows that are set aside: how they are written, how one is named in a sentence, and how many may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flowdetect.jobs._errors import InputError
from flowdetect.jobs._rows import Rejected
from flowdetect.jobs._setting_values import BadRowLimit
from flowdetect.jobs._targets import Writer

__all__ = ["QUARANTINE", "Quarantine", "describe"]

QUARANTINE = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("rule", pa.string()),
        ("value", pa.string()),
    ]
)


def describe(row: Rejected) -> str:
    """Return what is wrong with a row, as the beginning of a sentence."""
    where = "" if row.column is None else f" in column '{row.column}'"
    value = "" if row.value is None else f" ('{row.value}')"
    return f"row {row.row} of '{row.partition}' breaks the rule '{row.rule}'{where}{value}"


@dataclass
class Quarantine:
    """The rows of a run that are set aside.

    Parameters
    ----------
    limit : BadRowLimit
    n_rows : int
        How many there are so far.
    """

    limit: BadRowLimit
    n_rows: int = 0

    def add(self, rejected: Sequence[Rejected], aside: Writer | None) -> None:
        """Write rows that cannot be used.

        Raises
        ------
        InputError
            If there is nowhere to write them, or they are too many.
        """
        if aside is None:
            raise InputError(f"{describe(rejected[0])}: name a quarantine to set such rows aside.")
        self.n_rows += len(rejected)
        most = self.limit.rows
        if most is not None and self.n_rows > most:
            raise InputError(f"more than {most} rows cannot be used; one of them: {describe(rejected[0])}.")
        aside.write(_batch(rejected))

    def check_share(self, name: str, n_rejected: int, n_read: int) -> None:
        """Refuse a source that has too large a share of such rows.

        Raises
        ------
        InputError
        """
        share = self.limit.share
        if share is not None and n_rejected > share * n_read:
            raise InputError(
                f"{n_rejected} of the {n_read} rows of '{name}' cannot be used, more than {100 * share:g} %."
            )


def _batch(rejected: Sequence[Rejected]) -> pa.RecordBatch:
    columns = [[row.partition for row in rejected], [row.row for row in rejected]]
    columns += [[getattr(row, name) for row in rejected] for name in ("column", "rule", "value")]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, QUARANTINE, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=QUARANTINE)
