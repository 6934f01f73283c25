"""From scores to decisions. Takes scores (larger = more normal), not models."""

import numpy as np
from numpy.typing import ArrayLike

from flowdetect.exceptions import ConfigurationError

__all__ = [
    "benjamini_hochberg",
    "conformal_p_values",
    "contamination_offset",
    "false_alarm_offset",
    "fence_offset",
    "smallest_rate",
]


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


def conformal_p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> np.ndarray:
    """Return for each score how rarely a normal row scores as low.

    Parameters
    ----------
    scores : array-like of shape (n_rows,)
        Scores of new rows, larger = more normal.
    calibration_scores : array-like of shape (n,)
        Scores of normal rows that the model has not learnt from.

    Returns
    -------
    ndarray of shape (n_rows,)
        ``(1 + #{calibration scores <= score}) / (n + 1)``, between ``1 / (n + 1)`` and 1; ties count against
        the alarm.

    Raises
    ------
    ConfigurationError
        If a score is NaN, or there are no calibration scores.

    Notes
    -----
    If the score of a row and the calibration scores are exchangeable, p is super-uniform,
    ``P(p <= a) <= a``, for every a, every number of rows and every distribution. This fails under drift,
    where rows depend on each other, as in time series, and where calibration rows are copies of each other
    and new rows are not. Anomalies among the calibration rows make p-values larger: fewer false alarms,
    fewer finds.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer (2005), *Algorithmic Learning in a Random World*.
    S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023), "Testing for outliers with conformal p-values",
    Annals of Statistics 51(1).

    Examples
    --------
    >>> conformal_p_values([0.5, 2.0, 9.0], [1.0, 2.0, 3.0]).tolist()
    [0.25, 0.75, 1.0]
    """
    calibration = np.sort(_checked(calibration_scores, "calibration_scores"))
    array = _checked(scores, may_be_empty=True)
    return (1.0 + np.searchsorted(calibration, array, side="right")) / (len(calibration) + 1.0)


def smallest_rate(n_calibration: int) -> float:
    """Return the smallest false-alarm rate that n calibration rows support: ``1 / (n + 1)``.

    Parameters
    ----------
    n_calibration : int
        Number of calibration rows.

    Examples
    --------
    >>> smallest_rate(99)
    0.01
    """
    return 1 / (n_calibration + 1)


def false_alarm_offset(calibration_scores: ArrayLike, rate: float) -> float:
    """Return the score below which rows have a conformal p-value of at most ``rate``, and no others.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Scores of normal rows that the model has not learnt from, larger = more normal.
    rate : float
        False-alarm rate, at least ``1 / (n + 1)`` and below 1.

    Returns
    -------
    float
        The ``floor(rate * (n + 1))``-th smallest calibration score. For scores without NaN,
        ``score < offset`` exactly where ``conformal_p_values(score) <= rate``, ties included.

    Raises
    ------
    ConfigurationError
        If the rate is out of range, or too small for so few rows, or a score is NaN.

    Notes
    -----
    The rate holds on average over calibration sets. Given one of them, the share of normal rows below the
    offset is Beta(k, n + 1 - k) distributed for continuous scores, ``k = floor(rate * (n + 1))``: at a rate
    of 0.05 it lies nine times in ten between 0.02 and 0.09 with 99 rows, and between 0.039 and 0.062 with
    999.

    References
    ----------
    V. Vovk (2012), "Conditional validity of inductive conformal predictors", Asian Conference on Machine
    Learning.

    Examples
    --------
    >>> false_alarm_offset([1.0, 2.0, 3.0, 4.0], 0.4)
    2.0
    """
    calibration = np.sort(_checked(calibration_scores, "calibration_scores"))
    n = len(calibration)
    if not 0.0 < rate < 1.0:
        raise ConfigurationError(f"A false-alarm rate must lie between 0 and 1; got {rate!r}.")
    # The largest k with k / (n + 1) <= rate, rounded as p-values are: rate * (n + 1) may round below k.
    k = int(np.sum(np.arange(1, n + 1) / (n + 1.0) <= rate))
    if not k:
        raise ConfigurationError(
            f"{n} rows support no false-alarm rate below 1 / {n + 1} = {smallest_rate(n):.3g}; got {rate!r}, "
            f"which needs {_rows_for(rate)} rows: give more rows or a larger rate."
        )
    # p <= k / (n + 1) means that at most k - 1 calibration scores are <= score: the k-th is above it.
    return float(calibration[k - 1])


def benjamini_hochberg(p_values: ArrayLike, fdr: float) -> np.ndarray:
    """Select the rows of which at most a share of ``fdr`` is normal, in expectation.

    Parameters
    ----------
    p_values : array-like of shape (n,)
        Between 0 and 1.
    fdr : float
        False discovery rate, between 0 and 1.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the k smallest p-values, for the largest k with ``p_(k) <= fdr * k / n``.

    Raises
    ------
    ConfigurationError
        If a p-value is NaN, or a p-value or the rate is out of range.

    Notes
    -----
    The expected share of false alarms among the selected is at most ``fdr`` if the p-values are independent,
    or positively dependent (PRDS), as conformal p-values that share their calibration rows are (Bates et
    al., 2023).

    References
    ----------
    Y. Benjamini, Y. Hochberg (1995), "Controlling the false discovery rate", Journal of the Royal Statistical
    Society B 57(1).
    S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023), "Testing for outliers with conformal p-values",
    Annals of Statistics 51(1).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.9, 0.03, 0.5], 0.1).tolist()
    [True, False, True, False]
    """
    if not 0.0 < fdr < 1.0:
        raise ConfigurationError(f"A false discovery rate must lie between 0 and 1; got {fdr!r}.")
    p = np.asarray(p_values, dtype=np.float64)
    valid = (p >= 0.0) & (p <= 1.0)
    if p.ndim != 1 or not valid.all():
        raise ConfigurationError(
            f"p_values must be a vector of numbers from 0 to 1; got shape {p.shape} with "
            f"{int((~valid).sum())} NaN or out of range."
        )
    order = np.argsort(p, kind="stable")
    # Conformal p-values often equal their bound; neither side's rounding, of a few ulp, may drop them.
    bounds = fdr * np.arange(1, len(p) + 1) * (1.0 + 4.0 * np.finfo(np.float64).eps)
    passed = np.flatnonzero(p[order] * len(p) <= bounds)
    selected = np.zeros(len(p), dtype=bool)
    if len(passed):
        selected[order[: passed[-1] + 1]] = True
    return selected


def _checked(scores: ArrayLike, name: str = "scores", *, may_be_empty: bool = False) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not (len(array) or may_be_empty) or np.isnan(array).any():
        kind = "vector" if may_be_empty else "non-empty vector"
        raise ConfigurationError(
            f"{name} must be a {kind} without NaN; got shape {array.shape} with "
            f"{int(np.isnan(array).sum())} NaN."
        )
    return array


def _rows_for(rate: float) -> int:
    # In whole numbers: 1 / rate may round past one, or overflow.
    numerator, denominator = float(rate).as_integer_ratio()
    rows = -(-denominator // numerator) - 1
    return rows - 1 if smallest_rate(rows - 1) <= rate else rows
