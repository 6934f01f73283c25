"""The noise that a density is trained with: its scales, its size in each column, and the rows' own spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from flowdetect.estimators._rows import EncodedRows
from flowdetect.exceptions import ConfigurationError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import NoiseWhitenedDensity, TableDensity

__all__ = ["NoiseModel", "check_scales", "read_units"]

# The covariance is learnt from at most this many rows.
_COVARIANCE_ROWS = 50_000
# Values vary by at least this share of the smallest noise, and by this share of their scale where none is
# added.
_LEAST_SHARE = 1e-3
# Groups of directions of a like share of noise.
_N_SHARES = 16
# A noise scale that equals an end of the range up to rounding is within it.
_ROUNDING = 1e-9


class NoiseModel:
    """Gaussian noise of several scales on the columns of numbers of a table.

    Parameters
    ----------
    scales : tuple of two floats
        Smallest and largest noise scale that are trained.
    units : ndarray of shape (n_features,)
        Standard deviation of the noise of each column of the table at noise scale 1, in the column's own
        unit; 0 for columns without noise.
    weights : ndarray of shape (n_values,)
        The same for each encoded value, at scale 1 of the density's own noise scales.
    reference : float
        A noise scale of the user times this is that of the density.
    mean, directions, spreads : ndarray
        See `NoiseWhitenedDensity`.
    shares, trust : ndarray of shape (n,)
        How much of what the density says beyond the linear filter is believed, in a direction where this
        share of the variance is not noise; see `learn_trust`.
    """

    def __init__(
        self,
        scales: tuple[float, float],
        units: np.ndarray,
        weights: np.ndarray,
        reference: float,
        mean: np.ndarray,
        directions: np.ndarray,
        spreads: np.ndarray,
    ) -> None:
        self.scales = scales
        self.units = units
        self.weights = weights
        self.reference = reference
        self.mean = mean
        self.directions = directions
        self.spreads = spreads
        self.shares = np.ones(1)
        self.trust = np.ones(1)

    @classmethod
    def learn(cls, source: EncodedRows, scales: tuple[float, float], units: np.ndarray) -> NoiseModel:
        """Learn the spread of the rows, into which noise is added.

        Parameters
        ----------
        source : EncodedRows
        scales, units
            As above.
        """
        encoder = source.encoder
        weights = units[encoder.column_of_[: encoder.layout_.n_values]] / value_scales(encoder)
        # About 1 for noise as large as the rows themselves, whatever the units are.
        reference = float(np.exp(np.log(weights[weights > 0.0]).mean()))
        weights = weights / reference
        least = _LEAST_SHARE * np.where(weights > 0.0, scales[0] * reference * weights, 1.0)
        mean, covariance = _moments(source)
        covariance += np.diag(least**2)
        root = np.linalg.cholesky(covariance)
        towards = np.linalg.solve(root, np.diag(weights))
        spreads, vectors = np.linalg.eigh(towards @ towards.T)
        directions = vectors.T @ np.linalg.inv(root)
        if encoder.layout_.gated:  # the covariance is diagonal, and the order must stay
            directions = np.diag(1.0 / np.diag(root))
            spreads = (weights / np.diag(root)) ** 2
        return cls(scales, units, weights, reference, mean, directions, np.maximum(spreads, 0.0))

    @property
    def inner_scales(self) -> tuple[float, float]:
        """The smallest and the largest noise scale of the density."""
        return self.scales[0] * self.reference, self.scales[1] * self.reference

    def whitened(self, density: TableDensity) -> NoiseWhitenedDensity:
        """Return the density of noisy encoded rows, given that of the whitened ones."""
        from flowdetect.flows import NoiseWhitenedDensity

        low, high = (0.5 * math.log(scale) for scale in self.inner_scales)
        # A network sees a change of its inputs by one unit best.
        levels = (low + high) / 2.0, (high - low) / 4.0 or 1.0
        return NoiseWhitenedDensity(density, self.mean, self.directions, self.spreads, levels=levels)

    def shift(self, matrix: np.ndarray, gradient: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Return how far the values of noisy encoded rows are from the mean of those without noise.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, n_columns)
        gradient : ndarray of shape (n_rows, n_values)
            Of the log-density in the values.
        scales : ndarray of shape (n_rows,)

        Returns
        -------
        ndarray of shape (n_rows, n_values)
        """
        linear, beyond, share = self._parts(matrix, gradient, scales)
        moved = linear + self._believed(share) * beyond
        return np.linalg.solve(self.directions, moved.T).T * (self.weights > 0.0)

    def learn_trust(
        self,
        clean: np.ndarray,
        noisy: np.ndarray,
        gradient: np.ndarray,
        scales: np.ndarray,
        present: np.ndarray,
    ) -> None:
        """Learn from rows kept from training how much of the density's correction holds.

        Noise that is large in a direction multiplies what is wrong with the density there. How much of what
        it adds is to be believed, between nothing and all, is found by least squares of what the linear
        filter leaves, in groups of directions with a like share of noise.

        Parameters
        ----------
        clean, noisy : ndarray of shape (n_rows, n_columns)
            Encoded rows.
        gradient : ndarray of shape (n_rows, n_values)
            Of the log-density of the noisy rows in their values.
        scales : ndarray of shape (n_rows,)
        present : ndarray of bool, shape (n_rows, n_values)
            Which values are there.
        """
        linear, beyond, share = self._parts(noisy, gradient, scales)
        n_values = len(self.mean)
        left = (clean - noisy)[:, :n_values] @ self.directions.T - linear
        noised = present & (share < 1.0)
        share, beyond, left = share[noised], beyond[noised], left[noised]
        if not len(share):
            return
        edges = np.unique(np.quantile(share, np.linspace(0.0, 1.0, _N_SHARES + 1)))
        group = np.clip(np.searchsorted(edges, share, side="right") - 1, 0, max(len(edges) - 2, 0))
        count, sums, added, agreed = (
            np.bincount(group, weights=each)
            for each in (np.ones(len(share)), share, beyond**2, beyond * left)
        )
        self.shares = sums / count
        self.trust = np.clip(agreed / np.maximum(added, np.finfo(np.float64).tiny), 0.0, 1.0)

    def _parts(
        self, matrix: np.ndarray, gradient: np.ndarray, scales: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the linear filter's shift along the directions, the density's beyond it, and the shares."""
        variance = np.square(scales * self.reference)[:, None]
        share = 1.0 / (1.0 + variance * self.spreads)
        along = (matrix[:, : len(self.mean)] - self.mean) @ self.directions.T
        linear = (share - 1.0) * along
        whole = (variance * np.square(self.weights) * gradient) @ self.directions.T
        return linear, whole - linear, share

    def _believed(self, share: np.ndarray) -> np.ndarray:
        return np.interp(np.log(share), np.log(self.shares), self.trust)

    def read_scale(self, noise_scale: Any, n_rows: int) -> np.ndarray:
        """Return the noise scale of each row, shape (n_rows,), or refuse it.

        Raises
        ------
        ConfigurationError
            If it is not one number, or one for each row, within the range of training.
        """
        try:
            scale = np.asarray(noise_scale, dtype=np.float64)
        except (TypeError, ValueError):
            scale = np.full(1, np.nan)
        if scale.shape not in ((), (n_rows,)) or np.isnan(scale).any():
            raise ConfigurationError(
                f"noise_scale must be a number, or one for each of the {n_rows} rows; got {noise_scale!r}."
            )
        low, high = self.scales
        outside = (scale < low * (1.0 - _ROUNDING)) | (scale > high * (1.0 + _ROUNDING))
        if outside.any():
            raise ConfigurationError(
                f"noise_scale must lie within noise_scales=({low:g}, {high:g}), with which the density was "
                f"trained; got {float(scale[outside][0] if scale.ndim else scale):g}. Fit with a wider range."
            )
        return np.broadcast_to(np.clip(scale, low, high), (n_rows,))


def check_scales(noise_scales: Any) -> tuple[float, float]:
    """Return the smallest and the largest noise scale that a parameter says, or refuse it."""
    pair = noise_scales if isinstance(noise_scales, list | tuple) else (noise_scales, noise_scales)
    numbers = all(isinstance(s, int | float | np.number) and not isinstance(s, bool) for s in pair)
    if len(pair) != 2 or not numbers or not 0.0 < pair[0] <= pair[1] < math.inf:
        raise ConfigurationError(
            "noise_scales must be None, a positive number, or (low, high) with 0 < low <= high; "
            f"got {noise_scales!r}."
        )
    return float(pair[0]), float(pair[1])


def read_units(noise_unit: Any, encoder: TableEncoder) -> np.ndarray:
    """Return the standard deviation of the noise of each table column at noise scale 1, in its own unit.

    Raises
    ------
    ConfigurationError
        If the parameter is none of its values, names columns that are not there or that hold no numbers, or
        leaves all columns without noise.
    """
    scales = np.zeros(encoder.n_features_in_)
    value_columns = encoder.column_of_[: encoder.layout_.n_values]
    scales[value_columns] = value_scales(encoder)
    numeric = np.array([column.storage.family == "number" for column in encoder.schema_.columns])
    numeric &= scales > 0.0
    if not numeric.any():
        raise ConfigurationError(
            "noise_scales needs at least one column of numbers, to which noise is added; got a table "
            "without. Leave noise_scales at None."
        )
    if isinstance(noise_unit, str):
        if noise_unit not in ("column", "scale"):
            raise ConfigurationError(
                "noise_unit must be 'column', 'scale', or a standard deviation for each column; got "
                f"{noise_unit!r}."
            )
        return numeric * (scales if noise_unit == "scale" else 1.0)
    units = _given_units(noise_unit, encoder)
    if not np.isfinite(units).all() or (units < 0.0).any() or not units.any():
        raise ConfigurationError(
            "noise_unit must hold finite standard deviations that are not negative, one at least above 0; "
            f"got {noise_unit!r}."
        )
    if units[~numeric].any():
        name = encoder.schema_.names[int(np.flatnonzero((units > 0.0) & ~numeric)[0])]
        raise ConfigurationError(
            f"noise_unit must be 0 in columns that do not hold numbers; column {name!r} does not. "
            "Leave it out."
        )
    return units


def value_scales(encoder: TableEncoder) -> np.ndarray:
    """Return the size of an encoded value's unit in that of its column, shape (n_values,)."""
    columns = [encoder.schema_.columns[k].values for k in encoder.column_of_[: encoder.layout_.n_values]]
    return np.array([column.scale for column in columns if column is not None])


def _given_units(noise_unit: Any, encoder: TableEncoder) -> np.ndarray:
    names = encoder.schema_.names
    if isinstance(noise_unit, Mapping):
        unknown = [name for name in noise_unit if name not in names]
        if unknown:
            raise ConfigurationError(f"noise_unit must name columns of the table; got {unknown!r}.")
        noise_unit = [noise_unit.get(name, 0.0) for name in names]
    try:
        units = np.array(noise_unit, dtype=np.float64)
    except (TypeError, ValueError):
        units = np.zeros(0)
    if units.shape != (len(names),):
        raise ConfigurationError(
            "noise_unit must be 'column', 'scale', or a standard deviation for each of the "
            f"{len(names)} columns; got {noise_unit!r}."
        )
    return units


def _moments(source: EncodedRows) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the encoded values; the latter diagonal where some may be absent."""
    layout = source.encoder.layout_
    some = np.linspace(0, len(source) - 1, min(len(source), _COVARIANCE_ROWS)).astype(int)
    matrix = source.encoded(some).astype(np.float64)
    values, codes = matrix[:, : layout.n_values], matrix[:, layout.n_values :]
    present = np.ones_like(values)
    for position, gate in enumerate(layout.gates):
        if gate >= 0:
            present[:, gate] *= codes[:, position] == 0
    row_weights = np.ones(len(some)) if source.weights is None else source.weights[some]
    present *= (row_weights / row_weights.sum())[:, None]
    share = np.maximum(present.sum(axis=0), np.finfo(np.float64).tiny)
    mean = (present * values).sum(axis=0) / share
    deviation = np.sqrt((present * (values - mean) ** 2).sum(axis=0) / share)
    if layout.gated:
        return mean, np.diag(deviation**2)
    standard = (values - mean) / np.where(deviation > 0.0, deviation, 1.0)
    standard *= np.sqrt(present[:, :1])
    correlation = standard.T @ standard
    # The fewer the rows, the less of what columns seem to have in common is believed.
    shrinkage = ledoit_wolf_shrinkage(standard * math.sqrt(len(some)), assume_centered=True)
    correlation *= 1.0 - shrinkage
    np.fill_diagonal(correlation, deviation > 0.0)
    return mean, correlation * np.outer(deviation, deviation)
