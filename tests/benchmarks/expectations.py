"""Expectations under a fitted density: randomised quasi-Monte Carlo beside independent rows.

    python tests/benchmarks/expectations.py --data FOLDER [--only power,kin8nm] [--out expectations.json]

FOLDER is that of the comparison data (``density/*.npz``, ``adbench/*.npz``, ``mixed/*.csv.gz``); two tables
are those of ``datasets/``. FlowDensity is fitted on each table with at most ``--max-rows`` rows. Then each
number (means, second moments, probabilities, tail probabilities, quantiles of the numeric columns) is
computed ``--repeats`` times by either method with the same number of rows, and once from ``--reference``
times as many by quasi-Monte Carlo. The figure is the ratio of mean squared errors about that reference, Monte
Carlo's over quasi-Monte Carlo's: how many times more independent rows the same precision takes (the median
over the columns). Coverage is the share of stated 90 % intervals that hold the reference. Behind a table's
name stand the numbers of its continuous and its discrete columns.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _report import print_table, summarise

from flowdetect import FlowDensity
from flowdetect.inference import expectation, quantiles

LEVELS = (0.05, 0.5, 0.95)
# File, and how many of its columns; None for all.
TABLES: tuple[tuple[str, int | None], ...] = (
    ("density/power_plant.npz", 2),
    ("adbench/34_smtp.npz", None),
    ("density/power_plant.npz", None),
    ("datasets/penguins.csv.gz", None),
    ("density/kin8nm.npz", None),
    ("density/magic_gamma.npz", None),
    ("density/protein.npz", None),
    ("mixed/adult.csv.gz", None),
    ("datasets/german_credit.csv.gz", None),
    ("adbench/41_Waveform.npz", None),
)


def read_table(path: Path, n_columns: int | None, max_rows: int) -> pd.DataFrame:
    """Return the rows of a file, at most ``max_rows`` of them, drawn evenly."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            table = pd.DataFrame(file["train" if "train" in file.files else "X"].astype(np.float64))
    else:
        table = pd.read_csv(path).drop(columns="__split", errors="ignore")
    table = table.iloc[:, :n_columns]
    return table.sample(min(max_rows, len(table)), random_state=0).reset_index(drop=True)


def numbers_of(table: pd.DataFrame, columns: list[Any]) -> np.ndarray:
    """Return the numeric columns; 0 stands for a missing entry."""
    return table[columns].astype(float).fillna(0.0).to_numpy()


def questions(density: FlowDensity, columns: list[Any]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return for each kind of number a function of the numeric columns whose means they are."""
    numbers = numbers_of(density.sample(4000, random_state=99), columns)
    middle, spread = numbers.mean(axis=0), numbers.std(axis=0) + 1e-12
    low, centre, high = np.quantile(numbers, (0.25, 0.5, 0.99), axis=0)

    def second(x: np.ndarray) -> np.ndarray:
        z = (x - middle) / spread
        return np.concatenate([z * z, z * np.roll(z, 1, axis=1)], axis=1)

    def probabilities(x: np.ndarray) -> np.ndarray:
        above, between = x > centre, (x > low) & (x <= high)
        return np.concatenate([above, above & np.roll(between, 1, axis=1)], axis=1)

    return {
        "means": lambda x: (x - middle) / spread,
        "second moments": second,
        "probabilities": probabilities,
        "tails (about 1 %)": lambda x: x > high,
    }


def answer(density: FlowDensity, columns: list[Any], **settings: Any) -> dict[str, tuple[Any, ...]]:
    """Return for each kind of number the values and the ends of their 90 % intervals."""
    asked = questions(density, columns)
    widths: dict[str, int] = {}

    def all_of_them(rows: pd.DataFrame) -> np.ndarray:
        numbers = numbers_of(rows, columns)
        parts = {kind: function(numbers) for kind, function in asked.items()}
        widths.update({kind: part.shape[1] for kind, part in parts.items()})
        return np.concatenate(list(parts.values()), axis=1)

    together = expectation(density, all_of_them, **settings)
    ends = np.cumsum(list(widths.values()))
    cut = zip(*(np.split(part, ends[:-1]) for part in (together.value, *together.interval(0.9))), strict=True)
    found = dict(zip(widths, cut, strict=True))
    points = quantiles(density, LEVELS, columns=columns, **settings)
    found["quantiles"] = tuple(part.ravel() for part in (points.value, *points.interval(0.9)))
    return found


def compare(
    density: FlowDensity, columns: list[Any], args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return for each kind of number the ratio of squared errors, coverages and seconds."""
    exact = answer(density, columns, n_samples=args.samples * args.reference, random_state=10**6)
    tries, seconds = {}, {}
    for method in ("mc", "rqmc"):
        start = time.perf_counter()
        tries[method] = [
            answer(density, columns, n_samples=args.samples, method=method, random_state=seed)
            for seed in range(args.repeats)
        ]
        seconds[method] = (time.perf_counter() - start) / args.repeats
    return {
        kind: {
            **judge(kind, exact[kind][0], tries),
            **{f"seconds {method}": value for method, value in seconds.items()},
        }
        for kind in exact
    }


def judge(
    kind: str, exact: np.ndarray, tries: dict[str, list[dict[str, tuple[Any, ...]]]]
) -> dict[str, float]:
    """Return the median and the least ratio of squared errors over the numbers, and the coverages."""
    squares = {
        method: np.mean([np.square(one[kind][0] - exact) for one in found], axis=0)
        for method, found in tries.items()
    }
    # A number that no draw changes (a constant, a quantile of few values) has no error to judge.
    moving = squares["mc"] > 1e-18 * (1.0 + np.square(exact))
    ratios = squares["mc"][moving] / np.maximum(squares["rqmc"][moving], 1e-18)
    coverage = {
        f"coverage {method}": float(
            np.mean([((one[kind][1] <= exact) & (exact <= one[kind][2]))[moving] for one in found])
        )
        for method, found in tries.items()
    }
    return {"ratio": float(np.median(ratios)), "least ratio": float(ratios.min()), **coverage}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--max-steps", type=int, default=250)
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--reference", type=int, default=8, help="times the samples, for the reference")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = [part for part in args.only.split(",") if part]
    repository = Path(__file__).parents[2]
    rows: list[dict[str, Any]] = []
    for name, n_columns in TABLES:
        path = (repository if name.startswith("datasets/") else args.data) / name
        if wanted and not any(part in name for part in wanted):
            continue
        table = read_table(path, n_columns, args.max_rows)
        density = FlowDensity(max_steps=args.max_steps, random_state=0).fit(table)
        layout = density.encoder_.layout_
        label = f"{path.name.split('.')[0]} ({layout.n_values} + {layout.n_codes})"
        columns = [name for name in table if pd.api.types.is_numeric_dtype(table[name])]
        for kind, figures in compare(density, columns, args).items():
            rows.append({"data": label, "method": kind, **figures})
            print(label, kind, {k: round(v, 3) for k, v in figures.items()}, flush=True)
    summarise(rows, value="ratio", out=args.out)
    print_table(
        ["stated 90 % intervals hold", "mc", "rqmc"],
        [
            [
                kind,
                *(
                    f"{np.mean([r[f'coverage {m}'] for r in rows if r['method'] == kind]):.3f}"
                    for m in ("mc", "rqmc")
                ),
            ]
            for kind in dict.fromkeys(str(row["method"]) for row in rows)
        ],
    )


if __name__ == "__main__":
    main()
