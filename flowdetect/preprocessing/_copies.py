"""Columns that repeat an earlier one: code 0 where they still do, code 1 where they differ."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.preprocessing._discrete import label_codes
from flowdetect.preprocessing._numeric import subsample
from flowdetect.preprocessing._schema import ColumnSchema
from flowdetect.preprocessing._storage import factorize, read_numbers, restore_numbers

__all__ = ["differs", "mark_copies", "restore_copy"]


def differs(original: pd.Series, series: pd.Series, column: ColumnSchema) -> np.ndarray:
    """Return 0.0 for rows where the copy has its original's entry (missing equals missing), else 1.0."""
    if column.storage.family == "label":
        return 1.0 - _same_labels(original, series)
    left, right = read_numbers(original, column.storage), read_numbers(series, column.storage)
    return 1.0 - ((left == right) | (np.isnan(left) & np.isnan(right)))


def restore_copy(original: pd.Series, column: ColumnSchema) -> pd.Series:
    """Return the decoded original in the dtype of its copy."""
    if column.storage.family == "label":
        return original.copy()
    return restore_numbers(read_numbers(original, column.storage), column.storage)


def mark_copies(
    frame: pd.DataFrame, columns: list[ColumnSchema], *, numbers: bool = True
) -> list[ColumnSchema]:
    """Turn each column that repeats an earlier one, entry by entry, into a copy of it.

    Without ``numbers`` columns of numbers stay what they are.
    """
    originals: dict[tuple[Any, ...], list[int]] = {}
    marked = []
    for position, column in enumerate(columns):
        stays = column.kind in ("constant", "empty") or (column.storage.family == "number" and not numbers)
        if not stays:
            same = originals.setdefault(_fingerprint(frame.iloc[:, position], column), [])
            series = frame.iloc[:, position]
            earlier = next((k for k in same if not differs(frame.iloc[:, k], series, column).any()), None)
            if earlier is None:
                same.append(position)
            else:
                column = replace(column, kind="copy", copy_of=earlier, values=None, levels=(), frequent=0)
        marked.append(column)
    return marked


def _fingerprint(series: pd.Series, column: ColumnSchema) -> tuple[Any, ...]:
    """Return something that equal columns share and others rarely do."""
    storage = column.storage
    if storage.family == "label":
        # A label column decodes by copying the entries of its original, so the dtypes must agree.
        return storage, column.levels, column.missing, zlib.crc32(label_codes(series, column).tobytes())
    numbers = subsample(read_numbers(series, storage)) + 0.0  # -0.0 is 0.0
    reading = (storage.family, storage.origin, storage.tick, storage.unit, storage.resolution)
    aware = "," in storage.dtype
    return *reading, aware, zlib.crc32(np.ascontiguousarray(numbers).tobytes())


def _same_labels(left: pd.Series, right: pd.Series) -> np.ndarray:
    """Tell row by row whether two columns of labels hold the same label, missing being equal to missing."""
    left_codes, left_labels = factorize(left)
    right_codes, right_labels = factorize(right)
    place = {label: code for code, label in enumerate(left_labels)}
    # -2 is nowhere on the left: a label that only the right column has.
    mapped = np.array([*(place.get(label, -2) for label in right_labels), -1], dtype=np.intp)
    return np.asarray(left_codes == mapped[right_codes])
