"""How odd each row of a stretch is: the windows that cover it, and the rows before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.estimators import FlowDensity
from flowdetect.timeseries._stretch import ModelledStretch
from flowdetect.timeseries._surprise import RowSurprise
from flowdetect.timeseries._views import N_SEGMENTS, WindowMeasures, WindowViews
from flowdetect.timeseries._windows import average_over_windows

__all__ = ["SeriesModel"]

Array = NDArray[np.float64]

# Log-densities spread further than the logarithms of distance and misfit, beyond their quartiles.
_WEIGHTS_OF_WINDOW = (0.2, 1.0, 1.0)
_WEIGHTS_OF_ROW = (0.3, 0.5)
_MOST_TRAINING_WINDOWS = 3000
_WINDOWS_AT_ONCE = 20_000


class SeriesModel:
    """Learn the windows and the rows of stretches, and say how odd each row of others is.

    For windows of each length there are three measures: the log-density of the coarse window under a
    conditional flow, the distance to its nearest likes, and what a linear map of the window leaves out. Each
    is averaged over the windows that cover a row. Two more are how unlikely a row and its neighbours, and how
    unlikely a row by itself, is given the rows before. All are counted from the median of the rows of fit, in
    interquartile ranges, that of a row by itself in distances to the last hundredth. A row is as odd as the
    largest says, with the weights below.

    Parameters
    ----------
    windows : tuple of int
        Lengths of windows.
    window_density, row_density : FlowDensity
        Unfitted.
    """

    def __init__(
        self, windows: tuple[int, ...], window_density: FlowDensity, row_density: FlowDensity
    ) -> None:
        self.windows = windows
        self.window_density = window_density
        self.row_density = row_density
        self._surprise = RowSurprise(max(windows), row_density)

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
        self.window_density.fit(np.concatenate(features), context=given)
        self._surprise.learn(stretches)
        of_stretches = [self.measure(stretch) for stretch in stretches]
        self._learn_scales(np.concatenate(of_stretches))
        return of_stretches

    def measure(self, stretch: ModelledStretch) -> Array:
        """Return what is odd about each row, shape (n_rows, 3 * n_windows + 2).

        Flow, discord and misfit of the windows of each length, the surprise of rows and neighbours, and of
        rows. NaN for windows that the stretch is too short for; to the shortest ones it is continued.
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
        return np.column_stack([*columns, self._surprise.measure(stretch)])

    def score(self, measured: Array) -> Array:
        """Return the score of each row, shape (n_rows,): larger = more normal."""
        weights = [*_WEIGHTS_OF_WINDOW * len(self.windows), *_WEIGHTS_OF_ROW]
        score: Array = -np.nanmax((measured - self._centre) / self._spread * weights, axis=1)
        return score

    def share_by_channel(self, stretch: ModelledStretch, row: int) -> Array:
        """Return the share of each channel in what is odd about the windows around a row, (n_channels,)."""
        total = np.zeros(stretch.values.shape[1])
        for views in self.views:
            part = stretch.padded(views.window)
            start = min(max(0, row - views.window // 2), len(part.values) - views.window)
            total += views.share_by_channel(part.values, start)
        return total / max(total.sum(), 1e-300)

    def _learn_scales(self, measured: Array) -> None:
        known = ~np.isnan(measured).all(axis=0)
        quantiles = np.zeros((4, measured.shape[1]))
        quantiles[:, known] = np.nanquantile(measured[:, known], [0.25, 0.5, 0.75, 0.99], axis=0)
        spread = quantiles[2] - quantiles[0]
        spread[-1] = quantiles[3, -1] - quantiles[1, -1]
        deviations = np.zeros_like(spread)
        deviations[known] = np.nanstd(measured[:, known], axis=0)
        self._centre = quantiles[1]
        self._spread = np.where(spread > 1e-9, spread, np.maximum(deviations, 1e-3))

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
        scores: Array = self.window_density.score_samples(measured.features, context=context)
        return scores
