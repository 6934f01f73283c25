"""`AugmentationDisplay`: drawn rows beside the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._marginals import Marginal, draw_marginal
from flowdetect.plotting._plane import as_frame
from flowdetect.plotting._style import (
    COMMON_COLOUR,
    RARE_COLOUR,
    column_text,
    drawn_range,
    put_legend_above,
    rows_text,
)
from flowdetect.quality._fidelity import column_similarities
from flowdetect.quality._tables import Tables, column_position, encoded_points, read_tables, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["AugmentationDisplay"]

_MOST_COLUMNS = 6
_MIN_ROWS = 2

# More points of a table only cover each other.
_MOST_POINTS = 3_000
_MARGIN = 0.05


class AugmentationDisplay:
    """Drawn rows beside real ones: a projection of all columns, and the columns that differ most.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. To the left, both tables in the
    plane in which the real rows vary most; to the right, shares of the entries of single columns. The number
    behind the name of a column is its similarity, 1 = the same shares (see
    `flowdetect.quality.compare_columns`).

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_real, n_columns)
        Real rows, at least two. Any dtypes, with missing entries or not.
    drawn : DataFrame or array-like of shape (n_drawn, n_columns)
        At least two drawn rows with the same columns: by name between DataFrames, by position otherwise.
    target : column name, position for arrays, or None, default=None
        Column that is always shown, first of all, unless `columns` are chosen.
    columns : sequence of up to six column names, or None, default=None
        Columns to show. None takes those that differ most.
    name : str or None, default=None
        Title of the picture, such as the name of the augmenter.

    Attributes
    ----------
    columns : tuple
        Names of the columns shown.
    similarities : ndarray of shape (n_shown,)
        Their similarities, from 0 to 1.
    real_points, drawn_points : ndarray of shape (n_points, 2)
        The projected rows; at most 3,000 of each table, chosen evenly at random.
    explained : ndarray of shape (2,)
        Share of the real rows' variance along either direction, NaN if they do not vary.
    projection_ax_ : matplotlib Axes
        Axes with the points.
    marginal_axes_ : list of matplotlib Axes
        Axes of the columns.
    figure_ : matplotlib Figure or SubFigure
        What holds them all.

    Raises
    ------
    InvalidTableError
        If a table has fewer than two rows, the columns differ, or do not hold the same kind of entries.
    ConfigurationError
        If `target` or `columns` are not columns of the tables.

    Notes
    -----
    The plane is spanned by the first two principal directions of the real rows in the coordinates of
    `TableEncoder`, drawn rows being projected onto it. What lies far out of both tables' bulk is not drawn,
    but counted below the picture. Columns of up to six numbers have bars as categories have. The outermost
    steps of other numbers hold all beyond them; the axis is logarithmic where positive numbers have a heavy
    tail.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.plotting import AugmentationDisplay
    >>> rng = np.random.default_rng(0)
    >>> real, drawn = rng.normal(size=(50, 3)), rng.normal(size=(50, 3)) + [0.0, 2.0, 0.0]
    >>> display = AugmentationDisplay.from_predictions(real, drawn)
    >>> display.columns[0], len(display.marginal_axes_)
    (1, 3)
    """

    projection_ax_: Axes
    marginal_axes_: list[Axes]
    figure_: Figure | SubFigure

    def __init__(
        self,
        real: Any,
        drawn: Any,
        *,
        target: Any = None,
        columns: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> None:
        tables = read_tables({"real": real, "drawn": drawn}, min_rows=_MIN_ROWS)
        similarities = column_similarities(tables.matrices[0], tables.matrices[1], tables.categorical)
        shown = _shown(tables, similarities, target, columns)
        self.n_rows = tuple(len(matrix) for matrix in tables.matrices)
        self.columns = tuple(tables.names[j] for j in shown)
        self.similarities = similarities[shown]
        self.name = name
        self.real_points, self.drawn_points, self.explained = _projected(tables)
        self._marginals = [_marginal(tables, j, float(similarities[j])) for j in shown]

    @classmethod
    def from_estimator(
        cls,
        augmenter: Any,
        X: Any,
        y: Any = None,
        *,
        n_samples: int | None = None,
        random_state: RandomState = None,
        columns: Sequence[Any] | None = None,
        figure: Figure | SubFigure | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw rows with a fitted augmenter and show them beside the real ones.

        Parameters
        ----------
        augmenter : object
            Fitted, with ``sample(n_samples, random_state=...)``, or with ``sample(n_samples, y=labels,
            random_state=...)`` if `y` is given, that returns rows with the columns of `X`.
        X : DataFrame or array-like of shape (n_rows, n_columns)
            Real rows.
        y : array-like of shape (n_rows,) or None, default=None
            Their labels. Rows are drawn for the same labels, or for labels drawn from them if `n_samples` is
            another number; the labels are shown as a column of both tables.
        n_samples : int or None, default=None
            How many rows to draw; None draws as many as there are real ones.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same rows each time.
        columns : sequence of up to six column names, or None, default=None
            Columns to show. None takes the labels and the columns that differ most.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the augmenter's class.

        Returns
        -------
        AugmentationDisplay

        Raises
        ------
        InvalidTableError
            If `y` is not one label a row, or the tables do not go together.
        ConfigurationError
            If `columns` are not columns of the tables, or `random_state` is unusable.
        """
        real = as_frame(X)
        seed = resolve_seed(random_state)
        size = len(real) if n_samples is None else n_samples
        target = None
        if y is None:
            drawn = as_frame(augmenter.sample(size, random_state=seed))
        else:
            labels = _labels(y, n_rows=len(real))
            rng = np.random.default_rng(seed)
            chosen = labels if size == len(real) else labels.iloc[rng.integers(len(real), size=size)]
            drawn = as_frame(augmenter.sample(size, y=chosen.to_numpy(), random_state=seed))
            target = "target" if labels.name is None or labels.name in real.columns else labels.name
            real, drawn = _with_column(real, target, labels), _with_column(drawn, target, chosen)
        return cls.from_predictions(
            real,
            drawn,
            target=target,
            columns=columns,
            figure=figure,
            name=type(augmenter).__name__ if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        real: Any,
        drawn: Any,
        *,
        target: Any = None,
        columns: Sequence[Any] | None = None,
        figure: Figure | SubFigure | None = None,
        name: str | None = None,
    ) -> Self:
        """Show rows that have been drawn already beside real ones.

        Parameters
        ----------
        real : DataFrame or array-like of shape (n_real, n_columns)
            Real rows, at least two.
        drawn : DataFrame or array-like of shape (n_drawn, n_columns)
            At least two drawn rows with the same columns.
        target : column name, position for arrays, or None, default=None
            Column that is always shown, first of all, unless `columns` are chosen.
        columns : sequence of up to six column names, or None, default=None
            Columns to show. None takes those that differ most.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title.

        Returns
        -------
        AugmentationDisplay

        Raises
        ------
        InvalidTableError
            If a table has fewer than two rows, the columns differ, or do not hold the same kind of entries.
        ConfigurationError
            If `target` or `columns` are not columns of the tables.
        """
        return cls(real, drawn, target=target, columns=columns, name=name).plot(figure=figure)

    def plot(self, figure: Figure | SubFigure | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a new figure. A constrained layout keeps labels apart.

        Returns
        -------
        AugmentationDisplay
            This object, with ``figure_``, ``projection_ax_`` and ``marginal_axes_`` set.
        """
        self.figure_ = _new_figure() if figure is None else figure
        left, right = self.figure_.subfigures(1, 2, squeeze=False, width_ratios=[1.0, 1.2])[0]
        self.projection_ax_ = left.subplots()
        self._draw_points()
        right.suptitle("Columns and their similarity, 1 = the same shares", fontsize="medium")
        n_shown = len(self._marginals)
        n_columns = 1 if n_shown <= 2 else 2
        grid = right.subplots(-(-n_shown // n_columns), n_columns, squeeze=False).ravel()
        self.marginal_axes_ = list(grid[:n_shown])
        for ax, marginal in zip(self.marginal_axes_, self._marginals, strict=True):
            draw_marginal(ax, marginal)
        for ax in grid[n_shown:]:
            ax.remove()
        return self

    def _draw_points(self) -> None:
        points = np.concatenate([self.real_points, self.drawn_points])
        colours = np.repeat([COMMON_COLOUR, RARE_COLOUR], [len(self.real_points), len(self.drawn_points)])
        # Neither table lies on top of the other.
        order = np.random.default_rng(0).permutation(len(points))
        ax = self.projection_ax_
        style: dict[str, Any] = {"s": 9, "alpha": 0.6, "linewidths": 0.0}
        ax.scatter(points[order, 0], points[order, 1], c=colours[order], rasterized=True, **style)
        for what, colour, count in zip(
            ("real", "drawn"), (COMMON_COLOUR, RARE_COLOUR), self.n_rows, strict=True
        ):
            ax.scatter([], [], color=colour, s=18, label=f"{what} ({rows_text(count)})")
        self._label_points(points)

    def _label_points(self, points: NDArray[np.float64]) -> None:
        ax = self.projection_ax_
        ranges = [
            _common_range(*(part[:, k] for part in (self.real_points, self.drawn_points))) for k in (0, 1)
        ]
        ax.set_xlim(*ranges[0])
        ax.set_ylim(*ranges[1])
        low, high = np.array(ranges).T
        outside = int(((points < low) | (points > high)).any(axis=1).sum())
        texts = [
            f"{place} direction of the real rows{self._share_text(k)}"
            for k, place in enumerate(("first", "second"))
        ]
        ax.set_xlabel(texts[0] + (f"\n({rows_text(outside)} outside the picture)" if outside else ""))
        ax.set_ylabel(texts[1])
        ax.spines[["top", "right"]].set_visible(False)
        put_legend_above(ax, self.name)

    def _share_text(self, direction: int) -> str:
        share = self.explained[direction]
        return "" if np.isnan(share) else f" ({100.0 * share:.0f} % of variance)"


def _new_figure() -> Figure:
    from matplotlib import pyplot

    return pyplot.figure(figsize=(12.0, 6.0), dpi=150, layout="constrained")


def _shown(
    tables: Tables, similarities: NDArray[np.float64], target: Any, columns: Sequence[Any] | None
) -> list[int]:
    """Return the positions of the columns to show."""
    first = [] if target is None else [column_position(target, tables.names, "target")]
    if columns is None:
        by_difference = np.argsort(similarities, kind="stable").tolist()
        return [*first, *(j for j in by_difference if j not in first)][:_MOST_COLUMNS]
    listed = [columns] if isinstance(columns, str) else list(columns)
    if not 1 <= len(listed) <= _MOST_COLUMNS or len(set(listed)) < len(listed):
        raise ConfigurationError(
            f"columns must be one to {_MOST_COLUMNS} different columns of the tables; got {columns!r}."
        )
    return [column_position(column, tables.names, "columns") for column in listed]


def _marginal(tables: Tables, position: int, similarity: float) -> Marginal:
    real, drawn = (matrix[:, position] for matrix in tables.matrices)
    return Marginal(
        column_text(tables.names[position]),
        tables.kinds[position],
        tables.storages[position],
        tables.labels[position],
        real,
        drawn,
        similarity,
    )


def _projected(
    tables: Tables,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows of both tables in the plane in which real rows vary most, and its variance shares."""
    rng = np.random.default_rng(0)
    real, drawn = encoded_points(tables, *(thinned(matrix, _MOST_POINTS, rng) for matrix in tables.matrices))
    centre = real.mean(axis=0)
    _, lengths, directions = np.linalg.svd(real - centre, full_matrices=False)
    plane = np.zeros((2, real.shape[1]))
    plane[: len(directions)] = directions[:2]
    # A direction and its opposite are as good: the largest part of each points up.
    largest = np.abs(plane).argmax(axis=1)
    plane *= np.where(plane[[0, 1], largest] < 0.0, -1.0, 1.0)[:, None]
    shares = np.full(2, np.nan)
    if lengths.any():
        shares = np.pad(lengths**2 / np.sum(lengths**2), (0, 2))[:2]
    return (real - centre) @ plane.T, (drawn - centre) @ plane.T, shares


def _common_range(real: NDArray[np.float64], drawn: NDArray[np.float64]) -> tuple[float, float]:
    ranges = [drawn_range(real), drawn_range(drawn)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def _labels(y: Any, *, n_rows: int) -> pd.Series:
    labels = y.reset_index(drop=True) if isinstance(y, pd.Series) else pd.Series(np.asarray(y).ravel())
    if len(labels) != n_rows:
        raise InvalidTableError(
            f"y must hold one label for each of the {rows_text(n_rows)}; got {len(labels)}."
        )
    return labels


def _with_column(frame: pd.DataFrame, name: Any, entries: pd.Series) -> pd.DataFrame:
    columns = frame.reset_index(drop=True)
    added = entries.reset_index(drop=True).rename(name)
    return pd.concat([columns, added], axis=1)
