"""What is known of some training rows, and what can be chosen by it."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from flowdetect.exceptions import InvalidTableError

__all__ = ["best_threshold", "check_labels", "choose_scales"]

LEAST_ANOMALIES = 5


def check_labels(labels: Any, kept: np.ndarray) -> np.ndarray:
    """Return the labels of the rows that are kept as int8, all 0 for None.

    Raises
    ------
    InvalidTableError
        If they are not one of -1, 0 and +1 per row, or fewer than 2 rows are left beside the anomalies.
    """
    n_rows = len(kept)
    if labels is None:
        return np.zeros(int(kept.sum()), dtype=np.int8)
    array = np.asarray(labels)
    if array.shape != (n_rows,):
        raise InvalidTableError(
            f"labels must have shape ({n_rows},), one per row of X; got shape {array.shape}."
        )
    wrong = ~np.isin(array, (-1, 0, 1))
    if wrong.any():
        raise InvalidTableError(
            "labels must be -1 (known anomaly), +1 (known normal) or 0 (unknown); "
            f"got {array[wrong][0]!r} in row {np.argmax(wrong)}."
        )
    n_other = int(np.sum(array[kept] != -1))
    if n_other < 2:
        raise InvalidTableError(f"at least 2 rows must not be labelled as anomalies; got {n_other}.")
    return array[kept].astype(np.int8)


def choose_scales(
    by_scale: np.ndarray, known: np.ndarray, choices: tuple[tuple[int, ...], ...]
) -> tuple[int, ...]:
    """Return the set of scales whose mean tells known anomalies best from the other rows.

    Another set than the first is taken only if it is better by two standard errors: few anomalies choose
    nothing.

    Parameters
    ----------
    by_scale : ndarray of shape (n_scales, n)
        Held-out log-density of each row at each scale.
    known : ndarray of shape (n,)
        Labels.
    choices : tuple of tuple of int
        The sets, the default first.
    """
    anomalies = known < 0
    n_anomalies = int(anomalies.sum())
    if n_anomalies < LEAST_ANOMALIES or n_anomalies == len(known):
        return choices[0]
    areas = [roc_auc_score(anomalies, -by_scale[list(choice)].mean(axis=0)) for choice in choices]
    best = int(np.argmax(areas))
    # Hanley and McNeil's standard error, for the default set.
    area = areas[0]
    spread = area * (1.0 - area) + (n_anomalies - 1) * (area / (2.0 - area) - area**2)
    return choices[best if areas[best] - area > 2.0 * np.sqrt(spread / n_anomalies) else 0]


def best_threshold(scores: np.ndarray, known: np.ndarray) -> float:
    """Return the threshold with the best balanced accuracy for known anomalies against the other rows.

    The other rows are those known to be normal if these are at least five, else all unlabelled ones as well.
    """
    normal = known > 0 if (known > 0).sum() >= LEAST_ANOMALIES else known >= 0
    some = normal | (known < 0)
    false_alarms, found, thresholds = roc_curve(known[some] < 0, -scores[some])
    best = 1 + int(np.argmax((found - false_alarms)[1:]))  # the first threshold, infinity, finds nothing
    # Rows at the threshold itself are found: the next score up is the first that is not.
    above = scores[some][scores[some] > -thresholds[best]]
    return float(0.5 * (above.min() - thresholds[best])) if len(above) else float(-thresholds[best])
