"""AUROC on tables with labelled anomalies: FlowOutlierDetector beside kNN and IsolationForest of PyOD.

    python tests/benchmarks/detection.py --data FOLDER --protocol mixed [--seeds 0,1] [--only WBC,yeast]

FOLDER holds ``.npz`` files with X and y (1 = anomaly). "clean" fits on half of the normal rows and scores all
others; "mixed" fits on all rows and scores the same rows, for FlowOutlierDetector by ``training_scores_``.
Columns are standardised on the fitted rows; at most 5,000 rows are fitted and 10,000 scored.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from _report import summarise
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from flowdetect import FlowOutlierDetector

MAX_ROWS = 5000


def split_rows(y: np.ndarray, protocol: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to fit and those to score."""
    rng = np.random.RandomState(seed)
    if protocol == "mixed":
        rows = rng.permutation(len(y))[: 2 * MAX_ROWS]
        return rows, rows
    normal = rng.permutation(np.flatnonzero(y == 0))
    half = len(normal) // 2
    score = np.concatenate([normal[half:], np.flatnonzero(y == 1)])
    if len(score) > 2 * MAX_ROWS:
        score = rng.choice(score, 2 * MAX_ROWS, replace=False)
    return normal[:half][:MAX_ROWS], score


def flow_scores(fit: np.ndarray, score: np.ndarray, protocol: str, seed: int) -> np.ndarray:
    """Return the abnormality of the rows to score by FlowOutlierDetector with its defaults."""
    detector = FlowOutlierDetector(random_state=seed).fit(fit)
    return -(detector.training_scores_ if protocol == "mixed" else detector.score_samples(score))


def peer_scores(detector: KNN | IForest, fit: np.ndarray, score: np.ndarray, protocol: str) -> np.ndarray:
    """Return the same by a detector of PyOD."""
    detector.fit(fit)
    scores = detector.decision_scores_ if protocol == "mixed" else detector.decision_function(score)
    return np.asarray(scores)


def compare(path: Path, protocol: str, seed: int) -> list[dict[str, object]]:
    """Return the figures of all detectors on one table."""
    with np.load(path) as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(int)
    fit_rows, score_rows = split_rows(y, protocol, seed)
    scaler = StandardScaler().fit(X[fit_rows])
    fit, score = (scaler.transform(X[rows]).astype(np.float32) for rows in (fit_rows, score_rows))
    start = time.perf_counter()
    found = {"FlowOutlierDetector": flow_scores(fit, score, protocol, seed)}
    seconds = time.perf_counter() - start
    found["kNN"] = peer_scores(KNN(), fit, score, protocol)
    found["IsolationForest"] = peer_scores(IForest(random_state=seed), fit, score, protocol)
    auroc = {name: 100.0 * roc_auc_score(y[score_rows], values) for name, values in found.items()}
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
    wanted = [part for part in args.only.split(",") if part]
    rows = []
    for path in sorted(args.data.glob("*.npz")):
        if wanted and not any(part in path.stem for part in wanted):
            continue
        for seed in map(int, args.seeds.split(",")):
            rows += compare(path, args.protocol, seed)
    summarise(rows, value="AUROC", out=args.out)


if __name__ == "__main__":
    main()
