"""Columns that are nothing but codes: categories, small sets of numbers, constants, copies of other columns.

Codes are the levels in their order, then one for missing (if the column may be missing), then one for
everything else: a level never seen in training, or one too rare to have a code.
"""

from typing import Any

import numpy as np
import pandas as pd

from flowdetect.preprocessing._numeric import match_levels
from flowdetect.preprocessing._schema import ColumnSchema, Kind, Storage
from flowdetect.preprocessing._storage import factorize, restore_labels, restore_numbers

__all__ = ["decode_discrete", "discrete_kind", "fit_labels", "label_codes", "number_codes"]


def discrete_kind(levels: tuple[Any, ...], missing: bool, several: Kind) -> Kind:
    """Name the kind of a discrete column with these levels."""
    if not levels:
        return "empty"
    return "constant" if len(levels) == 1 and not missing else several


def fit_labels(
    column: pd.Series, storage: Storage, *, max_categories: int, always_missing: bool
) -> tuple[ColumnSchema, list[Any]]:
    """Learn the levels of a column of labels.

    With more than `max_categories` levels only the most frequent ones that occur more than once keep a code.

    Returns
    -------
    schema : ColumnSchema
    rare : list
        The levels that share the last code.
    """
    codes, labels = factorize(column)
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    missing = always_missing or bool((codes < 0).any())
    present = np.flatnonzero(counts)
    if storage.declared is None:
        present = np.array(sorted(present, key=lambda k: _order(labels[k])), dtype=np.intp)
    kept = present
    if len(present) > max_categories:
        often = present[np.argsort(-counts[present], kind="stable")][:max_categories]
        chosen = set(often[(counts[often] > 1) | (np.arange(len(often)) == 0)].tolist())
        kept = np.array([k for k in present if k in chosen], dtype=np.intp)
    levels = tuple(labels[k] for k in kept)
    frequent = int(np.argmax(counts[kept])) if len(kept) else 0
    rare = [labels[k] for k in present] if len(kept) < len(present) else []
    schema = ColumnSchema(
        name=column.name,
        kind=discrete_kind(levels, missing or bool(rare), "categories"),
        storage=storage,
        missing=missing,
        levels=levels,
        frequent=frequent,
    )
    known = set(levels)
    return schema, [label for label in rare if label not in known]


def _order(label: Any) -> tuple[str, Any]:
    """Sort labels of one type by value, and types among each other by name."""
    if isinstance(label, int | float | bool):
        return "", (label, "")
    return type(label).__name__, (0, label if isinstance(label, str) else str(label))


def label_codes(column: pd.Series, schema: ColumnSchema) -> np.ndarray:
    """Return the code of each label."""
    codes, labels = factorize(column)
    place = {level: code for code, level in enumerate(schema.levels)}
    positions = np.array([*(place.get(label, -1) for label in labels), -1], dtype=np.intp)
    return _with_specials(positions[codes], codes < 0, schema)


def number_codes(numbers: np.ndarray, schema: ColumnSchema) -> np.ndarray:
    """Return the code of each number."""
    return _with_specials(match_levels(numbers, schema.levels), np.isnan(numbers), schema)


def _with_specials(positions: np.ndarray, missing: np.ndarray, schema: ColumnSchema) -> np.ndarray:
    other = len(schema.levels) + schema.missing
    codes = np.where(positions < 0, other, positions)
    codes[missing] = len(schema.levels) if schema.missing else other
    return codes


def decode_discrete(codes: np.ndarray, schema: ColumnSchema) -> pd.Series:
    """Return the entries the codes stand for, in the dtype of the column.

    The last code, "anything else", becomes missing; it becomes the most frequent value in a column of numbers
    that was never missing, and so must not be, and where the dtype has no missing value.
    """
    n_levels = len(schema.levels)
    if schema.storage.family == "label":
        other_label = -1 if schema.storage.nullable else schema.frequent
        return restore_labels(np.where(codes < n_levels, codes, other_label), schema.levels, schema.storage)
    other = np.nan if schema.missing else schema.levels[schema.frequent]
    numbers = np.array([*schema.levels, *([np.nan] if schema.missing else []), other], dtype=np.float64)
    return restore_numbers(numbers[codes], schema.storage)
