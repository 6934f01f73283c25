"""How unlikely each row of a stretch is, given the rows before it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.estimators import FlowDensity
from flowdetect.exceptions import TableWarning
from flowdetect.preprocessing import TableEncoder
from flowdetect.timeseries._next_value import NextValue, Piece
from flowdetect.timeseries._past import plan_past
from flowdetect.timeseries._period import find_season
from flowdetect.timeseries._stretch import ModelledStretch
from flowdetect.timeseries._views import mixing
from flowdetect.timeseries._windows import average_over_windows, windows_of

__all__ = ["RowSurprise"]

Array = NDArray[np.float64]

_MOST_TRAINING_ROWS, _ROWS_OF_PIECE = 20_000, 2_000
_ROWS_AT_ONCE = 20_000
_MOST_SMOOTHED, _MOST_CATEGORIES = 20, 12
# In interquartile ranges above the quartile: one row must not rule a mean.
_MOST_SURPRISE = 100.0


class RowSurprise:
    """Learn the density of the next row given those before it, and say how unlikely each row is.

    Parameters
    ----------
    reach : int
        A row's numbers depend on less than so many rows before and after it.
    density : FlowDensity
        Unfitted.
    """

    def __init__(self, reach: int, density: FlowDensity) -> None:
        self._n_smoothed = min(_MOST_SMOOTHED, reach // 2)
        self._most_past = reach - self._n_smoothed
        self.density = density

    def learn(self, stretches: Sequence[ModelledStretch]) -> RowSurprise:
        """Learn from stretches, of many rows from some of them."""
        self._mix = mixing([stretch.values for stretch in stretches])
        self._encoder = _encoder_of(pd.concat([stretch.context for stretch in stretches], ignore_index=True))
        self._next: NextValue | None = None
        if not self._mix.directions.shape[1]:
            return self
        stride = -(-sum(len(stretch.values) for stretch in stretches) // _MOST_TRAINING_ROWS)
        some = [part for stretch in stretches for part in _cut(stretch)][::stride]
        pieces = [self._piece(part, 0, len(part.values)) for part in some]
        season = find_season([piece.values for piece in pieces])
        plan = plan_past(
            max(map(len, pieces)), pieces[0].values.shape[1], window=self._most_past, season=season
        )
        self._next = NextValue(plan, np.zeros(pieces[0].values.shape[1], dtype=np.intp), self.density)
        self._next.fit(pieces)
        surprises = -np.concatenate([self._next.log_density(piece) for piece in pieces])
        quartiles = np.nanquantile(surprises, [0.25, 0.5, 0.75])
        self._typical = float(quartiles[1])
        self._most = float(quartiles[2] + _MOST_SURPRISE * max(quartiles[2] - quartiles[0], 1e-3))
        return self

    def measure(self, stretch: ModelledStretch) -> Array:
        """Return the surprise of each row, averaged over its neighbours and by itself, (n_rows, 2), in nats.

        NaN by itself where too little of the past is there.
        """
        n_rows = len(stretch.values)
        if self._next is None:
            return np.full((n_rows, 2), np.nan)
        own = np.concatenate(
            [
                self._surprises(self._next, stretch, first, min(first + _ROWS_AT_ONCE, n_rows))
                for first in range(0, n_rows, _ROWS_AT_ONCE)
            ]
        )
        n_smoothed = min(self._n_smoothed, n_rows)
        whole = np.where(np.isnan(own), self._typical, own)
        means = windows_of(whole[:, None], n_smoothed).mean(axis=(1, 2))
        return np.column_stack([average_over_windows(means, n_smoothed), own])

    def _surprises(self, model: NextValue, stretch: ModelledStretch, first: int, last: int) -> Array:
        begin = max(0, first - model.plan.window)
        surprises = -model.log_density(self._piece(stretch, begin, last))[first - begin :]
        return np.minimum(surprises, self._most)

    def _piece(self, stretch: ModelledStretch, first: int, last: int) -> Piece:
        values = (stretch.values[first:last, :-1] - self._mix.mean) @ self._mix.directions
        if self._encoder is None:
            return Piece(values, np.empty((len(values), 0)))
        matrix, _ = self._encoder.encode(stretch.context.iloc[first:last])
        return Piece(values, self._encoder.coordinates(matrix))


def _cut(stretch: ModelledStretch) -> list[ModelledStretch]:
    starts = range(0, len(stretch.values), _ROWS_OF_PIECE)
    return [stretch.part(first, min(first + _ROWS_OF_PIECE, len(stretch.values))) for first in starts]


def _encoder_of(context: pd.DataFrame) -> TableEncoder | None:
    if not len(context.columns):
        return None
    with warnings.catch_warnings():
        # That rare categories share one code is all right here.
        warnings.simplefilter("ignore", TableWarning)
        return TableEncoder(max_categories=_MOST_CATEGORIES).fit(context)
