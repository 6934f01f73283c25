"""Classes as the context of one density: how rows are numbered by class, and scored under each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from flowdetect.estimators._likelihood import LikelihoodEstimator
from flowdetect.estimators._rows import EncodedRows, check_table, known_columns, take_rows
from flowdetect.estimators._whitening import Whitening
from flowdetect.exceptions import InvalidTableError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flowdetect.flows import TableDensity, WhitenedDensity

__all__ = ["ClassDensityEstimator", "class_frame", "number_classes", "rows_of_classes"]

# Centres and covariances are learnt from at most this many rows.
_MOST_ROWS = 100_000


class ClassDensityEstimator(LikelihoodEstimator):
    """Base of an estimator whose densities are conditional on a class.

    A class is its number, 0 to ``_n_classes - 1``.
    """

    @property
    def _n_classes(self) -> int:
        raise NotImplementedError

    def _class_context(self, classes: np.ndarray) -> torch.Tensor | None:
        if self.context_encoder_ is None:
            return None
        return self._encode_context(class_frame(classes, self._n_classes))

    def _learn_whitening(self, source: EncodedRows, weights: np.ndarray) -> Whitening | None:
        """Learn centre and covariance of each class from encoded rows; None for rows without values.

        Parameters
        ----------
        source : EncodedRows
        weights : ndarray of shape (n, n_classes)
            How much each row counts in each class.
        """
        layout = self.encoder_.layout_
        if not layout.n_values:
            return None
        some = np.linspace(0, len(source) - 1, min(len(source), _MOST_ROWS)).astype(int)
        matrix = source.encoded(some).astype(np.float64)
        observed = np.ones((len(some), layout.n_values), dtype=bool)
        for j, gate in enumerate(layout.gates):
            if gate >= 0:
                observed[:, gate] &= matrix[:, layout.n_values + j] == 0
        return Whitening.fit(matrix[:, : layout.n_values], observed, weights[some])

    def _whole_density(
        self, density: TableDensity, whitening: Whitening | None
    ) -> TableDensity | WhitenedDensity:
        """Return the density of encoded rows: the trained one, behind the map of each class if any."""
        contexts = self._class_context(np.arange(self._n_classes))
        if whitening is None or contexts is None:
            return density
        return whitening.around(density, contexts)

    def _check_rows(self, X: Any) -> Any:
        """Return rows to score as a checked table."""
        check_is_fitted(self)
        return known_columns(self.encoder_, check_table(self, X, fitting=False))

    def _class_log_densities(self, matrix: np.ndarray, density: nn.Module) -> np.ndarray:
        """Return the log-density of encoded rows under each class, shape (n_rows, n_classes)."""
        scores = np.empty((len(matrix), self._n_classes))
        for rows in self._chunks(len(matrix)):
            for k in range(scores.shape[1]):
                context = self._class_context(np.full(rows.stop - rows.start, k))
                scores[rows, k] = self._log_density(matrix[rows], context, [density])
        return scores

    def _table_log_densities(self, X: Any, density: nn.Module) -> np.ndarray:
        """Return the same for checked rows, in nats and original units."""
        scores = np.empty((len(X), self._n_classes))
        for rows in self._chunks(len(X)):
            matrix, log_det = self.encoder_.encode(take_rows(X, rows))
            scores[rows] = self._class_log_densities(matrix, density) + log_det[:, None]
        return scores


def class_frame(classes: np.ndarray, n_classes: int) -> pd.DataFrame:
    """Return numbers of classes as the context of the density."""
    return pd.DataFrame({"class": pd.Categorical(classes, categories=list(range(n_classes)))})


def number_classes(labels: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, sorted, and the number of the class of each row.

    Raises
    ------
    InvalidTableError
        If there is not one label per row.
    """
    if len(labels) != n_rows:
        raise InvalidTableError(f"y must have one class per row of X; got {len(labels)} for {n_rows} rows.")
    classes, numbers = np.unique(labels, return_inverse=True)
    return classes, numbers


def rows_of_classes(
    source: EncodedRows, classes: np.ndarray, held_out: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return how much each row counts in each class, shape (n, n_classes): 0 for the rows ``held_out``."""
    weights = np.ones(len(source)) if source.weights is None else source.weights.copy()
    weights[held_out] = 0.0
    return np.asarray(np.eye(n_classes)[classes] * weights[:, None])
