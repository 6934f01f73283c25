"""`SeriesOutlierDetector`: odd stretches of series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.calibration import contamination_offset, fence_offset
from flowdetect.estimators import FlowDensity
from flowdetect.exceptions import ConfigurationError
from flowdetect.timeseries._choices import LEAST_WINDOW, choose_windows, rows_between
from flowdetect.timeseries._events import event_spans, offset_for_events
from flowdetect.timeseries._model import SeriesModel
from flowdetect.timeseries._preparing import PreparedStretch, Preparer
from flowdetect.timeseries._reading import SeriesRows, check_name
from flowdetect.timeseries._stream import SeriesStream
from flowdetect.timeseries._stretch import ModelledStretch

__all__ = ["SeriesOutlierDetector"]

_HELD_OUT_PARTS = 4
_LEAST_SHARE_TO_BLAME, _MOST_TO_BLAME = 0.2, 3
# The scores of a series that keeps still differ by rounding only, which must not make a row odd.
_ROUNDING = 1e-9


class SeriesOutlierDetector(OutlierMixin, BaseEstimator):
    """Find odd stretches of one series, or of several, and say how odd each row is.

    Windows of two lengths slide over the series. Of each window the detector knows how likely its rough
    course is, by a conditional flow whose context is the series it belongs to, the calendar and what else is
    given; how far it is from its nearest likes elsewhere; and what a linear map of its details misses. A
    second flow says how likely each row is, given the rows before it. A row is as odd as the windows that
    cover it, or as it is by itself.

    A series is an array of shape (n_rows,) or (n_rows, n_channels), a pandas Series, or a DataFrame with
    columns of any type. Rows are one step apart, or have time stamps: a DatetimeIndex, or the column that
    `time` names. Unsorted rows are sorted, and scores come in the order of the rows given. Repeated, missing
    and irregular stamps are refused. Missing numbers, and short gaps, are filled with the last value before;
    that a number is missing counts as well.

    Parameters
    ----------
    window : int or "auto", default="auto"
        Rows of the shorter windows; the others are twice as long. "auto" takes about 200, a multiple of the
        period if the autocorrelation shows one, and at most a sixteenth of the longest stretch without a long
        gap.
    time : column name, optional
        Column of the time stamps, if they are not the index.
    entity : column name, optional
        Column that tells several series apart. They share one model.
    contamination : "auto" or float, default="auto"
        The threshold. A float in (0, 0.5] is the share of the rows of fit that `predict` calls odd. "auto"
        takes Tukey's lower fence of their scores.
    time_between_false_alarms : int, str or Timedelta, optional
        Another threshold, in place of `contamination`: the mean time between events in a series in which
        nothing happens, as a number of rows or, with time stamps, such as "30D". See Notes.
    calendar : bool, default=True
        With time stamps, whether the time of day, the weekday and the time of year are context, as far as the
        step and the length of the series allow.
    max_gap : int, default=10
        A gap of more absent rows than this divides a series into stretches; no window spans it.
    max_steps : int, default=400
        Most steps of the optimiser in training each flow.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    windows_ : tuple of int
        Lengths of the windows.
    offset_ : float
        The threshold: ``decision_function(series) = score_samples(series) - offset_``.
    training_scores_ : ndarray of shape (n_rows,)
        Score of each row of fit.
    window_density_ : FlowDensity
        The flow of the windows.
    row_density_ : FlowDensity
        The flow of a row given those before it.

    See Also
    --------
    SlidingWindow : Windows as columns, for other estimators.

    Notes
    -----
    Windows of fit that overlap must not excuse each other. So the distance of a window is that to the nearest
    window in the third-nearest of blocks of the series, each a window long: the nearest may be its own, the
    next one its neighbour. A stretch that occurs twice is still odd, one that occurs in many places is not.

    The flow of the rows is of what a linear regression on the rows before leaves, as in `SeriesAugmenter`,
    of the leading directions of many channels.

    Each measure of windows is averaged over the windows that cover a row, and counted in interquartile ranges
    above its median in the rows of fit. With f for the flow, d for the logarithm of the distance and m for
    that of the misfit, u for how unlikely rows are on an average of 20, and r for a row alone, this counted
    in distances from the median to the highest hundredth, the score of a row is ``-max(f / 5, d, m, 0.3 u,
    r / 2)``, the largest for both lengths.

    For `time_between_false_alarms` the series of fit is cut into four parts; each is scored by a model of the
    other three. The threshold leaves one event fewer in all these rows than the time asked for allows. This
    is a promise for a future that is like the past of fit in the mean, with its trends and its seasons; rows
    near each other are not exchangeable, so there is no guarantee as `FlowOutlierDetector` has, and anomalies
    in the series of fit make the threshold lower than it need be.

    References
    ----------
    C.-C. M. Yeh et al. (2016), "Matrix Profile I: All Pairs Similarity Joins for Time Series: A Unifying
    View that Includes Motifs, Discords and Shapelets", ICDM.
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.
    S. Coles (2001), *An Introduction to Statistical Modeling of Extreme Values*, section 5.3: declustering.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.timeseries import SeriesOutlierDetector
    >>> rng = np.random.default_rng(0)
    >>> series = np.sin(np.arange(1200) * 2 * np.pi / 24) + 0.1 * rng.normal(size=1200)
    >>> series[700:720] = 0.0
    >>> detector = SeriesOutlierDetector(window=48, max_steps=50, random_state=0).fit(series)
    >>> 690 < int(detector.score_samples(series).argmin()) < 730
    True
    """

    # Whether there were calls of `score_next`; model files of before this was kept do not say.
    _under_way = False

    def __init__(
        self,
        *,
        window: int | str = "auto",
        time: Any = None,
        entity: Any = None,
        contamination: float | str = "auto",
        time_between_false_alarms: Any = None,
        calendar: bool = True,
        max_gap: int = 10,
        max_steps: int = 400,
        random_state: RandomState = None,
    ) -> None:
        self.window = window
        self.time = time
        self.entity = entity
        self.contamination = contamination
        self.time_between_false_alarms = time_between_false_alarms
        self.calendar = calendar
        self.max_gap = max_gap
        self.max_steps = max_steps
        self.random_state = random_state

    def fit(self, series: Any, y: Any = None, *, context: Any = None) -> SeriesOutlierDetector:
        """Learn what is usual in a series, with or without odd stretches in it.

        Parameters
        ----------
        series : array-like, Series or DataFrame of n_rows rows
        y : ignored
        context : DataFrame, Series or array-like of n_rows rows, optional
            What is known of each row and is not to be judged, such as a holiday flag.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the series or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        self._check_parameters()
        self.__dict__.pop("offset_", None)
        self._preparer = Preparer(
            time=self.time, entity=self.entity, calendar=self.calendar, max_gap=self.max_gap
        )
        rows, prepared = self._preparer.learn(series, context)
        stretches = [part.filled() for part in prepared]
        self.windows_ = choose_windows(stretches, self.window, max_gap=self.max_gap)
        rng = np.random.default_rng(resolve_seed(self.random_state))
        self._model, measured = self._learn(stretches, rng)
        self.window_density_, self.row_density_ = self._model.window_density, self._model.row_density
        self._stream: SeriesStream | None = None
        self._under_way = False
        self.training_scores_ = self._score(rows, prepared, measured)
        self.offset_ = self._choose_offset(stretches, rng)
        return self

    def score_samples(self, series: Any, *, context: Any = None) -> NDArray[np.float64]:
        """Return the score of each row.

        Parameters
        ----------
        series : array-like, Series or DataFrame of n_rows rows
            A stretch shorter than a window is continued by its mirror image.
        context : as in fit

        Returns
        -------
        ndarray of shape (n_rows,)
            In interquartile ranges, see the class's notes; larger = more normal.

        Raises
        ------
        ValueError
            If the series does not come as in fit.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self, "offset_")
        rows, prepared = self._preparer.prepare(series, context)
        measured = [self._model.measure(part.filled()) for part in prepared]
        return self._score(rows, prepared, measured)

    def decision_function(self, series: Any, *, context: Any = None) -> NDArray[np.float64]:
        """Return ``score_samples(series) - offset_``, shape (n_rows,): negative for odd rows.

        Parameters
        ----------
        series : array-like, Series or DataFrame
        context : as in fit
        """
        return self.score_samples(series, context=context) - self.offset_

    def predict(self, series: Any, *, context: Any = None) -> NDArray[np.int64]:
        """Return +1 for rows with ``decision_function(series) >= 0`` and -1 for odd ones, shape (n_rows,).

        Parameters
        ----------
        series : array-like, Series or DataFrame
        context : as in fit
        """
        odd = self.decision_function(series, context=context) < 0.0
        return np.where(odd, -1, 1)

    def score_next(self, rows: Any, *, context: Any = None, restart: bool = False) -> pd.DataFrame:
        """Score rows as they come, and score again the rows before that they cast a new light on.

        The detector keeps the last windows of rows. After each call, the scores that were given last for
        every row are those that `score_samples` gives for all rows so far.

        Parameters
        ----------
        rows : array-like, Series or DataFrame
            The rows that follow those of the last call, of each series.
        context : as in fit
        restart : bool, default=False
            Forget the rows of earlier calls first. After fit there are none: to go on where the series of fit
            ends, pass its last rows first, four windows of them.

        Returns
        -------
        DataFrame
            ``row``, the number of the row in all calls since the start; ``score``; ``is_new``; the entity,
            and the time stamps as the index, where there are any. A row's score is final once the longer
            window has passed.

        Raises
        ------
        ValueError
            If the rows do not come as in fit, or not after those before.
        ConfigurationError
            If the detector comes from a model file that was saved between two calls: it does not hold the
            rows remembered (a pickle does). Begin again with ``restart=True``, the last four windows first.
        """
        check_is_fitted(self, "offset_")
        if self._stream is None and self._under_way and not restart:
            raise ConfigurationError(
                "score_next must begin again after loading: this detector was saved between two calls, and a "
                "model file holds none of the rows it remembered. Pass restart=True, with the last "
                f"{4 * max(self.windows_)} rows before the new ones first."
            )
        self._under_way = True
        if restart or self._stream is None:
            self._stream = SeriesStream(self._model, self._preparer)
        return self._stream.score(rows, context)

    def events(self, series: Any, *, context: Any = None) -> pd.DataFrame:
        """Return the odd stretches of a series.

        Parameters
        ----------
        series : array-like, Series or DataFrame
        context : as in fit

        Returns
        -------
        DataFrame
            One row per event, in order of time within each series: ``start``, ``end`` and ``peak``, time
            stamps or row numbers, both ends included; ``n_rows``; ``severity``, how far the lowest score lies
            below ``offset_``, in interquartile ranges; ``channels``, the columns to blame at the peak, the
            first most; and the entity where there is one. Events with less than a quarter of a window between
            them are one.

        Raises
        ------
        ValueError
            If the series does not come as in fit.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self, "offset_")
        rows, prepared = self._preparer.prepare(series, context)
        found = [event for part in prepared for event in self._events_of(part, rows)]
        columns = ["start", "end", "peak", "n_rows", "severity", "channels"]
        if rows.entities is not None:
            columns = [self.entity, *columns]
        table = pd.DataFrame(found, columns=pd.Index(columns, dtype=object))
        return table.astype({"n_rows": np.int64, "severity": np.float64})

    # --- inside -----------------------------------------------------------------------------------

    def _events_of(self, part: PreparedStretch, rows: SeriesRows) -> Iterator[list[Any]]:
        stretch = part.filled()
        scores = np.where(part.stretch.given, self._model.score(self._model.measure(stretch)), np.nan)
        for first, last in event_spans(scores, self.offset_, merge=self._merge()):
            peak = first + int(np.nanargmin(scores[first : last + 1]))
            numbers = part.stretch.rows if part.stamps is None else part.stamps
            n_rows = int(part.stretch.given[first : last + 1].sum())
            at_peak = rows.row(int(part.stretch.rows[peak]))
            blame = self._to_blame(self._model.share_by_channel(stretch, peak), at_peak)
            severity = self.offset_ - float(scores[peak])
            event = [numbers[first], numbers[last], numbers[peak], n_rows, severity, blame]
            yield event if rows.entities is None else [part.stretch.entity, *event]

    def _to_blame(self, shares: NDArray[np.float64], at_peak: Any) -> tuple[Any, ...]:
        channels = self._preparer.channels
        by_column = np.zeros(len(channels.names))
        np.add.at(by_column, channels.columns, shares[:-1])
        strange = channels.strange(at_peak)
        by_column[strange] += shares[-1] / max(len(strange), 1)
        order = np.argsort(-by_column, kind="stable")[:_MOST_TO_BLAME]
        most = [i for i in order if by_column[i] >= _LEAST_SHARE_TO_BLAME] or [order[0]]
        return tuple(channels.names[i] for i in most)

    def _merge(self) -> int:
        return max(1, self.windows_[0] // 4)

    def _score(
        self, rows: SeriesRows, prepared: list[PreparedStretch], measured: list[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        scores = np.empty(len(rows))
        for part, of_stretch in zip(prepared, measured, strict=True):
            given = part.stretch.given
            scores[part.stretch.rows[given]] = self._model.score(of_stretch)[given]
        return scores

    def _learn(
        self, stretches: list[ModelledStretch], rng: np.random.Generator
    ) -> tuple[SeriesModel, list[NDArray[np.float64]]]:
        densities = [
            FlowDensity(max_steps=self.max_steps, patience=4, random_state=int(rng.integers(2**31)))
            for _ in range(2)
        ]
        model = SeriesModel(self.windows_, *densities)
        return model, model.learn(stretches)

    def _choose_offset(self, stretches: list[ModelledStretch], rng: np.random.Generator) -> float:
        if self.time_between_false_alarms is not None:
            between = rows_between(self.time_between_false_alarms, self._preparer.reader.clock)
            held_out = list(self._held_out_scores(stretches, rng))
            return offset_for_events(held_out, rows_between=between, merge=self._merge())
        if isinstance(self.contamination, str):
            return fence_offset(self.training_scores_) - _ROUNDING
        return contamination_offset(self.training_scores_, self.contamination)

    def _held_out_scores(
        self, stretches: list[ModelledStretch], rng: np.random.Generator
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the scores of each part of each stretch under a model of the other parts."""
        for fold in range(_HELD_OUT_PARTS):
            parts, others = [], []
            for stretch in stretches:
                n_rows = len(stretch.values)
                first, last = fold * n_rows // _HELD_OUT_PARTS, (fold + 1) * n_rows // _HELD_OUT_PARTS
                parts.append(stretch.part(first, last))
                others += [stretch.part(0, first), stretch.part(last, n_rows)]
            model, _ = self._learn([other for other in others if len(other.values)], rng)
            yield from (model.score(model.measure(part)) for part in parts if len(part.values))

    def _check_parameters(self) -> None:
        for name in ("time", "entity"):
            check_name(name, getattr(self, name))
        if self.window != "auto":
            check_whole("window", self.window, LEAST_WINDOW)
        check_whole("max_gap", self.max_gap, 0)
        contamination = self.contamination
        automatic = isinstance(contamination, str) and contamination == "auto"
        in_range = isinstance(contamination, float | np.floating) and 0.0 < contamination <= 0.5
        if not automatic and not in_range:
            raise ConfigurationError(
                f"contamination must be 'auto' or a fraction above 0 and at most 0.5; got {contamination!r}."
            )
        if self.time_between_false_alarms is not None and not automatic:
            raise ConfigurationError(
                f"contamination={contamination!r} and time_between_false_alarms="
                f"{self.time_between_false_alarms!r} are two thresholds; leave one of them at its default."
            )
