"""From scores to decisions. Takes scores (larger = more normal), not models."""

import numpy as np
from numpy.typing import ArrayLike

from flowdetect.exceptions import ConfigurationError

__all__ = ["contamination_offset", "fence_offset"]


def contamination_offset(scores: ArrayLike, contamination: float) -> float:
    """Return the score below which a fraction of the given scores lies.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of the training rows, larger = more normal.
    contamination : float
        The fraction, in (0, 0.5].

    Returns
    -------
    float
        The ``contamination`` quantile by linear interpolation: without ties,
        ``ceil(contamination * (n - 1))`` of the scores lie strictly below it (scikit-learn's convention);
        ties can make it fewer.

    Raises
    ------
    ConfigurationError
        If ``contamination`` is out of range or a score is NaN.

    Examples
    --------
    >>> contamination_offset([1.0, 2.0, 3.0, 4.0, 5.0], 0.25)
    2.0
    """
    if not 0.0 < contamination <= 0.5:
        raise ConfigurationError(
            f"contamination must be 'auto' or a fraction above 0 and at most 0.5; got {contamination!r}."
        )
    return float(np.quantile(_checked(scores), contamination))


def fence_offset(scores: ArrayLike) -> float:
    """Return Tukey's lower fence of the scores: the first quartile less 1.5 times the interquartile range.

    The fence adapts to the spread of the scores and needs no assumed fraction of anomalies: of the scores of
    Gaussian rows about 5 % lie below it in two dimensions, and 1.4 % in twenty.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of the training rows, larger = more normal.

    Raises
    ------
    ConfigurationError
        If a score is NaN.

    References
    ----------
    J. W. Tukey (1977), *Exploratory Data Analysis*, section 2D.

    Examples
    --------
    >>> fence_offset([1.0, 2.0, 3.0, 4.0, 5.0])
    -1.0
    """
    lower, upper = np.quantile(_checked(scores), [0.25, 0.75])
    return float(lower - 1.5 * (upper - lower))


def _checked(scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not len(array) or np.isnan(array).any():
        raise ConfigurationError(
            f"scores must be a non-empty vector without NaN; got shape {array.shape} with "
            f"{int(np.isnan(array).sum())} NaN."
        )
    return array
