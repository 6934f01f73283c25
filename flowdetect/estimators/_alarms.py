"""Alarms with a promise: p-values of an ensemble's scores, and selections by them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowdetect.calibration import benjamini_hochberg, conformal_p_values
from flowdetect.estimators._ensemble import LEAST_FOLD_ROWS, EnsembleEstimator
from flowdetect.exceptions import ConfigurationError

__all__ = ["CalibratedEstimator"]


class CalibratedEstimator(EnsembleEstimator):
    """Base of an ensemble whose held-out scores calibrate those of new rows."""

    # Held-out scores of the training rows that are not known to be anomalies; None without folds.
    _calibration_scores: np.ndarray | None

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the score of each row."""
        raise NotImplementedError

    def p_values(self, X: Any) -> np.ndarray:
        """Return cross-conformal p-values: how rarely a normal row scores as low, shape (n_rows,).

        The p-value of a row is ``(1 + #{held-out scores of training rows <= its score}) / (n + 1)``. No row
        is set aside for it: each training row is scored by the flow that did not learn from it. Flagging the
        rows with p-values up to a raises false alarms on a share of about a of the normal rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            New rows. The p-values of rows of fit say little: the flows have learnt from them.

        Returns
        -------
        ndarray of shape (n_rows,)
            Between ``1 / (n + 1)`` and 1, where n is the number of training rows not known to be anomalies.

        Raises
        ------
        ConfigurationError
            If the training rows were too few, or ``n_models=1``, so that no row has a held-out score.
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.

        Notes
        -----
        Guarantee: if the row and the training rows are exchangeable, ``P(p <= a)`` is at most ``2 a`` plus
        about ``2 / (n / n_models + 1)`` for every distribution and any number of rows, as the score of a new
        row is the largest that a member gives it (Barber et al., theorem 4, which needs each member's own
        score only). In practice it is at or below a. Scaling and categories are learnt from all rows, which
        the theorem leaves out of account; so are weights, as every row counts once.

        It fails where rows are not exchangeable: under drift, for rows that depend on each other (time
        series, repeated measurements of one patient), and for rows chosen by their score. Anomalies among
        the training rows make p-values larger: fewer false alarms, fewer finds.

        References
        ----------
        V. Vovk (2015), "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74.
        R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani (2021), "Predictive inference with the
        jackknife+", Annals of Statistics 49(1).
        S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023), "Testing for outliers with conformal
        p-values", Annals of Statistics 51(1).

        Examples
        --------
        >>> import numpy as np
        >>> from flowdetect import FlowOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(99, 2))
        >>> detector = FlowOutlierDetector(max_steps=50, random_state=0).fit(X)
        >>> float(detector.p_values([[9.0, 9.0]])[0])
        0.01
        """
        scores = self.score_samples(X)
        return conformal_p_values(scores, self._calibration())

    def select(self, X: Any, *, fdr: float = 0.05) -> np.ndarray:
        """Return which rows to look at so that few of them are false alarms, bool of shape (n_rows,).

        Benjamini and Hochberg's procedure over the `p_values` of these rows: of those selected, a share of
        at most ``fdr`` is normal, in expectation. It adapts to the rows: many anomalies lower the bar. All
        rows are judged together, so the choice depends on which rows come along.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            New rows.
        fdr : float, default=0.05
            False discovery rate, between 0 and 1.

        Raises
        ------
        ConfigurationError
            If `fdr` is out of range, or there are no p-values; see `p_values`.
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.

        Notes
        -----
        With n training rows no p-value is below ``1 / (n + 1)``: k anomalies among m rows can be selected
        only if ``k * fdr >= m / (n + 1)``. The guarantee is that of the p-values, and fails with them.

        References
        ----------
        Y. Benjamini, Y. Hochberg (1995), "Controlling the false discovery rate", Journal of the Royal
        Statistical Society B 57(1).

        Examples
        --------
        >>> import numpy as np
        >>> from flowdetect import FlowOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(199, 2))
        >>> detector = FlowOutlierDetector(max_steps=50, random_state=0).fit(X)
        >>> detector.select([[9.0, 9.0], [0.0, 0.1], [-8.0, 7.0]], fdr=0.1).tolist()
        [True, False, True]
        """
        return benjamini_hochberg(self.p_values(X), fdr)

    # --- inside -----------------------------------------------------------------------------------

    def _calibration(self) -> np.ndarray:
        """Return the held-out scores of the rows that are not known to be anomalies."""
        if self._calibration_scores is None:
            raise ConfigurationError(
                "p-values and false_alarm_rate need scores of rows that no flow has seen: fit with n_models "
                f"of at least 2 on at least {2 * LEAST_FOLD_ROWS} rows."
            )
        return self._calibration_scores
