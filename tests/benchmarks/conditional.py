"""Held-out log-likelihood of y given x: FlowDensity beside a Gaussian around a boosted regression.

    python tests/benchmarks/conditional.py --data FOLDER [--splits 3] [--out conditional.json]

FOLDER holds ``.npz`` files with X, y and train_mask (splits x rows). The Gaussian's mean is
HistGradientBoostingRegressor's prediction, its standard deviation that of the residuals in 5-fold
cross-validation on the training rows. ``inside`` is the share of test rows inside FlowDensity's 90 %
interval, from 500 draws for each row.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from _report import summarise
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict

from flowdetect import FlowDensity


def fit_flowdetect(X: np.ndarray, y: np.ndarray, train: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the test log-likelihood of FlowDensity, and the share inside its 90 % interval."""
    density = FlowDensity(random_state=seed).fit(y[train, None], context=X[train])
    value = density.score(y[~train, None], context=X[~train])
    rows = np.flatnonzero(~train)[:200]
    draws = density.sample(500, context=X[rows], random_state=seed).reshape(len(rows), 500)
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    return value, float(((y[rows] >= low) & (y[rows] <= high)).mean())


def fit_boosting(X: np.ndarray, y: np.ndarray, train: np.ndarray, seed: int) -> float:
    """Return the test log-likelihood of a Gaussian around the boosted prediction."""
    model = HistGradientBoostingRegressor(random_state=seed)
    residuals = y[train] - cross_val_predict(model, X[train], y[train], cv=5)
    mean = model.fit(X[train], y[train]).predict(X[~train])
    return float(norm.logpdf(y[~train], mean, residuals.std()).mean())


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for path in sorted(args.data.glob("*.npz")):
        with np.load(path) as file:
            X, y, masks = file["X"], file["y"], file["train_mask"][: args.splits]
        for split, train in enumerate(masks):
            start = time.perf_counter()
            ours, inside = fit_flowdetect(X, y, train, split)
            seconds = time.perf_counter() - start
            peer = fit_boosting(X, y, train, split)
            print(
                f"{path.stem} split {split}: {ours:.3f} {peer:.3f} inside {inside:.2f} {seconds:.0f} s",
                flush=True,
            )
            for method, value in (("FlowDensity", ours), ("boosting + Gaussian", peer)):
                rows.append(
                    {
                        "data": path.stem,
                        "split": split,
                        "method": method,
                        "log p(y|x) (nats)": value,
                        "inside": inside,
                    }
                )
    summarise(rows, value="log p(y|x) (nats)", out=args.out)


if __name__ == "__main__":
    main()
