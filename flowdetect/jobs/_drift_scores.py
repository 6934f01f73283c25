"""Scores that can be compared with held-out ones: each row under members of the model, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowdetect.estimators._rows import take_rows
from flowdetect.exceptions import ConfigurationError
from flowdetect.jobs._drift_reference import NumberReference, TableReference
from flowdetect.preprocessing import TableSchema

__all__ = ["held_out", "member_scores", "members_of_rows", "n_members", "one_member_scores", "schema_of"]


def member_scores(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Return the score of each row under each member.

    Parameters
    ----------
    estimator : fitted estimator
    X : DataFrame or array-like of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows, n_members)
        ``estimator.score_samples(X)`` is the largest of each row. An estimator without members, or without
        held-out scores, counts as a single one.
    """
    members = _members(estimator)
    if not members:
        return np.asarray(estimator.score_samples(X), dtype=np.float64)[:, None]
    checked, _ = estimator._check_scoring(X, None)
    return np.column_stack([estimator._score_rows(checked, [member]) for member in members])


def one_member_scores(estimator: Any, X: Any, choice: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the score of each row under the member of that number: less work than `member_scores`."""
    members = _members(estimator)
    if not members:
        return np.asarray(estimator.score_samples(X), dtype=np.float64)
    checked, _ = estimator._check_scoring(X, None)
    scores = np.empty(len(choice))
    for number, member in enumerate(members):
        rows = np.flatnonzero(choice == number)
        if len(rows):
            scores[rows] = estimator._score_rows(take_rows(checked, rows), [member])
    return scores


def members_of_rows(first: int, n_rows: int, n_members: int) -> NDArray[np.intp]:
    """Return which member scores each row: a fixed hash of its number, so that no period of the rows matters.

    Parameters
    ----------
    first : int
        Number of the first row.
    n_rows, n_members : int

    References
    ----------
    G. L. Steele, D. Lea, C. H. Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA.

    Examples
    --------
    >>> members_of_rows(0, 8, 3).tolist() == [*members_of_rows(0, 5, 3), *members_of_rows(5, 3, 3)]
    True
    """
    number = np.arange(first + 1, first + n_rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((number ^ (number >> np.uint64(31))) % np.uint64(n_members)).astype(np.intp)


def n_members(estimator: Any) -> int:
    """Return how many columns `member_scores` has."""
    return max(len(_members(estimator)), 1)


def held_out(estimator: Any, reference: TableReference | None) -> NumberReference | None:
    """Return the scores of rows that the model has not learnt from, None where there are none."""
    scores = getattr(estimator, "_calibration_scores", None)
    if scores is not None:
        return NumberReference.learn(np.asarray(scores, dtype=np.float64))
    return None if reference is None else reference.scores


def schema_of(estimator: Any) -> TableSchema:
    """Return what the estimator has learnt of its table.

    Raises
    ------
    ConfigurationError
        If it is not fitted, or no estimator of tables.
    """
    schema = getattr(getattr(estimator, "encoder_", None), "schema_", None)
    if not isinstance(schema, TableSchema) or not hasattr(estimator, "score_samples"):
        raise ConfigurationError(
            f"Drift is looked for in rows of a table, with a fitted estimator that scores them; got a "
            f"{type(estimator).__name__}. Rows of a series depend on each other."
        )
    return schema


def _members(estimator: Any) -> list[Any]:
    known = getattr(estimator, "_calibration_scores", None) is not None
    return list(estimator._members) if known else []
