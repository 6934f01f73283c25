"""`PValueCalibrationDisplay`: whether p-values keep the rate of false alarms that they promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._style import COMMON_COLOUR, new_axes, put_legend_above, rows_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PValueCalibrationDisplay"]

_SCALES = ("linear", "log")
_BAND_COVERAGE = 0.95
_BAND_POINTS = 300

# Counts further than this from their mean have no weight that float64 could add to the others.
_SPREAD_IN_DEVIATIONS = 10.0
_SPREAD_IN_ROWS = 40


class PValueCalibrationDisplay:
    """Share of normal rows with ``p <= a`` against the rate ``a``.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. Calibrated p-values follow the diagonal
    and leave the band around it at one rate in twenty. Above it there are more false alarms than promised,
    below it fewer.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        p-value of each row, from 0 to 1; all rows are known to be normal, and none was learnt from.
    name : str or None, default=None
        Title of the picture, such as the name of the detector.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Raises
    ------
    InvalidTableError
        If the p-values are not one number from 0 to 1 a row.

    Notes
    -----
    The band holds at each rate, not at all rates at once: of n calibrated p-values the number of those up to
    a is binomial with n trials of probability a, and the band goes from its 2.5 % to its 97.5 % quantile.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.plotting import PValueCalibrationDisplay
    >>> p_values = np.random.default_rng(0).uniform(size=500)
    >>> display = PValueCalibrationDisplay.from_predictions(p_values, scale="log")
    >>> display.ax_.get_xscale()
    'log'
    """

    ax_: Axes
    figure_: Figure

    def __init__(self, p_values: ArrayLike, *, name: str | None = None) -> None:
        self.p_values = _checked_p_values(p_values)
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        scale: str = "log",
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Compute the p-values of normal rows with a fitted estimator and draw them.

        Parameters
        ----------
        estimator : object
            Fitted, with ``p_values``.
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows known to be normal that the estimator was not fitted on.
        scale : {"log", "linear"}, default="log"
            Scale of both axes; "log" shows the small rates at which alarms are raised.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the estimator's class.

        Returns
        -------
        PValueCalibrationDisplay

        Raises
        ------
        ConfigurationError
            If `scale` is unknown.
        InvalidTableError
            If the p-values are not one number from 0 to 1 a row.
        """
        return cls.from_predictions(
            estimator.p_values(X),
            scale=scale,
            ax=ax,
            name=type(estimator).__name__ if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        p_values: ArrayLike,
        *,
        scale: str = "log",
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw p-values that have been computed already.

        Parameters
        ----------
        p_values : array-like of shape (n_samples,)
            p-value of each row, from 0 to 1; all rows are known to be normal.
        scale : {"log", "linear"}, default="log"
            Scale of both axes; "log" shows the small rates at which alarms are raised.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title.

        Returns
        -------
        PValueCalibrationDisplay

        Raises
        ------
        ConfigurationError
            If `scale` is unknown.
        InvalidTableError
            If the p-values are not one number from 0 to 1 a row.
        """
        return cls(p_values, name=name).plot(ax=ax, scale=scale)

    def plot(self, ax: Axes | None = None, *, scale: str = "log") -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        scale : {"log", "linear"}, default="log"
            Scale of both axes. "log" goes from ``1 / (2 * n_samples)`` to 1; what is smaller lies on the
            lower edge.

        Returns
        -------
        PValueCalibrationDisplay
            This object, with ``ax_`` and ``figure_`` set.

        Raises
        ------
        ConfigurationError
            If `scale` is unknown.
        """
        if scale not in _SCALES:
            raise ConfigurationError(f"scale must be 'log' or 'linear'; got {scale!r}.")
        self.ax_ = new_axes(width=6.0, height=5.0) if ax is None else ax
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        lowest = 0.0 if scale == "linear" else 0.5 / len(self.p_values)
        self._draw_band(lowest)
        self._draw_shares(lowest)
        self._label(scale, lowest)
        return self

    def _draw_band(self, lowest: float) -> None:
        space = np.geomspace if lowest else np.linspace
        rates = space(lowest, 1.0, _BAND_POINTS)
        low, high = _binomial_band(rates, n_trials=len(self.p_values))
        self.ax_.fill_between(
            rates,
            np.maximum(low, lowest),
            np.maximum(high, lowest),
            color="black",
            alpha=0.12,
            linewidth=0.0,
            label=f"{100 * _BAND_COVERAGE:.0f} % band at each rate",
        )
        ends = [lowest, 1.0]
        self.ax_.plot(ends, ends, color="black", linestyle="--", linewidth=1.0, label="calibrated")

    def _draw_shares(self, lowest: float) -> None:
        rates, shares = _shares_up_to(self.p_values)
        label = f"p-values of {rows_text(len(self.p_values))}"
        self.ax_.plot(
            np.maximum(rates, lowest),
            np.maximum(shares, lowest),
            drawstyle="steps-post",
            color=COMMON_COLOUR,
            linewidth=1.6,
            label=label,
            clip_on=False,  # or a curve along the edge would be half as thick
        )

    def _label(self, scale: str, lowest: float) -> None:
        if scale == "log":
            self.ax_.set_xscale("log")
            self.ax_.set_yscale("log")
            for axis in (self.ax_.xaxis, self.ax_.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter("")
        self.ax_.set_xlim(lowest, 1.0)
        self.ax_.set_ylim(lowest, 1.0)
        self.ax_.set_xlabel("a: promised rate of false alarms")
        self.ax_.set_ylabel("share of normal rows with p ≤ a")
        self.ax_.spines[["top", "right"]].set_visible(False)
        put_legend_above(self.ax_, self.name)


def _checked_p_values(p_values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(p_values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidTableError(f"p_values must be one number a row; got an array of shape {array.shape}.")
    wrong = ~((array >= 0.0) & (array <= 1.0))  # written so that NaN is wrong
    if wrong.any():
        raise InvalidTableError(
            f"p_values must be numbers from 0 to 1; {int(wrong.sum())} of {len(array)} are not, the first "
            f"is {float(array[wrong][0])!r}."
        )
    return array


def _shares_up_to(p_values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the share of p-values up to a rate rises, from 0 to 1, and the share from there on."""
    distinct, counts = np.unique(p_values, return_counts=True)
    shares = np.cumsum(counts) / len(p_values)
    return np.concatenate([[0.0], distinct, [1.0]]), np.concatenate([[0.0], shares, [1.0]])


def _binomial_band(
    rates: NDArray[np.float64], *, n_trials: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the quantiles of the share of successes between which it lies with 95 %, for each rate."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n_trials + 1)))])
    tail = (1.0 - _BAND_COVERAGE) / 2.0
    band = np.array([_count_quantiles(rate, (tail, 1.0 - tail), log_factorials) for rate in rates])
    return band[:, 0] / n_trials, band[:, 1] / n_trials


def _count_quantiles(
    rate: float, levels: tuple[float, float], log_factorials: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the smallest counts whose binomial probability of being reached or undercut has the levels."""
    n_trials = len(log_factorials) - 1
    if rate in (0.0, 1.0):
        return np.full(2, rate * n_trials)
    reach = _SPREAD_IN_ROWS + _SPREAD_IN_DEVIATIONS * np.sqrt(n_trials * rate * (1.0 - rate))
    first = max(int(n_trials * rate - reach), 0)
    counts = np.arange(first, min(int(n_trials * rate + reach), n_trials) + 1)
    log_choices = log_factorials[-1] - log_factorials[counts] - log_factorials[n_trials - counts]
    log_weights = log_choices + counts * np.log(rate) + (n_trials - counts) * np.log1p(-rate)
    reached = np.cumsum(np.exp(log_weights))
    return first + np.searchsorted(reached, levels).astype(np.float64)
