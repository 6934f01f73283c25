"""Windows of a series: as rows of a table, and from scores of windows back to scores of timestamps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from flowdetect._utils.checks import check_whole

__all__ = ["SlidingWindow", "average_over_windows", "windows_of"]


def windows_of(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return a view of all windows of ``window`` neighbouring rows.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_channels)
    window : int
        At most n_rows.

    Returns
    -------
    ndarray of shape (n_rows - window + 1, n_channels, window)
        Read-only; entry ``[i, c, k]`` is ``values[i + k, c]``.
    """
    view: NDArray[np.float64] = sliding_window_view(values, window, axis=0)
    return view


def average_over_windows(scores: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return for each row the mean score of the windows that cover it.

    Each mean is summed by itself, not as a difference of running sums: what lies far away leaves no rounding.

    Parameters
    ----------
    scores : ndarray of shape (n_windows,)
        Score i belongs to the rows i to i + window - 1.
    window : int

    Returns
    -------
    ndarray of shape (n_windows + window - 1,)
    """
    n_windows = len(scores)
    ends = np.zeros(window - 1)
    sums = sliding_window_view(np.concatenate([ends, scores, ends]), window).sum(axis=1)
    rows = np.arange(n_windows + window - 1)
    counts = np.minimum(rows, n_windows - 1) - np.maximum(rows - window + 1, 0) + 1
    averages: NDArray[np.float64] = sums / counts
    return averages


class SlidingWindow(TransformerMixin, BaseEstimator):
    """Give each row the rows before it as further columns, so that any estimator of tables sees windows.

    Row i of the output holds rows ``i - (window - 1) * step, ..., i - step, i`` of the input side by side,
    the oldest first. There are as many rows as before. Rows before the first are taken to be equal to it.

    The rows are those of one series, in order of time and one step apart. Columns may be of any type.

    Parameters
    ----------
    window : int, default=10
        Number of rows side by side.
    step : int, default=1
        Distance of these rows.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the input.
    feature_names_in_ : ndarray of str
        Their names, if it was a DataFrame with names.

    See Also
    --------
    SeriesOutlierDetector : Does more than this: it averages over all windows that hold a row.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.timeseries import SlidingWindow
    >>> SlidingWindow(window=3).fit_transform(np.array([[1.0], [2.0], [3.0], [4.0]]))
    array([[1., 1., 1.],
           [1., 1., 2.],
           [1., 2., 3.],
           [2., 3., 4.]])
    """

    def __init__(self, window: int = 10, *, step: int = 1) -> None:
        self.window = window
        self.step = step

    def fit(self, X: Any, y: Any = None) -> SlidingWindow:
        """Learn the number and the names of the columns.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not such a table, or a parameter is not a whole number of at least 1.
        """
        for name in ("window", "step"):
            check_whole(name, getattr(self, name))
        self._checked(X, reset=True)
        return self

    def transform(self, X: Any) -> Any:
        """Put the rows of each window side by side.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        DataFrame or ndarray of shape (n_rows, window * n_features)
            Of the kind that X is.

        Raises
        ------
        ValueError
            If the columns are not those of fit.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        rows = np.arange(len(X))
        taken = [np.maximum(rows - lag * self.step, 0) for lag in self._lags()]
        if not isinstance(X, pd.DataFrame):
            return np.concatenate([X[positions] for positions in taken], axis=1)
        blocks = [X.iloc[positions].set_axis(X.index, axis=0) for positions in taken]
        return pd.concat(blocks, axis=1).set_axis(list(self._names(X.columns)), axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return names such as ``flow[-2]`` (two steps earlier) and ``flow`` (now).

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns, where X had none.

        Returns
        -------
        ndarray of str of shape (window * n_features,)
        """
        check_is_fitted(self)
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        return np.array(list(self._names(names)), dtype=object)

    def _lags(self) -> range:
        return range(self.window - 1, -1, -1)

    def _names(self, columns: Any) -> list[str]:
        steps = [lag * self.step for lag in self._lags()]
        return [
            f"{name}[-{steps_back}]" if steps_back else str(name) for steps_back in steps for name in columns
        ]

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X):
                raise ValueError(
                    f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required."
                )
            return X
        return validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.requires_fit = True
        return tags
