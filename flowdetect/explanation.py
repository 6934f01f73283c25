"""Which columns made a row unlikely, and what would have been expected there."""

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["column_candidates", "column_gains", "column_scores", "share_out", "weighted_quantiles"]


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


def column_scores(
    score: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, group: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Return the score of each row with each candidate in one group of its columns.

    Parameters
    ----------
    score : callable
        Maps encoded rows (n, n_columns) to log-densities (n,), in nats.
    rows : ndarray of shape (n, n_columns)
    group : ndarray of int
        The columns that are replaced.
    candidates : ndarray of shape (n_candidates, len(group))

    Returns
    -------
    ndarray of shape (n, n_candidates)

    Examples
    --------
    >>> column_scores(lambda x: x.sum(axis=1), np.eye(2), np.array([0]), np.array([[5.0], [7.0]])).tolist()
    [[5.0, 7.0], [6.0, 8.0]]
    """
    replaced = np.repeat(rows, len(candidates), axis=0)
    replaced[:, group] = np.tile(candidates, (len(rows), 1))
    return score(replaced).reshape(len(rows), len(candidates))


def column_gains(
    score: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    groups: Sequence[np.ndarray],
    candidates: Sequence[np.ndarray],
    wanted: np.ndarray | None = None,
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
    wanted : ndarray of bool, shape (n, len(groups)), optional
        Which gains are asked for; the others are 0.

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
        asked = np.arange(len(rows)) if wanted is None else np.flatnonzero(wanted[:, position])
        if len(asked):
            best = column_scores(score, rows[asked], group, contents).max(axis=1)
            gains[asked, position] = np.maximum(best - own[asked], 0.0)
    return gains


def share_out(gains: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Share out the difference of each row's score to a typical one between its columns.

    Parameters
    ----------
    gains : ndarray of shape (n, n_columns)
        What each column alone would gain by an expected content, at least 0.
    differences : ndarray of shape (n,)
        The row's score less that of a typical row; negative for unlikely rows.

    Returns
    -------
    ndarray of shape (n, n_columns)
        Contributions, of one sign within a row, that sum to its difference. A negative difference is shared
        in proportion to the gains (equally where no column gains anything), a positive one in proportion to
        ``1 / (1 + gain)``.

    Examples
    --------
    >>> share_out(np.array([[3.0, 1.0], [0.0, 1.0]]), np.array([-8.0, 3.0])).tolist()
    [[-6.0, -2.0], [2.0, 1.0]]
    """
    below = (differences < 0.0)[:, None] & (gains.sum(axis=1) > 0.0)[:, None]
    shares = np.where(below, gains, 1.0 / (1.0 + gains))
    shares = np.where((differences < 0.0)[:, None] & ~below, 1.0, shares)
    return shares / shares.sum(axis=1, keepdims=True) * differences[:, None]


def weighted_quantiles(weights: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return the positions of weighted quantiles among ordered candidates.

    Parameters
    ----------
    weights : ndarray of shape (n, n_candidates)
        Probabilities of the candidates, in ascending order of these; each row sums to 1.
    levels : sequence of float
        Between 0 and 1.

    Returns
    -------
    ndarray of int, shape (n, len(levels))
        The first candidate up to which at least that much probability lies.

    Examples
    --------
    >>> weighted_quantiles(np.array([[0.2, 0.5, 0.3]]), [0.1, 0.5, 0.9]).tolist()
    [[0, 1, 2]]
    """
    reached = np.cumsum(weights, axis=1)
    return np.stack([(reached < level - 1e-12).sum(axis=1) for level in levels], axis=1).clip(
        max=weights.shape[1] - 1
    )
