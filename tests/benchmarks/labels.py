"""What some known anomalies add: FlowOutlierDetector with 0, 1, 5 and 10 % of the anomalies labelled.

    python tests/benchmarks/labels.py --data FOLDER [--seeds 0] [--rows 5000] [--only WBC,yeast]

The rows are fitted, anomalies included, and the same rows are judged by ``training_scores_``: only those that
have no label in any of the four runs. FOLDER holds the tables of ``detection.py``.
"""

import argparse
from pathlib import Path

import numpy as np
from _report import print_table
from _tables import find_tables, read_table
from sklearn.metrics import average_precision_score, roc_auc_score

from flowdetect import FlowOutlierDetector

SHARES = (0.0, 0.01, 0.05, 0.1)


def figures(path: Path, seed: int, n_rows: int) -> np.ndarray:
    """Return AUROC and average precision for each share, shape (n_shares, 2), in per cent."""
    fit, _, y = read_table(path, "mixed", seed)
    fit, y = fit[:n_rows], y[:n_rows]
    anomalies = np.random.default_rng(seed).permutation(np.flatnonzero(y))
    counts = [int(np.ceil(share * len(anomalies))) for share in SHARES]
    judged = np.ones(len(y), dtype=bool)
    judged[anomalies[: counts[-1]]] = False
    found = []
    for count in counts:
        labels = np.zeros(len(y), dtype=int)
        labels[anomalies[:count]] = -1
        odd = -FlowOutlierDetector(random_state=seed).fit(fit, labels=labels).training_scores_[judged]
        found.append((roc_auc_score(y[judged], odd), average_precision_score(y[judged], odd)))
    return 100.0 * np.array(found)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    args = parser.parse_args()
    every, lines = [], []
    for path in find_tables(args.data, args.only):
        for seed in map(int, args.seeds.split(",")):
            every.append(figures(path, seed, args.rows))
            line = [path.stem, *(f"{auroc:.1f} / {precision:.1f}" for auroc, precision in every[-1])]
            print(*line, flush=True)
            lines.append(line)
    means = np.mean(every, axis=0)
    lines.append(["mean", *(f"{auroc:.1f} / {precision:.1f}" for auroc, precision in means)])
    print_table(["AUROC / AP", *(f"{100 * share:.0f} % labelled" for share in SHARES)], lines)


if __name__ == "__main__":
    main()
