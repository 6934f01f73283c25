"""`compare_tables` and `compare_columns`: every measure of drawn rows, with its baseline."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.exceptions import ConfigurationError
from flowdetect.quality import _neighbours as neighbours
from flowdetect.quality._classifiers import task_of, task_scores, two_sample_auroc
from flowdetect.quality._fidelity import column_similarities, pair_similarities
from flowdetect.quality._tables import (
    Tables,
    column_position,
    encoded_points,
    read_tables,
    row_ids,
    thinned,
)

__all__ = ["compare_columns", "compare_tables"]

_MIN_ROWS = 10
_MAX_ROWS = 10_000
_MAX_PAIRS = 2_000
_N_NEIGHBOURS = 5
_TAIL = 0.05

_BASELINE = "the baseline"


@dataclass(frozen=True)
class _Measure:
    """A row of the result."""

    name: str
    value: float
    baseline: float
    ideal: float | str
    meaning: str


@dataclass(frozen=True)
class _Rows:
    """What is compared: the real rows, the drawn ones, and real ones that the generator has not seen."""

    tables: Tables
    real: np.ndarray
    drawn: np.ndarray
    held_out: np.ndarray | None
    seed: int

    def both(self, measure: Callable[[np.ndarray], float]) -> tuple[float, float]:
        """Return a measure of the drawn rows, and of the held-out rows in their place."""
        baseline = float("nan") if self.held_out is None else measure(self.held_out)
        return measure(self.drawn), baseline

    def thinned(self, n_rows: int) -> "_Rows":
        """Return at most that many rows of each table."""
        rngs = [np.random.default_rng([self.seed, k]) for k in range(3)]
        held_out = None if self.held_out is None else thinned(self.held_out, n_rows, rngs[2])
        real, drawn = thinned(self.real, n_rows, rngs[0]), thinned(self.drawn, n_rows, rngs[1])
        return _Rows(self.tables, real, drawn, held_out, self.seed)

    def evened(self) -> "_Rows":
        """Return as many drawn rows as held-out ones, and all real ones."""
        if self.held_out is None:
            return self
        size = min(len(self.drawn), len(self.held_out))
        rngs = [np.random.default_rng([self.seed, k]) for k in (1, 2)]
        drawn, held_out = (
            thinned(rows, size, rng) for rows, rng in zip((self.drawn, self.held_out), rngs, strict=True)
        )
        return _Rows(self.tables, self.real, drawn, held_out, self.seed)


def compare_columns(real: Any, drawn: Any) -> pd.DataFrame:
    """Measure how alike each column of two tables is.

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_real, n_columns)
        Real rows, of any dtypes, with missing entries or not.
    drawn : DataFrame or array-like of shape (n_drawn, n_columns)
        Drawn rows with the same columns: by name between DataFrames, by position otherwise.

    Returns
    -------
    DataFrame
        A row for each column, in the order of `real`, with

        - ``kind``: "number", "time" or "category" (booleans are categories);
        - ``similarity``: from 0 to 1, 1 = the same shares. For categories one less the total variation
          distance, a missing entry being a category of its own. For numbers and times one less the
          Kolmogorov-Smirnov distance of the present entries, or one less the difference of the missing
          shares if that is smaller;
        - ``missing_real``, ``missing_drawn``: shares of missing entries;
        - ``new``: share of the present drawn entries that are a category no real row holds, or lie outside
          the range of the real ones. NaN if no entry is present.

    Raises
    ------
    InvalidTableError
        If a table has no rows, the columns differ, or a column does not hold the same kind of entries.

    See Also
    --------
    compare_tables : Measures of whole tables.

    Notes
    -----
    Both distances are those of SDMetrics' KSComplement and TVComplement. In a small table neither is 0 for
    rows of the same distribution: the Kolmogorov-Smirnov distance of 100 rows to 100 others is about 0.12,
    and the total variation of a column that identifies rows is 1.

    References
    ----------
    DataCebo (2023), *Synthetic Data Metrics* (SDMetrics), KSComplement and TVComplement.

    Examples
    --------
    >>> import pandas as pd
    >>> from flowdetect.quality import compare_columns
    >>> real = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "red", "blue", None]})
    >>> drawn = pd.DataFrame({"size": [3.0, 4.0, 5.0, 6.0], "colour": ["red", "red", "blue", "blue"]})
    >>> compare_columns(real, drawn)[["kind", "similarity", "new"]]
                kind  similarity  new
    size      number        0.50  0.5
    colour  category        0.75  0.0
    """
    tables = read_tables({"real": real, "drawn": drawn})
    first, second = tables.matrices
    return pd.DataFrame(
        {
            "kind": list(tables.kinds),
            "similarity": column_similarities(first, second, tables.categorical),
            "missing_real": np.isnan(first).mean(axis=0),
            "missing_drawn": np.isnan(second).mean(axis=0),
            "new": [
                _share_of_new(x, y, is_category)
                for x, y, is_category in zip(first.T, second.T, tables.categorical, strict=True)
            ],
        },
        index=pd.Index(tables.names, tupleize_cols=False),
    )


def compare_tables(
    real: Any,
    drawn: Any,
    *,
    held_out: Any = None,
    target: Any = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Judge drawn rows against real ones: fidelity, use for learning, privacy, and coverage.

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_real, n_columns)
        Real rows that the drawn ones were learnt from, at least 10. Any dtypes, with missing entries or not.
    drawn : DataFrame or array-like of shape (n_drawn, n_columns)
        At least 10 drawn rows with the same columns: by name between DataFrames, by position otherwise.
    held_out : DataFrame or array-like of shape (n_held_out, n_columns) or None, default=None
        At least 10 real rows that the drawn ones were not learnt from: what a perfect generator would draw.
        None leaves the baselines NaN.
    target : column name, position for arrays, or None, default=None
        Column that the others are to predict; used together with `held_out` only.
    random_state : int, RandomState, Generator or None, default=None
        An int gives the same numbers each time.

    Returns
    -------
    DataFrame
        A row for each measure, with

        - ``value``: of the drawn rows;
        - ``baseline``: of the held-out rows in their place; NaN without `held_out`;
        - ``ideal``: what a perfect generator reaches, a number or "the baseline";
        - ``meaning``: one sentence.

        The measures, between 0 and 1 unless said otherwise:

        - "marginal fidelity", "worst column": mean and minimum of the similarities of `compare_columns`;
        - "pairwise fidelity": mean over pairs of columns, of one less half the difference of Spearman's
          correlations for two numbers, otherwise of one less the total variation distance of the
          contingency tables, numbers being cut at the real deciles [1]_. NaN for a single column;
        - "C2ST AUROC": how well a classifier (histogram gradient boosting, five folds, as many rows of
          either table, a real row and its copies in one fold) tells drawn rows from real ones that it has
          not seen [2]_. 0.5 = not at all, 1 = each of them; clearly below 0.5 where drawn rows lie close to
          single real ones. The classifier is blind to copies, which are counted below;
        - "TSTR AUROC" and "TSTR average precision" (classes, mean over the classes), or "TSTR R2" (numbers,
          1 at most): how well the held-out targets are predicted by gradient boosting trained on drawn rows
          (the baseline: on real rows) [3]_. With `target` and `held_out` only. A target of at most 10
          distinct whole numbers is one of classes;
        - "closest record, median", "closest record, 5 %": quantiles of the distances of the rows to their
          nearest real row, in the coordinates of `TableEncoder` (about one unit for the spread of a number
          and between two categories; not bounded) [4]_. Much smaller than the baseline = copied;
        - "exact copies": share of rows equal to a real row in every column;
        - "near copies": share of rows less than half as far from their nearest real row as that is from
          its own nearest other real row. Copies of real rows without a double are among them;
        - "coverage": share of real rows within whose distance to their 5th nearest other real row there is
          a row. Its ideal is the mean for rows of the same continuous distribution [5]_;
        - "density": number of such neighbourhoods that a row lies in on average, divided by 5 (not
          bounded) [5]_.

    Raises
    ------
    InvalidTableError
        If a table has fewer than 10 rows, the columns differ, a column does not hold the same kind of
        entries, or an entry is infinite.
    ConfigurationError
        If `target` is not a column, is the only one, or has no real entry, or `random_state` is unusable.

    Notes
    -----
    The work is bounded: all but the marginal fidelities and the exact copies take at most 10,000 rows of each
    table and 2,000 pairs of columns, chosen at random. Fidelities and coverage depend on the number of rows;
    with `held_out` they are therefore taken from as many drawn rows as held-out ones.

    References
    ----------
    .. [1] DataCebo (2023), *Synthetic Data Metrics* (SDMetrics), KSComplement, TVComplement,
       CorrelationSimilarity and ContingencySimilarity.
    .. [2] D. Lopez-Paz, M. Oquab (2017), "Revisiting classifier two-sample tests", ICLR.
    .. [3] C. Esteban, S. L. Hyland, G. Rätsch (2017), "Real-valued (medical) time series generation with
       recurrent conditional GANs", arXiv:1706.02633.
    .. [4] Z. Zhao, A. Kunar, R. Birke, L. Y. Chen (2021), "CTAB-GAN: effective table data
       synthesizing", ACML.
    .. [5] M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi, J. Yoo (2020), "Reliable fidelity and diversity metrics for
       generative models", ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.quality import compare_tables
    >>> rng = np.random.default_rng(0)
    >>> real, held_out = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    >>> quality = compare_tables(real, real.copy(), held_out=held_out, random_state=0)
    >>> quality.loc["exact copies", ["value", "baseline"]].tolist()
    [1.0, 0.0]
    """
    given = {"real": real, "drawn": drawn} | ({} if held_out is None else {"held_out": held_out})
    tables = read_tables(given, min_rows=_MIN_ROWS)
    position = _target_position(target, tables)
    rest = tables.matrices[2] if held_out is not None else None
    rows = _Rows(tables, tables.matrices[0], tables.matrices[1], rest, resolve_seed(random_state))
    bounded = rows.thinned(_MAX_ROWS)
    points = _encoded(bounded)
    measures = [
        *_marginal(rows.evened()),
        _pairwise(bounded.evened()),
        _two_sample(bounded),
        *_trained_on_drawn(bounded, position),
        *_privacy(rows, points),
        *_coverage(points),
    ]
    frame = pd.DataFrame(measures).set_index("name").rename_axis("measure")
    return frame.astype({"ideal": object})


def _share_of_new(real: np.ndarray, drawn: np.ndarray, is_category: bool) -> float:
    known, entries = real[~np.isnan(real)], drawn[~np.isnan(drawn)]
    if not len(entries):
        return float("nan")
    if is_category or not len(known):
        return float(np.mean(~np.isin(entries, known)))
    return float(np.mean((entries < known.min()) | (entries > known.max())))


def _target_position(target: Any, tables: Tables) -> int | None:
    if target is None:
        return None
    position = column_position(target, tables.names, "target")
    if len(tables.names) == 1:
        raise ConfigurationError(f"target must be predicted by other columns; {target!r} is the only one.")
    return position


# --- the measures ----------------------------------------------------------------------------------------


def _marginal(rows: _Rows) -> Iterator[_Measure]:
    def similarities(others: np.ndarray) -> np.ndarray:
        return column_similarities(rows.real, others, rows.tables.categorical)

    of_drawn = similarities(rows.drawn)
    of_held_out = np.full(1, np.nan) if rows.held_out is None else similarities(rows.held_out)
    worst = rows.tables.names[int(of_drawn.argmin())]
    yield _Measure(
        *("marginal fidelity", float(of_drawn.mean()), float(of_held_out.mean()), 1.0),
        "How alike the columns are one by one, on average; 1 = the same.",
    )
    yield _Measure(
        *("worst column", float(of_drawn.min()), float(of_held_out.min()), 1.0),
        f"How alike the column is that differs most, {worst!r}; 1 = the same.",
    )


def _pairwise(rows: _Rows) -> _Measure:
    def mean_similarity(others: np.ndarray) -> float:
        rng = np.random.default_rng([rows.seed, 3])
        pairs = pair_similarities(rows.real, others, rows.tables.categorical, max_pairs=_MAX_PAIRS, rng=rng)
        return float(pairs.mean()) if len(pairs) else float("nan")

    return _Measure(
        *("pairwise fidelity", *rows.both(mean_similarity), 1.0),
        "How alike pairs of columns go together, on average; 1 = the same.",
    )


def _two_sample(rows: _Rows) -> _Measure:
    value, baseline = rows.both(
        lambda others: two_sample_auroc(rows.real, others, rows.tables.categorical, seed=rows.seed)
    )
    return _Measure(
        *("C2ST AUROC", value, baseline, 0.5),
        "How well a classifier tells the rows from real ones; 0.5 = not at all, 1 = always.",
    )


def _trained_on_drawn(rows: _Rows, target: int | None) -> Iterator[_Measure]:
    if target is None or rows.held_out is None:
        return
    categorical = rows.tables.categorical
    task = task_of(rows.real, target, categorical)
    values, baselines = (
        task_scores(train, rows.held_out, task, categorical, seed=rows.seed)
        for train in (rows.drawn, rows.real)
    )
    for name, value in values.items():
        yield _Measure(
            *(f"TSTR {name}", value, baselines[name], _BASELINE),
            "How well a model trained on the drawn rows (baseline: on the real rows) predicts the held-out "
            f"{rows.tables.names[target]!r}; 1 = perfectly.",
        )


def _privacy(rows: _Rows, points: _Rows) -> Iterator[_Measure]:
    def copied(others: np.ndarray) -> float:
        ids, real_ids = row_ids(others, rows.real)
        return float(np.mean(np.isin(ids, real_ids)))

    sets = [points.drawn] if points.held_out is None else [points.drawn, points.held_out]
    nearest = [neighbours.nearest_distances(others, points.real) for others in sets]
    own = neighbours.nearest_distances(points.real)[0][:, 0]
    for name, level in (("median", 0.5), ("5 %", _TAIL)):
        quantiles = [float(np.quantile(distances, level)) for distances, _ in nearest]
        yield _Measure(
            *(f"closest record, {name}", *_or_nan(quantiles), _BASELINE),
            f"Distance to the nearest real row in encoded units, {name}; far below the baseline = too near.",
        )
    yield _Measure(
        *("exact copies", *rows.both(copied), _BASELINE),
        "Share of rows that are equal to a real row.",
    )
    shares = [neighbours.near_copies(*found, own) for found in nearest]
    yield _Measure(
        *("near copies", *_or_nan(shares), _BASELINE),
        "Share of rows less than half as far from a real row as that is from other real rows.",
    )


def _or_nan(numbers: list[float]) -> tuple[float, float]:
    return numbers[0], numbers[1] if len(numbers) > 1 else float("nan")


def _coverage(points: _Rows) -> Iterator[_Measure]:
    k, radii = _N_NEIGHBOURS, neighbours.radii(points.real, _N_NEIGHBOURS)
    even = points.evened()
    yield _Measure(
        "coverage",
        *even.both(lambda others: neighbours.coverage(others, even.real, radii)),
        neighbours.expected_coverage(len(even.real), len(even.drawn), k),
        "Share of real rows that have one of the rows in their neighbourhood; low = parts are left out.",
    )
    yield _Measure(
        *("density", *points.both(lambda others: neighbours.density(others, points.real, radii, k)), 1.0),
        "How crowded with real rows the places of the rows are; below 1 = rows where no real ones are.",
    )


def _encoded(rows: _Rows) -> _Rows:
    """Return the same rows as points between which there are distances."""
    matrices = [rows.real, rows.drawn] + ([] if rows.held_out is None else [rows.held_out])
    real, drawn, *rest = encoded_points(rows.tables, *matrices)
    return _Rows(rows.tables, real, drawn, rest[0] if rest else None, rows.seed)
