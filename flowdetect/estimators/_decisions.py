"""From log-densities of classes to decisions: priors, one temperature, and rows that are like no class."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from flowdetect.exceptions import ConfigurationError, InvalidTableError

__all__ = [
    "check_choices",
    "check_priors",
    "check_target",
    "choose_reject_label",
    "choose_temperature",
    "rejection_levels",
    "with_rejections",
]

# Logarithms of the temperatures tried: densities of hundreds of columns are wrong by hundreds of nats.
_LOG_TEMPERATURES = (-2.0, 7.0)


def check_target(y: Any, n_rows: int) -> np.ndarray:
    """Return the label of each row as an array.

    Raises
    ------
    InvalidTableError, ValueError
        If it is None, holds missing labels or numbers that are no classes, or has not n_rows entries.
    """
    if y is None:
        raise InvalidTableError(
            "This estimator requires y to be passed, but the target y is None. Pass the class of each row."
        )
    labels = column_or_1d(y, warn=True)
    if len(labels) != n_rows:
        raise InvalidTableError(
            f"y must have one class per row of X; got {len(labels)} for {n_rows} rows of X."
        )
    absent = pd.isna(labels)
    if absent.any():
        raise InvalidTableError(
            f"y must hold a class for every row; row {int(np.argmax(absent))} contains NaN or None. Leave "
            "rows without a class out."
        )
    check_classification_targets(labels)
    return np.asarray(labels)


def check_priors(priors: Any, n_classes: int) -> np.ndarray:
    """Return given class probabilities as float64.

    Raises
    ------
    ConfigurationError
        If they are not n_classes probabilities that sum to 1.
    """
    try:
        array = np.asarray(priors, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (n_classes,) or not (array >= 0.0).all() or not np.isclose(array.sum(), 1.0):
        raise ConfigurationError(
            f"priors must be {n_classes} probabilities that sum to 1, in the order of the sorted classes; "
            f"got {priors!r}."
        )
    return array


def check_choices(calibrate: Any, reject_below: Any) -> None:
    """Refuse parameters of a classifier that are out of range.

    Raises
    ------
    ConfigurationError
    """
    if not isinstance(calibrate, bool | np.bool_):
        raise ConfigurationError(f"calibrate must be True or False; got {calibrate!r}.")
    share = isinstance(reject_below, float | np.floating)
    if reject_below is not None and not (share and 0.0 < reject_below < 1.0):
        raise ConfigurationError(
            f"reject_below must be None or a share between 0 and 1, such as 0.01; got {reject_below!r}."
        )


def choose_reject_label(reject_label: Any, classes: np.ndarray) -> Any:
    """Return the label of refused rows.

    Raises
    ------
    ConfigurationError
        If it is one of the classes.
    """
    if reject_label is None and classes.dtype.kind in "iuf":
        return -1 if -1 not in classes else classes.min().item() - 1
    reject_label = "rejected" if reject_label is None else reject_label
    if reject_label in classes.tolist():
        raise ConfigurationError(
            f"reject_label must be none of the classes; got {reject_label!r}, which is one. Choose another."
        )
    return reject_label


def with_rejections(labels: np.ndarray, refused: np.ndarray, reject_label: Any) -> np.ndarray:
    """Return labels with the reject label in some rows; object if it is of another kind than they are."""
    both = np.asarray([reject_label])
    numbers, texts = ("iuf", "U")
    alike = any(labels.dtype.kind in kinds and both.dtype.kind in kinds for kinds in (numbers, texts))
    result = labels.astype(np.result_type(labels, both) if alike else object)
    result[refused] = reject_label
    return result


def choose_temperature(
    densities: np.ndarray,
    classes: np.ndarray,
    log_priors: np.ndarray,
    weights: np.ndarray | None,
    n_columns: int,
) -> float:
    """Return the temperature at which ``pi_k p(x | k)^(1/T)`` predicts the classes best.

    It is the most probable one if log T is normal beforehand, of standard deviation 1 around the logarithm of
    the square root of the number of columns: so do errors of as many columns add up.

    Parameters
    ----------
    densities : ndarray of shape (n, n_classes)
        Log-density of each held-out row under each class.
    classes : ndarray of int, shape (n,)
    log_priors : ndarray of shape (n_classes,)
    weights : ndarray of shape (n,) or None
    n_columns : int

    Returns
    -------
    float
        1 without rows or with a single class.
    """
    n_rows, n_classes = densities.shape
    if not n_rows or n_classes == 1:
        return 1.0

    def loss(log_temperature: float) -> float:
        evidence = log_priors + densities * np.exp(-log_temperature)
        rows = -log_softmax(evidence, axis=1)[np.arange(n_rows), classes]
        # The prior: rows that are all told apart do not ask for more certainty.
        surprise = log_temperature - 0.5 * np.log(n_columns)
        return float(np.average(rows, weights=weights)) * n_rows + 0.5 * surprise**2

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def rejection_levels(
    fresh: tuple[np.ndarray, np.ndarray],
    learnt: tuple[np.ndarray, np.ndarray],
    share: float,
    n_classes: int,
) -> np.ndarray:
    """Return for each class the log-density below which a share of its rows lies.

    Parameters
    ----------
    fresh : (log-density, class) of rows, each under its own class by a density that did not learn from it
        They count in a class that has ``1 / share`` of them.
    learnt : (log-density, class) of the training rows
        They count in the other classes.
    share : float
    n_classes : int
    """
    levels = np.empty(n_classes)
    for k in range(n_classes):
        own, all_own = (densities[classes == k] for densities, classes in (fresh, learnt))
        levels[k] = np.quantile(own if len(own) >= 1.0 / share else all_own, share)
    return levels
