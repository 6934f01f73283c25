"""Draws without entries that were never seen: a density keeps a little probability for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowdetect.preprocessing import TableEncoder

__all__ = ["draw_seen"]

# Entries never seen have a probability of about 1 / (n + 2) a column: few rows are to be drawn again.
_MOST_ROUNDS = 50


def draw_seen(
    encoder: TableEncoder, draw: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
) -> np.ndarray:
    """Draw encoded rows, those again that hold an entry never seen.

    Parameters
    ----------
    encoder : TableEncoder
    draw : callable ndarray of int -> ndarray of shape (n, n_columns)
        Draws the rows of some numbers.
    rows : ndarray of int
        The numbers of the rows wanted.
    """
    drawn = draw(rows)
    for _ in range(_MOST_ROUNDS):
        again = np.flatnonzero(_hold_unseen(drawn, encoder))
        if not len(again):
            break
        drawn[again] = draw(rows[again])
    return drawn


def _hold_unseen(matrix: np.ndarray, encoder: TableEncoder) -> np.ndarray:
    """Return which encoded rows hold a code for labels or numbers that no row of fit had."""
    schema, n_values = encoder.schema_, encoder.layout_.n_values
    found = np.zeros(len(matrix), dtype=bool)
    for number, position in enumerate(schema.code_positions):
        column = schema.columns[position]
        # Of more categories than that, the rare ones share the last code.
        if column.values is None and len(column.levels) < encoder.max_categories:
            found |= matrix[:, n_values + number] == column.cardinality - 1
    return found
