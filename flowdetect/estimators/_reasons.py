"""What `FlowOutlierDetector` says about columns: their contributions, and what was to be expected there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.estimators._ensemble import EnsembleEstimator
from flowdetect.estimators._rows import EncodedRows, take_rows
from flowdetect.exceptions import ConfigurationError
from flowdetect.explanation import (
    column_candidates,
    column_gains,
    column_scores,
    share_out,
    weighted_quantiles,
)

__all__ = ["ReasonsEstimator"]

_REFERENCE_ROWS = 1000
_N_CANDIDATES = 16
_N_TYPICAL = 32
# Of more columns than this, those are judged that differ most from the nearest rows.
_MOST_COLUMNS = 64
# Noise scale at which columns are judged beside each other.
_SCALE = 0.1


class ReasonsEstimator(EnsembleEstimator):
    """Base of an ensemble that explains its scores."""

    typical_score_: float

    def explain(self, X: Any) -> pd.DataFrame:
        """Return how much each column contributes to the score of a row.

        What a row's score lies below that of a typical row is shared out between its columns, in proportion
        to what the flows would gain if one column held its best-fitting usual content while all others
        stayed. A value that is odd only beside the others is found as well. Two columns that contradict each
        other share the blame: the density cannot know which of them is wrong.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        DataFrame of shape (n_rows, n_features)
            Contributions in nats, negative = makes the row unlikely. Each row sums to
            ``score_samples(X) - typical_score_``; in a row more likely than the typical one all are positive.
            Index and column names are those of X, or counted from 0 for an array.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.

        Notes
        -----
        It takes about as long as scoring the same rows ``3 * n_features`` times. In a table of more than 64
        columns only those 64 of a row are looked at in which it differs most from its nearest training rows;
        the others contribute nothing to its being unlikely.

        Examples
        --------
        >>> import numpy as np
        >>> from flowdetect import FlowOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> detector = FlowOutlierDetector(max_steps=100, random_state=0).fit(X)
        >>> int(detector.explain([[0.0, 6.0]]).loc[0].idxmin())
        1
        """
        X, _ = self._check_scoring(X, None)
        groups = self._column_groups()
        differences = self._score_rows(X, self._members) - self.typical_score_
        gains = np.empty((len(X), self.n_features_in_))
        for rows in self._chunks(len(X)):
            matrix = self.encoder_.encode(take_rows(X, rows))[0]
            wanted = self._worth_a_look(matrix)
            gains[rows] = column_gains(self._judge, matrix, groups, self._candidates, wanted)
        names = pd.Index(self.encoder_.schema_.names, tupleize_cols=False)
        return pd.DataFrame(share_out(gains, differences), index=_index_of(X), columns=names)

    def typical(self, X: Any, *, columns: Sequence[Any] | None = None, coverage: float = 0.9) -> pd.DataFrame:
        """Return what each column would be expected to hold, given all other columns of the row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        columns : sequence of column names (positions for an array), optional
            The columns that are wanted; None for all.
        coverage : float, default=0.9
            Probability of the interval, between 0 and 1.

        Returns
        -------
        DataFrame of shape (n_rows, 3 * n_columns)
            For each column ``(name, "typical")``, ``(name, "low")`` and ``(name, "high")``: median and
            central interval of numbers and times, among 32 values at evenly spaced ranks of the training
            rows. For categories the most probable one, and no interval (missing). What is expected may be a
            missing entry.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        ConfigurationError
            If `columns` names an unknown one, or `coverage` is not between 0 and 1.
        NotFittedError
            Before fit.

        Notes
        -----
        The conditional density of a column is the joint density with its other values put in, by Bayes' rule;
        that of the flows at a noise scale of 0.1 standard units.

        Examples
        --------
        >>> import numpy as np
        >>> from flowdetect import FlowOutlierDetector
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 300))
        >>> X = np.column_stack([x, x + 0.1 * noise])
        >>> detector = FlowOutlierDetector(max_steps=200, random_state=0).fit(X)
        >>> typical = detector.typical([[1.0, -1.0]], columns=[1])
        >>> bool(typical.loc[0, (1, "low")] <= 1.0 <= typical.loc[0, (1, "high")])
        True
        """
        X, _ = self._check_scoring(X, None)
        if not 0.0 < coverage < 1.0:
            raise ConfigurationError(f"coverage must lie between 0 and 1; got {coverage!r}.")
        names = self.encoder_.schema_.names
        wanted = list(names) if columns is None else list(columns)
        unknown = [name for name in wanted if name not in names]
        if not wanted:
            raise ConfigurationError("columns must name at least one column of fit; got none.")
        if unknown:
            raise ConfigurationError(f"columns must be columns of fit; got {unknown}. They are {names}.")
        low = 0.5 * (1.0 - coverage)
        parts: dict[tuple[Any, str], Any] = {}
        for name in wanted:
            position = names.index(name)
            picked = self._conditional_quantiles(X, position, [0.5, low, 1.0 - low])
            for kind, contents in zip(("typical", "low", "high"), picked, strict=True):
                parts[name, kind] = contents.array
        frame = pd.DataFrame(parts, index=_index_of(X))
        frame.columns = pd.MultiIndex.from_tuples(list(parts))
        return frame

    # --- inside -----------------------------------------------------------------------------------

    def _learn_reasons(self, source: EncodedRows, rng: np.random.Generator) -> None:
        some = rng.permutation(len(source))[:_REFERENCE_ROWS]
        reference = source.encoded(np.sort(some)).astype(np.float64)
        groups = self._column_groups()
        self._candidates = column_candidates(reference, groups, _N_CANDIDATES)
        self._finer_candidates = column_candidates(reference, groups, _N_TYPICAL)
        self._usual_row = reference[0]

    def _column_groups(self) -> list[np.ndarray]:
        """Return the matrix columns of each table column."""
        owner = self.encoder_.column_of_
        return [np.flatnonzero(owner == position) for position in range(self.n_features_in_)]

    def _worth_a_look(self, matrix: np.ndarray) -> np.ndarray | None:
        """Return which columns of a row differ most from its neighbours, for their spread; None for all."""
        if self.n_features_in_ <= _MOST_COLUMNS:
            return None
        points, owner = self.encoder_.coordinates(matrix), self.encoder_.coordinate_columns_
        neighbours = self._members[0].neighbours
        spread = np.bincount(owner, neighbours.points.var(axis=0), minlength=self.n_features_in_) + 1e-3
        apart = np.zeros((len(points), self.n_features_in_))
        for row, near in enumerate(neighbours.find(points)[1]):
            squares = np.square(neighbours.points[near] - points[row]).mean(axis=0)
            apart[row] = np.bincount(owner, squares, minlength=self.n_features_in_) / spread
        least = np.partition(apart, -_MOST_COLUMNS, axis=1)[:, [-_MOST_COLUMNS]]
        more, equal = apart > least, apart == least
        # Of columns that differ equally, the first ones.
        room = _MOST_COLUMNS - more.sum(axis=1, keepdims=True)
        wanted: np.ndarray = more | (equal & (np.cumsum(equal, axis=1) <= room))
        return wanted

    def _judge(self, matrix: np.ndarray) -> np.ndarray:
        """Return the mean log-density of encoded rows over the flows, at one noise scale."""
        total = np.zeros(len(matrix))
        for rows in self._chunks(len(matrix)):
            for member in self._members:
                total[rows] += self._by_scale(matrix[rows], member.density, (_SCALE,))[0]
        return total / len(self._members)

    def _conditional_quantiles(self, X: Any, position: int, levels: Sequence[float]) -> list[pd.Series]:
        """Return the contents of a column at levels of its conditional distribution; see `typical`."""
        group = self._column_groups()[position]
        column = self.encoder_.schema_.columns[position]
        candidates = self._finer_candidates[position]
        if column.kind == "copy":
            return [self._as_copied(X, position)] * len(levels)
        decoded = self._decode(group, candidates, position)
        if not len(group):
            return [decoded.take(np.zeros(len(X), dtype=int))] * len(levels)
        weights = np.empty((len(X), len(candidates)))
        widths = _widths(candidates, has_values=column.values is not None)
        for rows in self._chunks(len(X)):
            matrix = self.encoder_.encode(take_rows(X, rows))[0]
            logs = column_scores(self._judge, matrix, group, candidates) + np.log(widths)
            weights[rows] = np.exp(logs - logs.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        best = weights.argmax(axis=1)
        if column.storage.family not in ("number", "time"):
            nothing = pd.Series([None] * len(X), dtype=object)
            return [decoded.take(best), *[nothing for _ in levels[1:]]]
        order = np.argsort(decoded.to_numpy(), kind="stable")  # missing last
        present = int(decoded.notna().sum())
        ordered = weights[:, order[:present]]
        picked = weighted_quantiles(ordered / np.maximum(ordered.sum(axis=1, keepdims=True), 1e-300), levels)
        # Where a missing entry is more likely than not, it is what is to be expected.
        absent = ordered.sum(axis=1) < 0.5
        contents = [order[picked[:, i]] for i in range(len(levels))]
        if absent.any():
            contents = [np.where(absent, order[-1], content) for content in contents]
        return [decoded.take(content) for content in contents]

    def _decode(self, group: np.ndarray, candidates: np.ndarray, position: int) -> pd.Series:
        """Return candidates of a column as the caller's entries."""
        rows = np.tile(self._usual_row, (len(candidates), 1))
        rows[:, group] = candidates
        return _column_of(self.encoder_.decode(rows), position)

    def _as_copied(self, X: Any, position: int) -> pd.Series:
        """Return what a column that copies another one would hold if it did so in these rows too."""
        matrix = self.encoder_.encode(X)[0]
        matrix[:, self._column_groups()[position]] = 0.0
        return _column_of(self.encoder_.decode(matrix), position)


def _widths(candidates: np.ndarray, *, has_values: bool) -> np.ndarray:
    """Return the width of the cell around each candidate, in encoded units; 1 for codes and missing ones."""
    widths = np.ones(len(candidates))
    if not has_values:
        return widths
    observed = candidates[:, 1] == 0 if candidates.shape[1] > 1 else np.ones(len(candidates), dtype=bool)
    values = candidates[observed, 0]
    if len(values) > 1:
        widths[observed] = np.maximum(np.gradient(values), 1e-12)
    return widths


def _column_of(table: Any, position: int) -> pd.Series:
    return table.iloc[:, position] if isinstance(table, pd.DataFrame) else pd.Series(table[:, position])


def _index_of(X: Any) -> pd.Index:
    return X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(X))
