"""Odd stretches of labelled series: SeriesOutlierDetector, a PCA of windows, IsolationForest on windows.

    python tests/benchmarks/series.py --data FOLDER [--fit all] [--only NAB,SMD] [--limit 12000] [--out FILE]

FOLDER holds ``.npz`` files with ``X`` (rows, channels), ``y`` (0 or 1 per row) and ``n_train``, the leading
rows that are free to learn from. ``--fit all`` fits to the whole series without labels, ``--fit prefix`` to
its first ``n_train`` rows. The figure is VUS-PR as TSB-AD defines it, with its code:
``pip install --no-deps tsb-ad && pip install statsmodels``.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _report import Row, summarise
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from flowdetect.timeseries import SeriesOutlierDetector, SlidingWindow

WINDOW = 100
LARGEST_TABLE = 50_000_000


def by_flowdetect(fit: np.ndarray, series: np.ndarray, seed: int) -> np.ndarray:
    """Return the abnormality of each row, all defaults."""
    return -SeriesOutlierDetector(random_state=seed).fit(fit).score_samples(series)


def by_pca(fit: np.ndarray, series: np.ndarray, seed: int) -> np.ndarray:
    """Return what components of 90 % of the variance of windows leave out, averaged over windows."""
    windows, all_windows = _windows(fit), _windows(series)
    scaler = StandardScaler().fit(windows)
    pca = PCA(0.9, svd_solver="full", random_state=seed).fit(scaler.transform(windows))
    z = scaler.transform(all_windows)
    left_out = np.sqrt(np.mean((z - pca.inverse_transform(pca.transform(z))) ** 2, axis=1))
    return _averaged(left_out)


def by_isolation_forest(fit: np.ndarray, series: np.ndarray, seed: int) -> np.ndarray:
    """Return the abnormality of windows by IsolationForest, averaged over windows."""
    forest = IsolationForest(random_state=seed).fit(_windows(fit))
    return _averaged(-forest.score_samples(_windows(series)))


def _windows(series: np.ndarray) -> np.ndarray:
    if series.size * WINDOW > LARGEST_TABLE:
        series = PCA(max(1, LARGEST_TABLE // (len(series) * WINDOW)), random_state=0).fit_transform(series)
    return SlidingWindow(WINDOW).fit_transform(series)


def _averaged(scores: np.ndarray) -> np.ndarray:
    """Return for each row the mean of the windows that end at it or up to a window later."""
    padded = np.pad(scores, (0, WINDOW - 1), mode="edge")
    return np.convolve(padded, np.ones(WINDOW) / WINDOW, mode="valid")


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "flowdetect": by_flowdetect,
    "PCA of windows": by_pca,
    "IsolationForest of windows": by_isolation_forest,
}


def vus_pr(y: np.ndarray, abnormality: np.ndarray, series: np.ndarray) -> float:
    """Return TSB-AD's volume under the surface of precision and recall."""
    from TSB_AD.evaluation.basic_metrics import generate_curve
    from TSB_AD.utils.slidingWindows import find_length_rank

    low, high = abnormality.min(), abnormality.max()
    scaled = (abnormality - low) / (high - low) if high > low else np.zeros_like(abnormality)
    return float(generate_curve(y, scaled, int(find_length_rank(series[:, :1], rank=1)), "opt", 250)[-1])


def figures(path: Path, protocol: str, seed: int) -> list[Row]:
    """Return the figures of all methods on one series."""
    file = np.load(path)
    series, y = file["X"].astype(np.float64), file["y"].astype(int)
    fit = series if protocol == "all" else series[: int(file["n_train"])]
    rows: list[Row] = []
    for name, method in METHODS.items():
        start = time.perf_counter()
        abnormality = method(fit, series, seed)
        seconds = time.perf_counter() - start
        figure = vus_pr(y, abnormality, series)
        print(f"{path.stem:45s} {name:28s} {figure:.3f} ({seconds:.0f} s)", flush=True)
        rows.append({"data": path.stem, "method": name, "VUS-PR": figure, "seconds": seconds})
    return rows


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fit", choices=["all", "prefix"], default="all")
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--limit", type=int, default=0, help="leave out longer series")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = [part for part in args.only.split(",") if part]
    paths = [p for p in sorted(args.data.glob("*.npz")) if not wanted or any(w in p.name for w in wanted)]
    paths = [p for p in paths if not args.limit or len(np.load(p)["y"]) <= args.limit]
    rows = [row for path in paths for row in figures(path, args.fit, args.seed)]
    for title, several in (("one channel", False), ("several channels", True)):
        part = [
            row for row in rows if (np.load(args.data / f"{row['data']}.npz")["X"].shape[1] > 1) == several
        ]
        if part:
            print(f"\n{title}")
            summarise(part, value="VUS-PR", out=None)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
