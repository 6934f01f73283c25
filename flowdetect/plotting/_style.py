"""What all pictures share: colours, axes, and how counts and names are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowdetect.exceptions import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

__all__ = [
    "COMMON_COLOUR",
    "NEUTRAL_COLOUR",
    "RARE_COLOUR",
    "SCORE_LABEL",
    "check_row",
    "column_text",
    "drawn_range",
    "new_axes",
    "put_legend_above",
    "rows_text",
    "shortened",
]

# Blue and vermilion of Okabe and Ito's palette: told apart with every common colour vision, and in grey.
COMMON_COLOUR = "#0072B2"
RARE_COLOUR = "#D55E00"
NEUTRAL_COLOUR = "#999999"

SCORE_LABEL = "score: log-density [nats], larger = more normal"

# The axis keeps this many times the distance from the median to the tail quantiles on either side.
_RANGE_IN_TAILS = 3.0

# A legend of more letters an inch of the axes' width is put below each other.
_LEGEND_LETTERS_AN_INCH = 13.7


def drawn_range(values: NDArray[np.float64], *, tail: float = 0.05) -> tuple[float, float]:
    """Return the range of the bulk of finite values: one of -1e6 must not squeeze all others together."""
    low_tail, median, high_tail = np.quantile(values, [tail, 0.5, 1.0 - tail])
    low = values[values >= median - _RANGE_IN_TAILS * (median - low_tail)].min()
    high = values[values <= median + _RANGE_IN_TAILS * (high_tail - median)].max()
    return float(low), float(high)


def new_axes(width: float = 8.0, height: float = 4.5) -> Axes:
    """Return the axes of a new figure of that size in inches."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), dpi=150, layout="constrained")[1]


def put_legend_above(ax: Axes, title: str | None) -> Legend:
    """Add and return the legend above the axes, where it cannot cover data."""
    names = ax.get_legend_handles_labels()[1]
    inches = ax.get_window_extent().width / ax.figure.dpi
    legend = ax.legend(
        title=title,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3 if sum(map(len, names)) < _LEGEND_LETTERS_AN_INCH * inches else 1,
        alignment="left",
        frameon=False,
        borderpad=0.0,
        fontsize="small",
    )
    legend.get_title().set_fontsize("large")
    return legend


def rows_text(count: int) -> str:
    """Write how many rows.

    Examples
    --------
    >>> rows_text(1), rows_text(1200)
    ('1 row', '1,200 rows')
    """
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def shortened(text: str, limit: int) -> str:
    """Return the text on one line and at most `limit` letters long, safe from matplotlib's formulas.

    Examples
    --------
    >>> shortened("a_rather_long_name", 8)
    'a_ra…ame'
    """
    line = " ".join(text.split())
    if len(line) > limit:
        # The end stays: names of many columns differ only there.
        kept_end = (limit - 1) // 2
        line = f"{line[: limit - 1 - kept_end]}…{line[len(line) - kept_end :]}"
    return line.replace("$", r"\$")


def column_text(column: Any) -> str:
    """Write the name of a column, which is its position in an array.

    Examples
    --------
    >>> column_text("TSH"), column_text(3)
    ('TSH', 'column 3')
    """
    return f"column {column}" if isinstance(column, int | np.integer) else str(column)


def check_row(row: Any, *, n_rows: int) -> int:
    """Return the position of a row as an int.

    Raises
    ------
    ConfigurationError
        If it is not a whole number from 0 to ``n_rows - 1``.
    """
    whole = isinstance(row, int | np.integer) and not isinstance(row, bool)
    if not whole or not 0 <= row < n_rows:
        raise ConfigurationError(
            f"row must be the position of one of the {rows_text(n_rows)} of X, counted from 0; got {row!r}."
        )
    return int(row)
