"""`DensityMapDisplay`: the score over the plane of two columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from flowdetect._utils.checks import check_whole
from flowdetect.exceptions import InvalidTableError
from flowdetect.plotting._plane import (
    as_array,
    as_frame,
    axis_values,
    column_positions,
    numbers,
    plane_rows,
    snapped,
)
from flowdetect.plotting._style import (
    RARE_COLOUR,
    SCORE_LABEL,
    check_row,
    column_text,
    new_axes,
    put_legend_above,
    rows_text,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DensityMapDisplay"]

_NAME_LETTERS = 60

# The colours end at three times the distance from the median of the rows' scores to their 10 % quantile.
_SCORE_TAIL = 0.1
_SPAN_IN_TAILS = 3.0
_N_LEVELS = 12


class DensityMapDisplay:
    """Filled contours of the score over the plane of two columns, with the rows as points.

    Create it with :meth:`from_estimator`; all arguments are kept as attributes. The contours show the score
    of rows that differ from one row in these two columns only. The points are marked by their own scores, to
    which all columns contribute: an anomaly may therefore lie where the map is dense.

    Parameters
    ----------
    x_values : array-like of shape (n_x,)
        Rising numbers of the first column at which the map was scored.
    y_values : array-like of shape (n_y,)
        Those of the second column.
    map_scores : array-like of shape (n_y, n_x)
        Scores over the plane in nats, larger = more normal.
    points : array-like of shape (n_rows, 2)
        The two columns of the rows, NaN where an entry is missing.
    scores : array-like of shape (n_rows,)
        Scores of the rows.
    threshold : float or None, default=None
        Rows below it are anomalies. None marks no row and draws no line.
    column_names : tuple of two str, default=("x", "y")
        Names of the axes.
    held : str or None, default=None
        What the other columns hold over the plane, such as "a typical row". None if there are no others.
    name : str or None, default=None
        Title of the picture, such as the name of the detector.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the map.
    figure_ : matplotlib Figure
        Figure that holds the axes and the scale of the colours.

    Raises
    ------
    InvalidTableError
        If the shapes do not go together, or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.covariance import EllipticEnvelope
    >>> from flowdetect.plotting import DensityMapDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = EllipticEnvelope(random_state=0).fit(X)
    >>> display = DensityMapDisplay.from_estimator(detector, X, columns=(0, 1), grid_resolution=20)
    >>> display.map_scores.shape
    (20, 20)
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        x_values: ArrayLike,
        y_values: ArrayLike,
        map_scores: ArrayLike,
        *,
        points: ArrayLike,
        scores: ArrayLike,
        threshold: float | None = None,
        column_names: tuple[str, str] = ("x", "y"),
        held: str | None = None,
        name: str | None = None,
    ) -> None:
        self.x_values = np.asarray(x_values, dtype=np.float64)
        self.y_values = np.asarray(y_values, dtype=np.float64)
        self.scores = np.asarray(scores, dtype=np.float64)
        plane, cells = (len(self.scores), 2), (len(self.y_values), len(self.x_values))
        self.points = _of_shape(points, plane, "points")
        self.map_scores = _of_shape(map_scores, cells, "map_scores")
        for what, array in (("scores", self.scores), ("map_scores", self.map_scores)):
            if not array.size or not np.isfinite(array).all():
                raise InvalidTableError(f"{what} must be finite numbers, and at least one.")
        self.threshold = None if threshold is None else float(threshold)
        self.column_names = column_names
        self.held = held
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        columns: tuple[Any, Any],
        *,
        row: int | None = None,
        grid_resolution: int = 60,
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Score the plane of two columns with a fitted estimator and draw it.

        Parameters
        ----------
        estimator : object
            Fitted, with ``score_samples``; its ``offset_`` is the threshold where it has one.
        X : DataFrame or array-like of shape (n_rows, n_features)
            Rows to draw, with the columns of fit.
        columns : tuple of two
            The columns of the plane, which must hold numbers: names for a DataFrame, positions otherwise.
        row : int or None, default=None
            Position of the row of X that gives the content of all other columns. None takes what is typical:
            the lower median of numbers, the most frequent of other entries.
        grid_resolution : int, default=60
            Number of steps along either axis; its square is the number of rows that are scored for the map.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the estimator's class.

        Returns
        -------
        DensityMapDisplay

        Raises
        ------
        ConfigurationError
            If `columns` are not two numeric columns of X, X has no such row, or `grid_resolution` is not a
            whole number of at least 2.
        InvalidTableError
            If X is not a table, or one of the two columns holds no finite number.
        """
        check_whole("grid_resolution", grid_resolution, 2)
        frame = as_frame(X)
        pair = column_positions(columns, frame)
        held_row = None if row is None else check_row(row, n_rows=len(frame))
        x, y = numbers(frame, pair[0]), numbers(frame, pair[1])
        x_axis, y_axis = axis_values(x, grid_resolution), axis_values(y, grid_resolution)
        plane = plane_rows(frame, pair, (snapped(x_axis, x), snapped(y_axis, y)), held_row)
        map_scores = estimator.score_samples(plane if isinstance(X, pd.DataFrame) else as_array(plane))
        display = cls(
            x_axis,
            y_axis,
            np.reshape(map_scores, (grid_resolution, grid_resolution)),
            points=np.column_stack([x, y]),
            scores=estimator.score_samples(X),
            threshold=getattr(estimator, "offset_", None),
            column_names=(column_text(columns[0]), column_text(columns[1])),
            held=None if frame.shape[1] == 2 else _held_text(frame, held_row),
            name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        DensityMapDisplay
            This object, with ``ax_`` and ``figure_`` set.
        """
        self.ax_ = new_axes(width=7.5, height=5.5) if ax is None else ax
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        low, high = _colour_range(self.map_scores, self.scores, self.threshold)
        # What lies below the colours must not pull the lines between two steps of the grid.
        drawn = np.maximum(self.map_scores, low - 0.05 * (high - low))
        self._draw_map(drawn, low, high)
        self._draw_threshold(drawn)
        self._draw_points()
        self._label()
        return self

    def _draw_map(self, drawn: NDArray[np.float64], low: float, high: float) -> None:
        from matplotlib.ticker import MaxNLocator

        levels = MaxNLocator(_N_LEVELS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        contours = self.ax_.contourf(
            self.x_values, self.y_values, drawn, levels=levels, cmap="Blues", extend="min"
        )
        self.figure_.colorbar(contours, ax=self.ax_, label=SCORE_LABEL)

    def _draw_threshold(self, drawn: NDArray[np.float64]) -> None:
        if self.threshold is None or not drawn.min() < self.threshold < drawn.max():
            return
        style: dict[str, Any] = {"linestyles": "dashed", "linewidths": 1.3, "colors": "black"}
        self.ax_.contour(self.x_values, self.y_values, drawn, levels=[self.threshold], **style)
        label = f"threshold {self.threshold:.4g}"
        self.ax_.plot([], [], color="black", linestyle="--", linewidth=1.3, label=label)

    def _draw_points(self) -> None:
        below = np.zeros(len(self.scores), dtype=bool)
        if self.threshold is not None:
            below = self.scores < self.threshold
        size = float(np.clip(6000.0 / len(self.scores), 4.0, 16.0))
        alpha = float(np.clip(1000.0 / len(self.scores), 0.2, 0.55))
        common = {"s": size, "color": "black", "alpha": alpha, "linewidths": 0.0}
        rare = {
            "s": 12.0 + 1.75 * size,
            "color": RARE_COLOUR,
            "marker": "X",
            "edgecolors": "white",
            "linewidths": 0.5,
        }
        self._scatter(~below, "other rows" if below.any() else "rows", common)
        if below.any():
            self._scatter(below, "below the threshold", rare)

    def _scatter(self, rows: NDArray[np.bool_], what: str, style: dict[str, Any]) -> None:
        # As an image inside vector formats: 50,000 crosses make a file that no viewer opens.
        label = f"{what} ({int(rows.sum()):,})"
        self.ax_.scatter(*self.points[rows].T, label=label, rasterized=True, zorder=3, **style)

    def _label(self) -> None:
        self.ax_.set_xlim(self.x_values[0], self.x_values[-1])
        self.ax_.set_ylim(self.y_values[0], self.y_values[-1])
        _whole_ticks(self.ax_, self.points)
        x_name, y_name = (shortened(column, _NAME_LETTERS) for column in self.column_names)
        self.ax_.set_xlabel("\n".join([x_name, *self._remarks()]))
        self.ax_.set_ylabel(y_name)
        for handle in put_legend_above(self.ax_, self.name).legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)  # a single point as faint as those of many rows could not be seen

    def _remarks(self) -> list[str]:
        remarks = [] if self.held is None else [f"(map: all other columns as in {self.held})"]
        lacking = np.isnan(self.points).any(axis=1)
        x, y = self.points.T
        inside = (x >= self.x_values[0]) & (x <= self.x_values[-1])
        inside &= (y >= self.y_values[0]) & (y <= self.y_values[-1])
        parts = {"outside the picture": ~inside & ~lacking, "without an entry in one of the two": lacking}
        told = [f"{rows_text(int(rows.sum()))} {what}" for what, rows in parts.items() if rows.any()]
        return [*remarks, f"({', '.join(told)})"] if told else remarks


def _of_shape(numbers: ArrayLike, shape: tuple[int, int], what: str) -> NDArray[np.float64]:
    array = np.asarray(numbers, dtype=np.float64)
    if array.shape != shape:
        raise InvalidTableError(f"{what} must have shape {shape}; got {array.shape}.")
    return array


def _whole_ticks(ax: Axes, points: NDArray[np.float64]) -> None:
    """Let an axis of whole numbers, such as years, be labelled with whole numbers."""
    from matplotlib.ticker import MaxNLocator

    for axis, values in zip((ax.xaxis, ax.yaxis), points.T, strict=True):
        finite = values[np.isfinite(values)]
        if np.array_equal(finite, np.round(finite)):
            axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _held_text(frame: pd.DataFrame, row: int | None) -> str:
    return "a typical row" if row is None else f"row {frame.index[row]}"


def _colour_range(
    map_scores: NDArray[np.float64], scores: NDArray[np.float64], threshold: float | None
) -> tuple[float, float]:
    """Return the scores between which the colours run: one of -1e6 must not take them all."""
    tail, median = np.quantile(scores, [_SCORE_TAIL, 0.5])
    span = _SPAN_IN_TAILS * (median - tail) or 1.0
    high = map_scores.max()
    low = min(median, high) - span
    if threshold is not None and low - span < threshold < low:
        low = threshold - 0.1 * span
    return float(low), float(high)
