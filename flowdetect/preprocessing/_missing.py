"""Entries that are not values: missing ones and atoms, as codes that gate a value column.

Code 0 says that the value was observed. The next code means missing, if the column may be missing; then comes
one code per atom, a value that many rows share exactly and that therefore has a probability, not a density.
"""

from typing import Any

import numpy as np
import pandas as pd

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing._numeric import match_levels
from flowdetect.preprocessing._schema import ColumnSchema, shown

__all__ = ["MARKERS", "gate_codes", "missing_marker", "refuse_missing", "ungate"]

MARKERS: dict[str, Any] = {"nan": np.nan, "none": None, "na": pd.NA, "nat": pd.NaT}


def missing_marker(column: pd.Series) -> str:
    """Name the first object that stands for a missing entry, to give the same one back."""
    if column.dtype != object:
        return "nan"
    missing = column[column.isna().to_numpy()]
    for name in ("none", "na", "nat"):
        if len(missing) and missing.iloc[0] is MARKERS[name]:
            return name
    return "nan"


def gate_codes(numbers: np.ndarray, column: ColumnSchema) -> np.ndarray:
    """Return 0.0 where the value is observed, and the code of the special entry elsewhere."""
    atoms = column.values.atoms if column.values is not None else ()
    codes = np.zeros(len(numbers))
    if atoms:
        codes = match_levels(numbers, atoms) + 1.0
        codes[codes > 0] += column.missing
    codes[np.isnan(numbers)] = 1.0
    return codes


def ungate(numbers: np.ndarray, codes: np.ndarray, column: ColumnSchema) -> np.ndarray:
    """Put missing entries and atoms back where the codes say so."""
    atoms = column.values.atoms if column.values is not None else ()
    specials = np.array([0.0, *([np.nan] if column.missing else []), *atoms])
    return np.where(codes == 0, numbers, specials[codes])


def refuse_missing(counts: dict[Any, int]) -> None:
    """Raise one sentence that names every column with missing entries it never had in training."""
    if counts:
        listed = ", ".join(f"{shown(name)} ({count} row(s))" for name, count in counts.items())
        raise InvalidTableError(
            f"Numeric columns that had no missing values in training must have none later; NaN came in: "
            f"{listed}. Fill or drop these rows, or fit on a table where these columns may be missing."
        )
