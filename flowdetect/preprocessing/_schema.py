"""What an encoder learnt about a table: frozen, comparable, and JSON-able without loss."""

import datetime
import decimal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import InvalidTableError

__all__ = ["ColumnSchema", "Storage", "TableSchema", "ValueScale", "plain_scalar", "shown"]

Family = Literal["number", "time", "bool", "label"]
Kind = Literal["continuous", "lattice", "levels", "categories", "constant", "empty", "copy"]

FAMILIES = ("number", "time", "bool", "label")
KINDS = ("continuous", "lattice", "levels", "categories", "constant", "empty", "copy")


@dataclass(frozen=True)
class Storage:
    """How a column was stored by the caller, and how its entries become numbers.

    A number is ``(entry - origin) / tick * unit``: plain numbers have origin 0 (a large integer column its
    minimum), tick 1 and unit 1; times count ticks of their resolution from the earliest one, in seconds.
    """

    dtype: str
    family: Family
    marker: str = "nan"
    nullable: bool = True  # whether the dtype can hold a missing entry; asked of labels only
    integer: bool = False
    origin: int = 0
    tick: int = 1
    unit: float = 1.0
    resolution: str | None = None
    declared: tuple[Any, ...] | None = None
    declared_dtype: str | None = None
    ordered: bool = False


@dataclass(frozen=True)
class ValueScale:
    """The monotone map of a continuous or lattice column, and what decoding needs.

    ``z = (number - location) / scale``; with a ``tail``, z is logarithmic beyond ``+-tail``. ``step``,
    ``anchor`` and ``decimals`` describe the lattice ``anchor + k * step``. ``lower`` and ``upper`` bound
    decoded numbers. ``atoms`` are values with a probability of their own.
    """

    location: float
    scale: float
    tail: float | None = None
    step: float | None = None
    anchor: float = 0.0
    decimals: int | None = None
    lower: float | None = None
    upper: float | None = None
    atoms: tuple[float, ...] = ()


@dataclass(frozen=True)
class ColumnSchema:
    """One table column: its name, storage, kind, and the parameters of that kind."""

    name: Any
    kind: Kind
    storage: Storage
    missing: bool = False
    levels: tuple[Any, ...] = ()
    frequent: int = 0
    copy_of: int | None = None
    values: ValueScale | None = None

    @property
    def cardinality(self) -> int:
        """Number of codes of its code column; 0 if it has none."""
        if self.kind == "copy":
            return 2
        if self.values is None:
            return len(self.levels) + self.missing + 1
        specials = self.missing + len(self.values.atoms)
        return 1 + specials if specials else 0

    @property
    def refuses_missing(self) -> bool:
        """Whether a missing entry has no answer: numbers and times that were never missing in training."""
        return self.storage.family in ("number", "time") and not self.missing


@dataclass(frozen=True)
class TableSchema:
    """Every column in the caller's order, and the container to give back.

    Parameters
    ----------
    columns : tuple of ColumnSchema
    container : {"frame", "array"}
    array_dtype : str or None
        dtype of the caller's array; None for a DataFrame.

    Examples
    --------
    >>> import pandas as pd
    >>> from flowdetect.preprocessing import TableEncoder, TableSchema
    >>> schema = TableEncoder().fit(pd.DataFrame({"a": [0.5, 0.25, 3.0]})).schema_
    >>> TableSchema.from_dict(schema.to_dict()) == schema
    True
    """

    columns: tuple[ColumnSchema, ...]
    container: Literal["frame", "array"] = "frame"
    array_dtype: str | None = None

    @property
    def names(self) -> list[Any]:
        """Column names in the caller's order."""
        return [column.name for column in self.columns]

    @property
    def value_positions(self) -> list[int]:
        """Table positions of the value columns of the matrix, in its order."""
        return [i for i, column in enumerate(self.columns) if column.values is not None]

    @property
    def code_positions(self) -> list[int]:
        """Table positions of the code columns of the matrix, in its order."""
        return [i for i, column in enumerate(self.columns) if column.cardinality]

    @property
    def layout(self) -> MatrixLayout:
        """Meaning of the columns of the encoded matrix."""
        values, codes = self.value_positions, self.code_positions
        return MatrixLayout(
            n_values=len(values),
            cardinalities=tuple(self.columns[i].cardinality for i in codes),
            gates=tuple(values.index(i) if self.columns[i].values is not None else -1 for i in codes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as nested dicts, lists, strings, numbers and None, ready for ``json.dumps``.

        Raises
        ------
        InvalidTableError
            If a category is an object with no textual form that can be read back.
        """
        columns = []
        for column in self.columns:
            entry = asdict(column)
            entry["name"] = pack_label(column.name)
            entry["levels"] = [pack_label(level) for level in column.levels]
            declared = column.storage.declared
            entry["storage"]["declared"] = None if declared is None else [pack_label(v) for v in declared]
            columns.append(entry)
        return {"container": self.container, "array_dtype": self.array_dtype, "columns": columns}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TableSchema":
        """Build the schema that `to_dict` described.

        Raises
        ------
        InvalidTableError
            If something is absent, unknown, or of the wrong kind.
        """
        try:
            columns = tuple(_column_from_dict(entry) for entry in data["columns"])
            schema = cls(columns, data["container"], data["array_dtype"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidTableError(
                f"A table schema must be the dict that TableSchema.to_dict() returns; "
                f"it could not be read: {error}."
            ) from error
        _check_schema(schema)
        return schema


def _column_from_dict(entry: Mapping[str, Any]) -> ColumnSchema:
    storage = dict(entry["storage"])
    if storage["declared"] is not None:
        storage["declared"] = tuple(unpack_label(value) for value in storage["declared"])
    values = entry["values"]
    if values is not None:
        values = ValueScale(**{**values, "atoms": tuple(float(atom) for atom in values["atoms"])})
    rest = {
        "name": unpack_label(entry["name"]),
        "storage": Storage(**storage),
        "levels": tuple(unpack_label(level) for level in entry["levels"]),
        "values": values,
    }
    return ColumnSchema(**{**entry, **rest})


def _check_schema(schema: TableSchema) -> None:
    """Refuse a schema that would fail, or give numbers that are not finite, only when it is used."""
    for position, column in enumerate(schema.columns):
        copied = column.copy_of
        problems = {
            f"kind {column.kind!r} is unknown": column.kind not in KINDS,
            f"family {column.storage.family!r} is unknown": column.storage.family not in FAMILIES,
            "its scale must be positive and finite": column.values is not None
            and not 0 < column.values.scale < np.inf,
            "it has neither values nor codes": column.values is None and column.cardinality < 1,
            f"copy_of={copied!r} must name an earlier column": (column.kind == "copy")
            and not (copied is not None and 0 <= copied < position),
        }
        wrong = [problem for problem, holds in problems.items() if holds]
        if wrong:
            raise InvalidTableError(
                f"The schema of column {shown(column.name)} cannot be used: {'; '.join(wrong)}."
            )


def plain_scalar(value: Any) -> Any:
    """Turn a numpy number, bool or string into Python's own; leave everything else as it is."""
    return value.item() if isinstance(value, np.bool_ | np.number | np.str_) else value


def shown(name: Any) -> str:
    """Return a column's name as messages show it: ``0`` rather than ``np.int64(0)``."""
    return repr(plain_scalar(name))


_TEXTUAL: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    # Timestamp before datetime, datetime before date: each is a subclass of the next.
    "datetime": (datetime.datetime, lambda v: v.isoformat(), pd.Timestamp),
    "timedelta": (datetime.timedelta, lambda v: pd.Timedelta(v).isoformat(), pd.Timedelta),
    "date": (datetime.date, lambda v: v.isoformat(), datetime.date.fromisoformat),
    "time": (datetime.time, lambda v: v.isoformat(), datetime.time.fromisoformat),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "bytes": (bytes, lambda v: v.hex(), bytes.fromhex),
    "period": (pd.Period, lambda v: [str(v), v.freqstr], lambda v: pd.Period(v[0], freq=v[1])),
    "tuple": (
        tuple,
        lambda v: [pack_label(item) for item in v],
        lambda v: tuple(unpack_label(item) for item in v),
    ),
    "interval": (
        pd.Interval,
        lambda v: [pack_label(v.left), pack_label(v.right), v.closed],
        lambda v: pd.Interval(unpack_label(v[0]), unpack_label(v[1]), closed=v[2]),
    ),
}


def pack_label(value: Any) -> Any:
    """Return a name or a category as JSON can hold it.

    Raises
    ------
    InvalidTableError
        If it is an object with no textual form that can be read back.
    """
    value = plain_scalar(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    for tag, (kind, pack, _) in _TEXTUAL.items():
        if isinstance(value, kind):
            return {tag: pack(value)}
    raise InvalidTableError(
        f"Names and categories must be text, numbers, dates or tuples of them to be stored; got {value!r} "
        f"of type {type(value).__name__}. Turn the column into text before fitting."
    )


def unpack_label(value: Any) -> Any:
    """Return the name or category that `pack_label` packed."""
    if not isinstance(value, Mapping):
        return value
    [(tag, content)] = value.items()
    return float(content) if tag == "float" else _TEXTUAL[tag][2](content)
