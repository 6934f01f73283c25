"""`WindowsDisplay`: drawn series, or windows of them, beside real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState
from flowdetect.exceptions import InvalidTableError
from flowdetect.plotting._marginals import Marginal, draw_marginal
from flowdetect.plotting._series_parts import chosen_channels, draw_line
from flowdetect.plotting._style import (
    COMMON_COLOUR,
    RARE_COLOUR,
    column_text,
    drawn_range,
    put_legend_above,
    shortened,
)
from flowdetect.preprocessing._storage import describe
from flowdetect.quality._fidelity import ks_distance
from flowdetect.timeseries._contents import Contents
from flowdetect.timeseries._period import autocorrelation
from flowdetect.timeseries._reading import SeriesReader

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["WindowsDisplay"]

_Array = NDArray[np.float64]

_N_SERIES = 100
_NAME_LETTERS = 40
_MOST_LAGS = 100
_MARGIN = 0.05
# A window shows so many times the rows that the augmenter looks back.
_LOOKS_BACK = 2
# A gap of more absent rows is in no window, as in `SeriesAugmenter`.
_LONGEST_GAP = 24


class WindowsDisplay:
    """Drawn series beside real ones: a few of each, and the distribution and autocorrelation of all.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. One numeric channel is shown. The small
    pictures have common axes, real series above drawn ones.

    Parameters
    ----------
    real : array-like of shape (n_real,), (n_real, n_rows) or (n_real, n_rows, n_channels)
        Real series, at least one of at least two rows; in one dimension a single series.
    drawn : array-like
        Drawn ones with the same channels. Their number and length may differ.
    channel : int, optional
        Which of the channels to show; by default the first numeric one.
    n_shown : int, default=4
        How many of each to show, evenly chosen.
    label : str or None, default=None
        What the numbers are; None takes the position of the channel.
    name : str or None, default=None
        Title.

    Attributes
    ----------
    real, drawn : ndarray of shape (n_series, n_rows)
        The channel, NaN where missing.
    marginal_distance : float
        Kolmogorov-Smirnov, 0 to 1, 0 = the same distribution.
    real_autocorrelation, drawn_autocorrelation : ndarray
        From lag 0 to half the rows of the shorter series, at most 100.
    autocorrelation_error : float
        Their largest difference.
    real_axes_, drawn_axes_ : list of matplotlib Axes
        The small pictures.
    marginal_ax_, autocorrelation_ax_ : matplotlib Axes
    figure_ : matplotlib Figure or SubFigure

    Raises
    ------
    InvalidTableError
        If the series differ in their channels, none is numeric or has entries, or they have only one row.
    ConfigurationError
        If `channel` is no numeric channel, or `n_shown` is not whole and positive.

    Notes
    -----
    The autocorrelation is the mean of those of single series or windows, each about its own mean: a short
    window knows nothing of what is slow, so compare windows of one length. Missing entries count as the last
    one before them. What lies far out of the bulk of both is left out of the small pictures, and counted
    below them; the outermost steps of the distribution hold it.

    See Also
    --------
    flowdetect.timeseries.compare_series : The same measures, and a classifier, beside a baseline.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.plotting import WindowsDisplay
    >>> rng = np.random.default_rng(0)
    >>> real, drawn = rng.normal(size=(30, 50)), rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> display = WindowsDisplay.from_predictions(real, drawn)
    >>> bool(display.autocorrelation_error > 0.5), len(display.drawn_axes_)
    (True, 4)
    """

    real_axes_: list[Axes]
    drawn_axes_: list[Axes]
    marginal_ax_: Axes
    autocorrelation_ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        real: ArrayLike,
        drawn: ArrayLike,
        *,
        channel: int | None = None,
        n_shown: int = 4,
        label: str | None = None,
        name: str | None = None,
    ) -> None:
        check_whole("n_shown", n_shown)
        arrays = [_read_collection(each, what) for each, what in ((real, "real"), (drawn, "drawn"))]
        if arrays[0].shape[2] != arrays[1].shape[2]:
            raise InvalidTableError(
                f"Drawn series must have the channels of the real ones, {arrays[0].shape[2]}; got "
                f"{arrays[1].shape[2]}."
            )
        contents, chosen = _learnt(_rows(arrays[0]), channel)
        self.real, self.drawn = (
            contents.read(_rows(array))[:, chosen].reshape(len(array), -1) for array in arrays
        )
        present = [entries[~np.isnan(entries)] for entries in (self.real, self.drawn)]
        if not all(map(len, present)):
            raise InvalidTableError("Real and drawn series must hold entries of the channel; some hold none.")
        self.marginal_distance = float(ks_distance(*present))
        n_lags = min(self.real.shape[1] // 2, self.drawn.shape[1] // 2, _MOST_LAGS)
        self.real_autocorrelation, self.drawn_autocorrelation = (
            _mean_autocorrelation(entries, n_lags) for entries in (self.real, self.drawn)
        )
        errors = np.abs(self.real_autocorrelation - self.drawn_autocorrelation)[1:]
        self.autocorrelation_error = float(errors.max())
        self.n_shown = min(int(n_shown), len(self.real), len(self.drawn))
        self.label = column_text(contents.names[chosen]) if label is None else label
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        augmenter: Any,
        series: Any,
        *,
        y: Any = None,
        n_series: int | None = None,
        length: int | None = None,
        channel: Any = None,
        n_shown: int = 4,
        random_state: RandomState = None,
        figure: Figure | SubFigure | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw series with a fitted augmenter and show them beside real ones.

        Parameters
        ----------
        augmenter : SeriesAugmenter
            Fitted.
        series : array-like, Series or DataFrame
            Real series of the form of fit. Of long ones, windows are taken at even distances, from all
            entities and from no gap of more than 24 rows.
        y : label, optional
            The class to draw, of an augmenter fitted on classes; pass the real series of this class.
        n_series : int, optional
            How many to draw; by default 100, of a collection at most as many as it has. As many real ones are
            put beside them, if there are so many.
        length : int, optional
            Rows of each; by default twice ``augmenter.window_``, of a collection all.
        channel : column name, or position for arrays, optional
            The channel to show; by default the first numeric one.
        n_shown : see the class
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same series each time.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new one.
        name : str or None, default=None
            Title; None takes the name of the augmenter's class.

        Returns
        -------
        WindowsDisplay

        Raises
        ------
        ValueError
            As the class and `SeriesAugmenter.sample`, or if no stretch of the series has `length` rows.
        NotFittedError
            If the augmenter is not fitted.
        """
        check_is_fitted(augmenter)
        for what, number in (("n_series", n_series), ("length", length)):
            if number is not None:
                check_whole(what, number)
        n_drawn = _N_SERIES if n_series is None else int(n_series)
        collected = not isinstance(series, pd.DataFrame | pd.Series) and np.ndim(series) == 3
        if collected or augmenter.classes_ is not None:
            array = _read_collection(series, "series")
            n_drawn = min(n_drawn, len(array)) if n_series is None else n_drawn
            array = array[_evenly(len(array), n_drawn), :length]
            contents, chosen = _learnt(_rows(array), channel)
            real = contents.read(_rows(array))[:, chosen].reshape(len(array), -1)
        else:
            reader = SeriesReader(time=augmenter.time, entity=augmenter.entity).learn(series)
            rows = reader.read(series, longest_gap=_LONGEST_GAP)
            contents, chosen = _learnt(rows.table, channel)
            entries = contents.read(rows.table)[:, chosen]
            stretches = [np.where(each.given, entries[each.rows], np.nan) for each in rows.stretches]
            longest = max(map(len, stretches))
            length = min(_LOOKS_BACK * augmenter.window_, longest) if length is None else length
            real = _windows(stretches, length, n_drawn)
        drawn = augmenter.sample(n_drawn, length=real.shape[1], y=y, random_state=random_state)
        table = drawn if isinstance(drawn, pd.DataFrame) else _rows(drawn)
        return cls.from_predictions(
            real,
            contents.read(table)[:, chosen].reshape(n_drawn, -1),
            n_shown=n_shown,
            label=column_text(contents.names[chosen]),
            figure=figure,
            name=type(augmenter).__name__ if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        real: ArrayLike,
        drawn: ArrayLike,
        *,
        channel: int | None = None,
        n_shown: int = 4,
        label: str | None = None,
        figure: Figure | SubFigure | None = None,
        name: str | None = None,
    ) -> Self:
        """Show series that have been drawn already beside real ones.

        Parameters
        ----------
        real, drawn, channel, n_shown, label, name : see the class
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new one.

        Returns
        -------
        WindowsDisplay
        """
        display = cls(real, drawn, channel=channel, n_shown=n_shown, label=label, name=name)
        return display.plot(figure=figure)

    def plot(self, figure: Figure | SubFigure | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new one. A constrained layout keeps labels apart.

        Returns
        -------
        WindowsDisplay
            Itself, with the axes and `figure_`.
        """
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=(11.0, 7.0), dpi=150, layout="constrained")
        self.figure_ = figure
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.25, 1.0])[:, 0]
        grid = top.subplots(2, self.n_shown, sharex=True, sharey=True, squeeze=False)
        self.real_axes_, self.drawn_axes_ = list(grid[0]), list(grid[1])
        n_outside = self._draw_series()
        text = f"{shortened(self.label, _NAME_LETTERS)}, real above and drawn below"
        text = text if self.name is None else f"{self.name}: {text}"
        top.suptitle(text, x=0.01, ha="left", fontsize="large")
        outside = f" ({n_outside:,} entries outside the picture)" if n_outside else ""
        top.supxlabel(f"row{outside}", fontsize="small")
        self.marginal_ax_, self.autocorrelation_ax_ = bottom.subplots(1, 2)
        self._draw_marginal()
        self._draw_autocorrelation()
        return self

    def _draw_series(self) -> int:
        """Draw the small pictures, and return how many entries lie beyond their range."""
        low, high = _common_range(self.real, self.drawn)
        n_outside = 0
        for all_axes, series, colour in (
            (self.real_axes_, self.real, COMMON_COLOUR),
            (self.drawn_axes_, self.drawn, RARE_COLOUR),
        ):
            for ax, number in zip(all_axes, _evenly(len(series), self.n_shown), strict=True):
                draw_line(ax, np.arange(series.shape[1]), series[number], color=colour)
                n_outside += int(((series[number] < low) | (series[number] > high)).sum())
                ax.spines[["top", "right"]].set_visible(False)
                ax.tick_params(labelsize="x-small")
        self.real_axes_[0].set_ylim(low, high)
        self.real_axes_[0].set_ylabel("real", color=COMMON_COLOUR)
        self.drawn_axes_[0].set_ylabel("drawn", color=RARE_COLOUR)
        return n_outside

    def _draw_marginal(self) -> None:
        real, drawn = self.real.ravel(), self.drawn.ravel()
        storage = describe(pd.Series(real))
        parts = Marginal(self.label, "number", storage, (), real, drawn, 1.0 - self.marginal_distance)
        draw_marginal(self.marginal_ax_, parts)
        # Named and counted as by `compare_series`; what is missing stays.
        missing = self.marginal_ax_.get_title(loc="left").partition("\n")[1:]
        title = f"marginal distance: {self.marginal_distance:.2f}{''.join(missing)}"
        self.marginal_ax_.set_title(title, loc="left", fontsize="medium")
        self.marginal_ax_.set_xlabel(shortened(self.label, _NAME_LETTERS), fontsize="small")

    def _draw_autocorrelation(self) -> None:
        ax, lags = self.autocorrelation_ax_, np.arange(len(self.real_autocorrelation))
        ax.axhline(0.0, color="black", linewidth=0.6)
        for what, count, heights, colour in (
            ("real", len(self.real), self.real_autocorrelation, COMMON_COLOUR),
            ("drawn", len(self.drawn), self.drawn_autocorrelation, RARE_COLOUR),
        ):
            label = f"{what} ({count:,} series)"
            ax.plot(lags, heights, color=colour, marker=".", markersize=4.0, label=label)
        ax.set_xlabel("lag [rows]", fontsize="small")
        ax.tick_params(labelsize="x-small")
        ax.spines[["top", "right"]].set_visible(False)
        legend = put_legend_above(ax, f"autocorrelation error: {self.autocorrelation_error:.2f}")
        legend.get_title().set_fontsize("medium")


def _evenly(n: int, k: int) -> NDArray[np.intp]:
    """Return k places among n, or all of fewer."""
    return np.linspace(0, n - 1, min(n, k)).round().astype(np.intp)


def _common_range(real: _Array, drawn: _Array) -> tuple[float, float]:
    """Return the range of the bulk of both, with a margin."""
    ranges = [drawn_range(entries[~np.isnan(entries)]) for entries in (real, drawn)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    margin = _MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def _mean_autocorrelation(series: _Array, n_lags: int) -> _Array:
    filled = pd.DataFrame(series.T).ffill().bfill().fillna(0.0).to_numpy()
    return np.mean([autocorrelation(one[:, None], n_lags) for one in filled.T], axis=0)


def _learnt(table: Any, channel: Any) -> tuple[Contents, int]:
    """Return how the channels are read, and the place of the one to show."""
    contents = Contents().learn(table)
    numeric = dict(zip(contents.names, contents.cardinalities == 0, strict=True))
    return contents, contents.names.index(chosen_channels(channel, numeric)[0])


def _rows(collection: NDArray[Any]) -> NDArray[Any]:
    return collection.reshape(-1, collection.shape[2])


def _read_collection(series: Any, what: str) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(series)
    array = array[None] if array.ndim == 1 else array
    array = array[:, :, None] if array.ndim == 2 else array
    if isinstance(series, pd.DataFrame) or array.ndim != 3 or 0 in array.shape or array.shape[1] < 2:
        came = "a DataFrame" if isinstance(series, pd.DataFrame) else f"shape {np.shape(series)}"
        raise InvalidTableError(
            f"{what} must be an array of shape (n_series, n_rows) or (n_series, n_rows, n_channels) with at "
            f"least one series of at least two rows; got {came}."
        )
    return array


def _windows(stretches: list[_Array], length: int, n_windows: int) -> _Array:
    """Return windows at even distances from stretches of rows, shape (n_windows, length)."""
    longest = max(map(len, stretches))
    if length > longest:
        raise InvalidTableError(
            f"length must be at most that of the longest stretch without a long gap, {longest} rows; "
            f"got {length}."
        )
    ends = np.cumsum([len(each) for each in stretches])
    starts = np.concatenate(
        [np.arange(end - len(each), end - length + 1) for end, each in zip(ends, stretches, strict=True)]
    )
    chosen = starts[_evenly(len(starts), n_windows)]
    return np.concatenate(stretches)[chosen[:, None] + np.arange(length)]
