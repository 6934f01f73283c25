"""New stretches of a series, its continuations, and ways through its gaps, in the caller's types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import ConfigurationError
from flowdetect.timeseries._next_value import NextValue
from flowdetect.timeseries._past import pasts_of
from flowdetect.timeseries._paths import Gap, Settle, draw_paths, fill_gap, gaps_of
from flowdetect.timeseries._pieces import PieceReader, PlacedPiece, Range
from flowdetect.timeseries._tables import filled_table, forecast_table, sample_table

__all__ = ["SeriesPaths"]

_Array = NDArray[np.float64]

# A forecast may leave the range by this share of its width, and by more in proportion to the steps ahead: per
# length of the training series by the second share.
_BEYOND, _BEYOND_PER_LENGTH = 0.5, 2.0
_LONGEST_BURN_IN = 100
# A path starts at one of so many places, the nearest.
_N_STARTS = 5
_PATHS_THROUGH = 200
_NEVER = 2**40


class SeriesPaths:
    """Draw series with a fitted density of the next row.

    Parameters
    ----------
    reader : PieceReader
    placed : list of PlacedPiece
        The pieces of fit.
    model : NextValue
    """

    def __init__(self, reader: PieceReader, placed: list[PlacedPiece], model: NextValue) -> None:
        self.reader = reader
        self.placed = placed
        self.model = model
        self.longest = max(placed, key=lambda each: len(each.piece))

    # --- forecasts --------------------------------------------------------------------------------

    def forecast(
        self, series: Any, context: Any, steps: int, n_paths: int, rng: np.random.Generator
    ) -> pd.DataFrame:
        """Return paths that continue a series; see `SeriesAugmenter.forecast`."""
        placed = self._last_pieces(series)
        self.reader.check_context(context, steps * len(placed))
        told = self.reader.context_values(context)
        parts = []
        for number, each in enumerate(placed):
            stamps = self.reader.stamps_after(each, steps)
            here = None if told is None else told[number * steps : (number + 1) * steps]
            known = self.reader.known(each.stretch.entity, stamps, steps, here)[:, None]
            states = self.model.states(each.piece.values)
            past = pasts_of(states, self.model.plan.window, np.array([len(states)]))
            paths = draw_paths(
                self.model, np.repeat(past, n_paths, axis=0), known, self._onwards(each.range), rng
            )
            values = each.range.original(paths)
            index = pd.RangeIndex(len(states), len(states) + steps) if stamps is None else stamps
            parts.append(forecast_table(self.reader, values, index, each.stretch.entity))
        return pd.concat(parts)

    def _last_pieces(self, series: Any) -> list[PlacedPiece]:
        placed = self.placed
        if series is not None:
            placed = self.reader.read(series, longest_gap=_NEVER, context_needed=False)
        # Of each entity the last one: a long gap may have cut it.
        return list({each.stretch.entity: each for each in placed}.values())

    def _onwards(self, range_: Range) -> Settle:
        width, n_rows = range_.high - range_.low, len(self.longest.piece)

        def settle(drawn: _Array, step: int) -> _Array:
            beyond = width * (_BEYOND + _BEYOND_PER_LENGTH * (step + 1) / n_rows)
            low = np.where(range_.low >= 0.0, np.maximum(range_.low - beyond, 0.0), range_.low - beyond)
            return self._settled(drawn, range_, low, range_.high + beyond)

        return settle

    def _within(self, range_: Range) -> Settle:
        """Return what keeps numbers to the range of the series, those with a trend to that of a forecast."""
        onwards = self._onwards(range_)
        trending = np.zeros(len(self.model.numeric), dtype=bool)
        trending[self.model.numeric] = ~self.model.levels

        def settle(drawn: _Array, step: int) -> _Array:
            inside = self._settled(drawn, range_, range_.low, range_.high)
            return np.where(trending, onwards(drawn, step), inside)

        return settle

    def _settled(self, drawn: _Array, range_: Range, low: _Array, high: _Array) -> _Array:
        return range_.standard(self.reader.contents.settle(range_.original(drawn), low, high))

    # --- new series -------------------------------------------------------------------------------

    def sample(self, n_series: int, length: int | None, y: Any, rng: np.random.Generator) -> Any:
        """Return new series; see `SeriesAugmenter.sample`."""
        if y is not None:
            raise ConfigurationError("y must be None: this SeriesAugmenter was fitted without classes.")
        n_rows = len(self.longest.piece) if length is None else int(length)
        sizes = np.array([len(each.piece) for each in self.placed], dtype=np.float64)
        likely = sizes if length is not None else (sizes == sizes.max()).astype(np.float64)
        chosen = rng.choice(len(sizes), n_series, p=likely / likely.sum())
        starts = [int(rng.integers(max(len(self.placed[k].piece) - n_rows, 0) + 1)) for k in chosen]
        values: list[_Array] = [np.empty(0)] * n_series
        for k in np.unique(chosen):
            of_piece = np.flatnonzero(chosen == k)
            drawn = self._stand_ins(self.placed[k], np.array([starts[i] for i in of_piece]), n_rows, rng)
            for place, i in enumerate(of_piece):
                values[i] = drawn[:, place]
        stamps = [self._stamps(self.placed[k], s, n_rows) for k, s in zip(chosen, starts, strict=True)]
        return sample_table(self.reader, values, stamps)

    def _stand_ins(
        self, placed: PlacedPiece, starts: NDArray[np.intp], n_rows: int, rng: np.random.Generator
    ) -> _Array:
        """Draw series that stand for rows of a piece from the given ones on."""
        known = self._known_through(placed, int(starts.max()) + n_rows)
        window, settle = self.model.plan.window, self._within(placed.range)
        begins = starts - min(window, _LONGEST_BURN_IN)
        past = self._pasts_near(placed, begins, rng)
        for row in range(int(begins[0] - starts[0]), 0):
            drawn = draw_paths(self.model, past, known[np.maximum(starts + row, 0)][None], settle, rng)[0]
            past = np.concatenate([past[:, 1:], self.model.states(drawn)[:, None]], axis=1)
        past = self._shifted(placed, past, starts)
        rows = starts + np.arange(n_rows)[:, None]
        return placed.range.original(draw_paths(self.model, past, known[rows], settle, rng))

    def _known_through(self, placed: PlacedPiece, n_rows: int) -> _Array:
        beyond = n_rows - len(placed.piece)
        if beyond <= 0:
            return placed.piece.known
        if self.reader.context is not None:
            raise ConfigurationError(
                f"length must be at most {len(self.longest.piece)}, the longest stretch of rows whose "
                f"context is known from fit; got {n_rows}."
            )
        later = self.reader.stamps_after(placed, beyond)
        more = self.reader.known(placed.stretch.entity, later, beyond, None)
        return np.concatenate([placed.piece.known, more])

    def _stamps(self, placed: PlacedPiece, start: int, n_rows: int) -> pd.Index | None:
        if placed.stamps is None:
            return None
        later = self.reader.stamps_after(placed, max(start + n_rows - len(placed.stamps), 0))
        stamps = placed.stamps if later is None or not len(later) else placed.stamps.append(later)
        return stamps[start : start + n_rows]

    def _pasts_near(self, placed: PlacedPiece, begins: NDArray[np.intp], rng: np.random.Generator) -> _Array:
        """Return real pasts from near the given rows, at the same place in the season."""
        window, season = self.model.plan.window, self.model.plan.season or 1
        states = self.model.states(placed.piece.values)
        candidates = np.arange(min(window, len(states)), len(states) + 1)
        rows = np.empty(len(begins), dtype=np.intp)
        for i, begin in enumerate(begins):
            alike = candidates[(candidates - begin) % season == 0]
            alike = candidates if not len(alike) else alike
            nearest = alike[np.argsort(np.abs(alike - begin), kind="stable")[:_N_STARTS]]
            rows[i] = rng.choice(nearest)
        return self._shifted(placed, pasts_of(states, window, rows), begins)

    def _shifted(self, placed: PlacedPiece, past: _Array, rows: NDArray[np.intp]) -> _Array:
        """Shift numbers with a trend to where they were before the given rows: any level is as likely."""
        states = self.model.states(placed.piece.values)
        trending = np.flatnonzero(self.model.numeric)[~self.model.levels]
        if len(trending):
            here = states[np.clip(rows - 1, 0, len(states) - 1)][:, trending]
            past[:, :, trending] += (here - past[:, -1, trending])[:, None]
        return past

    # --- gaps -------------------------------------------------------------------------------------

    def fill(self, series: Any, context: Any, rng: np.random.Generator) -> Any:
        """Return a series without gaps; see `SeriesAugmenter.fill`."""
        placed = self.reader.read(series, context, longest_gap=_NEVER)
        return filled_table(self.reader, series, [self._filled(each, rng) for each in placed])

    def _filled(self, placed: PlacedPiece, rng: np.random.Generator) -> PlacedPiece:
        values = placed.piece.values.copy()
        piece = replace(placed.piece, values=values)
        for gap in gaps_of(values):
            past = self._pasts_before(placed, values, gap, rng)
            values[gap.start : gap.stop] = fill_gap(
                self.model, piece, gap, past, self._within(placed.range), rng
            )
        return replace(placed, piece=piece)

    def _pasts_before(
        self, placed: PlacedPiece, values: _Array, gap: Gap, rng: np.random.Generator
    ) -> _Array:
        window = self.model.plan.window
        if gap.start > 0:
            states = self.model.states(values[max(gap.start - window, 0) : gap.start])
            past = pasts_of(states, window, np.array([len(states)]))
            return np.repeat(past, _PATHS_THROUGH, axis=0)
        # Nothing is known before the first row: any past of fit may have been.
        return self._pasts_near(self.longest, np.zeros(_PATHS_THROUGH, dtype=np.intp), rng)
