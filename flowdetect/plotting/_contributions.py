"""`ContributionDisplay`: which columns make a row unlikely."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from flowdetect._utils.checks import check_whole
from flowdetect.exceptions import InvalidTableError
from flowdetect.plotting._style import (
    COMMON_COLOUR,
    NEUTRAL_COLOUR,
    RARE_COLOUR,
    check_row,
    column_text,
    new_axes,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ContributionDisplay"]

# Longest name and entry in a tick label, in letters; the attributes keep them whole.
_NAME_LETTERS = 28
_VALUE_LETTERS = 14

# Inches: a bar with its gap, and what the title and the axis take.
_BAR_HEIGHT = 0.32
_FRAME_HEIGHT = 1.5

# From here on digits behind the point say nothing, and all digits would not fit.
_MANY_NATS = 1e5


class ContributionDisplay:
    """Bars of one row: how much each column contributes to its being unlikely.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. The column that speaks most against the
    row is at the top; columns beyond `max_columns` share the last bar.

    Parameters
    ----------
    contributions : Series or array-like of shape (n_features,)
        Contribution of each column in nats: negative = makes the row unlikely, positive = more usual than
        typical.
    values : array-like of shape (n_features,) or None, default=None
        The row's own entries, shown beside the names.
    names : array-like of shape (n_features,) or None, default=None
        Names of the columns. None takes the index of a Series, or counts from 0.
    max_columns : int, default=10
        Most columns with a bar of their own: those with the largest contributions of either sign.
    name : str or None, default=None
        Title of the picture.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Raises
    ------
    InvalidTableError
        If the contributions are not one finite number a column, or `values` or `names` are not as many.
    ConfigurationError
        If `max_columns` is not a whole number of at least 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from flowdetect.plotting import ContributionDisplay
    >>> contributions = pd.Series({"age": 0.4, "sex": -0.1, "TSH": -12.3})
    >>> display = ContributionDisplay.from_predictions(contributions, values=[71.0, "F", 530.0])
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['TSH = 530', 'sex = F', 'age = 71']
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        contributions: pd.Series | ArrayLike,
        *,
        values: Iterable[Any] | None = None,
        names: Iterable[Any] | None = None,
        max_columns: int = 10,
        name: str | None = None,
    ) -> None:
        check_whole("max_columns", max_columns)
        if names is None and isinstance(contributions, pd.Series):
            names = contributions.index
        self.contributions = _finite_contributions(contributions)
        n_columns = len(self.contributions)
        self.values = None if values is None else _one_a_column(values, "values", n_columns)
        self.names = list(range(n_columns)) if names is None else _one_a_column(names, "names", n_columns)
        self.max_columns = max_columns
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        row: int = 0,
        *,
        max_columns: int = 10,
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Explain a row of a table with a fitted estimator and draw the contributions.

        Parameters
        ----------
        estimator : object
            Fitted, with ``explain``, such as `FlowOutlierDetector`.
        X : DataFrame or array-like of shape (n_rows, n_features)
            Table that holds the row.
        row : int, default=0
            Position of the row, counted from 0.
        max_columns : int, default=10
            Most columns with a bar of their own.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the estimator's class and the index of the row.

        Returns
        -------
        ContributionDisplay

        Raises
        ------
        ConfigurationError
            If X has no such row, or `max_columns` is not a whole number of at least 1.
        InvalidTableError
            If the contributions are not finite.
        """
        table = X if isinstance(X, pd.DataFrame) else np.asarray(X)
        row = check_row(row, n_rows=len(table))
        one = table.iloc[[row]] if isinstance(table, pd.DataFrame) else table[[row]]
        entries = pd.DataFrame(one)
        return cls.from_predictions(
            estimator.explain(one).iloc[0],
            # Column by column: a row of numbers and text as one Series would turn 3 into 3.0.
            values=[entries.iloc[0, column] for column in range(entries.shape[1])],
            max_columns=max_columns,
            ax=ax,
            name=f"{type(estimator).__name__}, row {_index_of(X, row)}" if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        contributions: pd.Series | ArrayLike,
        *,
        values: Iterable[Any] | None = None,
        names: Iterable[Any] | None = None,
        max_columns: int = 10,
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw contributions that have been computed already.

        Parameters
        ----------
        contributions : Series or array-like of shape (n_features,)
            Contribution of each column in nats: negative = makes the row unlikely.
        values : array-like of shape (n_features,) or None, default=None
            The row's own entries, shown beside the names.
        names : array-like of shape (n_features,) or None, default=None
            Names of the columns. None takes the index of a Series, or counts from 0.
        max_columns : int, default=10
            Most columns with a bar of their own.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title.

        Returns
        -------
        ContributionDisplay

        Raises
        ------
        InvalidTableError
            If the contributions are not one finite number a column, or `values` or `names` are not as many.
        ConfigurationError
            If `max_columns` is not a whole number of at least 1.
        """
        display = cls(contributions, values=values, names=names, max_columns=max_columns, name=name)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure, as high as the bars need.

        Returns
        -------
        ContributionDisplay
            This object, with ``ax_`` and ``figure_`` set.
        """
        labels, nats, colours = self._bars()
        self.ax_ = new_axes(height=_FRAME_HEIGHT + _BAR_HEIGHT * len(nats)) if ax is None else ax
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        bars = self.ax_.barh(range(len(nats)), nats, color=colours, height=0.7)
        self.ax_.bar_label(bars, _nats_texts(nats), padding=3, fontsize="small")
        self.ax_.axvline(0.0, color="black", linewidth=0.8)
        self.ax_.set_yticks(range(len(nats)), labels)
        self._label(nats)
        return self

    def _bars(self) -> tuple[list[str], list[float], list[str]]:
        """Return label, length and colour of each bar from the top down."""
        by_size = np.argsort(-np.abs(self.contributions), kind="stable")
        kept, rest = by_size[: self.max_columns], by_size[self.max_columns :]
        kept = kept[np.argsort(self.contributions[kept], kind="stable")]
        labels = [self._tick_label(column) for column in kept]
        nats = self.contributions[kept].tolist()
        colours = [RARE_COLOUR if length < 0.0 else COMMON_COLOUR for length in nats]
        if len(rest):
            labels.append(f"{len(rest)} other column{'s' if len(rest) > 1 else ''}")
            nats.append(float(self.contributions[rest].sum()))
            colours.append(NEUTRAL_COLOUR)
        return labels, nats, colours

    def _tick_label(self, column: int) -> str:
        label = shortened(column_text(self.names[column]), _NAME_LETTERS)
        if self.values is None:
            return label
        return f"{label} = {shortened(_entry_text(self.values[column]), _VALUE_LETTERS)}"

    def _label(self, nats: list[float]) -> None:
        # Room for the numbers beside the bars, also where all bars have no length.
        low, high = min(nats + [0.0]), max(nats + [0.0])
        margin = 0.15 * (high - low)
        if margin:
            self.ax_.set_xlim(low - margin * (low < 0.0), high + margin * (high > 0.0))
        else:
            self.ax_.set_xlim(-1.0, 1.0)
        self.ax_.set_ylim(len(nats) - 0.4, -0.6)
        total = _nats_texts([float(self.contributions.sum())])[0]
        self.ax_.set_xlabel(
            "contribution to the score [nats], negative = makes the row unlikely\n"
            f"sum {total} = score of the row less that of a typical row",
            loc="right",  # long names leave narrow axes; to the left there is room below the names
        )
        self.ax_.xaxis.set_major_formatter("{x:,.4g}")
        self.ax_.spines[["top", "right", "left"]].set_visible(False)
        self.ax_.tick_params(axis="y", length=0)
        if self.name is not None:
            self.ax_.set_title(self.name, loc="left")


def _finite_contributions(contributions: pd.Series | ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(contributions, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidTableError(
            f"contributions must be one number a column; got an array of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        n_bad = int(np.sum(~np.isfinite(array)))
        raise InvalidTableError(f"contributions must be finite; {n_bad} of {len(array)} are not.")
    return array


def _one_a_column(entries: Iterable[Any], what: str, n_columns: int) -> list[Any]:
    listed = list(entries)
    if len(listed) != n_columns:
        raise InvalidTableError(
            f"{what} must hold one entry for each of the {n_columns} contributions; got {len(listed)}."
        )
    return listed


def _index_of(X: Any, row: int) -> str:
    return str(X.index[row]) if isinstance(X, pd.DataFrame) else str(row)


def _entry_text(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "missing"
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _nats_texts(nats: list[float]) -> list[str]:
    """Write numbers with as many digits behind the point as the largest of them needs."""
    largest = max(map(abs, nats))
    if largest >= _MANY_NATS:
        return [f"{length:+.3g}" for length in nats]
    digits = 1 if largest >= 1.0 or largest == 0.0 else min(1 - int(np.floor(np.log10(largest))), 6)
    # Rounded first: -0.04 would be written as -0.0.
    return [f"{rounded:+,.{digits}f}" if (rounded := round(length, digits)) else "0" for length in nats]
