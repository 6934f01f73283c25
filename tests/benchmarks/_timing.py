"""Times of several pieces of work that take turns, and the facts of the machine they were taken on."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch
from _workers import Recipe, make_timer

from flowdetect import __version__

__all__ = ["OURS", "Figure", "Settings", "machine_facts", "tabulate_figures", "take_turns", "torch_seconds"]

OURS = "flowdetect"
_PACKAGES = ("numpy", "torch", "numba", "scikit-learn", "nflows", "zuko", "normflows", "pyod")
# How a median number of seconds is shown, given the units of work one call does.
_SHOWN: dict[str, Callable[[float, float], str]] = {
    "rows/s": lambda value, amount: f"{amount / value:,.0f}",
    "steps/s": lambda value, amount: f"{amount / value:,.1f}",
    "ms": lambda value, amount: f"{1e3 * value:,.3f}",
    "s": lambda value, amount: f"{value:,.2f}",
    "MB": lambda value, amount: f"{value:,.1f}",
    "%": lambda value, amount: f"{100 * value:,.1f}",
    "count": lambda value, amount: f"{value:,.0f}",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; its help explains them."""

    features: list[int]
    context: list[int]
    batch: int
    threads: int
    rounds: int
    round_seconds: float
    autoregressive_rows: int
    loop_steps: int
    memory_rows: int
    tables: Path | None
    match: str
    protocol: str
    apart: bool


@dataclass(frozen=True)
class Figure:
    """All rounds of one measurement of one method.

    Parameters
    ----------
    measure, data, method : str
        What was measured, on what, and of what.
    unit : {"rows/s", "steps/s", "ms", "s", "MB", "%", "count"}
        How it is shown. The values of the first four are seconds a call, of "MB" megabytes, of "%" a share.
    values : list of float
        One for each round.
    amount : float
        Rows or steps of a call.
    """

    measure: str
    data: str
    method: str
    unit: str
    values: list[float]
    amount: float = 1.0

    def shown(self, first: "Figure | None") -> str:
        """Return the median, and behind it how many times the first method's time or memory that is."""
        value = median(self.values)
        text = _SHOWN[self.unit](value, self.amount)
        if first is None or first is self or self.unit in ("%", "count"):
            return text
        reference = median(first.values)
        return f"{text} ({value / reference:.3g}x)" if reference > 0 else text


def take_turns(
    recipes: Mapping[str, Recipe], settings: Settings, *, most_rounds: int | None = None
) -> dict[str, list[float]]:
    """Return the seconds a call of each work takes, one value for each round.

    In a round every work is called for about ``settings.round_seconds``, or once if that takes longer; where
    it is called more than once, after a call that is not timed. Each round begins with another work.
    """
    timers, repeats = {}, {}
    for name, recipe in recipes.items():
        timers[name] = make_timer(name, recipe, apart=settings.apart, threads=settings.threads)
        timers[name](1)  # compiles, and allocates what stays
        repeats[name] = max(1, min(2000, round(settings.round_seconds / timers[name](1))))
    times: dict[str, list[float]] = {name: [] for name in recipes}
    names = list(recipes)
    for turn in range(min(settings.rounds, most_rounds or settings.rounds)):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if repeats[name] > 1:
                timers[name](1)
            times[name].append(timers[name](repeats[name]))
    return times


def torch_seconds() -> float:
    """Return the seconds of a few of torch's own operations, large enough for all threads."""
    values = torch.zeros(512, 256)
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        values.sigmoid().mul_(2.0).exp_()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def tabulate_figures(figures: list[Figure]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield a table for each measure, data by methods, as header and lines."""
    for measure in dict.fromkeys(figure.measure for figure in figures):
        chosen = {(figure.data, figure.method): figure for figure in figures if figure.measure == measure}
        methods = list(dict.fromkeys(method for _, method in chosen))
        lines = []
        for data in dict.fromkeys(data for data, _ in chosen):
            first, found = chosen.get((data, methods[0])), [chosen.get((data, name)) for name in methods]
            lines.append([data, *("-" if figure is None else figure.shown(first) for figure in found)])
        unit = next(iter(chosen.values())).unit
        yield [measure if unit == "count" else f"{measure} ({unit})", *methods], lines


def machine_facts() -> dict[str, object]:
    """Return processor, threads, load and versions."""
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {OURS: __version__} | {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
