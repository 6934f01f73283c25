"""Whether the column that was replaced comes first: explain() beside leave-one-out kNN and SHAP.

    python tests/benchmarks/reasons.py --data FOLDER [--columns 1] [--rows 150] [--only satellite,cover]

In held-out normal rows one column (or two) takes the value of another row: usual by itself, odd beside the
others. A table's line gives the share of these rows whose replaced column is ranked first (of two, either),
for all rows and for those that the detector finds: p-value up to 0.05. Peers: kNN distance to 5 neighbours
with each column left out, and SHAP values of IsolationForest. FOLDER holds the tables of ``detection.py``.
"""

import argparse
from pathlib import Path

import numpy as np
import shap
from _report import print_table
from _tables import find_tables, read_table
from sklearn.ensemble import IsolationForest

from flowdetect import FlowOutlierDetector

METHODS = ["explain", "leave-one-out kNN", "SHAP of IsolationForest"]


def replace_columns(
    rows: np.ndarray, donors: np.ndarray, n_columns: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with other rows' values in some columns, and where these are; only rows that changed."""
    changed = rows.copy()
    where = np.zeros(rows.shape, dtype=bool)
    for i in range(len(rows)):
        columns = rng.choice(rows.shape[1], n_columns, replace=False)
        changed[i, columns] = donors[rng.integers(len(donors), size=n_columns), columns]
        where[i, columns] = True
    kept = ((changed != rows) == where).all(axis=1)
    return changed[kept], where[kept]


def without_each_column(fit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return by how much the log of the mean distance to 5 neighbours falls without each column."""
    fallen = np.empty(rows.shape)
    for i, row in enumerate(rows):
        squares = (fit - row) ** 2
        total = squares.sum(axis=1)
        rest = np.sort(np.maximum(total[:, None] - squares, 0.0), axis=0)[:5]
        fallen[i] = np.log(np.sqrt(np.sort(total)[:5]).mean()) - np.log(np.sqrt(rest).mean(axis=0) + 1e-12)
    return fallen


def compare(path: Path, n_columns: int, n_rows: int) -> tuple[list[list[str]], np.ndarray]:
    """Return the lines of one table, and its shares: all rows and found ones, by method."""
    fit, score, labels = read_table(path, "clean", 0)
    normal = score[labels == 0]
    rng = np.random.default_rng(0)
    rows, where = replace_columns(normal[:n_rows], normal, n_columns, rng)
    detector = FlowOutlierDetector(random_state=0).fit(fit)
    found = detector.p_values(rows) <= 0.05
    forest = IsolationForest(random_state=0).fit(fit)
    blame = [
        -detector.explain(rows).to_numpy(),
        without_each_column(fit, rows),
        -np.asarray(shap.TreeExplainer(forest).shap_values(rows)),
    ]
    first = np.array([where[np.arange(len(rows)), values.argmax(axis=1)] for values in blame])
    shares = np.array([first.mean(axis=1), first[:, found].mean(axis=1) if found.any() else [np.nan] * 3])
    text = [f"{every:.2f} / {of_found:.2f}" for every, of_found in shares.T]
    return [[path.stem, f"{found.mean():.2f}", *text]], shares


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=1, help="how many columns are replaced in a row")
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    args = parser.parse_args()
    lines, shares = [], []
    for path in find_tables(args.data, args.only):
        line, share = compare(path, args.columns, args.rows)
        print(*line, flush=True)
        lines += line
        shares.append(share)
    means = np.nanmean(shares, axis=0)
    lines.append(["mean", "", *(f"{every:.2f} / {of_found:.2f}" for every, of_found in means.T)])
    print_table(["first, all rows / found rows", "found", *METHODS], lines)


if __name__ == "__main__":
    main()
