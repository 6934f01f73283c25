"""`CalibrationRankDisplay`: whether true parameters rank among posterior draws as they should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import UniformRanks
from flowdetect.inference._ranks import check_ranks
from flowdetect.plotting._style import (
    NEUTRAL_COLOUR,
    column_text,
    new_axes,
    put_legend_above,
    rows_text,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CalibrationRankDisplay"]

_LONGEST_NAME = 24
# Okabe and Ito's palette without yellow, which is too light for a line; dashes tell apart what comes after.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")
# More lines than this are grey and have no names, but for those that leave the band.
_MOST_NAMED = len(_COLOURS) * len(_DASHES)


class CalibrationRankDisplay:
    """Ranks of true parameters among draws of their posteriors, against uniform ones.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. Each line is the share of ranks below a
    share of all ranks, less that share: 0 throughout, but for chance, where the posterior is calibrated. A
    line above 0 on the left and below on the right: the posterior is too narrow; the other way round: too
    wide. A line above 0 throughout: draws are too large; below: too small. The rank of the joint density is
    that among densities of the draws, highest first: its line lies below 0 where the posterior is too narrow.

    Parameters
    ----------
    ranks : array-like of int, shape (n_rows, n_parameters) or (n_rows,)
        How many of the draws lie below each true parameter.
    n_draws : int
        Draws of each posterior: the largest rank.
    names : sequence or None, default=None
        Names of the parameters; None for their positions.
    level : float, default=0.95
        Probability of the band.
    name : str or None, default=None
        Title of the picture.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Raises
    ------
    InvalidTableError
        If the ranks are not whole numbers from 0 to n_draws, or there is not one name for each parameter.
    ConfigurationError
        If level does not lie between 0 and 1.

    Notes
    -----
    The band is simultaneous: one uniform sample leaves it anywhere with the probability ``1 - level``.
    Several lines leave it more often.

    References
    ----------
    T. Säilynoja, P.-C. Bürkner, A. Vehtari (2022), "Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison", Statistics and Computing.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.plotting import CalibrationRankDisplay
    >>> ranks = np.random.default_rng(0).integers(100, size=(300, 2))
    >>> display = CalibrationRankDisplay.from_predictions(ranks, n_draws=99, names=["mass", "spin"])
    >>> display.ax_.get_xlabel()
    'share of ranks'
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        ranks: ArrayLike,
        *,
        n_draws: int,
        names: Sequence[Any] | None = None,
        level: float = 0.95,
        name: str | None = None,
    ) -> None:
        self.ranks = check_ranks(ranks, n_draws)
        self.n_draws = n_draws
        self.names = list(range(self.ranks.shape[1])) if names is None else list(names)
        if len(self.names) != self.ranks.shape[1]:
            raise InvalidTableError(
                f"names must be one for each of {self.ranks.shape[1]} columns of ranks; "
                f"got {len(self.names)}."
            )
        if not 0.0 < level < 1.0:
            raise ConfigurationError(f"level must lie between 0 and 1; got {level!r}.")
        self.level = level
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        theta: Any,
        x: Any,
        *,
        n_samples: int = 99,
        random_state: Any = None,
        level: float = 0.95,
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Rank true parameters with a fitted posterior and draw the ranks.

        The last line is the rank of their joint density, by which regions of highest density cover them.

        Parameters
        ----------
        estimator : object
            Fitted, with ``rank_statistics``.
        theta : DataFrame or array-like of shape (n, n_parameters)
            Drawn from the prior, and not learnt from.
        x : DataFrame or array-like of shape (n, n_outcomes)
            What the simulator made of them.
        n_samples : int, default=99
            Draws of each posterior.
        random_state : int, RandomState, Generator or None, default=None
            Of the draws.
        level : float, default=0.95
            Probability of the band.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title; None takes the name of the estimator's class.

        Returns
        -------
        CalibrationRankDisplay

        Raises
        ------
        InvalidTableError
            If theta and x cannot be used.
        ConfigurationError
            If n_samples is no whole number of at least 1, or level does not lie between 0 and 1.
        """
        found = estimator.rank_statistics(theta, x, n_samples=n_samples, random_state=random_state)
        return cls.from_predictions(
            np.column_stack([found.ranks, found.region_ranks]),
            n_draws=found.n_draws,
            names=[*map(column_text, found.names), "joint density"],
            level=level,
            ax=ax,
            name=type(estimator).__name__ if name is None else name,
        )

    @classmethod
    def from_predictions(
        cls,
        ranks: ArrayLike,
        *,
        n_draws: int,
        names: Sequence[Any] | None = None,
        level: float = 0.95,
        ax: Axes | None = None,
        name: str | None = None,
    ) -> Self:
        """Draw ranks that have been counted already.

        Parameters
        ----------
        ranks : array-like of int, shape (n_rows, n_parameters) or (n_rows,)
            How many of the draws lie below each true parameter.
        n_draws : int
            Draws of each posterior: the largest rank.
        names : sequence or None, default=None
            Names of the parameters; None for their positions.
        level : float, default=0.95
            Probability of the band.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Title.

        Returns
        -------
        CalibrationRankDisplay

        Raises
        ------
        InvalidTableError
            If the ranks are not whole numbers from 0 to n_draws, or there is not one name for each parameter.
        ConfigurationError
            If level does not lie between 0 and 1.
        """
        return cls(ranks, n_draws=n_draws, names=names, level=level, name=name).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the lines and the band.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        CalibrationRankDisplay
            This object, with ``ax_`` and ``figure_`` set.
        """
        self.ax_ = new_axes(width=7.0, height=4.5) if ax is None else ax
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        uniform = UniformRanks(len(self.ranks), self.n_draws)
        low, high = uniform.band(self.level)
        self._draw_band(uniform.shares, low, high)
        for j, label in enumerate(self.names):
            shares = uniform.counts(self.ranks[:, j]) / len(self.ranks)
            self._draw_line(j, label, uniform.shares, shares, bool(((shares < low) | (shares > high)).any()))
        self.ax_.set_xlim(0.0, 1.0)
        self.ax_.set_xlabel("share of ranks")
        self.ax_.set_ylabel("excess of true parameters below")
        self.ax_.spines[["top", "right"]].set_visible(False)
        put_legend_above(self.ax_, self.name)
        return self

    def _draw_band(self, shares: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.ax_.fill_between(
            np.concatenate([[0.0], shares, [1.0]]),
            np.concatenate([[0.0], low - shares, [0.0]]),
            np.concatenate([[0.0], high - shares, [0.0]]),
            color="black",
            alpha=0.12,
            linewidth=0.0,
            label=f"{100 * self.level:g} % band throughout, {rows_text(len(self.ranks))}",
        )
        self.ax_.axhline(0.0, color="black", linestyle="--", linewidth=1.0, label="calibrated")

    def _draw_line(self, j: int, label: Any, places: np.ndarray, shares: np.ndarray, leaves: bool) -> None:
        named = len(self.names) <= _MOST_NAMED or leaves
        text = shortened(column_text(label), _LONGEST_NAME) + (" (leaves the band)" if leaves else "")
        self.ax_.plot(
            np.concatenate([[0.0], places, [1.0]]),
            np.concatenate([[0.0], shares - places, [0.0]]),
            color=_COLOURS[j % len(_COLOURS)] if named else NEUTRAL_COLOUR,
            linestyle=_DASHES[j // len(_COLOURS) % len(_DASHES)] if named else "-",
            linewidth=1.6 if named else 0.8,
            label=text if named else None,
            zorder=3.0 if named else 2.0,
        )
