"""Scores that can be compared with held-out ones: each row under members of the model, one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowdetect.estimators._rows import take_rows
from flowdetect.exceptions import ConfigurationError
from flowdetect.jobs._drift_reference import (
    LevelReference,
    NumberReference,
    TableReference,
    frequent_without_itself,
    learn_reference,
    read_column,
)
from flowdetect.preprocessing import TableSchema
from flowdetect.preprocessing._frame import align, as_frame

__all__ = [
    "held_out",
    "leaves_out_rare_labels",
    "member_scores",
    "members_of_rows",
    "n_members",
    "one_member_scores",
    "reference_of_fit",
    "schema_of",
]

# More members than this share so much that their scores vary no more for it.
_MOST_THINNED = 4


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


def reference_of_fit(estimator: Any, X: Any) -> TableReference:
    """Count the rows that an estimator was fitted on, and keep its held-out scores that can be compared.

    Parameters
    ----------
    estimator : fitted estimator
    X : DataFrame or array-like of shape (n_rows, n_columns)
        The rows of fit, in their order.

    Raises
    ------
    InvalidTableError
        If they have other columns.

    Notes
    -----
    A row of training holds no label that is new to the encoder, not even a label that no other row holds; a
    new row may. So only the scores of rows are kept whose labels would be frequent without them as well, and
    `DriftMonitor` compares the scores of such new rows only. Rare labels are counted with the columns.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> detector = FlowOutlierDetector(max_steps=20, random_state=0).fit(X)
    >>> sum(reference_of_fit(detector, X).scores.counts)  # every third: three members share training rows
    133
    """
    schema = schema_of(estimator)
    frame = align(*as_frame(X), schema)
    reference = learn_reference(frame, schema)
    calibration = getattr(estimator, "_calibration_scores", None)
    if calibration is None:
        return reference
    scores = np.asarray(estimator.training_scores_, dtype=np.float64)
    usual = np.isfinite(scores)
    if len(scores) != len(frame) or int(usual.sum()) != len(calibration):
        return reference  # with known anomalies it is not known which rows the p-values leave out
    for position, column in enumerate(reference.columns):
        entries = read_column(frame, position, schema.columns[position])
        if isinstance(column, LevelReference) and isinstance(entries, tuple):
            usual &= frequent_without_itself(*entries)
    kept = _independent(np.sort(scores[usual]), estimator)
    return replace(reference, scores=NumberReference.learn(kept)) if len(kept) else reference


def held_out(estimator: Any, reference: TableReference | None) -> NumberReference | None:
    """Return the scores of rows that the model has not learnt from, None where there are none.

    Its encoder has seen every label of the held-out rows, so that none of them was new to it, as labels of
    new rows are: rows of rare labels are left out of the comparison. Where it is not known which held-out
    scores are theirs, there is none.
    """
    calibration = getattr(estimator, "_calibration_scores", None)
    if reference is not None and reference.scores is not None:
        return reference.scores
    if calibration is None or _may_be_rare(schema_of(estimator), reference):
        return None
    return NumberReference.learn(_independent(np.asarray(calibration, dtype=np.float64), estimator))


def leaves_out_rare_labels(estimator: Any) -> bool:
    """Tell whether the held-out rows are rows of fit, which hold no label that the encoder had not seen."""
    return bool(_members(estimator))


def _may_be_rare(schema: TableSchema, reference: TableReference | None) -> bool:
    if reference is None:
        return any(column.storage.family == "label" for column in schema.columns)
    return any(isinstance(column, LevelReference) and column.n_rare for column in reference.columns)


def _independent(ordered: NDArray[np.float64], estimator: Any) -> NDArray[np.float64]:
    """Keep so few of the sorted held-out scores that they vary no more than as many independent ones would.

    Those of one member do by themselves. Members share training rows: the mean over K of them varies at most
    as one alone does, so every K-th is kept. In simulations the variance grew to less than three times what
    independent scores would have with ten members too.
    """
    step = min(n_members(estimator), _MOST_THINNED)
    return ordered[step // 2 :: step]


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
