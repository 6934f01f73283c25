"""The types that texts of csv files are written with where the target has types: those of the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from pyarrow import types

from flowdetect.jobs._casting import find_columns
from flowdetect.jobs._parsing import drop_missing_texts, parse_integers, parse_numbers
from flowdetect.jobs._rows import Rows
from flowdetect.preprocessing import TableSchema

__all__ = ["retype", "types_of_texts", "with_types"]


def types_of_texts(rows: Rows, schema: TableSchema) -> dict[str, pa.DataType]:
    """Return which columns of a csv file the model takes for numbers, with the type that holds them.

    Everything else is left as text: labels such as "007", and truth values and times, which may be spelled in
    several ways.
    """
    names = rows.batch.schema.names
    return {
        names[place]: pa.int64() if column.storage.origin else pa.float64()
        for place, column in zip(find_columns(rows, schema), schema.columns, strict=True)
        if column.storage.family == "number"
    }


def with_types(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return a schema with other types for some of its columns."""
    return pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in schema])


def retype(
    batch: pa.RecordBatch, kinds: Mapping[str, pa.DataType], missing: frozenset[str]
) -> pa.RecordBatch:
    """Return rows that can be scored with these types, and null for every text that means missing."""
    arrays = [
        _typed(drop_missing_texts(column, missing), kinds.get(name, column.type))
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=with_types(batch.schema, kinds))


def _typed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if types.is_string(kind):
        return texts
    if types.is_integer(kind):
        integers, absent, _ = parse_integers(texts)
        return pa.array(integers, kind, mask=absent)
    numbers, _ = parse_numbers(texts)
    return pa.array(numbers, kind, mask=np.isnan(numbers))
