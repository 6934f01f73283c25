"""Detection on tables of categories: FlowOutlierDetector as they are, peers on one-hot columns.

    python tests/benchmarks/categorical.py --data FOLDER [--protocol mixed] [--seeds 0] [--only cmc]

FOLDER holds ``.npz`` files with X (codes of categories) and y (1 = anomaly).
Protocols are those of ``detection.py``.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _report import summarise
from _tables import find_tables, peer_scores, split_rows
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from flowdetect import FlowOutlierDetector


def compare(path: Path, protocol: str, seed: int) -> list[dict[str, object]]:
    """Return the figures of all detectors on one table."""
    with np.load(path) as file:
        table = pd.DataFrame(file["X"].astype(int)).astype("category")
        y = file["y"].astype(int)
    fit, score = split_rows(y, protocol, seed)
    detector = FlowOutlierDetector(random_state=seed).fit(table.iloc[fit])
    ours = detector.training_scores_ if protocol == "mixed" else detector.score_samples(table.iloc[score])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(table.iloc[fit])
    hot = [encoder.transform(table.iloc[rows]) for rows in (fit, score)]
    found = {
        "FlowOutlierDetector": -ours,
        "kNN": peer_scores(KNN(), *hot, protocol),
        "IsolationForest": peer_scores(IForest(random_state=seed), *hot, protocol),
    }
    rows: list[dict[str, object]] = []
    for name, values in found.items():
        auroc, precision = roc_auc_score(y[score], values), average_precision_score(y[score], values)
        print(path.stem, name, f"AUROC {100.0 * auroc:.1f}, AP {100.0 * precision:.1f}", flush=True)
        rows.append({"data": path.stem, "method": name, "AUROC": 100.0 * auroc, "AP": 100.0 * precision})
    return rows


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=["clean", "mixed"], default="mixed")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    args = parser.parse_args()
    rows = []
    for path in find_tables(args.data, args.only):
        for seed in map(int, args.seeds.split(",")):
            rows += compare(path, args.protocol, seed)
    for value in ("AUROC", "AP"):
        summarise(rows, value=value, out=None)


if __name__ == "__main__":
    main()
