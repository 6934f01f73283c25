"""How alike the columns of two tables are, one by one and in pairs. Pure functions of matrices."""

import numpy as np
from scipy.stats import rankdata

__all__ = ["column_similarities", "ks_distance", "pair_similarities", "total_variation"]

_DECILES = np.linspace(0.1, 0.9, 9)


def ks_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples without NaN: between 0 and 1.

    Examples
    --------
    >>> ks_distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    points = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(x), points, side="right") / len(x) for x in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation distance of the shares of distinct numbers, NaN one of them: 0 to 1.

    Examples
    --------
    >>> total_variation(np.array([0.0, 0.0, 1.0, np.nan]), np.array([0.0, 1.0]))
    0.25
    """
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    size = int(codes.max()) + 1
    counts = [np.bincount(part, minlength=size) / len(part) for part in np.split(codes, [len(first)])]
    return float(0.5 * np.abs(counts[0] - counts[1]).sum())


def column_similarities(real: np.ndarray, drawn: np.ndarray, categorical: np.ndarray) -> np.ndarray:
    """Return for each column how alike its distributions are.

    Parameters
    ----------
    real : ndarray of shape (n_real, n_columns)
    drawn : ndarray of shape (n_drawn, n_columns)
    categorical : ndarray of bool, shape (n_columns,)
        Which columns hold codes.

    Returns
    -------
    ndarray of shape (n_columns,)
        Between 0 and 1, 1 = the same. For categories one less the total variation, a missing entry being a
        category. For numbers one less the Kolmogorov-Smirnov distance of the present entries, or one less
        the difference of the missing shares if that is smaller.
    """
    return np.array(
        [
            1.0 - total_variation(x, y) if is_category else _number_similarity(x, y)
            for x, y, is_category in zip(real.T, drawn.T, categorical, strict=True)
        ]
    )


def _number_similarity(real: np.ndarray, drawn: np.ndarray) -> float:
    missing = np.isnan(real), np.isnan(drawn)
    distance = abs(missing[0].mean() - missing[1].mean())
    if not missing[0].all() and not missing[1].all():
        distance = max(distance, ks_distance(real[~missing[0]], drawn[~missing[1]]))
    return float(1.0 - distance)


def pair_similarities(
    real: np.ndarray,
    drawn: np.ndarray,
    categorical: np.ndarray,
    *,
    max_pairs: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return for pairs of columns how alike their joint distributions are.

    Parameters
    ----------
    real : ndarray of shape (n_real, n_columns)
    drawn : ndarray of shape (n_drawn, n_columns)
    categorical : ndarray of bool, shape (n_columns,)
    max_pairs : int
        Of more pairs that many are chosen at random.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_pairs,)
        Between 0 and 1, 1 = the same. For two numbers one less half the difference of Spearman's
        correlations of the rows that lack neither, 0 for a constant; otherwise one less the total variation
        of the contingency table, numbers being cut at the real deciles, and missing entries counted.
    """
    pairs = np.column_stack(np.triu_indices(real.shape[1], k=1))
    if len(pairs) > max_pairs:
        pairs = pairs[np.sort(rng.choice(len(pairs), max_pairs, replace=False))]
    real_cells, drawn_cells = _cells(real, drawn, categorical)
    real_ranks, drawn_ranks = _ranks(real, categorical), _ranks(drawn, categorical)
    similarities = np.empty(len(pairs))
    for k, (i, j) in enumerate(pairs):
        if categorical[i] or categorical[j]:
            width = max(real_cells[:, j].max(), drawn_cells[:, j].max()) + 1
            joint = [cells[:, i] * width + cells[:, j] for cells in (real_cells, drawn_cells)]
            similarities[k] = 1.0 - total_variation(*joint)
        else:
            correlations = [_correlation(ranks[:, i], ranks[:, j]) for ranks in (real_ranks, drawn_ranks)]
            similarities[k] = 1.0 - 0.5 * abs(correlations[0] - correlations[1])
    return similarities


def _cells(real: np.ndarray, drawn: np.ndarray, categorical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each entry in contingency tables, as a whole number from 0, which means missing."""
    cells = tuple(np.zeros(part.shape, dtype=np.int64) for part in (real, drawn))
    for j, is_category in enumerate(categorical):
        present = real[~np.isnan(real[:, j]), j]
        edges = np.unique(np.quantile(present, _DECILES)) if len(present) and not is_category else None
        for part, into in zip((real, drawn), cells, strict=True):
            here = ~np.isnan(part[:, j])
            entries = part[here, j]
            if is_category:
                into[here, j] = entries.astype(np.int64) + 1
            else:
                into[here, j] = 1 if edges is None else np.searchsorted(edges, entries) + 1
    return cells[0], cells[1]


def _ranks(matrix: np.ndarray, categorical: np.ndarray) -> np.ndarray:
    """Return the ranks of the present entries of each column of numbers; NaN elsewhere."""
    ranks = np.full(matrix.shape, np.nan)
    for j in np.flatnonzero(~categorical):
        here = ~np.isnan(matrix[:, j])
        ranks[here, j] = rankdata(matrix[here, j])
    return ranks


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two columns of ranks, over the rows that lack neither."""
    both = ~(np.isnan(first) | np.isnan(second))
    if not both.all():
        first, second = rankdata(first[both]), rankdata(second[both])
    if not len(first) or not np.ptp(first) or not np.ptp(second):
        return 0.0  # a constant depends on nothing
    return float(np.corrcoef(first, second)[0, 1])
