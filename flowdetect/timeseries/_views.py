"""What is odd about a window: its place among others, its nearest likes, what a linear map misses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowdetect.timeseries._windows import windows_of

__all__ = ["N_SEGMENTS", "LinearMap", "WindowMeasures", "WindowViews", "mixing"]

N_SEGMENTS = 10
_N_FEATURES = 10
_MOST_REFERENCES = 3000
_MOST_SAMPLES = 1500
_SHAPE_DIRECTIONS = 30
_FINE_SHARE, _FINE_DIRECTIONS, _FINE_CHANNELS = 0.9, 300, 8
_MOST_ROWS_TO_MIX = 20_000
_WINDOWS_AT_ONCE = 1000
_NUMBERS_AT_ONCE = 4_000_000
# A window counts as seen before if it resembles windows of three stretches: its own, should it be one of
# fit, the neighbouring one, with which it may overlap, and one that has nothing to do with it.
_NTH_BLOCK = 3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearMap:
    """The leading principal directions of centred rows.

    Attributes
    ----------
    mean : ndarray of shape (n_inputs,)
    directions : ndarray of shape (n_inputs, n_directions)
        Orthonormal, by falling variance.
    """

    mean: Array
    directions: Array

    @classmethod
    def learn(cls, rows: Array, *, share: float = 1.0, most: int) -> LinearMap:
        """Keep the fewest directions that hold a share of the variance, at least one and at most ``most``."""
        mean = rows.mean(axis=0)
        centred = rows - mean
        wide = centred.shape[1] > len(centred)
        variances, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
        variances, vectors = variances[::-1].clip(min=0.0), vectors[:, ::-1]
        held = np.cumsum(variances) / max(variances.sum(), 1e-300)
        n_wanted = min(int(np.searchsorted(held, share - 1e-12)) + 1, most, len(variances))
        n_kept = max(1, min(n_wanted, int((variances > 1e-12 * max(variances[0], 1e-300)).sum())))
        kept = np.ascontiguousarray(vectors[:, :n_kept])
        if wide:
            kept = centred.T @ kept
            kept /= np.maximum(np.linalg.norm(kept, axis=0), 1e-300)
        return cls(mean, kept)

    def apply(self, rows: Array) -> tuple[Array, Array]:
        """Return the coordinates of rows, and the root mean square of what they leave out."""
        centred = rows - self.mean
        coordinates = centred @ self.directions
        left_out = centred - coordinates @ self.directions.T
        return coordinates, np.sqrt(np.mean(left_out**2, axis=1))


@dataclass(frozen=True)
class WindowMeasures:
    """What is measured of windows, each by itself.

    Attributes
    ----------
    features : ndarray of shape (n_windows, n_features)
        Coordinates of the coarse window, its level included, and the logarithm of what they leave out.
    discord : ndarray of shape (n_windows,)
        Logarithm of the distance to windows of the same shape.
    misfit : ndarray of shape (n_windows,)
        Logarithm of what a linear map of the shape leaves out.
    """

    features: Array
    discord: Array
    misfit: Array


class WindowViews:
    """Learn the windows of stretches, and measure others.

    A window is looked at coarsely, as the means of ten segments, and finely, row by row, and both with and
    without its level.

    Parameters
    ----------
    window : int
        Number of rows.
    n_segments : int, default=10
        Segments of the coarse window, at most as many as it has rows.
    """

    def __init__(self, window: int, n_segments: int = N_SEGMENTS) -> None:
        self.window = window
        self._edges = np.rint(np.linspace(0, window, n_segments + 1)).astype(int)

    def learn(self, stretches: list[Array]) -> WindowViews:
        """Learn from stretches of channels, each at least a window long."""
        counts = np.array([len(stretch) - self.window + 1 for stretch in stretches])
        stride = max(1, -(-int(counts.sum()) // _MOST_REFERENCES))
        starts = [np.arange(0, count, stride) for count in counts]
        self._mix = mixing(stretches)
        coarse = np.concatenate([self._coarse(s, at) for s, at in zip(stretches, starts, strict=True)])
        thin = slice(None, None, max(1, len(coarse) // _MOST_SAMPLES))
        self._level = LinearMap.learn(_flat(coarse[thin]), most=_N_FEATURES)
        shapes = _flat(_centred(coarse))
        self._shape = LinearMap.learn(shapes[thin], most=_SHAPE_DIRECTIONS)
        self._references = self._shape.apply(shapes)[0]
        self._blocks = self._number_blocks(starts)
        fine = self._sampled_fine(stretches, starts, thin.step)
        self._fine = LinearMap.learn(fine, share=_FINE_SHARE, most=_FINE_DIRECTIONS)
        self._learn_floors(fine)
        return self

    def measure(self, values: Array, first: int, last: int) -> WindowMeasures:
        """Measure the windows that begin at the rows first to last - 1 of a stretch."""
        parts = [self._measure(values, a, b) for a, b in self._spans(values.shape[1], first, last)]
        return WindowMeasures(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in _MEASURES)
        )

    def features(self, values: Array, starts: NDArray[np.intp]) -> Array:
        """Return the features of the windows that begin at some rows, in order, see `WindowMeasures`."""
        parts = np.array_split(starts, max(1, int(starts[-1] - starts[0]) // _WINDOWS_AT_ONCE))
        return np.concatenate([self._features(self._coarse(values, part)) for part in parts])

    def share_by_channel(self, values: Array, start: int) -> Array:
        """Return how much each channel adds to what is odd about one window, shape (n_channels,)."""
        at = np.array([start])
        coarse = _centred(self._coarse(values, at))
        point = self._shape.apply(_flat(coarse))[0]
        nearest = self._nearest(point)[0]
        there = (self._shape.mean + self._references[nearest] @ self._shape.directions.T).reshape(
            coarse.shape
        )
        by_shape = np.mean((coarse - there) ** 2, axis=(0, 2))
        fine = self._fine_windows(values, at)
        coordinates, _ = self._fine.apply(_flat(fine))
        left_out = (_flat(fine) - self._fine.mean - coordinates @ self._fine.directions.T).reshape(
            fine.shape[1:]
        )
        mixed = np.mean((self._mix.directions @ left_out[:-1]) ** 2, axis=1)
        by_detail = np.append(mixed, np.mean(left_out[-1] ** 2))
        return by_shape / max(by_shape.sum(), 1e-300) + by_detail / max(by_detail.sum(), 1e-300)

    # --- inside -----------------------------------------------------------------------------------

    def _measure(self, values: Array, first: int, last: int) -> WindowMeasures:
        starts = np.arange(first, last)
        coarse = self._coarse(values, starts)
        points = self._shape.apply(_flat(_centred(coarse)))[0]
        misfits = self._fine.apply(_flat(self._fine_windows(values, starts)))[1]
        return WindowMeasures(
            self._features(coarse),
            discord=0.5 * np.log(self._squared_distance(points) + self._floors[0] ** 2),
            misfit=0.5 * np.log(misfits**2 + self._floors[1] ** 2),
        )

    def _features(self, coarse: Array) -> Array:
        coordinates, left_out = self._level.apply(_flat(coarse))
        # As many columns for windows of each length, though some may vary in fewer directions.
        n_columns = min(_N_FEATURES, coarse.shape[1] * coarse.shape[2])
        lacking = np.zeros((len(coordinates), n_columns - coordinates.shape[1]))
        features = np.column_stack([coordinates, lacking, np.log(left_out + 1e-3)])
        # Windows alike but for rounding must be equal: the density may hold an exact value for likely.
        return features.astype(np.float32).astype(np.float64)

    def _learn_floors(self, fine: Array) -> None:
        # A window that occurs again and again exactly must not have an infinite score.
        squares = np.concatenate([self._squared_distance(part) for part in _chunks(self._references)])
        misfits = self._fine.apply(fine)[1]
        self._floors = (
            0.01 * float(np.sqrt(np.median(squares))) + 1e-6,
            0.01 * float(np.median(misfits)) + 1e-6,
        )

    def _coarse(self, values: Array, starts: NDArray[np.intp]) -> Array:
        """Return the means of the segments, shape (n_windows, n_channels, n_segments)."""
        if not len(starts):
            return np.empty((0, values.shape[1], len(self._edges) - 1))
        first, last = int(starts[0]), int(starts[-1]) + self.window
        sums = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values[first:last], axis=0)])
        at_edges = sums[(starts - first)[:, None] + self._edges]
        means: Array = np.diff(at_edges, axis=1) / np.diff(self._edges)[:, None]
        return means.transpose(0, 2, 1)

    def _fine_windows(self, values: Array, starts: NDArray[np.intp]) -> Array:
        """Return the windows of the mixed channels without their levels, (n_windows, n_mixed + 1, window)."""
        if not len(starts):
            return np.empty((0, self._mix.directions.shape[1] + 1, self.window))
        first, last = int(starts[0]), int(starts[-1]) + self.window
        part = values[first:last]
        mixed = np.column_stack([(part[:, :-1] - self._mix.mean) @ self._mix.directions, part[:, -1]])
        return _centred(windows_of(mixed, self.window)[starts - first])

    def _sampled_fine(self, stretches: list[Array], starts: list[NDArray[np.intp]], stride: int) -> Array:
        parts = []
        for stretch, at in zip(stretches, starts, strict=True):
            for some in np.array_split(at[::stride], max(1, len(at) // 200)):
                parts.append(_flat(self._fine_windows(stretch, some)))
        return np.concatenate(parts)

    def _number_blocks(self, starts: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        """Return where each block of reference windows begins: as many windows as a window has rows."""
        begins, offset = [], 0
        for at in starts:
            block = np.minimum(at // self.window, max(0, (int(at[-1]) + 1) // self.window - 1))
            begins.append(offset + np.flatnonzero(np.diff(block, prepend=-1)))
            offset += len(at)
        return np.concatenate(begins)

    def _squared_distance(self, points: Array) -> Array:
        squares: Array = np.mean((points - self._references[self._nearest(points)]) ** 2, axis=1)
        return squares

    def _nearest(self, points: Array) -> NDArray[np.intp]:
        """Return the nearest reference in the third-nearest block.

        The products choose it, the caller measures the distance by differences: near zero it would be noise.
        """
        squares = np.sum(self._references**2, axis=1) - 2.0 * points @ self._references.T
        by_block = np.minimum.reduceat(squares, self._blocks, axis=1)
        nth = min(_NTH_BLOCK, by_block.shape[1]) - 1
        chosen = np.argpartition(by_block, nth, axis=1)[:, nth]
        ends = np.append(self._blocks[1:], len(self._references))
        widest = int((ends - self._blocks).max())
        members = np.minimum(self._blocks[:, None] + np.arange(widest), ends[:, None] - 1)[chosen]
        rows = np.arange(len(points))
        nearest: NDArray[np.intp] = members[rows, squares[rows[:, None], members].argmin(axis=1)]
        return nearest

    def _spans(self, n_channels: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        width = max(n_channels * len(self._edges), self._fine.directions.shape[0])
        size = max(1, min(_WINDOWS_AT_ONCE, _NUMBERS_AT_ONCE // width))
        for start in range(first, last, size):
            yield start, min(start + size, last)


def mixing(stretches: list[Array]) -> LinearMap:
    """Return the map from channels, but for the last, to the few that are looked at row by row."""
    n_channels = stretches[0].shape[1] - 1
    if n_channels <= _FINE_CHANNELS:
        return LinearMap(np.zeros(n_channels), np.eye(n_channels))
    n_rows = sum(map(len, stretches))
    thin = max(1, n_rows // _MOST_ROWS_TO_MIX)
    rows = np.concatenate([stretch[::thin, :-1] for stretch in stretches])
    return LinearMap.learn(rows, share=_FINE_SHARE, most=_FINE_CHANNELS)


_MEASURES = ("features", "discord", "misfit")


def _centred(windows: Array) -> Array:
    centred: Array = windows - windows.mean(axis=2, keepdims=True)
    return centred


def _chunks(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), _WINDOWS_AT_ONCE):
        yield rows[start : start + _WINDOWS_AT_ONCE]


def _flat(windows: Array) -> Array:
    return windows.reshape(len(windows), -1)
