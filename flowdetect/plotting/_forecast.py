"""`ForecastDisplay`: the last rows of a series, and the fan of the paths that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState
from flowdetect.exceptions import ConfigurationError
from flowdetect.plotting._series_parts import (
    among_steps,
    channel_paths,
    chosen_entity,
    draw_line,
    numbers,
    read_paths,
    read_table,
    rows_of,
)
from flowdetect.plotting._style import COMMON_COLOUR, RARE_COLOUR, column_text, put_legend_above, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ForecastDisplay"]

_LEVELS = (0.5, 0.8, 0.95)
_MOST_CHANNELS = 6
_NAME_LETTERS = 22
# The picture looks back so many times as far as ahead, and at least so many rows.
_ROWS_PER_STEP, _LEAST_HISTORY = 3, 24
# Strength of the colour of the widest band and of the narrowest.
_FAINT, _STRONG = 0.2, 0.6
_BAR_WIDTH = 8.0


class ForecastDisplay:
    """The last rows of a series, and the median and central bands of paths that continue it.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. Each numeric channel has axes of its
    own, six at most; categories are left out.

    Parameters
    ----------
    paths : DataFrame of shape (steps, n_paths) or (steps, n_channels * n_paths)
        As `SeriesAugmenter.forecast` returns them: one column for each path, with several channels in two
        levels, channel and path. The index holds time stamps, numbers or positions.
    series : Series or DataFrame, optional
        What the paths continue: one column for each channel, stamps like those of `paths` in the index.
    actual : Series or DataFrame, optional
        What came, to be drawn over the bands, of the form of `series`; rows before or behind the paths are
        left out.
    channel : column name, optional
        The channel to draw; None draws all.
    levels : sequence of float, default=(0.5, 0.8, 0.95)
        The share of the paths that each band holds, at each step by itself.
    history : int, optional
        How many of the last rows of `series` to draw; by default three times as many as steps, at least 24.
    name : str or None, default=None
        Title.

    Attributes
    ----------
    quantiles : dict of channel to DataFrame of shape (steps, 2 * n_levels + 1)
        Of the paths at each step; the columns are the probabilities. Missing entries of paths do not count.
    series, actual : DataFrame or None
        The rows that are drawn.
    axes_ : list of matplotlib Axes
        One for each channel.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    Raises
    ------
    InvalidTableError
        If the paths are no DataFrame of one series, no channel is numeric, or the tables do not go together.
    ConfigurationError
        If `channel` is no numeric channel, or `levels` or `history` cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from flowdetect.plotting import ForecastDisplay
    >>> rng = np.random.default_rng(0)
    >>> paths = pd.DataFrame(rng.normal(size=(10, 50)).cumsum(axis=0), index=range(100, 110))
    >>> series = pd.Series(rng.normal(size=100), name="level")
    >>> display = ForecastDisplay.from_predictions(paths, series, levels=(0.8,))
    >>> display.quantiles["level"].columns.tolist()
    [0.1, 0.5, 0.9]
    """

    axes_: list[Axes]
    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        paths: pd.DataFrame,
        series: Any = None,
        *,
        actual: Any = None,
        channel: Any = None,
        levels: Sequence[float] = _LEVELS,
        history: int | None = None,
        name: str | None = None,
    ) -> None:
        self.paths = read_paths(paths)
        self.levels = _read_levels(levels)
        if history is not None:
            check_whole("history", history)
        n_rows = max(_ROWS_PER_STEP * len(paths), _LEAST_HISTORY) if history is None else int(history)
        index = self.paths.index
        tables = {
            what: read_table(table, index, what)
            for what, table in (("series", series), ("actual", actual))
            if table is not None
        }
        if "series" in tables:
            tables["series"] = tables["series"][tables["series"].index < index[0]].tail(n_rows)
        if "actual" in tables:
            tables["actual"] = among_steps(tables["actual"], index)
        self.series, self.actual = tables.get("series"), tables.get("actual")
        blocks = channel_paths(self.paths, tables, channel)
        self.n_paths = next(iter(blocks.values())).shape[1]
        chances = sorted({0.5, *(chance for level in self.levels for chance in _ends(level))})
        self.quantiles = {each: block.quantile(chances, axis=1).T for each, block in blocks.items()}
        self._entries = {
            (what, each): numbers(table, each, what) for what, table in tables.items() for each in blocks
        }
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        augmenter: Any,
        series: Any = None,
        *,
        steps: int,
        n_paths: int = 200,
        channel: Any = None,
        context: Any = None,
        actual: Any = None,
        levels: Sequence[float] = _LEVELS,
        entity: Any = None,
        history: int | None = None,
        random_state: RandomState = None,
        ax: Axes | Sequence[Axes] | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw paths with a fitted augmenter and show them.

        Parameters
        ----------
        augmenter : SeriesAugmenter
            Fitted on one series or several, not on a collection.
        series : array-like, Series or DataFrame, optional
            The series to be continued, of the form of fit; by default that of fit, of which the rows since
            the last gap of more than 24 rows are drawn.
        steps : int
            Rows to be drawn.
        n_paths : int, default=200
        context : as in `SeriesAugmenter.forecast`
        actual : array-like, Series or DataFrame, optional
            What came, of the form of fit. With time stamps it may hold more rows than there are steps;
            without, its first row is that of the first step.
        entity : object, optional
            Which of several series to draw; needed where there are several.
        channel, levels, history : see the class
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same paths each time: those of `SeriesAugmenter.forecast`.
        ax : matplotlib Axes, sequence of them, or None, default=None
            Where to draw, one for each channel; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the augmenter's class, and the entity.

        Returns
        -------
        ForecastDisplay

        Raises
        ------
        ValueError
            As the class, as `SeriesAugmenter.forecast`, and if `entity` does not say which series to draw.
        NotFittedError
            If the augmenter is not fitted.
        """
        paths = augmenter.forecast(
            series, steps=steps, n_paths=n_paths, context=context, random_state=random_state
        )
        title = type(augmenter).__name__
        entity = chosen_entity(augmenter.entity, paths.index, entity)
        if augmenter.entity is not None:
            paths, title = paths.xs(entity, level=0), f"{title}: {entity}"
        return cls.from_predictions(
            paths,
            rows_of(augmenter, series, entity),
            actual=None if actual is None else rows_of(augmenter, actual, entity, steps=paths.index),
            channel=channel,
            levels=levels,
            history=history,
            ax=ax,
            name=title if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        paths: pd.DataFrame,
        series: Any = None,
        *,
        actual: Any = None,
        channel: Any = None,
        levels: Sequence[float] = _LEVELS,
        history: int | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        name: str | None = None,
    ) -> Self:
        """Show paths that have been drawn already.

        Parameters
        ----------
        paths, series, actual, channel, levels, history, name : see the class
        ax : matplotlib Axes, sequence of them, or None, default=None
            Where to draw, one for each channel; None makes a new figure.

        Returns
        -------
        ForecastDisplay
        """
        display = cls(
            paths, series, actual=actual, channel=channel, levels=levels, history=history, name=name
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, sequence of them, or None, default=None
            Where to draw, one for each channel; None makes a new figure.

        Returns
        -------
        ForecastDisplay
            Itself, with `axes_`, `ax_` and `figure_`.

        Raises
        ------
        ConfigurationError
            If there are not as many axes as channels.
        """
        shown = list(self.quantiles)[:_MOST_CHANNELS]
        self.axes_ = _new_axes(ax, len(shown))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure  # type: ignore[assignment]
        for axes, channel in zip(self.axes_, shown, strict=True):
            self._draw(axes, channel)
            _label_times(axes, self.paths.index)
        if not isinstance(self.paths.index, pd.DatetimeIndex):
            name = self.paths.index.name
            self.axes_[-1].set_xlabel("row" if name is None else shortened(str(name), _NAME_LETTERS))
        put_legend_above(self.ax_, self._title(len(shown)))
        if len(shown) > 1:
            self.figure_.align_ylabels(self.axes_)
        return self

    def _draw(self, ax: Axes, channel: Any) -> None:
        index, start = self.paths.index, np.empty(0)
        if self.series is not None and len(self.series):
            entries = self._entries["series", channel]
            draw_line(ax, _places(self.series.index), entries, color=COMMON_COLOUR, label="series")
            if np.isfinite(entries[-1]):
                # The fan opens at the last row.
                start, index = entries[-1:], self.series.index[-1:].append(index)
        curves = {chance: np.concatenate([start, q]) for chance, q in self.quantiles[channel].items()}
        for level, colour in zip(self.levels[::-1], _shades(len(self.levels)), strict=True):
            low, high = (curves[chance] for chance in _ends(level))
            label = f"central {100.0 * level:.4g} %"
            if len(index) > 1:
                ax.fill_between(_places(index), low, high, color=colour, linewidth=0.0, label=label)
            else:  # an area of one step has no width
                ax.vlines(_places(index), low, high, colors=[colour], linewidth=_BAR_WIDTH, label=label)
        label = f"median of {self.n_paths:,} path{'' if self.n_paths == 1 else 's'}"
        draw_line(ax, _places(index), curves[0.5], color=RARE_COLOUR, label=label)
        if self.actual is not None:
            entries = self._entries["actual", channel]
            draw_line(ax, _places(self.actual.index), entries, color="black", label="actual")
        ax.set_ylabel(shortened(column_text(channel), _NAME_LETTERS))
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(x=0.01)

    def _title(self, n_drawn: int) -> str | None:
        if n_drawn == len(self.quantiles):
            return self.name
        text = f"{n_drawn} of {len(self.quantiles)} channels"
        return text if self.name is None else f"{self.name}: {text}"


def _places(index: pd.Index) -> NDArray[Any]:
    # By universal time no hour comes twice; the labels tell the local one.
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        index = index.tz_convert(None)
    return index.to_numpy()


def _shades(n_levels: int) -> list[str]:
    """Return opaque colours, those of the widest band first: a legend shows them as they are."""
    from matplotlib.colors import to_hex, to_rgb

    strengths = np.linspace(_FAINT, _STRONG, max(n_levels, 2))[:n_levels]
    colour = np.array(to_rgb(RARE_COLOUR))
    return [to_hex(1.0 - strength * (1.0 - colour)) for strength in strengths]


def _label_times(ax: Axes, index: pd.Index) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if isinstance(index, pd.DatetimeIndex):
        locator = AutoDateLocator(tz=index.tz, minticks=4, maxticks=9)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=index.tz))
    elif pd.api.types.is_integer_dtype(index.dtype):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _new_axes(ax: Axes | Sequence[Axes] | None, n_channels: int) -> list[Axes]:
    if ax is None:
        from matplotlib import pyplot

        size = (9.0, 2.1 + 2.2 * n_channels)
        figure = pyplot.figure(figsize=size, dpi=150, layout="constrained")
        return list(figure.subplots(n_channels, 1, sharex=True, squeeze=False)[:, 0])
    axes: list[Axes] = np.atleast_1d(np.asarray(ax, dtype=object)).ravel().tolist()
    if len(axes) != n_channels:
        raise ConfigurationError(
            f"ax must be one matplotlib Axes for each of the {n_channels} channels; got {len(axes)}. Choose "
            "one channel with channel=, or leave ax out."
        )
    return axes


def _read_levels(levels: Any) -> tuple[float, ...]:
    array = np.atleast_1d(np.asarray(levels))
    of_numbers = array.ndim == 1 and (array.dtype.kind == "f" or not array.size)
    if not of_numbers or not ((array > 0.0) & (array < 1.0)).all():
        raise ConfigurationError(f"levels must be shares of the paths between 0 and 1; got {levels!r}.")
    return tuple(np.unique(array).tolist())


def _ends(level: float) -> tuple[float, float]:
    """Return the probabilities between which a central share lies."""
    return round(0.5 - level / 2.0, 12), round(0.5 + level / 2.0, 12)
