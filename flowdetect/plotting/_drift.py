"""`DriftDisplay`: how new rows differ from those of training, as a drift report found it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowdetect.exceptions import InvalidTableError
from flowdetect.plotting._style import COMMON_COLOUR, RARE_COLOUR, put_legend_above, rows_text, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DriftDisplay"]

_MOST_COLUMNS = 12
_LONGEST_LABEL = 38
_SMALLEST_P = 1e-16


class DriftDisplay:
    """Deviation of the p-values of new rows from uniform, and the most changed columns.

    Create it with :meth:`from_report`. On the left, the share of new rows with a p-value up to each level,
    less that level, in standard deviations: above the band there are too many unlikely rows, below it too
    few. On the right, the p-value of each column, adjusted for their number; what lies beyond the line has
    drifted.

    Parameters
    ----------
    report : DriftReport
        What `flowdetect.jobs.DriftMonitor` returned.
    name : str or None, default=None
        Title, such as the name of the table.

    Attributes
    ----------
    axes_ : tuple of matplotlib Axes
        One for the scores, one for the columns; one alone if the report has no more.
    figure_ : matplotlib Figure

    Raises
    ------
    InvalidTableError
        If the report is of too few rows: then there is nothing to draw.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowOutlierDetector
    >>> from flowdetect.jobs import DriftMonitor, reference_of_fit
    >>> from flowdetect.plotting import DriftDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> detector = FlowOutlierDetector(max_steps=5, random_state=0).fit(X)
    >>> monitor = DriftMonitor(detector, reference_of_fit(detector, X))
    >>> monitor.update(rng.normal(size=(100, 2)) + 1.0)
    >>> display = DriftDisplay.from_report(monitor.report())
    >>> len(display.axes_)
    2
    """

    axes_: tuple[Axes, ...]
    figure_: Figure

    def __init__(self, report: Any, *, name: str | None = None) -> None:
        if report.score is None and not report.columns:
            raise InvalidTableError(
                f"There is nothing to draw: {rows_text(report.n_rows)}; a verdict takes {report.min_rows}."
            )
        self.report = report
        self.name = name

    @classmethod
    def from_report(cls, report: Any, *, name: str | None = None) -> Self:
        """Draw a report.

        Parameters
        ----------
        report : DriftReport
        name : str or None, default=None
            Title.

        Returns
        -------
        DriftDisplay

        Raises
        ------
        InvalidTableError
            If it is of too few rows.
        """
        return cls(report, name=name).plot()

    def plot(self, axes: Sequence[Axes] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, optional
            As many as there are pictures; None makes a new figure.

        Returns
        -------
        DriftDisplay
            This object, with ``axes_`` and ``figure_`` set.

        Raises
        ------
        InvalidTableError
            If there are fewer axes than pictures.
        """
        drawers = [self._draw_scores] if self.report.score is not None else []
        drawers += [self._draw_columns] if self.report.columns else []
        given = _new_axes(len(drawers), self._n_shown) if axes is None else list(axes)
        if len(given) != len(drawers):
            raise InvalidTableError(f"axes must be {len(drawers)}; got {len(given)}.")
        self.axes_ = tuple(given)
        self.figure_ = given[0].figure  # type: ignore[assignment]
        for draw, ax in zip(drawers, given, strict=True):
            draw(ax)
        if axes is None:
            self.figure_.suptitle(self._title())
        return self

    @property
    def _n_shown(self) -> int:
        return min(len(self.report.columns), _MOST_COLUMNS)

    def _title(self) -> str:
        verdict = f"{self.report.verdict} in {rows_text(self.report.n_rows)} (alpha {self.report.alpha:g})"
        return verdict if self.name is None else f"{self.name}: {verdict}"

    def _draw_scores(self, ax: Axes) -> None:
        score = self.report.score
        ax.axhspan(
            -score.critical, score.critical, color="black", alpha=0.12, linewidth=0.0, label="no drift"
        )
        ax.axhline(0.0, color="black", linestyle="--", linewidth=1.0)
        colour = RARE_COLOUR if score.drift else COMMON_COLOUR
        label = f"{rows_text(self.report.n_rows)} beside {score.n_reference:,} held-out scores"
        ax.plot(score.levels, score.deviations, color=colour, linewidth=1.6, marker=".", label=label)
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("level a of the p-values")
        ax.set_ylabel("share of new rows with p ≤ a, less a,\nin standard deviations")
        ax.spines[["top", "right"]].set_visible(False)
        put_legend_above(ax, None)

    def _draw_columns(self, ax: Axes) -> None:
        shown = self.report.columns[:_MOST_COLUMNS]
        heights = np.arange(len(shown))[::-1]
        strengths = [-np.log10(max(column.p_adjusted, _SMALLEST_P)) for column in shown]
        colours = [RARE_COLOUR if column.drift else COMMON_COLOUR for column in shown]
        ax.barh(heights, strengths, color=colours, height=0.7)
        ax.set_yticks(heights, [_what(column) for column in shown])
        limit = self._column_limit()
        ax.axvline(limit, color="black", linestyle="--", linewidth=1.0)
        ax.set_xlim(0.0, max([limit, *strengths]) * 1.45)
        for height, strength, column in zip(heights, strengths, shown, strict=True):
            ax.annotate(
                _shares(column),
                (max(strength, limit), height),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
            )
        left = len(self.report.columns) - len(shown)
        ax.set_xlabel("-log10 of the adjusted p-value" + (f" (and {left} more columns)" if left else ""))
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title("share in training → now; beyond the line: drift", fontsize="medium", loc="left")

    def _column_limit(self) -> float:
        share = self.report.alpha / 2.0 if self.report.score is not None else self.report.alpha
        return float(-np.log10(share))


def _new_axes(count: int, n_columns: int) -> list[Axes]:
    from matplotlib import pyplot as plt

    height = max(4.0, 1.6 + 0.32 * n_columns)
    figure, axes = plt.subplots(1, count, figsize=(6.5 * count, height), layout="constrained", squeeze=False)
    del figure
    return list(axes[0])


def _what(column: Any) -> str:
    return shortened(f"{column.column} {column.what}".strip(), _LONGEST_LABEL)


def _shares(column: Any) -> str:
    if column.expected is None or column.share is None:
        return ""
    return f"{100 * column.expected:.3g} % → {100 * column.share:.3g} %"
