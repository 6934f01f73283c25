"""Tables of benchmark figures, printed as Markdown and written as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["print_table", "summarise"]

Row = dict[str, object]


def print_table(header: list[str], lines: list[list[str]]) -> None:
    """Print a Markdown table."""
    print("\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for line in lines:
        print("| " + " | ".join(line) + " |", flush=True)


def summarise(rows: list[Row], *, value: str, out: Path | None, better: Callable = max) -> None:
    """Print mean values as a Markdown table, data sets by methods, the best of each line in bold."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    names = list(dict.fromkeys(str(row["data"]) for row in rows))
    lines = []
    for name in names:
        means = [_mean(rows, name, method, value) for method in methods]
        best = better(means)
        lines.append([name, *(f"**{mean:.3f}**" if mean == best else f"{mean:.3f}" for mean in means)])
    totals = [np.mean([_mean(rows, name, method, value) for name in names]) for method in methods]
    lines.append(["mean", *(f"{total:.3f}" for total in totals)])
    print_table([value, *methods], lines)
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


def _mean(rows: list[Row], name: str, method: str, value: str) -> float:
    return float(np.mean([row[value] for row in rows if row["data"] == name and row["method"] == method]))
