"""Centre and covariance of each class, kept from what few rows cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flowdetect.flows import TableDensity, WhitenedDensity

__all__ = ["Whitening"]

# Share of a column's variance that each class has at least.
_LEAST_VARIANCE = 1e-3
# With more values than this, covariances would take more room than the rows.
_MOST_VALUES = 200


@dataclass(frozen=True)
class Whitening:
    """The linear map that makes each class a standard one.

    Attributes
    ----------
    centres : ndarray of shape (n_classes, n_values)
    spreads : ndarray of shape (n_classes, n_values, n_values)
        Lower triangular, ``spread @ spread.T`` is the covariance of the class.
    """

    centres: np.ndarray
    spreads: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, observed: np.ndarray, weights: np.ndarray) -> Whitening:
        r"""Learn centres and covariances.

        Parameters
        ----------
        values : ndarray of shape (n, n_values)
        observed : ndarray of bool, shape (n, n_values)
            Where values are present. If not all are, covariances are diagonal.
        weights : ndarray of shape (n, n_classes)
            How much each row counts in each class, in rows.

        Notes
        -----
        With d values and n_k rows of class k, its covariance is
        :math:`(1 - \lambda) S_k + \lambda S` with :math:`\lambda = (d + 1) / (d + 1 + n_k)` and the pooled
        covariance S of all classes, itself drawn towards its diagonal in the same way: few rows make the
        boundary between classes linear, many make it quadratic (regularised discriminant analysis, J. H.
        Friedman 1989). At least a thousandth of each column's whole variance is added.
        """
        values = np.where(observed, values, 0.0)
        diagonal = not observed.all() or values.shape[1] > _MOST_VALUES
        counts = np.maximum(weights.T @ observed, 1e-9)
        overall = values.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        # A class without rows lies where all rows do.
        centres = (weights.T @ values + 1e-6 * overall) / (counts + 1e-6)
        whole = (np.square(values - overall) * observed).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        floor = np.diag(_LEAST_VARIANCE * np.where(whole > 0.0, whole, 1.0))
        scatters = np.stack(
            [
                _scatter((values - centre) * observed, own, diagonal)
                for centre, own in zip(centres, weights.T, strict=True)
            ]
        )
        sizes = counts.mean(axis=1)
        pooled = scatters.sum(axis=0) / np.maximum(counts.sum(axis=0), 1e-9)[:, None]
        pooled = _shrunk(pooled, np.diag(np.diag(pooled)), sizes.sum())
        covariances = [
            _shrunk(scatter / count[:, None], pooled, size) + floor
            for scatter, count, size in zip(scatters, counts, sizes, strict=True)
        ]
        return cls(centres, np.linalg.cholesky(np.stack(covariances)))

    @classmethod
    def of(cls, density: nn.Module) -> Whitening | None:
        """Return the whitening within a density that `around` made; None for one without."""
        from flowdetect.flows import WhitenedDensity

        if not isinstance(density, WhitenedDensity):
            return None
        return cls(*(part.double().numpy() for part in (density.centres, density.spreads)))

    def around(self, density: TableDensity, contexts: torch.Tensor) -> WhitenedDensity:
        """Return a density of rows as they are, from one of whitened rows."""
        import torch

        from flowdetect.flows import WhitenedDensity

        return WhitenedDensity(density, contexts, torch.tensor(self.centres), torch.tensor(self.spreads))


def _scatter(deviations: np.ndarray, weights: np.ndarray, diagonal: bool) -> np.ndarray:
    if diagonal:
        return np.diag(weights @ np.square(deviations))
    return np.asarray((deviations * weights[:, None]).T @ deviations)


def _shrunk(covariance: np.ndarray, towards: np.ndarray, n_rows: float) -> np.ndarray:
    freedom = len(covariance) + 1.0
    share = freedom / (freedom + n_rows)
    return np.asarray((1.0 - share) * covariance + share * towards)
