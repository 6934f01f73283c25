"""Classes as the context of one density: how rows are numbered by class, and scored under each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flowdetect.estimators._likelihood import LikelihoodEstimator
from flowdetect.exceptions import InvalidTableError

if TYPE_CHECKING:
    import torch

    from flowdetect.flows import TableDensity

__all__ = ["ClassDensityEstimator", "class_frame", "number_classes"]


class ClassDensityEstimator(LikelihoodEstimator):
    """Base of an estimator whose one density is conditional on a class.

    A class is its number, 0 to ``_n_classes - 1``.
    """

    density_: TableDensity

    @property
    def _n_classes(self) -> int:
        raise NotImplementedError

    def _class_context(self, classes: np.ndarray) -> torch.Tensor | None:
        if self.context_encoder_ is None:
            return None
        return self._encode_context(class_frame(classes, self._n_classes))

    def _class_log_densities(self, matrix: np.ndarray) -> np.ndarray:
        """Return the log-density of encoded rows under each class, shape (n_rows, n_classes)."""
        scores = np.empty((len(matrix), self._n_classes))
        for rows in self._chunks(len(matrix)):
            for k in range(scores.shape[1]):
                context = self._class_context(np.full(rows.stop - rows.start, k))
                scores[rows, k] = self._log_density(matrix[rows], context, [self.density_])
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
