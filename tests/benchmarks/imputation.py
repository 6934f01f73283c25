"""Missing entries: FlowImputer beside mean, nearest neighbours, chained regressions and chained trees.

    python tests/benchmarks/imputation.py --data FOLDER [--only wine,power] [--shares 0.1,0.3,0.5] [--seeds 1]
        [--methods flow,mean,knn,ridge,trees] [--rows 500] [--out imputation.json]

FOLDER is the folder of comparison data (``adbench/``, ``conditional/``, ``density/``, ``imbalanced/``,
``mixed/``, ``bundle/`` in it). Of up to ``--rows`` rows of each table a share of all entries, chosen
completely at random, is hidden; every method is fitted on what is left and fills the same table. All have
their defaults, apart from seeds; chained trees (``IterativeImputer`` around ``ExtraTreesRegressor``,
"MissForest") have 30 trees and at most 5 rounds, for the time they take.

What ``--out`` holds already is not run again, so that a run can be cut into pieces.

RMSE and CRPS are over the hidden entries of numbers, each in standard deviations of its column. CRPS is the
fair estimate from 19 draws, and the absolute error of a method without draws; the 90 % interval reaches from
the least to the largest of the 19. Accuracy is over the hidden entries of categories, which chained methods
and neighbours get as one column per category. A figure is first if no other is better, and within the spread
if it lies within two standard errors (over entries, paired) of the best one.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _report import print_table
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from flowdetect import FlowImputer

NUMERIC = {
    "concrete": "conditional/bdl_concrete.npz",
    "energy": "conditional/bdl_energy.npz",
    "wine": "conditional/bdl_wine-quality-red.npz",
    "power": "density/power_plant.npz",
    "protein": "density/protein.npz",
    "magic": "adbench/22_magic.gamma.npz",
    "pendigits": "adbench/28_pendigits.npz",
    "vehicle": "imbalanced/keel_vehicle1.csv.gz",
}
MIXED = {"penguins": "bundle/penguins.csv.gz", "adult": "mixed/adult.csv.gz"}
N_DRAWS = 19


@dataclass
class Filled:
    """What a method puts into a table: its best guess, and draws if it has some."""

    guess: pd.DataFrame
    draws: list[pd.DataFrame]


def read_table(path: Path, n_rows: int, seed: int) -> pd.DataFrame:
    """Return some rows of a table, complete ones, without columns that are constant."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            if "train" in file:
                array = file["train"]
            else:
                array = file["X"] if "adbench" in str(path) else np.column_stack([file["X"], file["y"]])
        table = pd.DataFrame(array.astype(np.float64)).add_prefix("x")
    else:
        table = pd.read_csv(path).drop(columns=["rare", "__split"], errors="ignore").dropna()
        numbers = table.select_dtypes("number").columns
        table[numbers] = table[numbers].astype(np.float64)
    table = table.sample(min(n_rows, len(table)), random_state=seed).reset_index(drop=True)
    return table.loc[:, table.nunique() > 1]


def hide(table: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    """Return which entries are hidden: each with this probability, but never all of a row."""
    rng = np.random.default_rng(seed)
    hidden = rng.random(table.shape) < share
    full = np.flatnonzero(hidden.all(axis=1))
    hidden[full, rng.integers(table.shape[1], size=len(full))] = False
    return hidden


# --- methods -------------------------------------------------------------------------------------------


def fill_flow(table: pd.DataFrame, seed: int) -> Filled:
    """Fill by FlowImputer with its defaults."""
    imputer = FlowImputer(random_state=seed).fit(table)
    return Filled(imputer.transform(table), imputer.sample(table, N_DRAWS, random_state=seed))


def fill_with(imputer: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Fill by an imputer of numbers, categories as one column for each."""
    wide, kinds = widened(table)
    filled = pd.DataFrame(imputer.fit_transform(wide), columns=wide.columns)
    result = table.copy()
    for name in table:
        if name not in kinds:
            result[name] = filled[name]
            continue
        best = filled[[f"{name}={kind}" for kind in kinds[name]]].to_numpy().argmax(axis=1)
        result[name] = table[name].where(table[name].notna(), pd.Series([kinds[name][k] for k in best]))
    return result


def widened(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[Any]]]:
    """Return numbers as they are and categories as one column each, missing in all of them."""
    parts, kinds = [], {}
    for name in table:
        if pd.api.types.is_numeric_dtype(table[name]):
            parts.append(table[[name]])
            continue
        kinds[name] = sorted(table[name].dropna().unique())
        ones = pd.DataFrame({f"{name}={kind}": (table[name] == kind).astype(float) for kind in kinds[name]})
        parts.append(ones.mask(table[name].isna()))
    return pd.concat(parts, axis=1), kinds


def fill_mean(table: pd.DataFrame, seed: int) -> Filled:
    """Fill by means; by the most frequent category."""
    return Filled(fill_with(SimpleImputer(), table), [])


def fill_knn(table: pd.DataFrame, seed: int) -> Filled:
    """Fill by the five nearest rows, of standardised columns."""
    wide, _ = widened(table)
    mean, std = wide.mean(), wide.std().replace(0.0, 1.0)

    class Scaled(KNNImputer):
        def fit_transform(self, X: Any, y: Any = None) -> Any:
            return super().fit_transform((X - mean) / std) * std.to_numpy() + mean.to_numpy()

    return Filled(fill_with(Scaled(), table), [])


def fill_ridge(table: pd.DataFrame, seed: int) -> Filled:
    """Fill by IterativeImputer with its defaults; draws by sample_posterior."""
    draws = [
        fill_with(IterativeImputer(sample_posterior=True, random_state=seed * 100 + k), table)
        for k in range(N_DRAWS)
    ]
    return Filled(fill_with(IterativeImputer(random_state=seed), table), draws)


def fill_trees(table: pd.DataFrame, seed: int) -> Filled:
    """Fill by chained trees."""
    trees = ExtraTreesRegressor(30, random_state=seed)
    return Filled(fill_with(IterativeImputer(trees, max_iter=5, random_state=seed), table), [])


METHODS: dict[str, Callable[[pd.DataFrame, int], Filled]] = {
    "flow": fill_flow,
    "mean": fill_mean,
    "knn": fill_knn,
    "ridge": fill_ridge,
    "trees": fill_trees,
}


# --- measures ------------------------------------------------------------------------------------------


def fair_crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the fair CRPS of draws (n_draws, n) for each of the truths (n,)."""
    n_draws = len(draws)
    ordered = np.sort(draws, axis=0)
    ranks = 2 * np.arange(n_draws)[:, None] - n_draws + 1
    spread = (ranks * ordered).sum(axis=0) / (n_draws * (n_draws - 1))
    return np.abs(draws - truth).mean(axis=0) - spread


def measure(table: pd.DataFrame, hidden: np.ndarray, filled: Filled) -> dict[str, np.ndarray]:
    """Return for each measure its terms over the hidden entries."""
    found: dict[str, list[np.ndarray]] = {"rmse": [], "crps": [], "coverage": [], "accuracy": []}
    for k, name in enumerate(table):
        asked, column = hidden[:, k], table[name]
        if not pd.api.types.is_numeric_dtype(column):
            found["accuracy"].append((filled.guess[name][asked] == column[asked]).to_numpy(float))
            continue
        std = column.std()
        truth, guess = (part[asked].to_numpy(float) / std for part in (column, filled.guess[name]))
        found["rmse"].append(np.square(guess - truth))
        if not filled.draws:
            found["crps"].append(np.abs(guess - truth))
            continue
        draws = np.array([draw[name][asked].to_numpy(float) for draw in filled.draws]) / std
        found["crps"].append(fair_crps(draws, truth))
        rounding = 1e-9 * (1.0 + np.abs(truth))
        inside = (draws.min(axis=0) <= truth + rounding) & (truth - rounding <= draws.max(axis=0))
        found["coverage"].append(inside.astype(float))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def score(name: str, terms: np.ndarray) -> float:
    """Return a measure from its terms."""
    return float(np.sqrt(terms.mean()) if name == "rmse" else terms.mean())


def standing(name: str, terms: dict[str, np.ndarray]) -> dict[str, str]:
    """Say of each method whether it is first, within the spread of the first, or behind."""
    sign = -1.0 if name == "accuracy" else 1.0
    best = min(terms, key=lambda method: sign * terms[method].mean())
    said = {}
    for method, own in terms.items():
        difference = sign * (own - terms[best])
        error = difference.std() / np.sqrt(len(difference))
        near = difference.mean() <= 2.0 * error
        said[method] = "first" if method == best else "within" if near else "behind"
    return said


def compare(name: str, table: pd.DataFrame, share: float, seed: int, methods: list[str]) -> list[dict]:
    """Return the figures of all methods on one table with one share hidden."""
    hidden = hide(table, share, seed)
    given = table.mask(pd.DataFrame(hidden, columns=table.columns))
    terms, seconds = {}, {}
    for method in methods:
        start = time.process_time()
        terms[method] = measure(table, hidden, METHODS[method](given, seed))
        seconds[method] = time.process_time() - start
    rows = []
    for measured in ("rmse", "crps", "coverage", "accuracy"):
        having = {method: own[measured] for method, own in terms.items() if measured in own}
        places = {} if measured == "coverage" or not having else standing(measured, having)
        rows += [
            {
                "data": name,
                "share": share,
                "seed": seed,
                "method": method,
                "measure": measured,
                "value": score(measured, own),
                "place": places.get(method, ""),
                "seconds": seconds[method],
            }
            for method, own in having.items()
        ]
    return rows


def report(rows: list[dict], methods: list[str]) -> None:
    """Print a table for each measure, and how often each method is first or within its spread."""
    figures = pd.DataFrame(rows)
    for measured, part in figures.groupby("measure", sort=False):
        cells = part.pivot_table(index=["data", "share"], columns="method", values="value", sort=False)
        cells = cells.reindex(columns=[m for m in methods if m in cells])
        lines = [
            [f"{name} {share:.0%}", *(f"{v:.3f}" for v in row)] for (name, share), *row in cells.itertuples()
        ]
        lines.append(["mean", *(f"{v:.3f}" for v in cells.mean())])
        print_table([str(measured), *cells.columns], lines)
    placed = figures[figures["place"] != ""]
    near = placed.assign(near=placed["place"] != "behind", first=placed["place"] == "first")
    counts = near.groupby(["measure", "method"])[["first", "near"]].sum()
    totals = near.groupby(["measure", "method"]).size()
    lines = [
        [a, b, str(int(c.first)), str(int(c.near)), str(totals[a, b])] for (a, b), c in counts.iterrows()
    ]
    print_table(["measure", "method", "first", "first or within the spread", "of"], lines)
    cost = figures.drop_duplicates(["data", "share", "seed", "method"]).groupby("method")["seconds"].mean()
    print_table(["method", "CPU seconds a table"], [[m, f"{cost[m]:.1f}"] for m in methods])


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="comma separated parts of table names")
    parser.add_argument("--shares", default="0.1,0.3,0.5")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    wanted = [part for part in args.only.split(",") if part]
    methods = args.methods.split(",")
    rows = json.loads(args.out.read_text()) if args.out is not None and args.out.exists() else []
    done = {(row["data"], row["share"], row["seed"]) for row in rows}
    for name, path in (NUMERIC | MIXED).items():
        if wanted and not any(part in name for part in wanted):
            continue
        for seed in range(args.seeds):
            table = read_table(args.data / path, args.rows, seed)
            for share in map(float, args.shares.split(",")):
                if (name, share, seed) in done:
                    continue
                found = compare(name, table, share, seed, methods)
                rows += found
                if args.out is not None:
                    args.out.write_text(json.dumps(rows, indent=1))
                brief = {f"{r['method']} {r['measure']}": round(r["value"], 3) for r in found}
                print(name, table.shape, share, seed, brief, flush=True)
    report(rows, methods)


if __name__ == "__main__":
    main()
