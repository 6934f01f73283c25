"""Paths: row after row drawn from the density of the next one, onwards, or through a gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowdetect.timeseries._next_value import NextValue, Piece

__all__ = ["Gap", "draw_paths", "fill_gap", "gaps_of"]

_Array = NDArray[np.float64]
Settle = Callable[[_Array, int], _Array]

# Paths are drawn again from the likely ones when these few count for nearly all the weight.
_LEAST_EFFECTIVE = 0.5
# Observed rows behind a gap that weigh its paths.
_ROWS_BEHIND = 4
# Of a half-observed row in a gap, values closer than this, in scales of a one-step change, count as met.
_MET = 0.5
_TINY = 1e-6


@dataclass(frozen=True)
class Gap:
    """Rows in which something is missing, from `start` up to before `stop`."""

    start: int
    stop: int


def draw_paths(
    model: NextValue, past: _Array, known: _Array, settle: Settle, rng: np.random.Generator
) -> _Array:
    """Draw paths onwards from their pasts.

    Parameters
    ----------
    model : NextValue
    past : ndarray of shape (n_paths, window, n_states)
        The states before the first drawn row.
    known : ndarray of shape (n_steps, n_paths, n_known)
        What is known beforehand; n_paths may be 1 for the same in all paths.
    settle : callable
        Takes drawn rows (n_paths, n_channels) and their step; returns them within bounds and rounded.
    rng : Generator

    Returns
    -------
    ndarray of shape (n_steps, n_paths, n_channels)
    """
    rows = []
    for step, here in enumerate(known):
        drawn = settle(model.draw(past, np.broadcast_to(here, (len(past), here.shape[1])), rng), step)
        rows.append(drawn)
        past = np.concatenate([past[:, 1:], model.states(drawn)[:, None]], axis=1)
    return np.stack(rows) if rows else np.empty((0, len(past), len(model.cardinalities)))


def gaps_of(values: _Array) -> list[Gap]:
    """Return the runs of rows with a missing value."""
    lacking = np.isnan(values).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lacking, [False]]).astype(int)))
    return [Gap(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def fill_gap(
    model: NextValue,
    piece: Piece,
    gap: Gap,
    past: _Array,
    settle: Settle,
    rng: np.random.Generator,
) -> _Array:
    """Draw one way through a gap that fits what lies behind it.

    Many paths are drawn through the gap, and weighed on the way by how well they head for the first row
    behind it: by a Gaussian for the change still to come, whose variance is that of such changes in the
    series. Behind the gap this gives way to the density of the next observed rows given the path; one path is
    drawn by weight.

    Parameters
    ----------
    model : NextValue
    piece : Piece
        Without missing values before the gap.
    gap : Gap
    past : ndarray of shape (n_paths, window, n_states)
        The states before the gap, one for each path.
    settle : callable
        As in `draw_paths`.
    rng : Generator

    Returns
    -------
    ndarray of shape (gap.stop - gap.start, n_channels)
        What was observed is left as it is.

    References
    ----------
    P. Del Moral, L. M. Murray (2015), "Sequential Monte Carlo with highly informative observations",
    SIAM/ASA Journal on Uncertainty Quantification.
    """
    n_steps, n_paths = gap.stop - gap.start, len(past)
    behind = piece.values[gap.stop] if gap.stop < len(piece) else None
    paths = np.empty((n_paths, n_steps, len(model.cardinalities)))
    weights, guide = np.zeros(n_paths), np.zeros(n_paths)
    for step in range(n_steps):
        row = gap.start + step
        known = np.broadcast_to(piece.known[row], (n_paths, piece.known.shape[1]))
        drawn = settle(model.draw(past, known, rng), step)
        observed = piece.values[row]
        weights += _meeting(model, drawn, observed)
        drawn = np.where(np.isnan(observed), drawn, observed)
        paths[:, step] = drawn
        past = np.concatenate([past[:, 1:], model.states(drawn)[:, None]], axis=1)
        if behind is not None:
            heading = _heading(model, drawn, behind, n_steps - step)
            weights, guide = weights + heading - guide, heading
        if step < n_steps - 1 and _effective(weights) < _LEAST_EFFECTIVE * n_paths:
            chosen = _resample(weights, rng)
            paths, past, guide, weights = paths[chosen], past[chosen], guide[chosen], np.zeros(n_paths)
    fit_behind = _fit_behind(model, piece, gap, past)
    chance = _normalised(weights if fit_behind is None else weights - guide + fit_behind)
    return np.asarray(paths[rng.choice(n_paths, p=chance)])


def _heading(model: NextValue, drawn: _Array, behind: _Array, n_left: int) -> _Array:
    """Return the log-weight of rows for heading to the row that follows so many steps later."""
    spread = model.change_spreads(n_left)
    aims = model.numeric & ~np.isnan(behind)
    misses = (drawn - behind)[:, aims] / np.maximum(spread[aims], _TINY)
    return np.asarray(-0.5 * (misses**2).sum(axis=1))


def _meeting(model: NextValue, drawn: _Array, observed: _Array) -> _Array:
    """Return the log-weight of drawn rows for what was observed of the same row."""
    seen = ~np.isnan(observed)
    if not seen.any():
        return np.zeros(len(drawn))
    spread = _MET * np.maximum(model.change_spreads(1), _TINY)
    numbers = seen & model.numeric
    weights = -0.5 * (((drawn - observed)[:, numbers] / spread[numbers]) ** 2).sum(axis=1)
    codes = seen & ~model.numeric
    # A category that was not met is improbable, not impossible: some path must remain.
    return np.asarray(weights - 3.0 * (drawn != observed)[:, codes].sum(axis=1))


def _fit_behind(model: NextValue, piece: Piece, gap: Gap, past: _Array) -> _Array | None:
    """Return the log-density of the complete rows behind a gap, given each path; None without any."""
    total: _Array | None = None
    for row in range(gap.stop, min(gap.stop + _ROWS_BEHIND, len(piece))):
        values = piece.values[row]
        if np.isnan(values).any():
            break
        rows = np.repeat(values[None], len(past), axis=0)
        known = np.broadcast_to(piece.known[row], (len(past), piece.known.shape[1]))
        here = model.log_density_after(past, known, rows)
        total = here if total is None else total + here
        past = np.concatenate([past[:, 1:], model.states(rows)[:, None]], axis=1)
    return total


def _normalised(log_weights: _Array) -> _Array:
    weights = np.exp(log_weights - log_weights.max())
    normalised: _Array = weights / weights.sum()
    return normalised


def _effective(log_weights: _Array) -> float:
    return float(1.0 / (_normalised(log_weights) ** 2).sum())


def _resample(log_weights: _Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which paths go on, by systematic resampling."""
    n_paths = len(log_weights)
    ends = np.cumsum(_normalised(log_weights))
    points = (np.arange(n_paths) + rng.random()) / n_paths
    chosen: NDArray[np.intp] = np.minimum(np.searchsorted(ends, points), n_paths - 1)
    return chosen
