"""One column of two tables in small axes: steps for numbers and times, bars for categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowdetect.plotting._style import COMMON_COLOUR, RARE_COLOUR, drawn_range, shortened
from flowdetect.preprocessing import Storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Marginal", "bar_shares", "draw_marginal", "is_heavy_tailed", "step_shares"]

# Longest name and label in letters.
_NAME_LETTERS = 34
_LABEL_LETTERS = 16

_MOST_BARS = 6
_N_BINS = 24

# A column whose 99 % quantile is this many times its median is drawn on a logarithmic axis.
_TAIL_LEVEL = 0.99
_TAIL_RATIO = 20.0

_DAY = 86_400.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Marginal:
    """A column of both tables.

    Parameters
    ----------
    name : str
    kind : {"number", "time", "category"}
    storage : Storage
        How times became numbers, and whether categories have an order.
    labels : tuple
        What the codes of categories stand for.
    real, drawn : ndarray of float64
        The entries of the rows, NaN where missing.
    similarity : float
        From 0 to 1, 1 = the same.
    """

    name: str
    kind: str
    storage: Storage
    labels: tuple[Any, ...]
    real: NDArray[np.float64]
    drawn: NDArray[np.float64]
    similarity: float


def draw_marginal(ax: Axes, marginal: Marginal) -> None:
    """Draw the shares of both tables, and write the name, the similarity, and what is missing."""
    present = marginal.real[~np.isnan(marginal.real)]
    few = marginal.kind == "number" and len(np.unique(present)) <= _MOST_BARS
    title = f"{shortened(marginal.name, _NAME_LETTERS)}: {marginal.similarity:.2f}"
    if marginal.kind == "category" or few:
        _draw_bars(ax, *bar_shares(marginal))
    else:
        title += _missing_text(marginal)
        _draw_steps(ax, marginal)
    ax.set_title(title, loc="left", fontsize="small")
    ax.tick_params(labelsize="x-small")
    ax.spines[["top", "right"]].set_visible(False)


def bar_shares(marginal: Marginal) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels of the bars from the top down, and the shares of the rows.

    Returns
    -------
    labels : list of str
        The most frequent entries, in their order where they have one; then "other" and "missing" where
        there are any.
    shares : ndarray of shape (n_labels, 2)
        Of the real rows and of the drawn ones; each column sums to 1.
    """
    is_category = marginal.kind == "category"
    source = np.concatenate([marginal.real, marginal.drawn]) if is_category else marginal.real
    levels = np.unique(source[~np.isnan(source)])
    shares = np.array(
        [[np.mean(part == level) for part in (marginal.real, marginal.drawn)] for level in levels]
    ).reshape(-1, 2)
    order = np.argsort(-shares.max(axis=1), kind="stable")[:_MOST_BARS]
    ordered = not is_category or marginal.storage.ordered
    kept = sorted(order, key=lambda k: _place(marginal, float(levels[k]))) if ordered else list(order)
    labels = [_label(marginal, levels[k]) for k in kept]
    missing = np.array([np.isnan(part).mean() for part in (marginal.real, marginal.drawn)])
    other = 1.0 - shares[kept].sum(axis=0) - missing
    rows = [shares[kept]]
    for label, share in (("other", other), ("missing", missing)):
        if share.max() > 1e-9:  # one less many shares is not exactly 0
            labels.append(label)
            rows.append(np.maximum(share, 0.0)[None])
    return labels, np.concatenate(rows)


def step_shares(marginal: Marginal) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the edges of the bins and the shares of the present entries in them.

    Returns
    -------
    edges : ndarray of shape (n_bins + 1,)
    shares : ndarray of shape (2, n_bins)
        Of the real entries and of the drawn ones; the outermost bins hold all beyond. Zero where no entry is
        present.
    """
    parts = [part[~np.isnan(part)] for part in (marginal.real, marginal.drawn)]
    logarithmic = is_heavy_tailed(marginal)
    ranges = [drawn_range(np.log(part) if logarithmic else part) for part in parts if len(part)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _N_BINS + 1)
    together = np.concatenate(parts)
    if logarithmic:
        edges = np.exp(edges)
    elif marginal.kind == "number" and np.array_equal(together, np.round(together)):
        # Bins of equally many whole numbers: others would look like a comb.
        width = max(int(np.ceil((high - low + 1.0) / _N_BINS)), 1)
        edges = np.arange(np.floor(low), high + width + 0.5, width) - 0.5
    counts = [np.histogram(np.clip(part, edges[0], edges[-1]), edges)[0] for part in parts]
    shares = [count / max(len(part), 1) for count, part in zip(counts, parts, strict=True)]
    return edges, np.array(shares)


def is_heavy_tailed(marginal: Marginal) -> bool:
    """Tell numbers that need a logarithmic axis: all positive, and some many times the real median."""
    real, drawn = (part[~np.isnan(part)] for part in (marginal.real, marginal.drawn))
    if marginal.kind != "number" or not len(real) or min(real.min(), drawn.min(initial=np.inf)) <= 0.0:
        return False
    median, large = np.quantile(real, [0.5, _TAIL_LEVEL])
    return bool(large > _TAIL_RATIO * median)


def _place(marginal: Marginal, level: float) -> float:
    declared = marginal.storage.declared
    if marginal.kind != "category" or declared is None:
        return level
    label = marginal.labels[int(level)]
    return float(declared.index(label)) if label in declared else float(len(declared))


def _label(marginal: Marginal, level: float) -> str:
    text = str(marginal.labels[int(level)]) if marginal.kind == "category" else f"{level:.6g}"
    return shortened(text, _LABEL_LETTERS)


def _missing_text(marginal: Marginal) -> str:
    shares = [np.isnan(part).mean() for part in (marginal.real, marginal.drawn)]
    if not any(shares):
        return ""
    return f"\nmissing: {_percent(shares[0])} of real, {_percent(shares[1])} of drawn"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %" if 0.0 < share < 0.1 else f"{100.0 * share:.0f} %"


def _draw_bars(ax: Axes, labels: Sequence[str], shares: NDArray[np.float64]) -> None:
    positions = np.arange(len(labels))
    for column, (colour, offset) in enumerate(((COMMON_COLOUR, -0.2), (RARE_COLOUR, 0.2))):
        ax.barh(positions + offset, shares[:, column], height=0.4, color=colour)
    ax.set_yticks(positions, labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    _write_percent(ax, "x")


def _draw_steps(ax: Axes, marginal: Marginal) -> None:
    edges, (real, drawn) = step_shares(marginal)
    if marginal.kind == "time":
        edges = _times(ax, edges, marginal.storage)
    ax.stairs(real, edges, fill=True, color=COMMON_COLOUR, alpha=0.25)
    ax.stairs(real, edges, color=COMMON_COLOUR, linewidth=1.2)
    ax.stairs(drawn, edges, color=RARE_COLOUR, linewidth=1.2)
    ax.set_ylim(bottom=0.0)
    ax.margins(x=0.02)
    if is_heavy_tailed(marginal):
        ax.set_xscale("log")
    _write_percent(ax, "y")


def _write_percent(ax: Axes, which: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{100.0 * share:.3g} %")


def _times(ax: Axes, edges: NDArray[np.float64], storage: Storage) -> NDArray[np.float64]:
    """Return the edges in days, and label the axis with dates; time spans stay days."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    # A time is so many seconds after the origin, which counts from 1970.
    seconds = edges + storage.origin * _SECONDS[storage.resolution or "ns"]
    if storage.dtype.startswith(("timedelta", "duration")):
        ax.set_xlabel("days", fontsize="x-small")
        return seconds / _DAY
    locator = AutoDateLocator(minticks=3, maxticks=5)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return np.asarray(date2num((seconds * 1e6).astype(np.int64).astype("datetime64[us]")), dtype=np.float64)
