"""Clusters found without labels: FlowMixture beside GaussianMixture, KMeans and HDBSCAN of scikit-learn.

    python tests/benchmarks/clustering.py [--only moons,iris] [--seeds 1] [--out clustering.json]

Two drawn tables (moons, rings), penguins of ``datasets/`` and real tables of scikit-learn with labels: iris,
wine and eight principal components of the digits. Every method is told the number of clusters but HDBSCAN,
which finds it. The figure is the adjusted Rand index with the labels, over seeds of the method (and of drawn
tables). FlowMixture takes the table as it is; the others take its numbers standardised, missing ones at the
mean, and categories one-hot. HDBSCAN's noise counts as a cluster. The second table is the mean log-likelihood
of a held-out third in nats, of numeric tables, beside the Gaussian mixture that has the best BIC out of 1 to
6 components and four kinds of covariance.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _report import print_table
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.datasets import load_digits, load_iris, load_wine, make_circles, make_moons
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flowdetect.inference import FlowMixture

DATASETS = Path(__file__).parents[2] / "datasets"
COVARIANCES = ("full", "tied", "diag", "spherical")
DIGITS = 500


def tables(seed: int) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Yield name, table and labels."""
    yield "moons", *make_moons(400, noise=0.07, random_state=seed)
    yield "rings", *make_circles(400, noise=0.05, factor=0.5, random_state=seed)
    penguins = pd.read_csv(DATASETS / "penguins.csv.gz")
    yield "penguins", penguins.drop(columns="species"), pd.factorize(penguins["species"])[0]
    yield "iris", *load_iris(return_X_y=True)
    yield "wine", *load_wine(return_X_y=True)
    X, y = load_digits(return_X_y=True)
    yield "digits", PCA(8, random_state=0).fit_transform(X)[:DIGITS], y[:DIGITS]


def as_numbers(X: Any) -> np.ndarray:
    """Return a table as standardised numbers for the peers."""
    if isinstance(X, pd.DataFrame):
        X = pd.get_dummies(X, dtype=float)
        X = X.fillna(X.mean())
    return StandardScaler().fit_transform(X)


def labellings(X: Any, n_clusters: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield method and labels."""
    numbers = as_numbers(X)
    yield "FlowMixture", FlowMixture(n_clusters, random_state=seed).fit_predict(X)
    mixture = GaussianMixture(n_clusters, n_init=10, reg_covar=1e-3, random_state=seed)
    yield "GaussianMixture", mixture.fit_predict(numbers)
    yield "KMeans", KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(numbers)
    yield "HDBSCAN", HDBSCAN(min_cluster_size=10, copy=True).fit_predict(numbers)


def likelihoods(X: np.ndarray, n_clusters: int, seed: int) -> dict[str, float]:
    """Return the mean log-likelihood of held-out rows of FlowMixture and of the best Gaussian mixture."""
    # Noise within the last digit: repeated numbers have no density.
    X = X + np.random.default_rng(seed).uniform(-0.5, 0.5, X.shape) * [_step(column) for column in X.T]
    fit, held_out = train_test_split(X, test_size=1 / 3, random_state=seed)
    gaussians = [
        GaussianMixture(k, covariance_type=kind, n_init=1, reg_covar=1e-5, random_state=seed)
        for k in range(1, 7)
        for kind in COVARIANCES
    ]
    scaler = StandardScaler().fit(fit)
    scaled, others = scaler.transform(fit), scaler.transform(held_out)
    best = min((model.fit(scaled) for model in gaussians), key=lambda model: model.bic(scaled))
    return {
        "FlowMixture": FlowMixture(n_clusters, random_state=seed).fit(fit).score(held_out),
        "GaussianMixture": float(best.score(others) - np.log(scaler.scale_).sum()),
    }


def _step(column: np.ndarray) -> float:
    gaps = np.diff(np.unique(column))
    return float(gaps.min()) if len(gaps) < len(column) // 2 else 0.0


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="comma separated names")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    wanted = [part for part in args.only.split(",") if part]
    rows: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for name, X, y in tables(seed):
            if wanted and name not in wanted:
                continue
            start, n_clusters = time.perf_counter(), len(np.unique(y))
            index = {
                method: adjusted_rand_score(y, found) for method, found in labellings(X, n_clusters, seed)
            }
            held_out = {} if isinstance(X, pd.DataFrame) else likelihoods(X, n_clusters, seed)
            rows.append({"data": name, "seed": seed, "ARI": index, "held-out": held_out})
            print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    for measure in ("ARI", "held-out"):
        report([row for row in rows if row[measure]], measure)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


def report(rows: list[dict[str, Any]], measure: str) -> None:
    """Print means and standard deviations over seeds, the best mean of each line in bold."""
    methods = list(rows[0][measure])
    lines = []
    for name in dict.fromkeys(row["data"] for row in rows):
        values = np.array([list(row[measure].values()) for row in rows if row["data"] == name])
        means, spreads = values.mean(axis=0), values.std(axis=0)
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)]
        cells[int(means.argmax())] = f"**{cells[int(means.argmax())]}**"
        lines.append([name, *cells])
    print_table([measure, *methods], lines)


if __name__ == "__main__":
    main()
