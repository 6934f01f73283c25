"""`SeriesDisplay`: a series with its odd stretches, and the score below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._style import COMMON_COLOUR, NEUTRAL_COLOUR, RARE_COLOUR, column_text, shortened
from flowdetect.timeseries._time import read_stamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SeriesDisplay"]

_MOST_CHANNELS = 6
_SCORE_LABEL = "score"


class SeriesDisplay:
    """A series with its odd stretches shaded, and the score with the threshold below.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`; all arguments are kept as attributes.

    Parameters
    ----------
    series : DataFrame of n_rows rows
        Numeric columns, one panel each; the index is the axis.
    scores : array-like of shape (n_rows,)
        Score of each row, larger = more normal.
    events : DataFrame
        Columns ``start`` and ``end``, values of the index; see `SeriesOutlierDetector.events`.
    threshold : float or None, default=None
        Rows below it are odd. None draws no line.
    name : str or None, default=None
        Title.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One for each column, and the last for the score.
    figure_ : matplotlib Figure

    Raises
    ------
    InvalidTableError
        If the lengths differ, or no column is numeric.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from flowdetect.plotting import SeriesDisplay
    >>> series = pd.DataFrame({"flow": np.sin(np.arange(100) / 5.0)})
    >>> events = pd.DataFrame({"start": [40], "end": [50]})
    >>> display = SeriesDisplay.from_predictions(series, np.zeros(100), events, threshold=-1.0)
    >>> len(display.axes_)
    2
    """

    axes_: list[Axes]
    figure_: Figure

    def __init__(
        self,
        series: pd.DataFrame,
        scores: ArrayLike,
        events: pd.DataFrame,
        *,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        numeric = series.select_dtypes(["number", "bool"])
        if not numeric.shape[1]:
            raise InvalidTableError("The series must have a numeric column to draw; it has none.")
        self.series = numeric
        self.scores = np.asarray(scores, dtype=np.float64)
        if self.scores.shape != (len(series),):
            raise InvalidTableError(
                f"scores must be one number per row of the series; got shape {self.scores.shape} for "
                f"{len(series)} rows."
            )
        self.events = events
        self.threshold = None if threshold is None else float(threshold)
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        series: Any,
        *,
        context: Any = None,
        entity: Any = None,
        figure: Figure | None = None,
        name: str | None = None,
    ) -> Self:
        """Score a series with a fitted detector and draw it.

        Parameters
        ----------
        estimator : SeriesOutlierDetector
            Fitted.
        series : array-like, Series or DataFrame
            As in the detector's methods.
        context : as in the detector's fit
        entity : object, optional
            Which of several series to draw; needed where the detector has an entity column.
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.
        name : str or None, default=None
            Title; None takes the name of the estimator's class, and the entity.

        Returns
        -------
        SeriesDisplay

        Raises
        ------
        ConfigurationError
            If the detector has an entity column and `entity` is none of its entities, or the other way round.
        """
        scores = estimator.score_samples(series, context=context)
        events = estimator.events(series, context=context)
        table = series.to_frame() if isinstance(series, pd.Series) else pd.DataFrame(series)
        title = type(estimator).__name__ if entity is None else f"{type(estimator).__name__}: {entity}"
        kept = _rows_of(table, estimator.entity, entity)
        if estimator.entity is not None:
            events = events[events[estimator.entity] == entity]
        index = table.index if estimator.time is None else read_stamps(table[estimator.time], "time")
        drawn = table.drop(columns=[c for c in (estimator.time, estimator.entity) if c is not None])
        order = np.argsort(index[kept].to_numpy(), kind="stable")
        if estimator.time is None and not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
            index, order = pd.RangeIndex(len(table)), np.arange(int(kept.sum()))
        return cls.from_predictions(
            drawn[kept].set_axis(index[kept], axis=0).iloc[order],
            scores[kept][order],
            events,
            threshold=estimator.offset_,
            figure=figure,
            name=title if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        series: pd.DataFrame,
        scores: ArrayLike,
        events: pd.DataFrame,
        *,
        threshold: float | None = None,
        figure: Figure | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw scores and events that were computed before.

        Parameters
        ----------
        series, scores, events, threshold, name : see the class
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.

        Returns
        -------
        SeriesDisplay
        """
        return cls(series, scores, events, threshold=threshold, name=name).plot(figure=figure)

    def plot(self, *, figure: Figure | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.

        Returns
        -------
        SeriesDisplay
            Itself, with `axes_` and `figure_`.
        """
        columns = self._columns_to_draw()
        if figure is None:
            from matplotlib import pyplot

            size = (10.0, 2.4 + 1.6 * len(columns))
            figure = pyplot.figure(figsize=size, dpi=150, layout="constrained")
        axes = figure.subplots(len(columns) + 1, 1, sharex=True, squeeze=False)[:, 0]
        x = _axis(self.series.index)
        for ax, column in zip(axes, columns, strict=False):
            ax.plot(x, self.series[column].to_numpy(dtype=np.float64), color=COMMON_COLOUR, linewidth=0.8)
            ax.set_ylabel(shortened(column_text(column), 22), fontsize="small")
        axes[-1].plot(x, self.scores, color=NEUTRAL_COLOUR, linewidth=0.8)
        axes[-1].set_ylabel(_SCORE_LABEL, fontsize="small")
        if self.threshold is not None:
            axes[-1].axhline(self.threshold, color=RARE_COLOUR, linewidth=1.0, linestyle="--")
        self._shade(axes)
        axes[0].set_title(self._title(len(columns)), loc="left")
        figure.align_ylabels(list(axes))
        self.axes_, self.figure_ = list(axes), figure
        return self

    def _columns_to_draw(self) -> list[Any]:
        blamed = [c for names in self.events.get("channels", []) for c in names if c in self.series.columns]
        first = list(dict.fromkeys(blamed))
        return [*first, *(c for c in self.series.columns if c not in first)][:_MOST_CHANNELS]

    def _shade(self, axes: Any) -> None:
        step = _step(self.series.index)
        for start, end in zip(self.events["start"], self.events["end"], strict=True):
            for ax in axes:
                ax.axvspan(start - step / 2, end + step / 2, color=RARE_COLOUR, alpha=0.2, lw=0)

    def _title(self, n_drawn: int) -> str:
        count = len(self.events)
        text = f"{count} odd stretch{'' if count == 1 else 'es'}"
        if n_drawn < self.series.shape[1]:
            text += f", {n_drawn} of {self.series.shape[1]} columns"
        return text if self.name is None else f"{self.name}: {text}"


def _rows_of(table: pd.DataFrame, column: Any, entity: Any) -> np.ndarray:
    if column is None:
        if entity is not None:
            raise ConfigurationError(f"entity={entity!r} was given, and the detector has no entity column.")
        return np.ones(len(table), dtype=bool)
    kept = np.asarray(table[column] == entity)
    if not kept.any():
        raise ConfigurationError(
            f"entity must be a value of column {column!r}, to say which series to draw; got {entity!r}."
        )
    return kept


def _axis(index: pd.Index) -> pd.Index:
    return index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index


def _step(index: pd.Index) -> Any:
    axis = _axis(index)
    if isinstance(axis, pd.DatetimeIndex):
        return pd.Timedelta(np.median(np.diff(axis.to_numpy()))) if len(axis) > 1 else pd.Timedelta(0)
    return float(np.median(np.diff(axis.to_numpy()))) if len(axis) > 1 else 0.0
