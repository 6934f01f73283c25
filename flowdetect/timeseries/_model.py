"""How odd each row of a stretch is: flow, nearest likes and misfit of the windows that cover it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.estimators import FlowDensity
from flowdetect.timeseries._views import N_SEGMENTS, WindowMeasures, WindowViews
from flowdetect.timeseries._windows import average_over_windows

__all__ = ["ModelledStretch", "WindowModel"]

Array = NDArray[np.float64]

# The flow's log-density spreads further than the logarithms of distance and misfit, beyond its quartiles.
_WEIGHT_OF_FLOW = 0.2
_MOST_TRAINING_WINDOWS = 3000
_WINDOWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class ModelledStretch:
    """A stretch as the model wants it.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Channels, without holes.
    context : DataFrame of n_rows rows
        What each row is given: entity, calendar, and what the caller adds; it may have no columns.
    """

    values: Array
    context: pd.DataFrame

    def part(self, first: int, last: int) -> ModelledStretch:
        """Return the rows first to last - 1."""
        return ModelledStretch(self.values[first:last], self.context.iloc[first:last].reset_index(drop=True))

    def padded(self, n_rows: int) -> ModelledStretch:
        """Return it at least so long, continued by its mirror image."""
        lacking = n_rows - len(self.values)
        if lacking <= 0:
            return self
        rows = np.pad(np.arange(len(self.values)), (0, lacking), mode="symmetric")
        return ModelledStretch(self.values[rows], self.context.iloc[rows].reset_index(drop=True))


class WindowModel:
    """Learn the windows of stretches, and say how odd each row of others is.

    For windows of each length there are three measures: the log-density of the coarse window under a
    conditional flow, the distance to its nearest likes, and what a linear map of the window leaves out. Each
    is averaged over the windows that cover a row, and expressed in interquartile ranges above the median of
    the rows of fit. A row is as odd as the largest says, the flow's counted at a fifth.

    Parameters
    ----------
    windows : tuple of int
        Lengths of windows.
    density : FlowDensity
        Unfitted.
    """

    def __init__(self, windows: tuple[int, ...], density: FlowDensity) -> None:
        self.windows = windows
        self.density = density

    def learn(self, stretches: list[ModelledStretch]) -> list[Array]:
        """Learn from stretches, those shorter than a window left out, and return `measure` of all."""
        self.views = []
        features, contexts = [], []
        n_segments = min(N_SEGMENTS, *self.windows)
        for window in self.windows:
            long = [stretch for stretch in stretches if len(stretch.values) >= window]
            views = WindowViews(window, n_segments).learn([stretch.values for stretch in long])
            self.views.append(views)
            for stretch in long:
                measured, context = self._features(views, stretch, long)
                features.append(measured)
                contexts.append(context)
        context = pd.concat(contexts, ignore_index=True)
        self.context_columns = [name for name in context.columns if context[name].nunique(dropna=False) > 1]
        given = context[self.context_columns] if self.context_columns else None
        self.density.fit(np.concatenate(features), context=given)
        of_stretches = [self.measure(stretch) for stretch in stretches]
        measured = np.concatenate(of_stretches)
        quartiles = np.nanquantile(measured, [0.25, 0.5, 0.75], axis=0)
        self._centre, spread = quartiles[1], quartiles[2] - quartiles[0]
        self._spread = np.where(spread > 1e-9, spread, np.maximum(np.nanstd(measured, axis=0), 1e-3))
        return of_stretches

    def measure(self, stretch: ModelledStretch) -> Array:
        """Return the averages over windows, shape (n_rows, 3 * n_windows): flow, discord, misfit, in turn.

        NaN for windows that the stretch is too short for; to the shortest ones it is continued.
        """
        n_rows = len(stretch.values)
        columns = []
        for views in self.views:
            if views.window > max(n_rows, min(self.windows)):
                columns += [np.full(n_rows, np.nan)] * 3
                continue
            part = stretch.padded(views.window)
            n_windows = len(part.values) - views.window + 1
            of_windows = np.empty((n_windows, 3))
            for first in range(0, n_windows, _WINDOWS_AT_ONCE):
                last = min(first + _WINDOWS_AT_ONCE, n_windows)
                measured = views.measure(part.values, first, last)
                of_windows[first:last, 0] = -self._log_density(views, measured, part, first, last)
                of_windows[first:last, 1] = measured.discord
                of_windows[first:last, 2] = measured.misfit
            columns += [average_over_windows(column, views.window)[:n_rows] for column in of_windows.T]
        return np.column_stack(columns)

    def score(self, measured: Array) -> Array:
        """Return the score of each row, shape (n_rows,): larger = more normal."""
        odd = (measured - self._centre) / self._spread
        odd[:, 0::3] *= _WEIGHT_OF_FLOW
        score: Array = -np.nanmax(odd, axis=1)
        return score

    def share_by_channel(self, stretch: ModelledStretch, row: int) -> Array:
        """Return the share of each channel in what is odd about the windows around a row, (n_channels,)."""
        total = np.zeros(stretch.values.shape[1])
        for views in self.views:
            part = stretch.padded(views.window)
            start = min(max(0, row - views.window // 2), len(part.values) - views.window)
            total += views.share_by_channel(part.values, start)
        return total / max(total.sum(), 1e-300)

    def _features(
        self, views: WindowViews, stretch: ModelledStretch, stretches: list[ModelledStretch]
    ) -> tuple[Array, pd.DataFrame]:
        total = sum(len(s.values) - views.window + 1 for s in stretches)
        starts = np.arange(
            0, len(stretch.values) - views.window + 1, max(1, -(-total // _MOST_TRAINING_WINDOWS))
        )
        return views.features(stretch.values, starts), self._context(views, stretch.context, starts)

    def _context(self, views: WindowViews, rows: pd.DataFrame, starts: NDArray[np.intp]) -> pd.DataFrame:
        at = rows.iloc[starts + views.window // 2].reset_index(drop=True)
        return at.assign(**{"rows of a window": float(np.log2(views.window))})

    def _log_density(
        self, views: WindowViews, measured: WindowMeasures, stretch: ModelledStretch, first: int, last: int
    ) -> Array:
        context: Any = None
        if self.context_columns:
            context = self._context(views, stretch.context, np.arange(first, last))[self.context_columns]
        scores: Array = self.density.score_samples(measured.features, context=context)
        return scores
