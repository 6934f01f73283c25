"""Which columns made a row unlikely."""

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["column_candidates", "column_gains"]


def column_candidates(rows: np.ndarray, groups: Sequence[np.ndarray], n_candidates: int) -> list[np.ndarray]:
    """Pick typical contents for each group of matrix columns.

    Parameters
    ----------
    rows : ndarray of shape (n, n_columns)
        Encoded training rows.
    groups : sequence of ndarray of int
        The matrix columns that belong together, those of one table column.
    n_candidates : int
        How many to pick at most.

    Returns
    -------
    list of ndarray
        For each group an array of shape (n_distinct, len(group)): contents at evenly spaced ranks, so that
        frequent ones are always among them.

    Examples
    --------
    >>> rows = np.arange(10.0)[:, None]
    >>> column_candidates(rows, [np.array([0])], 2)[0].ravel().tolist()
    [2.0, 7.0]
    """
    ranks = ((np.arange(n_candidates) + 0.5) / n_candidates * len(rows)).astype(int)
    picked = []
    for group in groups:
        contents = rows[:, group]
        order = np.lexsort(contents.T)
        picked.append(np.unique(contents[order[ranks]], axis=0))
    return picked


def column_gains(
    score: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    groups: Sequence[np.ndarray],
    candidates: Sequence[np.ndarray],
) -> np.ndarray:
    """Return what each row would gain if one group of its columns held its best-fitting candidate.

    Parameters
    ----------
    score : callable
        Maps encoded rows (n, n_columns) to log-densities (n,), in nats.
    rows : ndarray of shape (n, n_columns)
        The rows to explain.
    groups, candidates
        As for `column_candidates`.

    Returns
    -------
    ndarray of shape (n, len(groups))
        ``max_c score(row with group := c) - score(row)``, at least 0 as its own content is a candidate too.
        All other columns stay as they are, so a value that is odd only beside the others is found as well.

    Examples
    --------
    >>> rows = np.array([[0.0, 3.0]])
    >>> groups = [np.array([0]), np.array([1])]
    >>> candidates = [np.array([[0.0]]), np.array([[0.0]])]
    >>> column_gains(lambda x: -0.5 * (x**2).sum(axis=1), rows, groups, candidates).tolist()
    [[0.0, 4.5]]
    """
    own = score(rows)
    gains = np.zeros((len(rows), len(groups)))
    for position, (group, contents) in enumerate(zip(groups, candidates, strict=True)):
        replaced = np.repeat(rows, len(contents), axis=0)
        replaced[:, group] = np.tile(contents, (len(rows), 1))
        best = score(replaced).reshape(len(rows), len(contents)).max(axis=1)
        gains[:, position] = np.maximum(best - own, 0.0)
    return gains
