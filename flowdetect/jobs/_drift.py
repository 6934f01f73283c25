"""Drift: whether new rows come from where the training rows came from, at a stated rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect._utils.checks import check_whole
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.jobs._drift_columns import adjust, compare_column, compare_scores, shortened
from flowdetect.jobs._drift_reference import LevelReference, NumberReference, TableReference, read_column
from flowdetect.jobs._drift_report import ColumnDrift, DriftReport, Verdict
from flowdetect.jobs._drift_scores import (
    held_out,
    leaves_out_rare_labels,
    members_of_rows,
    n_members,
    one_member_scores,
    schema_of,
)
from flowdetect.preprocessing._frame import align, as_frame

__all__ = ["DriftMonitor"]

_NO_COUNTS = (
    "no column was compared: the model holds no counts of its training rows, which flowdetect fit keeps, and "
    "flowdetect.save with metadata={'drift_reference': reference_of_fit(estimator, X).to_dict()}"
)
_SMALLEST_ALPHA = 1e-4
_MOST_EXAMPLES = 3
# Draws for the p-value of a column, more of them where many columns make small p-values matter.
_DRAWS = (9_999, 99_999)


class DriftMonitor:
    """Compare new rows with the training rows: their p-values, and every column.

    Rows are counted as they come, so memory does not grow with them and the batches do not matter. Half of
    `alpha` goes to the scores and half to the columns; without one of them all of it goes to the other.

    Parameters
    ----------
    estimator : fitted estimator
        With ``encoder_`` and ``score_samples``. If it has p-values its scores are compared with those of
        training rows that its members have not learnt from.
    reference : TableReference or None
        What `reference_of_fit` counted in the training rows. None leaves the columns out.
    alpha : float, default=0.01
        Rate of false alarms: how often the verdict is "drift" where nothing has changed.
    min_rows : int, default=50
        With fewer rows the verdict is "too few rows". The rate holds for fewer as well, but hardly any drift
        could be seen in them.
    ignore : sequence of column names, default=()
        Columns that are not compared, such as dates, which always change.

    Raises
    ------
    ConfigurationError
        If a parameter is out of range, a column is unknown, or there is nothing to compare with.

    Notes
    -----
    *Scores.* The score of a new row is the largest that a member gives, which is larger than the score that
    one member gives to a row it has not seen: p-values of `FlowOutlierDetector.p_values` are on average
    0.53 to 0.6, not 0.5, where nothing has changed. That makes its alarms safe, and would make every large
    batch look like drift. Here each new row is scored by one member, chosen without looking at it, and
    compared with the held-out scores. ``p = (1 + #{held-out scores <= score}) / (n + 1)`` is then uniform
    where nothing has changed. The share of rows with ``p <= a`` is compared with a at up to 29 levels from
    0.005 to 0.995, so rows that are too likely are seen as well as too unlikely ones.

    *Guarantee.* If training rows and new rows are exchangeable, the numbers of new scores in the gaps between
    n held-out ones follow Polya's urn, whatever the distribution; the largest deviation is judged by draws
    from it (`GapTest`). It takes into account that n is finite: 100,000 new rows against 1,000 old ones are
    not compared with the exact uniform. This is exact for one member and rows that it has not seen; for
    several members that share training rows, and an encoder that has seen all, it was checked by simulation.

    *Columns.* Numbers and times are compared with order statistics of the training rows in the same way;
    levels of labels by their largest deviation, given the rows of each level in both tables together; missing
    entries by Fisher's exact test; rare and unseen levels with what Good and Turing expect of them. Within a
    column the p-values are multiplied by their number (Bonferroni), among columns by Holm's procedure.

    *What the rate means.* It is an average over training tables and new rows. One model is compared with the
    same training rows every night: its alarms in many nights are not independent, and with far more new rows
    than training rows a single model gives either hardly any false alarm or many. Rows that depend on each
    other (copies of rows, several rows of one patient) count as more evidence than they are.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowOutlierDetector
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> detector = FlowOutlierDetector(max_steps=20, random_state=0).fit(X)
    >>> from flowdetect.jobs import reference_of_fit
    >>> monitor = DriftMonitor(detector, reference_of_fit(detector, X))
    >>> monitor.update(rng.normal(size=(300, 2)) + [0.0, 0.8])
    >>> monitor.report().verdict
    'drift'
    """

    def __init__(
        self,
        estimator: Any,
        reference: TableReference | None,
        *,
        alpha: float = 0.01,
        min_rows: int = 50,
        ignore: Sequence[Any] = (),
    ) -> None:
        if not (isinstance(alpha, float | np.floating) and _SMALLEST_ALPHA <= alpha < 0.5):
            raise ConfigurationError(f"alpha must be from {_SMALLEST_ALPHA} to below 0.5; got {alpha!r}.")
        check_whole("min_rows", min_rows)
        self.estimator = estimator
        self.reference = reference
        self.alpha = float(alpha)
        self.min_rows = int(min_rows)
        self.ignore = tuple(ignore)
        self._schema = schema_of(estimator)
        self._scores = held_out(estimator, reference)
        self._watched = self._columns_to_watch()
        if self._scores is None and not self._watched:
            raise ConfigurationError(
                "There is nothing to compare new rows with: the model has no held-out scores, and no column "
                "of its training rows is compared."
            )
        self.n_rows = 0
        self._score_counts = np.zeros(0 if self._scores is None else self._scores.size, dtype=np.int64)
        self._counts = {k: np.zeros(column.size, dtype=np.int64) for k, column in self._watched.items()}
        self._examples: dict[int, list[str]] = {k: [] for k in self._watched}

    def update(self, X: Any, scores: NDArray[np.float64] | None = None) -> None:
        """Count further rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            Rows that the estimator can score.
        scores : ndarray of shape (n_rows, n_members), optional
            What `member_scores` gives for them, if that is known already. Else each row is scored here, by
            one member.

        Raises
        ------
        InvalidTableError
            If the columns are not those of the model, or the scores are not finite or not of that shape.
        """
        frame = align(*as_frame(X), self._schema)
        if not len(frame):
            return
        counts = None
        if self._scores is not None:
            compared = self._one_score_a_row(frame, scores)
            compared[self._rare_labels(frame)] = np.nan
            counts = self._scores.count(compared)
        for position in self._watched:
            self._count_column(frame, position)
        if counts is not None:
            self._score_counts += counts
        self.n_rows += len(frame)

    def report(self) -> DriftReport:
        """Return the verdict on all rows so far."""
        if self.n_rows < self.min_rows:
            return DriftReport(
                self.n_rows, "too few rows", None, self.alpha, self.min_rows, None, (), self.note
            )
        share = self.alpha / 2.0 if self._scores is not None and self._watched else self.alpha
        score = None if self._scores is None else compare_scores(self._scores, self._score_counts, share)
        columns = self._compare_columns(share)
        smallest = min([*(c.p_adjusted for c in columns), *([score.p_value] if score else [])])
        p_value = min(1.0, smallest * (self.alpha / share))
        verdict: Verdict = "drift" if smallest <= share else "no drift seen"
        return DriftReport(
            self.n_rows, verdict, p_value, self.alpha, self.min_rows, score, columns, self.note
        )

    @property
    def note(self) -> str | None:
        """Why no column is compared; None where some can be."""
        return _NO_COUNTS if self.reference is None else None

    def counts(self) -> dict[str, Any]:
        """Return what was counted so far, ready for ``json.dumps`` and for `add`."""
        return {
            "n_rows": self.n_rows,
            "scores": self._score_counts.tolist(),
            "columns": {str(position): counts.tolist() for position, counts in self._counts.items()},
            "examples": {str(position): list(found) for position, found in self._examples.items()},
        }

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add what a monitor of the same model and the same columns has counted elsewhere or before.

        Raises
        ------
        InvalidTableError
            If it is not what `counts` returns for this model and these columns.
        """
        own = self.counts()
        try:
            scores = _same_shape(own["scores"], counts["scores"])
            columns = {k: _same_shape(own["columns"][k], v) for k, v in counts["columns"].items()}
            examples = {k: [str(text) for text in counts["examples"][k]] for k in columns}
            n_rows = counts["n_rows"]
            if columns.keys() != own["columns"].keys() or type(n_rows) is not int or n_rows < 0:
                raise ValueError("other columns, or a wrong number of rows")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidTableError(
                f"Counts must be those of a DriftMonitor of the same model and columns: {error}."
            ) from error
        self.n_rows += n_rows
        self._score_counts += scores
        for key, values in columns.items():
            self._counts[int(key)] += values
            self._remember(int(key), examples[key])

    # --- counting -------------------------------------------------------------------------------------

    def _columns_to_watch(self) -> dict[int, NumberReference | LevelReference]:
        names = self._schema.names
        unknown = [name for name in self.ignore if name not in names]
        if unknown:
            raise ConfigurationError(f"ignore must name columns of the model; it has no {unknown[0]!r}.")
        if self.reference is None:
            return {}
        if len(self.reference.columns) != len(names):
            raise InvalidTableError(
                f"The reference must have the {len(names)} columns of the model; it has "
                f"{len(self.reference.columns)}."
            )
        return {k: column for k, column in enumerate(self.reference.columns) if names[k] not in self.ignore}

    def _one_score_a_row(
        self, frame: pd.DataFrame, scores: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        width = n_members(self.estimator)
        member = members_of_rows(self.n_rows, len(frame), width)
        if scores is None:
            values = one_member_scores(self.estimator, frame, member)
        else:
            scores = np.asarray(scores, dtype=np.float64)
            if scores.shape != (len(frame), width):
                raise InvalidTableError(
                    f"scores must have shape {(len(frame), width)}, a column for each member; got "
                    f"{scores.shape}."
                )
            values = scores[np.arange(len(frame)), member]
        if not np.isfinite(values).all():
            raise InvalidTableError(f"Scores must be finite; {int((~np.isfinite(values)).sum())} are not.")
        return values

    def _rare_labels(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows hold a rare or unseen label: their scores are not compared, but the labels are."""
        rare = np.zeros(len(frame), dtype=bool)
        if self.reference is None or not leaves_out_rare_labels(self.estimator):
            return rare
        for position, column in enumerate(self.reference.columns):
            entries = read_column(frame, position, self._schema.columns[position])
            if isinstance(column, LevelReference) and isinstance(entries, tuple):
                places, labels = entries
                rare |= np.append(~np.isin(places, column.levels), False)[labels]
        return rare

    def _count_column(self, frame: pd.DataFrame, position: int) -> None:
        reference = self._watched[position]
        entries = read_column(frame, position, self._schema.columns[position])
        if isinstance(reference, NumberReference) and not isinstance(entries, tuple):
            self._counts[position] += reference.count(entries)
        elif isinstance(reference, LevelReference) and isinstance(entries, tuple):
            self._counts[position] += reference.count(*entries)
            self._note_unseen(frame, position, *entries)
        else:
            raise InvalidTableError(
                f"The reference of column {self._schema.names[position]!r} is of another kind."
            )

    def _note_unseen(
        self, frame: pd.DataFrame, position: int, places: NDArray[np.intp], labels: NDArray[np.intp]
    ) -> None:
        if len(self._examples[position]) < _MOST_EXAMPLES:
            unknown = np.append(places < 0, False)[labels]
            found = pd.unique(frame.iloc[np.flatnonzero(unknown), position])
            self._remember(position, [shortened(label) for label in found[:_MOST_EXAMPLES]])

    def _remember(self, position: int, examples: Sequence[str]) -> None:
        self._examples[position] = list(dict.fromkeys([*self._examples[position], *examples]))[
            :_MOST_EXAMPLES
        ]

    def _compare_columns(self, alpha: float) -> tuple[ColumnDrift, ...]:
        columns = self._schema.columns
        n_draws = math.ceil(20.0 * len(self._watched) / alpha)
        compared = [
            compare_column(
                columns[position],
                reference,
                self._counts[position],
                columns[position].levels,
                self._examples[position],
                min(max(n_draws, _DRAWS[0]), _DRAWS[1]),
            )
            for position, reference in self._watched.items()
        ]
        return adjust(compared, alpha)


def _same_shape(own: list[int], given: Any) -> NDArray[np.int64]:
    if len(given) != len(own) or not all(type(count) is int and 0 <= count < 2**62 for count in given):
        raise ValueError("a column has other counts")
    return np.array(given, dtype=np.int64)
