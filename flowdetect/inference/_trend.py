"""What a straight line tells of parameters from outcomes, taken off before the flow learns the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.linear_model import RidgeCV

from flowdetect.estimators._rows import about_context, column_of
from flowdetect.inference._columns import as_numbers
from flowdetect.inference._parameters import with_columns
from flowdetect.preprocessing import TableEncoder

__all__ = ["LinearTrend"]

# Strengths of the penalty to choose among by leave-one-out error, outcomes being of unit scale.
_PENALTIES = np.geomspace(1e-2, 1e6, 17)


@dataclass
class LinearTrend:
    """Linear regression of some columns of a table on outcomes: a shift, which changes no volume.

    Attributes
    ----------
    encoder : TableEncoder
        Puts the outcomes on unit scale.
    columns : ndarray of int, shape (n_targets,)
        The columns that it predicts.
    weights : ndarray of shape (n_coordinates, n_targets)
    intercepts : ndarray of shape (n_targets,)
    """

    encoder: TableEncoder
    columns: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def learn(cls, table: Any, x: Any, sample_weight: np.ndarray | None = None) -> Self:
        """Return the regression of the continuous columns of a table that have no heavy tail.

        Parameters
        ----------
        table : DataFrame or ndarray of shape (n, n_columns)
        x : DataFrame or ndarray of shape (n, n_outcomes)
        sample_weight : ndarray of shape (n,), optional

        Raises
        ------
        InvalidTableError
            If the outcomes cannot be encoded.
        """
        with about_context():
            encoder = TableEncoder(missing="always").fit(x)
        trend = cls(encoder, _regular_columns(table), np.zeros((0, 0)), np.zeros(0))
        points = trend._points(x)
        trend.weights = np.zeros((points.shape[1], len(trend.columns)))
        trend.intercepts = np.zeros(len(trend.columns))
        for k, column in enumerate(trend.columns.tolist()):
            target = as_numbers(column_of(table, column))
            # A column of huge numbers is fitted in units of its own spread.
            scale = float(np.ptp(target)) or 1.0
            ridge = RidgeCV(_PENALTIES).fit(points, target / scale, sample_weight=sample_weight)
            trend.weights[:, k] = ridge.coef_ * scale
            trend.intercepts[k] = float(ridge.intercept_) * scale
        return trend

    def take_off(self, table: Any, x: Any) -> Any:
        """Return the table less what is predicted."""
        return self._shifted(table, x, -1.0)

    def put_back(self, table: Any, x: Any) -> Any:
        """Return the table and what is predicted."""
        return self._shifted(table, x, 1.0)

    def _shifted(self, table: Any, x: Any, sign: float) -> Any:
        if not len(self.columns):
            return table
        shift = sign * (self._points(x) @ self.weights + self.intercepts)
        places = enumerate(self.columns.tolist())
        return with_columns(table, {j: as_numbers(column_of(table, j)) + shift[:, k] for k, j in places})

    def _points(self, x: Any) -> np.ndarray:
        return self.encoder.coordinates(self.encoder.encode(x)[0])


def _regular_columns(table: Any) -> np.ndarray:
    """Return which columns least squares are made for: no lattice, no repeated values, no far outliers."""
    columns = enumerate(TableEncoder(lattice="decimal").fit(table).schema_.columns)
    regular = [
        j
        for j, column in columns
        if column.kind == "continuous" and column.values is not None
        if column.values.tail is None and not column.values.atoms
    ]
    return np.array(regular, dtype=np.int64)
