"""AUROC on tables with labelled anomalies: FlowOutlierDetector beside kNN and IsolationForest of PyOD.

    python tests/benchmarks/detection.py --data FOLDER --protocol mixed [--seeds 0,1] [--only WBC,yeast]

FOLDER holds ``.npz`` files with X and y (1 = anomaly). "clean" fits on half of the normal rows and scores all
others; "mixed" fits on all rows and scores the same rows, for FlowOutlierDetector by ``training_scores_``.
Columns are standardised on the fitted rows; at most 5,000 rows are fitted and 10,000 scored.
"""

import argparse
import time
from pathlib import Path

from _report import summarise
from _tables import find_tables, flow_scores, peer_scores, read_table
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.metrics import roc_auc_score


def compare(path: Path, protocol: str, seed: int) -> list[dict[str, object]]:
    """Return the figures of all detectors on one table."""
    fit, score, labels = read_table(path, protocol, seed)
    start = time.perf_counter()
    found = {"FlowOutlierDetector": flow_scores(fit, score, protocol, seed)}
    seconds = time.perf_counter() - start
    found["kNN"] = peer_scores(KNN(), fit, score, protocol)
    found["IsolationForest"] = peer_scores(IForest(random_state=seed), fit, score, protocol)
    auroc = {name: 100.0 * roc_auc_score(labels, values) for name, values in found.items()}
    print(path.stem, {name: round(value, 1) for name, value in auroc.items()}, f"{seconds:.0f} s", flush=True)
    return [
        {"data": path.stem, "seed": seed, "method": name, "AUROC": value, "flow_s": seconds}
        for name, value in auroc.items()
    ]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=["clean", "mixed"], default="clean")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for path in find_tables(args.data, args.only):
        for seed in map(int, args.seeds.split(",")):
            rows += compare(path, args.protocol, seed)
    summarise(rows, value="AUROC", out=args.out)


if __name__ == "__main__":
    main()
