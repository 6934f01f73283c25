"""Rows as a source has them to the DataFrame that a fitted estimator scores, and the rows it cannot score.

What a column means is taken from the schema of training, never guessed from the rows at hand: a batch of any
size gives the same scores. A csv column is text and is read as training saw it; a typed column keeps its type
unless training had another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from flowdetect.jobs import _parsing as parsing
from flowdetect.jobs._errors import SchemaError
from flowdetect.jobs._rows import Rejected, Rows, shorten
from flowdetect.preprocessing import ColumnSchema, TableSchema

__all__ = ["cast", "find_columns"]

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EXACT = pa.int64()


@dataclass
class _Entries:
    """One column: its entries, and by rule which rows break it."""

    values: Any
    broken: dict[str, np.ndarray] = field(default_factory=dict)


def cast(rows: Rows, schema: TableSchema) -> tuple[pd.DataFrame, np.ndarray, list[Rejected]]:
    """Return the rows that can be scored as a DataFrame, and those that cannot.

    Parameters
    ----------
    rows : Rows
    schema : TableSchema
        What the estimator learnt about its table: ``estimator.encoder_.schema_``.

    Returns
    -------
    frame : DataFrame of shape (n_scorable, n_columns)
        The columns of the schema, in its order.
    positions : ndarray of int64, shape (n_scorable,)
        Where these rows stand in ``rows.batch``.
    rejected : list of Rejected
        One for each other row of the batch, in order, with the first rule that it breaks.

    Raises
    ------
    SchemaError
        If columns are absent, or of a type that says nothing about the column of training.
    """
    places = find_columns(rows, schema)
    columns = [
        _cast_column(_plain(rows.batch.column(place)), column, _levels(column, schema), rows)
        for place, column in zip(places, schema.columns, strict=True)
    ]
    first, rules = _first_broken(columns, rows.batch.num_rows)
    scorable = first < 0
    taken = {k: _select(entries.values, scorable) for k, entries in enumerate(columns)}
    positions = np.flatnonzero(scorable)
    frame = pd.DataFrame(taken, index=pd.RangeIndex(len(positions)))
    frame.columns = pd.Index(schema.names, tupleize_cols=False)
    rejected = [
        _reject(rows, row, places[first[row]], rules[row]) for row in np.flatnonzero(~scorable).tolist()
    ]
    return frame, positions, rejected


def _select(values: Any, scorable: np.ndarray) -> pd.Series:
    column = pd.Series(values)
    return column if scorable.all() else column[scorable].reset_index(drop=True)


def _first_broken(columns: list[_Entries], n_rows: int) -> tuple[np.ndarray, dict[int, str]]:
    """Return for each row the first column with a broken rule (-1 for none), and for such rows the rule."""
    first, rules = np.full(n_rows, -1), {}
    for k, entries in enumerate(columns):
        for rule, broken in entries.broken.items():
            found = np.flatnonzero(broken & (first < 0))
            first[found] = k
            rules.update(dict.fromkeys(found.tolist(), rule))
    return first, rules


def _reject(rows: Rows, row: int, place: int, rule: str) -> Rejected:
    value = rows.batch.column(place)[row].as_py()
    name = rows.batch.schema.names[place]
    return Rejected(
        rows.partition, int(rows.numbers[row]), name, rule, None if value is None else shorten(value)
    )


# --- which column is which -------------------------------------------------------------------------------


def find_columns(rows: Rows, schema: TableSchema) -> list[int]:
    """Return where each column of the model stands among those of the rows.

    Raises
    ------
    SchemaError
        If one is absent.
    """
    names = rows.batch.schema.names
    where = {name: k for k, name in reversed(list(enumerate(names)))}
    if schema.container == "array" and not all(str(name) in where for name in schema.names):
        if len(names) != len(schema.columns):
            raise SchemaError(
                f"'{rows.partition}' must have the {len(schema.columns)} columns that the model was fitted "
                f"on, in their order, as the model does not know their names; it has {len(names)}."
            )
        return list(range(len(names)))
    if rows.missing_texts is not None:
        # What pandas.read_csv calls a column that the header does not name.
        where = {**{f"Unnamed: {k}": k for k, name in enumerate(names) if not name}, **where}
    absent = [str(name) for name in schema.names if str(name) not in where]
    if absent:
        raise SchemaError(
            f"'{rows.partition}' lacks {_listed(absent)}, which the model was fitted on; it has "
            f"{_listed(names)}."
        )
    return [where[str(name)] for name in schema.names]


def _listed(names: list[str], most: int = 20) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"column{'s' if len(names) != 1 else ''} {shown}{more}" if names else "no columns"


def _levels(column: ColumnSchema, schema: TableSchema) -> tuple[Any, ...]:
    """Return the labels of a column; a copy has those of its original."""
    return column.levels if column.copy_of is None else schema.columns[column.copy_of].levels


# --- what its entries mean -------------------------------------------------------------------------------


def _plain(array: pa.Array) -> pa.Array:
    """Return an array without its dictionary, extension type or views."""
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    is_text = types.is_large_string(array.type) or str(array.type) == "string_view"
    return array.cast(pa.string()) if is_text else array


def _cast_column(array: pa.Array, column: ColumnSchema, levels: tuple[Any, ...], rows: Rows) -> _Entries:
    family = column.storage.family
    _refuse_type(array.type, column, rows)
    if types.is_string(array.type) and rows.missing_texts is not None:
        array = parsing.drop_missing_texts(array, rows.missing_texts)
    if family == "label":
        return _Entries(_labels(array, levels))
    if family == "time":
        entries = _times(array, column)
    elif column.storage.origin and _holds_integers(array.type):
        entries = _integers(array)
    else:
        entries = _numbers(array, family)
        entries.broken["infinity"] = np.isinf(entries.values)
    if column.refuses_missing:
        entries.broken["missing"] = np.asarray(pd.isna(entries.values))
    return entries


def _refuse_type(kind: pa.DataType, column: ColumnSchema, rows: Rows) -> None:
    if types.is_null(kind) or _fits(kind, column):
        return
    raise SchemaError(
        f"'{rows.partition}' has {kind} in column '{column.name}', which was {column.storage.dtype} in "
        "training: one cannot be read as the other."
    )


def _fits(kind: pa.DataType, column: ColumnSchema) -> bool:
    storage = column.storage
    if storage.family == "label":
        return not types.is_nested(kind)
    if types.is_string(kind):
        return True
    if storage.family != "time":
        return (
            types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
            or types.is_decimal(kind)
        )
    if storage.dtype.startswith(("timedelta", "duration")):
        return types.is_duration(kind)
    if types.is_timestamp(kind):
        return (kind.tz is not None) == _is_aware(column)
    return types.is_date(kind) and not _is_aware(column)


def _is_aware(column: ColumnSchema) -> bool:
    return "," in column.storage.dtype or "tz=" in column.storage.dtype


def _holds_integers(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_string(kind) or (types.is_decimal(kind) and kind.scale <= 0)


def _labels(array: pa.Array, levels: tuple[Any, ...]) -> pd.Series:
    if types.is_string(array.type):
        return parsing.parse_labels(array, levels)
    # Integers with nulls stay integers: as float64 large ones would no longer be themselves.
    return array.to_pandas(integer_object_nulls=True)


def _numbers(array: pa.Array, family: str) -> _Entries:
    if types.is_string(array.type):
        read = parsing.parse_bools if family == "bool" else parsing.parse_numbers
        numbers, wrong = read(array)
        return _Entries(numbers, {"bool" if family == "bool" else "number": wrong})
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return _Entries(np.asarray(numbers, dtype=np.float64))


def _integers(array: pa.Array) -> _Entries:
    """Read integers too large for float64 exactly."""
    if types.is_string(array.type):
        integers, missing, broken = parsing.parse_integers(array)
    else:
        integers, missing, broken = _typed_integers(array)
    return _Entries(pd.arrays.IntegerArray(integers, missing) if missing.any() else integers, broken)


def _typed_integers(array: pa.Array) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    missing = np.asarray(array.is_null())
    try:
        wide, wrong = array.cast(_EXACT), np.zeros(len(array), dtype=bool)
    except pa.ArrowInvalid:
        entries = array.to_pylist()
        wrong = np.array([entry is not None and not -(2**63) <= entry < 2**63 for entry in entries])
        wide = pa.array([None if bad else int(e or 0) for e, bad in zip(entries, wrong, strict=True)], _EXACT)
    return pc.fill_null(wide, 0).to_numpy(zero_copy_only=False), missing, {"range": wrong}


def _times(array: pa.Array, column: ColumnSchema) -> _Entries:
    spans = column.storage.dtype.startswith(("timedelta", "duration"))
    rule = "duration" if spans else "date"
    if types.is_string(array.type):
        times, wrong = (
            parsing.parse_durations(array) if spans else parsing.parse_times(array, aware=_is_aware(column))
        )
    else:
        if types.is_null(array.type):
            array = array.cast(pa.duration("us") if spans else pa.timestamp("us"))
        array = array.cast(pa.timestamp("ms")) if types.is_date(array.type) else array
        times, wrong = array.to_pandas(), np.zeros(len(array), dtype=bool)
    return _Entries(times, {rule: wrong | _beyond(times, column.storage.resolution or "ns")})


def _beyond(times: pd.Series, resolution: str) -> np.ndarray:
    """Tell which times do not fit into 64 bits at the resolution of training."""
    zoned = isinstance(times.dtype, pd.DatetimeTZDtype)
    naive = (times.dt.tz_convert(None) if zoned else times).to_numpy()
    ratio = _UNITS[resolution] // _UNITS[np.datetime_data(naive.dtype)[0]]
    if ratio <= 1:
        return np.zeros(len(naive), dtype=bool)
    limit = (2**63 - 1) // ratio
    ticks = naive.view(np.int64)
    return ~np.isnat(naive) & ((ticks > limit) | (ticks < -limit))
