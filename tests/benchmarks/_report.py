"""Tables of benchmark figures, printed as Markdown and written as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["summarise"]

Row = dict[str, object]


def summarise(rows: list[Row], *, value: str, out: Path | None, better: Callable = max) -> None:
    """Print mean values as a Markdown table, data sets by methods, the best of each line in bold."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    names = list(dict.fromkeys(str(row["data"]) for row in rows))
    print(f"\n| {value} | " + " | ".join(methods) + " |\n|---|" + "---|" * len(methods))
    for name in names:
        means = [_mean(rows, name, method, value) for method in methods]
        best = better(means)
        print(f"| {name} | " + " | ".join(f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in means) + " |")
    totals = [np.mean([_mean(rows, name, method, value) for name in names]) for method in methods]
    print("| mean | " + " | ".join(f"{total:.3f}" for total in totals) + " |")
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


def _mean(rows: list[Row], name: str, method: str, value: str) -> float:
    return float(np.mean([row[value] for row in rows if row["data"] == name and row["method"] == method]))
