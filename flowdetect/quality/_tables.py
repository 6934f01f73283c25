"""Several tables of the same columns as matrices in which the same entry is the same number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import Storage, TableEncoder
from flowdetect.preprocessing._frame import as_frame
from flowdetect.preprocessing._storage import describe, factorize, read_numbers

__all__ = ["Tables", "column_position", "encoded_points", "read_tables", "row_ids", "thinned"]

Kind = Literal["number", "time", "category"]

_MOST_NAMES = 20


@dataclass(frozen=True)
class Tables:
    """Tables read together.

    Parameters
    ----------
    names : tuple
        Column names; positions for arrays.
    kinds : tuple of {"number", "time", "category"}
        What each column holds. Booleans are categories.
    storages : tuple of Storage
        How the entries of each column became numbers.
    labels : tuple of tuple
        For each column of categories the entries that the codes 0, 1, ... stand for; empty for others.
    matrices : tuple of ndarray of float64, each of shape (n_rows, n_columns)
        One for each table: numbers, seconds from the first time of the first table, codes; NaN where missing.
    """

    names: tuple[Any, ...]
    kinds: tuple[Kind, ...]
    storages: tuple[Storage, ...]
    labels: tuple[tuple[Any, ...], ...]
    matrices: tuple[np.ndarray, ...]

    @property
    def categorical(self) -> np.ndarray:
        """Which columns hold categories, ndarray of bool."""
        return np.array([kind == "category" for kind in self.kinds], dtype=bool)


def read_tables(tables: Mapping[str, Any], *, min_rows: int = 1) -> Tables:
    """Read tables whose columns must be the same: by name between DataFrames, by position otherwise.

    Parameters
    ----------
    tables : mapping of str to DataFrame or array-like
        The tables by the names that errors give them; the first one sets the order of the columns.
    min_rows : int, default=1
        How many rows each must have.

    Returns
    -------
    Tables

    Raises
    ------
    InvalidTableError
        If a table has too few rows, other columns than the first, or another kind of content in a column.

    Examples
    --------
    >>> tables = read_tables({"real": pd.DataFrame({"a": ["x", "y"]}), "drawn": [["y"], [None]]})
    >>> tables.labels, tables.matrices[1].tolist()
    ((('x', 'y'),), [[1.0], [nan]])
    """
    first, *_ = tables
    frames = {role: as_frame(table) for role, table in tables.items()}
    for role, (frame, _) in frames.items():
        if len(frame) < min_rows or not frame.shape[1]:
            raise InvalidTableError(
                f"{role} must have at least {min_rows} row(s) and one column; got shape {frame.shape}."
            )
    reference = frames[first][0]
    by_position = {
        role: any(dtype is not None for dtype in (frames[first][1], frames[role][1])) for role in tables
    }
    aligned = {
        role: _aligned(frame, reference, roles=(role, first), by_position=by_position[role])
        for role, (frame, _) in frames.items()
    }
    columns = [
        _read_column({role: frame.iloc[:, j] for role, frame in aligned.items()})
        for j in range(reference.shape[1])
    ]
    kinds, storages, labels, entries = zip(*columns, strict=True)
    matrices = tuple(np.column_stack(arrays) for arrays in zip(*entries, strict=True))
    return Tables(tuple(reference.columns.tolist()), kinds, storages, labels, matrices)


def column_position(name: Any, names: Sequence[Any], what: str) -> int:
    """Return where a column stands.

    Raises
    ------
    ConfigurationError
        If there is none of that name.
    """
    if isinstance(name, bool) or name not in list(names):
        raise ConfigurationError(
            f"{what} must be a column of the table; got {name!r}, but it has {_listed(names)}."
        )
    return list(names).index(name)


def row_ids(*matrices: np.ndarray) -> list[np.ndarray]:
    """Return a whole number for each row of matrices with the same columns, equal where the rows are.

    Examples
    --------
    >>> [ids.tolist() for ids in row_ids(np.array([[1.0, np.nan], [2.0, 0.0]]), np.array([[1.0, np.nan]]))]
    [[0, 1], [0]]
    """
    stacked = np.concatenate(matrices)
    ids = np.zeros(len(stacked), dtype=np.int64)
    for column in stacked.T:
        codes = pd.factorize(column)[0] + 1  # 0 where missing
        ids = pd.factorize(ids * (codes.max() + 1) + codes)[0]
    return np.split(ids, np.cumsum([len(matrix) for matrix in matrices])[:-1])


def thinned(matrix: np.ndarray, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most that many rows, drawn without replacement and kept in their order."""
    if len(matrix) <= n_rows:
        return matrix
    return matrix[np.sort(rng.choice(len(matrix), n_rows, replace=False))]


def encoded_points(tables: Tables, *matrices: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each matrix as points of `TableEncoder.coordinates`, learnt from the first one.

    Parameters
    ----------
    tables : Tables
        Tells names and kinds of the columns.
    *matrices : ndarray of shape (n_rows, n_columns)
        As in `Tables.matrices`.

    Returns
    -------
    list of ndarray of shape (n_rows, n_coordinates)
    """
    frames = [_as_numbers_and_codes(tables, matrix) for matrix in matrices]
    # Drawn rows may lack entries where real ones never do.
    encoder = TableEncoder(missing="always").fit(frames[0])
    return [encoder.coordinates(encoder.encode(frame)[0]) for frame in frames]


def _as_numbers_and_codes(tables: Tables, matrix: np.ndarray) -> pd.DataFrame:
    columns: dict[int, Any] = {}
    for j, (kind, labels) in enumerate(zip(tables.kinds, tables.labels, strict=True)):
        columns[j] = matrix[:, j]
        if kind == "category":
            codes = np.nan_to_num(matrix[:, j], nan=-1.0).astype(np.intp)
            columns[j] = pd.Categorical.from_codes(codes, categories=pd.RangeIndex(len(labels)))
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(tables.names, tupleize_cols=False)
    return frame


def _aligned(
    frame: pd.DataFrame, reference: pd.DataFrame, *, roles: tuple[str, str], by_position: bool
) -> pd.DataFrame:
    role, first = roles
    if by_position:
        if frame.shape[1] != reference.shape[1]:
            raise InvalidTableError(
                f"{role} must have the columns of {first}, in the same order: {first} has "
                f"{reference.shape[1]}, {role} {frame.shape[1]}."
            )
        return frame
    missing = [name for name in reference.columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in reference.columns]
    if missing or extra:
        parts = {"it lacks": missing, "it also has": extra}
        told = "; ".join(f"{what} {_listed(names)}" for what, names in parts.items() if names)
        raise InvalidTableError(f"{role} must have the columns of {first}: {told}. Add, rename or drop them.")
    return frame[reference.columns.tolist()]


def _listed(names: Sequence[Any]) -> str:
    listed = ", ".join(repr(name) for name in names[:_MOST_NAMES])
    return f"{listed} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else listed


# --- one column of all tables ----------------------------------------------------------------------------


def _read_column(
    columns: Mapping[str, pd.Series],
) -> tuple[Kind, Storage, tuple[Any, ...], list[np.ndarray]]:
    """Return kind, storage, labels, and the entries of each table as numbers."""
    storages = {role: describe(column) for role, column in columns.items() if column.notna().any()}
    kind = _joint_kind(columns, storages)
    if kind == "category":
        storage = next(iter(storages.values()), None) or describe(next(iter(columns.values())))
        labels, codes = _joint_codes(list(columns.values()))
        return kind, storage, labels, codes
    storage = next(storage for storage in storages.values() if storage.family != "bool")
    # Plus zero: -0.0 and 0.0 are the same entry.
    return kind, storage, (), [read_numbers(column, storage) + 0.0 for column in columns.values()]


def _joint_kind(columns: Mapping[str, pd.Series], storages: Mapping[str, Storage]) -> Kind:
    """Return what a column holds in all tables; entries that are all missing go with anything.

    Raises
    ------
    InvalidTableError
        If the tables do not hold the same.
    """
    contents = {role: _content(columns[role], storage) for role, storage in storages.items()}
    held = set(contents.values())
    if held and held <= {"numbers", "booleans"} and "numbers" in held:
        return "number"
    if held <= {"booleans", "categories", "numbers"} or held == {"text"} or held == {"text", "categories"}:
        return "category"
    if len(held) == 1:
        return "time"
    (first, expected), *others = contents.items()
    role, got = next((role, content) for role, content in others if content != expected)
    raise InvalidTableError(
        f"Column {next(iter(columns.values())).name!r} must hold the same in all tables; {first} holds "
        f"{expected} ({storages[first].dtype}), {role} {got} ({storages[role].dtype}). Convert one of them "
        "(pandas.to_numeric, pandas.to_datetime, astype)."
    )


def _content(column: pd.Series, storage: Storage) -> str:
    if storage.family == "time":
        if storage.dtype.startswith(("timedelta", "duration")):
            return "time spans"
        return "times with a zone" if "," in storage.dtype or "tz=" in storage.dtype else "times"
    if storage.family != "label":
        return {"number": "numbers", "bool": "booleans"}[storage.family]
    codes, labels = factorize(column)
    present = [labels[code] for code in np.unique(codes[codes >= 0])]
    return "categories" if any(isinstance(label, int | float) for label in present) else "text"


def _joint_codes(columns: Sequence[pd.Series]) -> tuple[tuple[Any, ...], list[np.ndarray]]:
    place: dict[Any, int] = {}
    entries = []
    for column in columns:
        codes, labels = factorize(column)
        present = np.unique(codes[codes >= 0])
        positions = np.full(len(labels) + 1, np.nan)
        for code in present:
            positions[code] = place.setdefault(labels[code], len(place))
        entries.append(positions[codes])
    return tuple(place), entries
