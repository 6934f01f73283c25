"""What classifiers say of drawn rows: can they be told from real ones, and can one learn from them."""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from flowdetect.exceptions import ConfigurationError
from flowdetect.quality._tables import row_ids, thinned

__all__ = ["Task", "boosting_features", "task_of", "task_scores", "two_sample_auroc"]

_N_FOLDS = 5
_N_TREES = 100  # scikit-learn's default

# A content that real rows hold once and drawn ones up to this often is taken for a copy, not for frequent.
_MOST_COPIES = 5

# Histogram gradient boosting knows codes up to this one.
_MOST_CODES = 255

_MOST_CLASSES = 20
_MOST_WHOLE_CLASSES = 10

# One row of this many may be a leaf, up to scikit-learn's default of 20 rows.
_ROWS_A_LEAF = 20


def boosting_features(matrices: list[np.ndarray], categorical: np.ndarray) -> list[np.ndarray]:
    """Return the matrices with at most 255 codes in a column of categories: rare ones share the last.

    Examples
    --------
    >>> boosting_features([np.array([[3.0], [np.nan]])], np.array([True]))[0].tolist()
    [[0.0], [nan]]
    """
    features = [matrix.copy() for matrix in matrices]
    for j in np.flatnonzero(categorical):
        entries = np.concatenate([matrix[:, j] for matrix in matrices])
        codes, counts = np.unique(entries[~np.isnan(entries)], return_counts=True)
        rank = np.empty(len(codes))
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(codes))
        rank = np.minimum(rank, _MOST_CODES - 1)
        for matrix in features:
            here = ~np.isnan(matrix[:, j])
            matrix[here, j] = rank[np.searchsorted(codes, matrix[here, j])]
    return features


# --- told apart ------------------------------------------------------------------------------------------


def two_sample_auroc(real: np.ndarray, other: np.ndarray, categorical: np.ndarray, *, seed: int) -> float:
    """Return how well a classifier that has not seen them tells rows of two tables apart.

    Parameters
    ----------
    real : ndarray of shape (n_real, n_columns)
    other : ndarray of shape (n_other, n_columns)
        The larger table is thinned to the size of the smaller one.
    categorical : ndarray of bool, shape (n_columns,)
    seed : int

    Returns
    -------
    float
        AUROC averaged over five folds; 0.5 = cannot be told apart. NaN if no fold has rows of both tables.

    Notes
    -----
    A real row and its copies are put into one fold: in two folds, a classifier that learns rows by heart
    would call each of them by the other's name, and end up below 0.5. Contents that several real rows share
    are no copies but frequent, and are spread over the folds like all others.
    """
    rng = np.random.default_rng(seed)
    size = min(len(real), len(other))
    real, other = thinned(real, size, rng), thinned(other, size, rng)
    rows = np.concatenate(boosting_features([real, other], categorical))
    is_other = np.repeat([False, True], size)
    real_ids, other_ids = row_ids(real, other)
    folds = _folds(real_ids, other_ids, rng)
    scores = []
    for fold in range(_N_FOLDS):
        test = folds == fold
        if len(np.unique(is_other[test])) == 2:
            probabilities = _probabilities(
                *(rows[~test], is_other[~test].astype(int), rows[test]), categorical, seed=seed, n_classes=2
            )
            scores.append(roc_auc_score(is_other[test], probabilities[:, 1]))
    return float(np.mean(scores)) if scores else float("nan")


def _folds(real_ids: np.ndarray, other_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each row: stratified by table, with a real row and its copies in one fold."""
    ids = np.concatenate([real_ids, other_ids])
    size = int(ids.max()) + 1
    n_real, n_other = np.bincount(real_ids, minlength=size), np.bincount(other_ids, minlength=size)
    together = (n_real == 1) & (n_other >= 1) & (n_other <= _MOST_COPIES)
    groups = np.where(together[ids], ids, size + np.arange(len(ids)))
    _, group_of = np.unique(groups, return_inverse=True)
    is_other = np.arange(len(ids)) >= len(real_ids)
    counts = [np.bincount(group_of, weights=side) for side in (~is_other, is_other)]
    # Groups of the same make-up are dealt out in turn, which stratifies the folds.
    order = np.lexsort((rng.random(len(counts[0])), *counts))
    fold_of = np.empty(len(order), dtype=np.intp)
    fold_of[order] = np.arange(len(order)) % _N_FOLDS
    return fold_of[group_of]


# --- learnt from -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Parameters
    ----------
    column : int
        Position of the target.
    classes : ndarray or None
        The real table's classes, most frequent first; all others count as one more. None for a number.
    """

    column: int
    classes: np.ndarray | None


def task_of(real: np.ndarray, column: int, categorical: np.ndarray) -> Task:
    """Tell classes from a number to be predicted: categories, or at most 10 distinct whole numbers.

    Raises
    ------
    ConfigurationError
        If no real row has an entry there.
    """
    entries = real[~np.isnan(real[:, column]), column]
    if not len(entries):
        raise ConfigurationError("target must have entries in real; all of them are missing.")
    values, counts = np.unique(entries, return_counts=True)
    whole = len(values) <= _MOST_WHOLE_CLASSES and np.array_equal(values, np.round(values))
    if not categorical[column] and not whole:
        return Task(column, None)
    return Task(column, values[np.argsort(-counts, kind="stable")][:_MOST_CLASSES])


def task_scores(
    train: np.ndarray, test: np.ndarray, task: Task, categorical: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Return how well what one table teaches predicts the target of another.

    Parameters
    ----------
    train : ndarray of shape (n_train, n_columns)
    test : ndarray of shape (n_test, n_columns)
        Rows of either without a target are left out.
    task : Task
    categorical : ndarray of bool, shape (n_columns,)
    seed : int

    Returns
    -------
    dict
        For classes "AUROC" and "average precision", each the mean over the classes among the test rows of
        one class against all others, a class that was not there to learn from being at chance; else "R2".
        NaN where the test rows have one class only, or there is nothing to learn a number from.
    """
    names = ("R2",) if task.classes is None else ("AUROC", "average precision")
    known = [part[~np.isnan(part[:, task.column])] for part in (train, test)]
    kinds = np.delete(categorical, task.column)
    features = boosting_features([np.delete(part, task.column, axis=1) for part in known], kinds)
    targets = [part[:, task.column] for part in known]
    if task.classes is None:
        scores: tuple[float, ...] = (_r2(features, targets, kinds, seed),)
    else:
        codes = [_class_codes(target, task.classes) for target in targets]
        probabilities = _probabilities(
            *(features[0], codes[0], features[1]), kinds, seed=seed, n_classes=len(task.classes) + 1
        )
        scores = _class_scores(codes[1], probabilities)
    return dict(zip(names, scores, strict=True))


def _class_codes(target: np.ndarray, classes: np.ndarray) -> np.ndarray:
    matches = target[:, None] == classes
    return np.where(matches.any(axis=1), matches.argmax(axis=1), len(classes))


def _class_scores(codes: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    present = np.unique(codes)
    if len(present) < 2:
        return float("nan"), float("nan")
    areas = [roc_auc_score(codes == k, probabilities[:, k]) for k in present]
    precisions = [average_precision_score(codes == k, probabilities[:, k]) for k in present]
    return float(np.mean(areas)), float(np.mean(precisions))


def _r2(features: list[np.ndarray], targets: list[np.ndarray], categorical: np.ndarray, seed: int) -> float:
    if len(targets[0]) < 2 or len(targets[1]) < 2:
        return float("nan")
    model = HistGradientBoostingRegressor(
        categorical_features=categorical,
        early_stopping=False,
        max_iter=_N_TREES,
        min_samples_leaf=_leaf(len(targets[0])),
        random_state=seed,
    )
    return float(r2_score(targets[1], model.fit(features[0], targets[0]).predict(features[1])))


def _probabilities(
    train: np.ndarray,
    codes: np.ndarray,
    test: np.ndarray,
    categorical: np.ndarray,
    *,
    seed: int,
    n_classes: int,
) -> np.ndarray:
    """Return the probability of each class code for the test rows; 0 for codes there are no rows of."""
    probabilities = np.zeros((len(test), n_classes))
    present = np.unique(codes)
    if len(present) < 2 or not len(test):
        probabilities[:, present] = 1.0
        return probabilities
    model = HistGradientBoostingClassifier(
        categorical_features=categorical,
        early_stopping=False,
        max_iter=_N_TREES,
        min_samples_leaf=_leaf(len(train)),
        random_state=seed,
    )
    probabilities[:, present] = model.fit(train, codes).predict_proba(test)
    return probabilities


def _leaf(n_rows: int) -> int:
    return int(np.clip(n_rows // _ROWS_A_LEAF, 2, 20))
