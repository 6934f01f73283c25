"""`ScoreDistributionDisplay`: the histogram of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._style import (
    COMMON_COLOUR,
    RARE_COLOUR,
    SCORE_LABEL,
    drawn_range,
    new_axes,
    put_legend_above,
    rows_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ScoreDistributionDisplay"]

# A histogram of fewer rows than this shows the bins, not the rows.
_FEW_ROWS = 30


class ScoreDistributionDisplay:
    """Histogram of scores with the threshold, and where the rows known to be rare lie.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`; all arguments are kept as attributes.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Log-density of each row in nats, larger = more normal.
    threshold : float or None, default=None
        Rows below it are anomalies (``offset_`` of a detector). None draws no line.
    is_rare : array-like of bool of shape (n_samples,) or None, default=None
        Rows known to be rare. Fewer than 30 are drawn as a line each. More are drawn as a histogram of
        their own, each group in per cent of its own rows: counted, a small group would vanish beside a large
        one.
    name : str or None, default=None
        Title of the picture, such as the name of the detector.
    rare_name : str, default="rare"
        What the legend calls the rows in `is_rare`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Raises
    ------
    InvalidTableError
        If the scores are not one finite number a row, or `is_rare` is not as long as the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.plotting import ScoreDistributionDisplay
    >>> scores = np.random.default_rng(0).normal(-10.0, 2.0, size=500)
    >>> display = ScoreDistributionDisplay.from_predictions(scores, threshold=-14.0)
    >>> display.ax_.get_xlabel()
    'score: log-density [nats], larger = more normal'
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        is_rare: ArrayLike | None = None,
        name: str | None = None,
        rare_name: str = "rare",
    ) -> None:
        self.scores = _finite_scores(scores)
        self.threshold = None if threshold is None else float(threshold)
        self.is_rare = None if is_rare is None else _rare_mask(is_rare, n_samples=len(self.scores))
        self.name = name
        self.rare_name = rare_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        pos_label: Any = None,
        ax: Axes | None = None,
        name: str | None = None,
        rare_name: str | None = None,
    ) -> Self:
        """Score a table with a fitted estimator and draw the scores.

        Parameters
        ----------
        estimator : object
            Fitted, with ``score_samples``; its ``offset_`` is the threshold where it has one.
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,) or None, default=None
            Labels of the rows.
        pos_label : object, default=None
            The label of the rare rows. None takes 1 (or True) and needs labels that are 0 and 1.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the estimator's class.
        rare_name : str or None, default=None
            What the legend calls the rare rows; None takes `pos_label`, or "rare".

        Returns
        -------
        ScoreDistributionDisplay

        Raises
        ------
        ConfigurationError
            If `pos_label` is None and `y` holds other values than 0 and 1, or no row has `pos_label`.
        InvalidTableError
            If the scores are not finite.
        """
        return cls.from_predictions(
            estimator.score_samples(X),
            threshold=getattr(estimator, "offset_", None),
            is_rare=None if y is None else _rare_rows(y, pos_label),
            ax=ax,
            name=type(estimator).__name__ if name is None else name,
            rare_name=rare_name or ("rare" if pos_label is None else str(pos_label)),
        )

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        is_rare: ArrayLike | None = None,
        ax: Axes | None = None,
        name: str | None = None,
        rare_name: str = "rare",
    ) -> Self:
        """Draw scores that have been computed already.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Log-density of each row in nats, larger = more normal.
        threshold : float or None, default=None
            Rows below it are anomalies.
        is_rare : array-like of bool of shape (n_samples,) or None, default=None
            Rows known to be rare.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title.
        rare_name : str, default="rare"
            What the legend calls the rows in `is_rare`.

        Returns
        -------
        ScoreDistributionDisplay

        Raises
        ------
        InvalidTableError
            If the scores are not one finite number a row, or `is_rare` is not as long as the scores.
        """
        display = cls(scores, threshold=threshold, is_rare=is_rare, name=name, rare_name=rare_name)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None, *, n_bins: int = 60) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        n_bins : int, default=60
            Number of bins over the drawn range. Scores far outside the bulk are left out of the drawn range,
            and the picture says how many.

        Returns
        -------
        ScoreDistributionDisplay
            This object, with ``ax_`` and ``figure_`` set.

        Raises
        ------
        ConfigurationError
            If `n_bins` is below 1.
        """
        if n_bins < 1:
            raise ConfigurationError(f"n_bins must be at least 1; got {n_bins!r}.")
        self.ax_ = new_axes() if ax is None else ax
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        low, high = _score_range(self.scores, self.threshold)
        self._draw_histograms(np.linspace(low, high, n_bins + 1).tolist())
        self._draw_threshold()
        self._say_what_lies_outside(low, high)
        self._label(low, high)
        return self

    def _draw_histograms(self, edges: list[float]) -> None:
        if self.is_rare is None:
            _draw_counts(self.ax_, self.scores, edges, "all rows")
        elif self.is_rare.sum() < _FEW_ROWS:
            _draw_counts(self.ax_, self.scores[~self.is_rare], edges, "other rows")
            _draw_ticks(self.ax_, self.scores[self.is_rare], edges, bottom=0.0, top=0.25, name=self.rare_name)
        else:
            _draw_group(self.ax_, self.scores[~self.is_rare], edges, COMMON_COLOUR, "other rows")
            _draw_group(self.ax_, self.scores[self.is_rare], edges, RARE_COLOUR, self.rare_name)
            _draw_ticks(self.ax_, self.scores[self.is_rare], edges, bottom=-0.04, top=-0.01)

    def _draw_threshold(self) -> None:
        if self.threshold is None:
            return
        below = int(np.sum(self.scores < self.threshold))
        label = f"threshold {self.threshold:.4g} ({rows_text(below)} below)"
        self.ax_.axvline(self.threshold, color="black", linestyle="--", linewidth=1.3, label=label)

    def _say_what_lies_outside(self, low: float, high: float) -> None:
        left, right = self.scores < low, self.scores > high
        where: dict[str, Any] = {"transform": self.ax_.transAxes, "va": "top", "fontsize": "small"}
        if left.any():
            text = f"← {self._how_many(left)} further left, down to {self.scores.min():,.4g}"
            self.ax_.text(0.01, 0.97, text, **where)
        if right.any():
            text = f"{self._how_many(right)} further right, up to {self.scores.max():,.4g} →"
            self.ax_.text(0.99, 0.97, text, ha="right", **where)

    def _how_many(self, rows: NDArray[np.bool_]) -> str:
        count = rows_text(int(rows.sum()))
        return count if self.is_rare is None else f"{count} ({int(self.is_rare[rows].sum()):,} rare)"

    def _label(self, low: float, high: float) -> None:
        self.ax_.set_xlim(low, high)
        # Room above the bars for the two remarks about what lies outside.
        self.ax_.set_ylim(top=self.ax_.get_ylim()[1] * 1.12)
        self.ax_.set_xlabel(SCORE_LABEL, labelpad=10)
        self.ax_.spines[["top", "right"]].set_visible(False)
        self.ax_.tick_params(axis="x", pad=9)
        put_legend_above(self.ax_, self.name)


def _finite_scores(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidTableError(f"scores must be one number a row; got an array of shape {array.shape}.")
    if not np.isfinite(array).all():
        n_bad = int(np.sum(~np.isfinite(array)))
        raise InvalidTableError(f"scores must be finite; {n_bad} of {len(array)} are not.")
    return array


def _rare_mask(is_rare: ArrayLike, *, n_samples: int) -> NDArray[np.bool_]:
    mask = np.asarray(is_rare, dtype=bool)
    if mask.shape != (n_samples,):
        raise InvalidTableError(
            f"is_rare must hold one bool for each of the {n_samples} scores; got shape {mask.shape}."
        )
    return mask


def _rare_rows(y: ArrayLike, pos_label: Any) -> NDArray[np.bool_]:
    labels = np.asarray(y)
    if pos_label is None:
        if not np.isin(labels, [0, 1]).all():
            raise ConfigurationError("pos_label must name the label of the rare rows where y is not 0 and 1.")
        return labels.astype(bool)
    rare: NDArray[np.bool_] = np.asarray(labels == pos_label, dtype=bool)
    if not rare.any():
        raise ConfigurationError(f"pos_label must be one of the labels in y; no row has {pos_label!r}.")
    return rare


def _score_range(scores: NDArray[np.float64], threshold: float | None) -> tuple[float, float]:
    """Return the range of the bulk and of the threshold, with a margin."""
    low, high = drawn_range(scores)
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_counts(ax: Axes, scores: NDArray[np.float64], edges: list[float], name: str) -> None:
    ax.hist(scores, bins=edges, color=COMMON_COLOUR, alpha=0.6, label=f"{name} ({len(scores):,})")
    ax.set_ylabel("rows")


def _draw_group(ax: Axes, scores: NDArray[np.float64], edges: list[float], colour: str, name: str) -> None:
    # One number a row, so that the bars of a group add up to 100.
    per_cent = np.full(len(scores), 100.0 / max(len(scores), 1))
    ax.hist(scores, bins=edges, weights=per_cent, color=colour, alpha=0.35)
    ax.hist(
        scores,
        bins=edges,
        weights=per_cent,
        color=colour,
        histtype="step",
        linewidth=1.4,
        label=f"{name} ({len(scores):,})",
    )
    ax.set_ylabel("rows of the group [%]")


def _draw_ticks(
    ax: Axes,
    scores: NDArray[np.float64],
    edges: list[float],
    *,
    bottom: float,
    top: float,
    name: str | None = None,
) -> None:
    """Draw a line for each score, between two heights given as parts of the axes' height."""
    ax.vlines(
        scores[(scores >= edges[0]) & (scores <= edges[-1])],
        bottom,
        top,
        color=RARE_COLOUR,
        alpha=0.6 if name is None else 1.0,
        linewidth=1.0 if name is None else 1.6,
        label="_nolegend_" if name is None else f"{name} ({len(scores):,})",
        transform=ax.get_xaxis_transform(),
        clip_on=False,
    )
