"""What a fitted mixture answers: clusters, densities, criteria and new rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._classes import ClassDensityEstimator
from flowdetect.estimators._rows import check_weights
from flowdetect.estimators._seen import draw_seen

if TYPE_CHECKING:
    import torch

    from flowdetect.estimators._whitening import Whitening
    from flowdetect.flows import TableDensity

__all__ = ["FittedMixture"]


class FittedMixture(DensityMixin, ClassDensityEstimator):
    """Base of a mixture whose components are the classes of one density; subclasses fit it."""

    n_components: int
    weights_: np.ndarray
    density_: TableDensity
    _whitening: Whitening | None

    def _score_classes(self, X: Any) -> np.ndarray:
        """Return the log-density of rows under each component, in nats and original units."""
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable component of each row, from 0 on, shape (n_rows,).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        return self._joint(self._score_classes(X)).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_components)
            Each row sums to 1.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        return np.exp(log_softmax(self._joint(self._score_classes(X)), axis=1))

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-density of each row: ``log sum_k pi_k p(x | k)``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats, in the original units; larger = more normal.
        """
        return np.asarray(logsumexp(self._joint(self._score_classes(X)), axis=1))

    def score(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> float:
        """Return the mean of `score_samples`, weighted if weights are given; held out, it chooses settings.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        y : ignored
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
            In nats; larger is better.
        """
        scores = self.score_samples(X)
        if sample_weight is None:
            return float(scores.mean())
        return float(np.average(scores, weights=check_weights(sample_weight, len(scores), least=1)))

    def bic(self, X: Any) -> float:
        """Return the Bayesian information criterion on rows; lower is better.

        Every weight of the flow counts as a parameter, and most of them serve all components together. So it
        compares networks, but hardly tells numbers of components apart: choose those by `score` on held-out
        rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        scores = self.score_samples(X)
        return float(-2.0 * scores.sum() + self._n_parameters() * np.log(len(scores)))

    def aic(self, X: Any) -> float:
        """Return Akaike's information criterion on rows; lower is better, and see `bic`.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        return float(-2.0 * self.score_samples(X).sum() + 2.0 * self._n_parameters())

    def sample(
        self, n_samples: int = 1, *, return_labels: bool = False, random_state: RandomState = None
    ) -> Any:
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
        return_labels : bool, default=False
            Whether to return the component of each row as well.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same rows each time, None new ones.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            Of the kind fitted on.
        labels : ndarray of shape (n_samples,)
            Only with ``return_labels=True``.

        Raises
        ------
        ValueError
            If n_samples is not a positive whole number.
        NotFittedError
            Before fit.
        """
        import torch

        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        seed = resolve_seed(random_state)
        labels = np.random.default_rng(seed).choice(self._n_classes, int(n_samples), p=self.weights_)
        generator = torch.Generator().manual_seed(seed)
        density = self._whole_density(self.density_, self._whitening)

        def draw(rows: np.ndarray) -> np.ndarray:
            context = cast("torch.Tensor", self._class_context(labels[rows]))
            return density.sample_rows(len(rows), context, generator).numpy()

        chunks = (np.arange(rows.start, rows.stop) for rows in self._chunks(len(labels)))
        matrix = np.concatenate([draw_seen(self.encoder_, draw, rows) for rows in chunks])
        drawn = self.encoder_.decode(matrix)
        return (drawn, labels) if return_labels else drawn

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _n_classes(self) -> int:
        return int(self.n_components)

    def _joint(self, densities: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # a component may have died out
            return densities + np.log(self.weights_)

    def _n_parameters(self) -> int:
        return sum(weight.numel() for weight in self.density_.parameters()) + self._n_classes - 1
