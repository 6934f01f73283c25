"""Whole tables drawn by FlowAugmenter, CTGAN, TVAE, a Gaussian copula, interpolation, and copying.

    python tests/benchmarks/synthesis.py --data FOLDER [--rows 10000] [--only adult] [--seed 0]
        [--methods flowdetect,tvae] [--out synthesis.json] [--keep DRAWN] [--drawn DRAWN]

FOLDER holds ``.csv.gz`` files. The target is the last column, or the last one before a column ``__split`` of
"train" and "test"; without that a quarter of the rows is held out. All methods are fitted on the same
training rows and draw as many. Held-out rows serve `flowdetect.quality.compare_tables` alone; "held-out" in
the tables stands for these rows in place of drawn ones, and for TSTR for the training rows themselves.

``score`` is the mean of TSTR AUROC, 1 - 2 |C2ST AUROC - 0.5|, marginal and pairwise fidelity. "bootstrap"
copies training rows, "interpolation" half of the time nearly so: only the near copies and the distance to the
closest record give them away. All run on the CPU. Seconds are those of one thread on the processor, which
other processes hardly prolong; the very first fit of FlowAugmenter also compiles.

``--keep`` writes the drawn rows as Parquet files; ``--drawn`` reads them instead of drawing them again, and
draws only what is not there. The peers: ``pip install ctgan copulas``.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from _report import print_table
from _synthesis_methods import GENERATORS
from _synthesis_tables import MixedTable, find_mixed, read_mixed
from threadpoolctl import threadpool_limits

from flowdetect.quality import compare_tables

Row = dict[str, object]

OURS = "flowdetect"
TERMS = ("TSTR AUROC", "C2ST AUROC", "marginal fidelity", "pairwise fidelity")
SHOWN = (
    *("score", *TERMS, "worst column", "coverage"),
    *("closest record, median", "closest record, 5 %", "near copies"),
)
FIT, DRAW, RATIO = "fit s", "draw s", f"times {OURS}"


def draw_rows(data: MixedTable, method: str, seed: int) -> pd.DataFrame:
    """Return as many drawn rows as training rows, with the seconds among the attributes."""
    clocks = [_clocks()]
    with threadpool_limits(1), joblib.parallel_config(backend="sequential"), warnings.catch_warnings():
        # The copula tries distributions that do not fit.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="scipy")
        draw = GENERATORS[method](data.train, data.target, seed)
        clocks.append(_clocks())
        drawn = draw(len(data.train))
        clocks.append(_clocks())
    (fit, fit_wall), (drawing, drawing_wall) = np.diff(clocks, axis=0).tolist()
    seconds = {"fit seconds": fit, "draw seconds": drawing}
    walls = {"fit wall seconds": fit_wall, "draw wall seconds": drawing_wall}
    drawn.attrs = {"rows": len(data.train), "seed": seed} | seconds | walls
    return drawn


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def read_rows(path: Path, data: MixedTable, seed: int) -> pd.DataFrame:
    """Return rows drawn before.

    Raises
    ------
    ValueError
        If they were drawn from other training rows.
    """
    drawn = pd.read_parquet(path)
    expected = {"rows": len(data.train), "seed": seed}
    found = {name: drawn.attrs.get(name) for name in expected}
    if found != expected:
        raise ValueError(f"{path} must hold rows drawn with {expected}; got {found}. Draw them again.")
    return drawn


def tables_of(data: MixedTable, args: argparse.Namespace) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each method with its rows: those kept before, or else drawn now."""
    for method in args.methods.split(","):
        file = f"{data.name}-{method}.parquet"
        if args.drawn is not None and (args.drawn / file).exists():
            yield method, read_rows(args.drawn / file, data, args.seed)
            continue
        drawn = draw_rows(data, method, args.seed)
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            drawn.to_parquet(args.keep / file)
        yield method, drawn


def compare(data: MixedTable, args: argparse.Namespace) -> list[Row]:
    """Return the figures of all methods on one table, those of the held-out rows last."""
    rows: list[Row] = []
    for method, drawn in tables_of(data, args):
        with threadpool_limits(1):
            measures = compare_tables(
                *(data.train, drawn), held_out=data.held_out, target=data.target, random_state=args.seed
            )
        rows.append({"data": data.name, "method": method} | _scored(measures["value"]) | drawn.attrs)
        baseline = {"data": data.name, "method": "held-out"} | _scored(measures["baseline"])
        print(data.name, method, f"score {100.0 * float(rows[-1]['score']):.1f}", flush=True)
    return [*rows, baseline]


def _scored(measures: pd.Series) -> dict[str, float]:
    values = {str(name): float(value) for name, value in measures.items()}
    indistinct = 1.0 - 2.0 * abs(values["C2ST AUROC"] - 0.5)
    terms = [indistinct if name == "C2ST AUROC" else values[name] for name in TERMS]
    return {"score": float(np.mean(terms))} | values


def print_figures(title: str, rows: list[Row]) -> None:
    """Print the methods one below the other, the seconds last."""
    frame = pd.DataFrame(rows).groupby("method", sort=False).mean(numeric_only=True)
    seconds = frame[["fit seconds", "draw seconds"]].set_axis([FIT, DRAW], axis=1)
    total = seconds.sum(axis=1, min_count=2)
    figures = [frame[list(SHOWN)].map("{:.3f}".format), seconds.map(_told)]
    if OURS in frame.index:
        figures.append((total / total[OURS]).rename(RATIO).to_frame().map(_told))
    table = pd.concat(figures, axis=1)
    print_table([title, *table.columns], [[str(name), *line] for name, line in table.T.items()])


def _told(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}" if value < 10.0 else f"{value:,.0f}"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000, help="training rows at most")
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--methods", default=",".join(GENERATORS), help="comma separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file to write all measures to")
    parser.add_argument("--keep", type=Path, help="folder to write drawn rows to")
    parser.add_argument("--drawn", type=Path, help="folder to read drawn rows from, where they are there")
    args = parser.parse_args()
    if unknown := set(args.methods.split(",")) - set(GENERATORS):
        parser.error(f"--methods must be among {', '.join(GENERATORS)}; got {', '.join(sorted(unknown))}.")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for path in find_mixed(args.data, args.only):
        figures = compare(read_mixed(path, args.rows, args.seed), args)
        print_figures(str(figures[0]["data"]), figures)
        rows += figures
        if args.out is not None:
            args.out.write_text(json.dumps(rows, indent=1))
    if len({row["data"] for row in rows}) > 1:
        print_figures("mean", rows)


if __name__ == "__main__":
    main()
