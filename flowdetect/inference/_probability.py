"""`probability`: how likely the entries of columns lie where they are asked about."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from flowdetect._utils.random import RandomState
from flowdetect.estimators._rows import column_of
from flowdetect.exceptions import InvalidTableError
from flowdetect.inference._columns import as_numbers, position_of
from flowdetect.inference._estimate import Estimate
from flowdetect.inference._expectation import estimate_mean
from flowdetect.inference._points import DensityRows, make_points
from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._schema import ColumnSchema

__all__ = ["probability"]

Test = Callable[[pd.Series], np.ndarray]


def probability(
    density: Any,
    event: Mapping[Any, Any],
    *,
    context: Any = None,
    n_samples: int = 4096,
    method: str = "rqmc",
    random_state: RandomState = None,
) -> Estimate:
    r"""Return the probability of an event under a fitted density, with its standard error.

    Parameters
    ----------
    density : FlowDensity
        Fitted; see `expectation`.
    event : mapping of column to what its entry must be
        Columns by name, or by position. All must hold at once:

        * a tuple ``(low, high)``: within these bounds, both included; None leaves an end open. For numbers,
          times and ordered categories. A missing entry lies within no bounds, ``(None, None)`` included.
        * a value: equal to it.
        * a list (or set, array): equal to one of its values.
        * None (or NaN), also within a list: missing.
    context, n_samples, method, random_state
        As in `expectation`.

    Returns
    -------
    Estimate
        ``value`` within 0..1: a float, or shape (n_context_rows,).

    Raises
    ------
    ValueError
        If a column or a category is unknown, bounds are the wrong way round or cannot be compared with the
        column's entries, or as `expectation` does.
    NotFittedError
        If the density is not fitted.

    Notes
    -----
    It is the expectation of an indicator, :math:`P(A) = E\,1_A(X)`. An estimate of 0 or 1 has the error 0: an
    event that is rarer than ``1 / n_samples`` needs more rows. A value of a continuous column has the
    probability 0, unless many rows of training shared it exactly.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowDensity
    >>> from flowdetect.inference import probability
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> density = FlowDensity(max_steps=100, random_state=0).fit(X)
    >>> value, error = probability(density, {0: (0.0, None), 1: (-1.0, 1.0)}, random_state=0)
    >>> bool(abs(value - 0.5 * 0.683) < 0.05)
    True
    """
    rows = DensityRows(density, context)
    tests = _read_event(rows.encoder, event)
    points = make_points(n_samples, method, rows.n_dimensions, random_state)

    def holds(table: Any) -> np.ndarray:
        return np.logical_and.reduce([test(column_of(table, place)) for place, test in tests])

    return estimate_mean(rows, points, holds)


def _read_event(encoder: TableEncoder, event: Any) -> list[tuple[int, Test]]:
    """Return for each column of the event its position and a test of its entries."""
    if not isinstance(event, Mapping) or not event:
        raise InvalidTableError(
            "event must be a mapping of columns to what their entries must be, such as {'size': (0, None)}; "
            f"got {event!r}."
        )
    example = encoder.decode(np.zeros((1, encoder.layout_.n_columns)))
    tests = []
    for name, wanted in event.items():
        position = position_of(encoder, name)
        column = encoder.schema_.columns[position]
        read = _bounds_test if isinstance(wanted, tuple) else _values_test
        tests.append((position, read(column, wanted, column_of(example, position))))
    return tests


def _bounds_test(column: ColumnSchema, wanted: tuple[Any, ...], example: pd.Series) -> Test:
    if len(wanted) != 2:
        raise InvalidTableError(
            f"Bounds of column {column.name!r} must be a tuple (low, high); got {wanted!r}. "
            "Give values in a list."
        )
    if column.storage.family == "label" and not column.storage.ordered:
        raise InvalidTableError(
            f"Column {column.name!r} holds categories without an order, so bounds mean nothing; "
            f"got {wanted!r}. Give the categories in a list."
        )
    low, high = (None if end is None else _comparable(column, end, example) for end in wanted)
    if low is not None and high is not None and not _in_order(column, low, high):
        raise InvalidTableError(
            f"Bounds of column {column.name!r} must not have low above high; got {wanted!r}. Swap them."
        )

    def test(entries: pd.Series) -> np.ndarray:
        entries = _plain(column, entries)
        inside = entries.notna().to_numpy()
        for end, compare in ((low, pd.Series.ge), (high, pd.Series.le)):
            if end is not None:
                inside = inside & compare(entries, end).to_numpy(dtype=bool)
        return inside

    return test


def _plain(column: ColumnSchema, entries: pd.Series) -> pd.Series:
    """Return entries so that they compare: numbers and booleans as float64, others as they are."""
    return pd.Series(as_numbers(entries)) if column.storage.family in ("number", "bool") else entries


def _in_order(column: ColumnSchema, low: Any, high: Any) -> bool:
    if column.storage.family == "label":
        order = list(column.storage.declared or column.levels)
        return order.index(low) <= order.index(high)
    return bool(low <= high)


def _comparable(column: ColumnSchema, end: Any, example: pd.Series) -> Any:
    """Return an end as what the entries of a column can be compared with, or refuse it."""
    reason = " Use None for an open end."
    try:
        if column.storage.family == "time":
            end = _as_time(end, example.dtype)
        _plain(column, example).ge(end)
        fine = not pd.isna(end) and not isinstance(end, bool)
    except (TypeError, ValueError) as error:
        reason, fine = f" ({error}).{reason}", False
    if not fine:
        raise InvalidTableError(
            f"Bounds of column {column.name!r} must be comparable with its entries ({example.dtype}); "
            f"got {end!r}.{reason}"
        )
    return end


def _as_time(entry: Any, dtype: Any) -> Any:
    """Return a time, or a span of time, that text may have given; without a zone in that of the column."""
    if dtype.kind == "m":
        return pd.Timedelta(entry)
    stamp = pd.Timestamp(entry)
    zone = getattr(dtype, "tz", None)
    return stamp.tz_localize(zone) if zone is not None and stamp.tz is None else stamp


def _values_test(column: ColumnSchema, wanted: Any, example: pd.Series) -> Test:
    several = isinstance(wanted, list | set | frozenset | range | np.ndarray | pd.Index | pd.Series)
    values = list(wanted) if several else [wanted]
    if not values:
        raise InvalidTableError(
            f"Values of column {column.name!r} must be at least one; got an empty {type(wanted).__name__}."
        )
    missing = any(pd.isna(value) for value in values)
    present = [_value(column, value, example) for value in values if not pd.isna(value)]

    def test(entries: pd.Series) -> np.ndarray:
        entries = _plain(column, entries)
        return np.asarray(entries.isin(present) | (entries.isna() & missing), dtype=bool)

    return test


def _value(column: ColumnSchema, value: Any, example: pd.Series) -> Any:
    """Return a value as the entries of a column are, or refuse one that it cannot hold."""
    family = column.storage.family
    if family == "label":
        known = list(column.storage.declared or column.levels)
        if value not in known:
            raise InvalidTableError(
                f"Values of column {column.name!r} must be categories seen in training; got {value!r}. "
                f"Known are {', '.join(map(repr, known[:20]))}{', ...' if len(known) > 20 else ''}."
            )
        return value
    if family == "time":
        return _comparable(column, value, example)
    if not isinstance(value, bool | int | float | np.number | np.bool_):
        raise InvalidTableError(f"Values of column {column.name!r} must be numbers; got {value!r}.")
    # A table of float32 holds 0.1 as the nearest number it has.
    return float(example.dtype.type(value)) if example.dtype.kind == "f" else float(value)
