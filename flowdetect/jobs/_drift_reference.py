"""What a model keeps of its training rows, so that new ones can be compared with them: counts, no rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import ColumnSchema, TableSchema
from flowdetect.preprocessing._copies import differs
from flowdetect.preprocessing._frame import align, as_frame
from flowdetect.preprocessing._storage import factorize, read_numbers

__all__ = ["LevelReference", "NumberReference", "TableReference", "learn_reference"]

# At these shares of the reference stand the edges: closer in the tails, where drift often shows first.
_SHARES = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5),
    *(0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995),
)
# Levels that are counted one by one: the most frequent ones, if more rows than so many hold them.
_MOST_LEVELS = 64
_RARE_ROWS = 4
_SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class NumberReference:
    """Numbers, or scores, as counts between and at some of their values.

    Parameters
    ----------
    edges : tuple of float
        Values of the reference near fixed quantiles, ascending and distinct.
    counts : tuple of int
        ``2 * len(edges) + 1`` of them: values below the first edge, at it, between it and the second, ...
    n_missing : int, default=0
        Missing entries.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    n_missing: int = 0

    def __post_init__(self) -> None:
        _check_counts(*self.counts, self.n_missing)
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if len(self.counts) != 2 * len(self.edges) + 1 or not rising or 0 in self.counts[1::2]:
            raise InvalidTableError("edges must rise, with a row at each, and counts go between and at them.")
        if not all(isinstance(edge, float) and math.isfinite(edge) for edge in self.edges):
            raise InvalidTableError("edges must be finite numbers.")

    @classmethod
    def learn(cls, values: NDArray[np.float64]) -> NumberReference:
        """Count values, NaN where missing.

        Parameters
        ----------
        values : ndarray of float64, shape (n_rows,)

        Examples
        --------
        >>> import numpy as np
        >>> NumberReference.learn(np.array([1.0, 1.0, 2.0, np.nan]))
        NumberReference(edges=(1.0, 2.0), counts=(0, 2, 0, 1, 0), n_missing=1)
        """
        known = np.sort(values[~np.isnan(values)]) + 0.0
        ranks = np.unique(np.rint(np.array(_SHARES) * (len(known) + 1)).clip(1, max(len(known), 1)))
        edges = np.unique(known[ranks.astype(np.intp) - 1]) if len(known) else known
        edges = _apart(edges, np.diff(_places(known, (edges, edges)))[::2] > 1)
        bounds = _bounds(edges, np.diff(_places(known, (edges, edges)))[::2] > 1)
        counts = np.diff(_places(known, bounds), prepend=0, append=len(known))
        return cls(tuple(edges.tolist()), tuple(counts.tolist()), len(values) - len(known))

    @property
    def size(self) -> int:
        """Number of cells that `count` counts in: those of `counts`, and the missing entries."""
        return len(self.counts) + 1

    def count(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count new values in the cells of `counts`, and missing ones in one more."""
        known = np.sort(values[~np.isnan(values)])
        edges, at = np.array(self.edges), np.array(self.counts)[1::2]
        counts = np.diff(_places(known, _bounds(edges, at > 1)), prepend=0, append=len(known))
        return np.append(counts, len(values) - len(known))


@dataclass(frozen=True)
class LevelReference:
    """Labels as counts of the frequent levels.

    Parameters
    ----------
    levels : tuple of int
        Position of each counted level among the levels of the schema.
    counts : tuple of int
        Rows of each.
    n_rest : int
        Rows with another label.
    n_rare, spread : int
        How many rows are expected to hold a label that is not counted, and the variance of that number.
    n_missing : int, default=0
        Missing entries.
    """

    levels: tuple[int, ...]
    counts: tuple[int, ...]
    n_rest: int
    n_rare: int
    spread: int
    n_missing: int = 0

    def __post_init__(self) -> None:
        _check_counts(*self.levels, *self.counts, self.n_rest, self.n_rare, self.spread, self.n_missing)
        if len(self.levels) != len(self.counts) or len(set(self.levels)) != len(self.levels):
            raise InvalidTableError("levels must differ, with one count each.")
        if not self.n_rest <= self.n_rare <= min(self.spread, self.n_rest + sum(self.counts)):
            raise InvalidTableError(
                "n_rare must lie between n_rest and the number of rows, and up to spread."
            )

    @classmethod
    def learn(cls, places: NDArray[np.intp], labels: NDArray[np.intp]) -> LevelReference:
        """Count labels.

        Parameters
        ----------
        places : ndarray of int, shape (n_labels,)
            Position of each distinct label among the levels of the schema, -1 for none.
        labels : ndarray of int, shape (n_rows,)
            Which label each row holds, -1 where missing.
        """
        counts = np.bincount(labels[labels >= 0], minlength=len(places))
        limit = _most_rare_rows(places, counts)
        often = np.argsort(-counts, kind="stable")
        listed = often[counts[often] > limit]
        near = counts[counts <= limit + 1].sum()
        return cls(
            tuple(places[listed].tolist()),
            tuple(counts[listed].tolist()),
            int(counts.sum() - counts[listed].sum()),
            int(near),
            int(near + (limit + 2) * np.sum(counts[counts == limit + 2])),
            int(np.sum(labels < 0)),
        )

    @property
    def size(self) -> int:
        """Number of cells that `count` counts in: the levels, other labels, and missing entries."""
        return len(self.levels) + 2

    def count(self, places: NDArray[np.intp], labels: NDArray[np.intp]) -> NDArray[np.int64]:
        """Count new labels, given as to `learn`: of each level, of all others, and missing ones."""
        cell_of = {place: cell for cell, place in enumerate(self.levels)}
        rest = len(self.levels)
        cells = np.array([*(cell_of.get(place, rest) for place in places.tolist()), rest + 1], dtype=np.intp)
        return np.bincount(cells[labels], minlength=self.size)


ColumnReference = NumberReference | LevelReference
_KINDS = {"numbers": NumberReference, "levels": LevelReference}


@dataclass(frozen=True)
class TableReference:
    """The training rows column by column, in the order of the schema.

    Parameters
    ----------
    n_rows : int
        Training rows.
    columns : tuple of NumberReference or LevelReference
    scores : NumberReference or None, default=None
        Scores of rows that the model has not learnt from; see `learn_reference` and `reference_of_fit`.
    """

    n_rows: int
    columns: tuple[ColumnReference, ...]
    scores: NumberReference | None = None

    def __post_init__(self) -> None:
        _check_counts(self.n_rows)
        for position, column in enumerate(self.columns):
            rest = column.n_rest if isinstance(column, LevelReference) else 0
            if sum(column.counts) + rest + column.n_missing != self.n_rows:
                raise InvalidTableError(f"The counts of column {position} must add up to {self.n_rows} rows.")

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists, strings, numbers and None, ready for ``json.dumps``."""
        return {
            "n_rows": self.n_rows,
            "columns": [_to_dict(column) for column in self.columns],
            "scores": None if self.scores is None else _to_dict(self.scores),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TableReference:
        """Build the reference that `to_dict` described.

        Raises
        ------
        InvalidTableError
            If something is absent, unknown, of the wrong kind, or does not fit together.
        """
        try:
            columns = tuple(_from_dict(entry) for entry in data["columns"])
            scores = None if data["scores"] is None else _from_dict(data["scores"])
            if set(data) != {"n_rows", "columns", "scores"} or isinstance(scores, LevelReference):
                raise InvalidTableError("it holds something else")
            return cls(data["n_rows"], columns, scores)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidTableError(
                f"A table reference must be the dict that TableReference.to_dict() returns: {error}"
            ) from error


def learn_reference(X: Any, schema: TableSchema, scores: Any = None) -> TableReference:
    """Count the training rows, for new rows to be compared with.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_rows, n_columns)
        The rows that the model was fitted on.
    schema : TableSchema
        What it learnt of them: ``estimator.encoder_.schema_``.
    scores : array-like of shape (n_scores,), optional
        Scores of other rows like these that the model has not learnt from. Only for models without p-values.

    Raises
    ------
    InvalidTableError
        If the columns are not those of the schema, or a score is not finite.
    """
    frame = align(*as_frame(X), schema)
    read = (read_column(frame, position, column) for position, column in enumerate(schema.columns))
    columns = tuple(
        LevelReference.learn(*entries) if isinstance(entries, tuple) else NumberReference.learn(entries)
        for entries in read
    )
    if scores is None:
        return TableReference(len(frame), columns)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InvalidTableError(f"scores must be a vector of finite numbers; got shape {values.shape}.")
    return TableReference(len(frame), columns, NumberReference.learn(values))


def read_column(
    frame: pd.DataFrame, position: int, column: ColumnSchema
) -> NDArray[np.float64] | tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of a column; or the places of its labels among the levels, and each row's label.

    A copy of another column is read as whether it differs from that.
    """
    series = frame.iloc[:, position]
    if column.copy_of is not None:
        return np.asarray(differs(frame.iloc[:, column.copy_of], series, column), dtype=np.float64)
    if column.storage.family != "label":
        return read_numbers(series, column.storage)
    codes, labels = factorize(series)
    place = {level: k for k, level in enumerate(column.levels)}
    return np.array([place.get(label, -1) for label in labels], dtype=np.intp), codes.astype(np.intp)


def frequent_without_itself(places: NDArray[np.intp], labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tell which training rows hold a label that would be frequent without them too, or none.

    Parameters
    ----------
    places, labels : ndarray of int
        As `LevelReference.learn` takes them. The other rows are those that its ``n_rare`` counts.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(places))
    return np.append(counts > _most_rare_rows(places, counts) + 1, True)[labels]


# --- inside ----------------------------------------------------------------------------------------------


def _most_rare_rows(places: NDArray[np.intp], counts: NDArray[np.int64]) -> int:
    """Return the most rows of a label that is not counted by itself."""
    often = np.argsort(-counts, kind="stable")
    return int(max(_RARE_ROWS, *counts[often[_MOST_LEVELS:]], *counts[places < 0], 0))


def _bounds(
    edges: NDArray[np.float64], shared: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return from where to where a value is at an edge: around one that several rows share, nearly so.

    A table that comes back in float32 keeps its meaning then.
    """
    slack = np.where(shared, _SINGLE * np.abs(edges), 0.0)
    return edges - slack, edges + slack


def _apart(edges: NDArray[np.float64], shared: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Leave out edges that could be taken for the one before them."""
    kept: list[int] = []
    low, high = _bounds(edges, shared)
    for position in range(len(edges)):
        if not kept or low[position] > high[kept[-1]]:
            kept.append(position)
    return edges[kept]


def _places(
    ordered: NDArray[np.float64], bounds: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.intp]:
    """Return how many values lie below each edge, and up to it, alternating."""
    below = np.searchsorted(ordered, bounds[0], side="left")
    up_to = np.searchsorted(ordered, bounds[1], side="right")
    return np.column_stack([below, up_to]).ravel()


def _to_dict(column: ColumnReference) -> dict[str, Any]:
    kind = "numbers" if isinstance(column, NumberReference) else "levels"
    values = {name: getattr(column, name) for name in column.__dataclass_fields__}
    return {"kind": kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


def _from_dict(entry: Mapping[str, Any]) -> Any:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "kind"}
    kind: type[Any] = _KINDS[entry["kind"]]
    if set(values) != set(kind.__dataclass_fields__):
        raise InvalidTableError(f"a column of {entry['kind']} has other entries")
    return kind(**values)


def _check_counts(*counts: Any) -> None:
    wrong = [count for count in counts if type(count) is not int or not 0 <= count < 2**62]
    if wrong:
        raise InvalidTableError(f"Counts must be whole numbers of at least 0; got {wrong[0]!r}.")
