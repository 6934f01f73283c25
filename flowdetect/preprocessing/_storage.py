"""Between the caller's dtypes and plain float64 numbers or labels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing._missing import MARKERS, missing_marker
from flowdetect.preprocessing._schema import Storage, plain_scalar, shown

__all__ = ["describe", "factorize", "read_numbers", "restore_labels", "restore_numbers"]

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_EXACT = 2**53
_ROOM = 2**62
_NUMBERS = ("integer", "floating", "mixed-integer-float")


# --- what a column is ------------------------------------------------------------------------------------


def describe(column: pd.Series) -> Storage:
    """Learn how a column is stored, and which family of entries it holds."""
    dtype = column.dtype
    name = _dtype_name(dtype)
    dense = _dense(column)
    if types.is_complex_dtype(dense.dtype):
        raise InvalidTableError(
            f"Columns must be real; column {shown(column.name)} is complex. Complex data not supported: "
            "split it into its real and imaginary part."
        )
    if isinstance(dense.dtype, pd.CategoricalDtype):
        categories = dense.dtype.categories
        return Storage(
            name,
            "label",
            declared=tuple(plain_scalar(value) for value in categories),
            declared_dtype=_dtype_name(categories.dtype),
            ordered=bool(dense.dtype.ordered),
        )
    if types.is_bool_dtype(dense.dtype):
        return Storage(name, "bool")
    if types.is_numeric_dtype(dense.dtype):
        return _number_storage(dense, name)
    if types.is_datetime64_any_dtype(dense.dtype) or types.is_timedelta64_dtype(dense.dtype):
        return _time_storage(dense, name)
    if dense.dtype == object and types.infer_dtype(dense, skipna=True) in _NUMBERS:
        return _number_storage(dense, name)
    whole_intervals = name.startswith(("interval[int", "interval[uint"))
    return Storage(name, "label", marker=missing_marker(dense), nullable=not whole_intervals)


def _dtype_name(dtype: Any) -> str:
    if isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA:
        return f"string[{dtype.storage}]"
    return "category" if isinstance(dtype, pd.CategoricalDtype) else str(dtype)


def _dense(column: pd.Series) -> pd.Series:
    return (
        pd.Series(np.asarray(column), name=column.name)
        if isinstance(column.dtype, pd.SparseDtype)
        else column
    )


def _number_storage(column: pd.Series, name: str) -> Storage:
    storage = Storage(name, "number", marker=missing_marker(column), integer=_is_whole(column))
    if not storage.integer:
        return storage
    entries, missing = _integers(column)
    if entries is None or missing.all():
        return storage
    low, high = int(entries[~missing].min()), int(entries[~missing].max())
    near_zero = max(abs(low), abs(high)) < _EXACT
    return storage if near_zero or high - low > _ROOM else replace(storage, origin=low)


def _integers(column: pd.Series) -> tuple[np.ndarray | None, np.ndarray]:
    """Return int64 entries (0 where missing) or None if they do not fit, and the missing mask."""
    missing = column.isna().to_numpy()
    try:
        if missing.any():
            column = column.where(~missing, 0) if column.dtype == object else column.fillna(0)
        entries = column.to_numpy()
        if entries.dtype == np.uint64 and len(entries) and entries.max() >= 2**63:
            return None, missing
        return entries.astype(np.int64), missing
    except OverflowError:
        return None, missing


def _time_storage(column: pd.Series, name: str) -> Storage:
    resolution = np.datetime_data(_naive(column).dtype)[0]
    unit = _SECONDS[resolution]
    ticks, missing = _ticks(column, resolution)
    storage = Storage(name, "time", marker="nat", unit=unit, resolution=resolution)
    if missing.all():
        return storage
    low, high = int(ticks[~missing].min()), int(ticks[~missing].max())
    if high - low > _ROOM:
        return replace(storage, origin=low)
    tick = int(np.gcd.reduce(ticks[~missing] - low)) or 1
    return replace(storage, origin=low, tick=tick, unit=tick / round(1 / unit))


def _naive(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.ArrowDtype):
        times = types.is_datetime64_any_dtype(column.dtype)
        column = pd.Series(pd.to_datetime(column.array) if times else pd.to_timedelta(column.array))
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert(None)
    return column.to_numpy()


def _ticks(column: pd.Series, resolution: str) -> tuple[np.ndarray, np.ndarray]:
    naive = _naive(column)
    ticks = naive.astype(f"{naive.dtype.kind}8[{resolution}]").view(np.int64)
    return ticks, np.isnat(naive)


# --- entries to numbers ----------------------------------------------------------------------------------


def read_numbers(column: pd.Series, storage: Storage) -> np.ndarray:
    """Return the entries as float64 numbers, NaN where missing (possibly a view: do not write into it).

    Raises
    ------
    InvalidTableError
        If an entry is not a number (or a time, for a column of times), or is infinite.
    """
    column = _dense(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = pd.Series(np.asarray(column), name=column.name)
    if storage.family == "time":
        numbers = _read_times(column, storage)
    elif storage.origin and _is_whole(column):
        numbers = _from_origin(*_integers(column), storage)
    else:
        numbers = _floats(column, storage)
        numbers = numbers - storage.origin if storage.origin else numbers
    _refuse_infinite(numbers, column.name)
    return numbers


def _is_whole(column: pd.Series) -> bool:
    if column.dtype == object:
        return types.infer_dtype(column, skipna=True) == "integer"
    return types.is_integer_dtype(column.dtype)


def _floats(column: pd.Series, storage: Storage) -> np.ndarray:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
        # A column of a C-ordered array is strided: one copy is cheaper than many slow passes.
        return np.ascontiguousarray(column.to_numpy(dtype=np.float64))
    numeric = types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype)
    if numeric or types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    allowed = (*_NUMBERS, "boolean", "empty")
    if column.dtype == object and types.infer_dtype(column, skipna=True) in allowed:
        return column.where(column.notna(), np.nan).to_numpy(dtype=np.float64)
    if column.isna().all():
        return np.full(len(column), np.nan)
    raise InvalidTableError(_not_numeric(column))


def _not_numeric(column: pd.Series) -> str:
    entries = column.to_numpy(dtype=object)
    numeric = np.array(
        [isinstance(e, int | float | np.number) and not isinstance(e, complex) for e in entries]
    )
    row = int(np.argmax(~numeric & ~column.isna().to_numpy()))
    return (
        f"Column {shown(column.name)} was numeric in training and must hold numbers; row {row} holds "
        f"{plain_scalar(entries[row])!r} ({type(entries[row]).__name__}). Convert it (pandas.to_numeric), "
        "mark what is not a number as missing, or fit again."
    )


def _is_real(entry: Any) -> bool:
    return isinstance(entry, int | float | np.integer | np.floating) and not isinstance(entry, bool)


def _from_origin(entries: np.ndarray | None, missing: np.ndarray, storage: Storage) -> np.ndarray:
    if entries is None:
        raise InvalidTableError("Integers must lie within 64 bits around those seen in training.")
    numbers = _offset(entries, storage)
    numbers[missing] = np.nan
    return numbers


def _offset(entries: np.ndarray, storage: Storage) -> np.ndarray:
    """``(entry - origin) / tick * unit``, exact where the difference fits into 64 bits."""
    rough = entries.astype(np.float64) - storage.origin
    if len(rough) and np.abs(rough).max() > _ROOM:
        return rough / storage.tick * storage.unit
    whole, rest = np.divmod(entries - storage.origin, storage.tick)
    return (whole + rest / storage.tick) * storage.unit


def _read_times(column: pd.Series, storage: Storage) -> np.ndarray:
    if column.isna().all():
        return np.full(len(column), np.nan)
    spans = storage.dtype.startswith(("timedelta", "duration"))
    aware = "," in storage.dtype or "tz=" in storage.dtype
    fits = types.is_timedelta64_dtype(column.dtype) if spans else types.is_datetime64_any_dtype(column.dtype)
    if not fits or (not spans and ("," in str(column.dtype)) != aware):
        raise InvalidTableError(
            f"Column {shown(column.name)} was {storage.dtype} in training and must hold such times; it came "
            f"as {column.dtype}, first entry {column.iloc[0]!r}. Convert it "
            f"({'pandas.to_timedelta' if spans else 'pandas.to_datetime, dt.tz_localize'}) or fit again."
        )
    ticks, missing = _ticks(column, storage.resolution or "ns")
    numbers = _offset(np.where(missing, storage.origin, ticks), storage)
    numbers[missing] = np.nan
    return numbers


def _refuse_infinite(numbers: np.ndarray, name: Any) -> None:
    if np.isfinite(numbers).all():
        return
    infinite = np.isinf(numbers)
    if infinite.any():
        raise InvalidTableError(
            f"Values must be finite or missing; column {shown(name)} holds infinity (inf) in "
            f"{infinite.sum()} row(s), first in row {int(np.argmax(infinite))}. Replace it by a number or "
            "by NaN."
        )


# --- entries to labels -----------------------------------------------------------------------------------


def factorize(column: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Return the position of each entry among the distinct labels (-1 where missing), and those labels."""
    column = _dense(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), [plain_scalar(value) for value in column.cat.categories]
    try:
        codes, labels = pd.factorize(column)
    except TypeError as error:
        raise InvalidTableError(
            f"Entries must be numbers, text, dates or other hashable values; column {shown(column.name)} "
            f"holds something else ({error}). Take its parts into columns of their own."
        ) from error
    return codes, [plain_scalar(label) for label in labels]


# --- back to the caller's dtypes -------------------------------------------------------------------------


def restore_numbers(numbers: np.ndarray, storage: Storage) -> pd.Series:
    """Return float64 numbers (NaN where missing) in the dtype of the storage."""
    missing = np.isnan(numbers)
    filled = np.where(missing, 0.0, numbers)
    if storage.family == "time":
        return _restore_times(filled, missing, storage)
    dtype = _parse_dtype(storage.dtype)
    if storage.dtype == "object":
        entries = _whole(filled, storage, np.dtype(np.int64)) if storage.integer else filled
        restored = entries.astype(object)
        restored[missing] = MARKERS[storage.marker]
        return pd.Series(restored, dtype=object)
    if isinstance(dtype, pd.SparseDtype):
        dense = replace(storage, dtype=str(dtype.subtype))
        return restore_numbers(numbers, dense).astype(dtype)
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        limit = np.finfo(dtype).max
        return pd.Series(np.clip(numbers, -limit, limit).astype(dtype))
    return _restore_masked(filled, missing, storage, dtype)


def _restore_masked(filled: np.ndarray, missing: np.ndarray, storage: Storage, dtype: Any) -> pd.Series:
    if storage.family == "bool":
        entries = filled != 0
    elif storage.integer:
        entries = _whole(filled, storage, np.dtype(getattr(dtype, "numpy_dtype", dtype)))
    else:
        entries = filled
    restored = pd.Series(entries).astype(dtype)
    if missing.any():
        restored[missing] = pd.NA
    return restored


def _whole(numbers: np.ndarray, storage: Storage, dtype: np.dtype) -> np.ndarray:
    """Round to integers of `dtype`, staying within its range."""
    bounds = np.iinfo(dtype)
    largest = float(bounds.max) if bounds.bits < 64 else float(np.nextafter(float(bounds.max), 0))
    origin = storage.origin
    whole = np.clip(np.rint(numbers), float(bounds.min) - origin, largest - origin).astype(dtype)
    return whole + np.asarray(origin, dtype=dtype) if origin else whole


def _restore_times(filled: np.ndarray, missing: np.ndarray, storage: Storage) -> pd.Series:
    # Times stay away from the ends of 64 bits: the lowest one means NaT.
    room = (2.0**62 + np.array([-1.0, 1.0]) * storage.origin) / storage.tick
    whole = np.clip(np.rint(filled / storage.unit), -max(room[1], 0.0), max(room[0], 0.0)).astype(np.int64)
    ticks = whole * storage.tick + storage.origin
    spans = storage.dtype.startswith(("timedelta", "duration"))
    entries = ticks.view(f"{'m' if spans else 'M'}8[{storage.resolution}]").copy()
    entries[missing] = np.array("NaT", dtype=entries.dtype)
    restored = pd.Series(entries)
    dtype = _parse_dtype(storage.dtype)
    zone = getattr(dtype, "tz", None) or getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None)
    if zone is not None:
        restored = restored.dt.tz_localize("UTC").dt.tz_convert(zone)
    return restored.astype(dtype)


def restore_labels(codes: np.ndarray, levels: tuple[Any, ...], storage: Storage) -> pd.Series:
    """Return labels by position (-1 where missing) in the dtype of the storage."""
    if storage.dtype == "category":
        declared = storage.declared or ()
        index = pd.Index(list(declared), dtype=_parse_dtype(storage.declared_dtype or "object"))
        place = {label: position for position, label in enumerate(declared)}
        positions = np.array([*(place[level] for level in levels), -1], dtype=np.intp)
        return pd.Series(
            pd.Categorical.from_codes(positions[codes], categories=index, ordered=storage.ordered)
        )
    labels = np.empty(len(levels) + 1, dtype=object)
    labels[:-1] = levels
    labels[-1] = MARKERS[storage.marker]
    return pd.Series(labels[codes], dtype=_parse_dtype(storage.dtype))


def _parse_dtype(name: str) -> Any:
    if name.startswith("Sparse["):
        subtype, _, fill = name[len("Sparse[") : -1].partition(", ")
        return pd.SparseDtype(subtype, fill_value=np.array(fill).astype(subtype).item() if fill else None)
    return types.pandas_dtype(name)
