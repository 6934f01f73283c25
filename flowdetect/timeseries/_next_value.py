"""The density of the next row of a series, given the rows before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.estimators import FlowDensity
from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._channels import carry_forward
from flowdetect.timeseries._linear import LinearForecast
from flowdetect.timeseries._past import PastPlan, past_features, pasts_of
from flowdetect.timeseries._views import LinearMap

__all__ = ["NextValue", "Piece"]

_Array = NDArray[np.float64]

# Numbers of the past that are looked at together.
_NUMBERS_AT_ONCE = 4_000_000
_LEAST_ROWS = 8
# The density is given features as they are up to so many, else this many principal components of them.
_MOST_FEATURES = 12
# ... and one context column for so many rows at most.
_ROWS_A_COLUMN = 25
_MOST_CATEGORIES = 12
_REDRAWS = 8
_LONGEST_CHANGE = 64
_TINY = 1e-9
# A number returns to its level unless more than this share of the last rows lies beyond all rows before them.
_LATE, _BEYOND = 0.3, 0.3


@dataclass(frozen=True)
class Piece:
    """A stretch of a series, one step between rows.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Numbers of about unit scale, and codes 0, 1, ... of categories; NaN where missing.
    known : ndarray of shape (n_rows, n_known)
        What is known of each row beforehand, such as the calendar.
    """

    values: _Array
    known: _Array

    def __len__(self) -> int:
        return len(self.values)


class NextValue:
    """The density of the next row of a series, given the rows before it and what else is known of that row.

    A ridge regression forecasts each number's change from features of the past (`past_features`); a
    `FlowDensity` learns, jointly for all channels, the distribution of what the regression leaves, given
    these features. That a residual is a shift of the value keeps the density exact. Categories go into the
    density as they are, and their last values among the features.

    Features are cut to the range they had in training, a little widened: changes stay bounded wherever a
    path gets to.

    Parameters
    ----------
    plan : PastPlan
    cardinalities : sequence of int
        For each channel the number of its categories; 0 for a number.
    density : FlowDensity
        Not fitted.
    starts : bool, default=False
        Whether series are complete, so that their first rows, which have no past, are modelled as well.
    n_told : int, optional
        So many of the first columns of what is known are told to the density too; by default all.

    Attributes
    ----------
    first_row_ : int
        The first row of a piece that has enough past.
    """

    def __init__(
        self,
        plan: PastPlan,
        cardinalities: Sequence[int] | NDArray[np.intp],
        density: FlowDensity,
        *,
        starts: bool = False,
        n_told: int | None = None,
    ) -> None:
        self.plan = plan
        self.cardinalities = np.asarray(cardinalities, dtype=np.intp)
        self.density = density
        self.starts = starts
        self.n_told = n_told
        self.numeric = self.cardinalities == 0

    # --- fitting ----------------------------------------------------------------------------------

    def fit(self, pieces: Sequence[Piece]) -> NextValue:
        """Learn the regression and the density.

        Parameters
        ----------
        pieces : sequence of Piece

        Returns
        -------
        self

        Raises
        ------
        InvalidTableError
            If fewer than 8 rows have a past to learn from.
        """
        self.flagged = np.any([np.isnan(piece.values).any(axis=0) for piece in pieces], axis=0) & self.numeric
        self.first_row_ = self._first_row(pieces)
        self._change_spreads = np.where(self.numeric, _change_spreads(pieces), 1.0)
        rows = [self._usable(piece) for piece in pieces]
        parts = [self._past_features(p, r) for p, r in zip(pieces, rows, strict=True) if len(r)]
        n_rows = sum(len(part) for part in parts)
        if n_rows < _LEAST_ROWS:
            raise InvalidTableError(
                f"A series must have at least {_LEAST_ROWS} rows with a row before them; {n_rows} of "
                f"{sum(map(len, pieces))} rows have. Give a longer series, or several with entity=."
            )
        features = np.concatenate(parts)
        known = np.concatenate([p.known[r] for p, r in zip(pieces, rows, strict=True)])
        values = np.concatenate([p.values[r] for p, r in zip(pieces, rows, strict=True)])
        levels = _levels_return([piece.values[:, self.numeric] for piece in pieces])
        self._linear = LinearForecast(levels).fit(features, known, values[:, self.numeric])
        design = self._linear.design(features, known)
        self._plan_context(design, n_rows)
        context, forecast = self._given(features, known)
        self.density.fit(self._table(values, forecast), context=context)
        return self

    @property
    def levels(self) -> NDArray[np.bool_]:
        """Which numbers return to a level."""
        return self._linear.levels

    def _first_row(self, pieces: Sequence[Piece]) -> int:
        if self.starts:
            return 0
        full = sum(max(0, len(piece) - self.plan.window) for piece in pieces)
        enough = full >= _LEAST_ROWS and 2 * full >= sum(len(piece) - 1 for piece in pieces)
        return self.plan.window if enough else 1

    def _usable(self, piece: Piece) -> NDArray[np.intp]:
        """Return the rows with a past and something observed."""
        observed = ~np.isnan(piece.values).all(axis=1)
        rows = np.flatnonzero(observed)
        usable: NDArray[np.intp] = rows[rows >= self.first_row_]
        return usable

    def _plan_context(self, design: _Array, n_rows: int) -> None:
        n_features = self._linear.n_features_
        n_told = design.shape[1] - n_features if self.n_told is None else self.n_told
        self._told = np.arange(n_features, n_features + n_told)
        self._told = self._told[np.ptp(design[:, self._told], axis=0) > _TINY]
        most = int(np.clip(n_rows // _ROWS_A_COLUMN, 1, _MOST_FEATURES))
        self._components: LinearMap | None = None
        if n_features > most and design[:, :n_features].any():
            self._components = LinearMap.learn(design[:, :n_features], most=min(most, n_rows))

    # --- scoring and drawing ----------------------------------------------------------------------

    def log_density(self, piece: Piece) -> _Array:
        """Return the log-density of each row given the rows before it.

        Parameters
        ----------
        piece : Piece

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats, in the units of the piece; with a missing value as `FlowDensity.score_samples` has it.
            NaN for the rows before `first_row_`, and for rows in which
            everything is missing.
        """
        scores = np.full(len(piece), np.nan)
        rows = self._usable(piece)
        if not len(rows):
            return scores
        features = self._past_features(piece, rows)
        scores[rows] = self._score(features, piece.known[rows], piece.values[rows])
        return scores

    def log_density_after(self, past: _Array, known: _Array, values: _Array) -> _Array:
        """Return the log-density of rows, each after a past of its own.

        Parameters
        ----------
        past : ndarray of shape (n_paths, window, n_states)
        known : ndarray of shape (n_paths, n_known)
        values : ndarray of shape (n_paths, n_channels)

        Returns
        -------
        ndarray of shape (n_paths,)
        """
        return self._score(self._features(past), known, values)

    def draw(self, past: _Array, known: _Array, rng: np.random.Generator) -> _Array:
        """Draw the row that follows each past.

        Parameters
        ----------
        past : ndarray of shape (n_paths, window, n_states)
            States of the rows before, see `states`; NaN where the series had not begun.
        known : ndarray of shape (n_paths, n_known)
            What is known of the rows to be drawn.
        rng : Generator

        Returns
        -------
        ndarray of shape (n_paths, n_channels)
            Without missing values: what the density leaves out is drawn again, if need be by itself.
        """
        context, forecast = self._given(self._features(past), known)
        drawn = self._untable(self.density.sample(1, context=context, random_state=rng), forecast)
        for _ in range(_REDRAWS):
            holes = np.isnan(drawn)
            lacking = holes.any(axis=1)
            if not lacking.any():
                return drawn
            again = self.density.sample(1, context=context[lacking], random_state=rng)
            fresh = self._untable(again, forecast[lacking])
            drawn[lacking] = np.where(holes[lacking], fresh, drawn[lacking])
        rest = np.zeros_like(drawn)
        rest[:, self.numeric] = forecast
        return np.where(np.isnan(drawn), rest, drawn)

    def change_spreads(self, n_steps: int) -> _Array:
        """Return the standard deviation of each channel's change over so many steps; 1 for categories."""
        return np.asarray(self._change_spreads[min(n_steps, len(self._change_spreads)) - 1])

    def states(self, values: _Array) -> _Array:
        """Return what the features are made from, without holes.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_channels)

        Returns
        -------
        ndarray of shape (n_rows, n_states)
            Missing values are the last ones before; flags tell them for channels that lacked some in fit.
            Codes count from 1 here, and 0 stands for unknown.
        """
        shifted = np.where(self.numeric, values, values + 1.0)
        flags = np.isnan(values[:, self.flagged]).astype(np.float64)
        return np.concatenate([carry_forward(shifted), flags], axis=1)

    # --- features ---------------------------------------------------------------------------------

    def _past_features(self, piece: Piece, rows: NDArray[np.intp]) -> _Array:
        states = self.states(piece.values)
        n_parts = len(rows) * self.plan.window * states.shape[1] // _NUMBERS_AT_ONCE + 1
        parts = [
            self._features(pasts_of(states, self.plan.window, some)) for some in np.array_split(rows, n_parts)
        ]
        return np.concatenate(parts)

    def _features(self, past: _Array) -> _Array:
        n_channels = len(self.numeric)
        last = past[:, -1]
        parts = [past_features(past[:, :, :n_channels][:, :, self.numeric], self.plan)]
        parts.append(np.nan_to_num(last[:, n_channels:], nan=0.0))
        for channel in np.flatnonzero(~self.numeric):
            codes = np.arange(1, min(self.cardinalities[channel], _MOST_CATEGORIES) + 1)
            parts.append((last[:, channel, None] == codes).astype(np.float64))
        if self.starts:
            begun = ~np.isnan(past[:, :, 0])
            parts.append(np.stack([begun[:, -k] for k in self._ages], axis=1).astype(np.float64))
        return np.concatenate(parts, axis=1)

    @property
    def _ages(self) -> list[int]:
        """Ages of a series that its first rows are told by."""
        return [age for age in (1, 2, 4) if age <= self.plan.window]

    def _score(self, features: _Array, known: _Array, values: _Array) -> _Array:
        context, forecast = self._given(features, known)
        return np.asarray(self.density.score_samples(self._table(values, forecast), context=context))

    def _given(self, features: _Array, known: _Array) -> tuple[_Array, _Array]:
        """Return what the density is told of each row, and the forecasts of the numbers."""
        design = self._linear.design(features, known)
        changes = self._linear.changes(design)
        standard = design[:, : self._linear.n_features_]
        if self._components is not None:
            standard = self._components.apply(standard)[0]
        return np.hstack([changes, standard, design[:, self._told]]), self._linear.bases(features) + changes

    # --- rows as the density sees them ------------------------------------------------------------

    def _table(self, values: _Array, forecast: _Array) -> Any:
        residuals = values.copy()
        residuals[:, self.numeric] -= forecast
        if self.numeric.all():
            return residuals
        return pd.DataFrame(dict(self._columns(residuals)))

    def _columns(self, residuals: _Array) -> Iterator[tuple[str, Any]]:
        for channel, n_categories in enumerate(self.cardinalities):
            column: Any = residuals[:, channel]
            if n_categories:
                codes = np.nan_to_num(column, nan=-1.0).astype(np.intp)
                column = pd.Categorical.from_codes(codes, categories=pd.RangeIndex(n_categories))
            yield f"channel {channel}", column

    def _untable(self, table: Any, forecast: _Array) -> _Array:
        if isinstance(table, pd.DataFrame):
            columns = [
                np.where(table[name].isna(), np.nan, table[name].astype(float)) for name in table.columns
            ]
            values = np.column_stack(columns)
        else:
            values = np.array(table, dtype=np.float64)
        values[:, self.numeric] += forecast
        return values


def _change_spreads(pieces: Sequence[Piece]) -> _Array:
    """Return the root mean square change of each channel over 1, 2, ... steps."""
    longest = max(pieces, key=len).values
    if len(longest) < 2:
        return np.ones((1, longest.shape[1]))
    filled = carry_forward(longest)
    most = max(1, min(_LONGEST_CHANGE, len(longest) // 2))
    spreads = [np.sqrt(np.mean((filled[lag:] - filled[:-lag]) ** 2, axis=0)) for lag in range(1, most + 1)]
    return np.stack(spreads)


def _levels_return(stretches: Sequence[_Array]) -> NDArray[np.bool_]:
    """Tell numbers that come back to where they were from those with a trend."""
    beyond, counted = np.zeros(stretches[0].shape[1]), np.zeros(stretches[0].shape[1])
    for values in stretches:
        n_early = int((1.0 - _LATE) * len(values))
        early, late = carry_forward(values[:n_early]), values[n_early:]
        if n_early:
            with np.errstate(invalid="ignore"):
                beyond += ((late < early.min(axis=0)) | (late > early.max(axis=0))).sum(axis=0)
            counted += (~np.isnan(late)).sum(axis=0)
    returning: NDArray[np.bool_] = beyond <= _BEYOND * counted
    return returning
