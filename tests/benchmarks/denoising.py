"""Mean squared error of denoised rows: FlowDensity.denoise beside PCA, KernelPCA and the linear filter.

    python tests/benchmarks/denoising.py --data FOLDER [--only digits,pendigits] [--out denoising.json]

Gaussian noise of a known standard deviation is added to rows kept aside; every method has learnt from other
rows without noise. Two data sets need no FOLDER: "gaussian", 8 correlated columns of different units, where
the conditional mean, and so the smallest error there is, is known exactly, and "digits", scikit-learn's 8 x 8
pictures of 16 grey levels. FOLDER has the subfolders ``density`` (arrays train and test) and ``adbench`` (an
array X); their columns are standardised, and the noise is a share of their standard deviation.

The peers are given an advantage: PCA has the number of components, and KernelPCA (Gaussian kernel, at most
500 rows) components and width, that are best on the very rows judged. The linear (Wiener) filter uses the
covariance of the training rows. One FlowDensity per data set, of 3 layers of 4 bins, is fitted for all its
noise scales. "First" means the smallest error, or one within two standard errors of the paired difference.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _report import print_table
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.model_selection import train_test_split

from flowdetect import FlowDensity

OURS = "FlowDensity"
KERNEL_ROWS = 500
TABLES = {
    "magic_gamma": "density",
    "kin8nm": "density",
    "power_plant": "density",
    "28_pendigits": "adbench",
    "30_satellite": "adbench",
    "20_letter": "adbench",
}


@dataclass
class Case:
    """Rows to learn from and to judge, the noise to add, and the rows' covariance where it is known."""

    name: str
    train: np.ndarray
    test: np.ndarray
    scales: tuple[float, ...]
    truth: np.ndarray | None = None


def gaussian_case(n_rows: int, seed: int) -> Case:
    """Return correlated Gaussian columns whose standard deviations lie between 0.3 and 10."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(8, 8)) * np.geomspace(0.3, 10.0, 8)[:, None] / np.sqrt(8.0)
    covariance = mixing @ mixing.T + 0.01 * np.eye(8)
    rows = rng.multivariate_normal(np.zeros(8), covariance, size=n_rows + 8000)
    return Case("gaussian", rows[:n_rows], rows[n_rows:], (0.1, 0.3, 1.0, 3.0), covariance)


def digits_case(n_rows: int, seed: int) -> Case:
    """Return pictures of digits with noise of 1 to 8 of the 16 grey levels."""
    X = load_digits().data
    train, test = train_test_split(X, test_size=0.25, random_state=seed)
    return Case("digits", train[:n_rows], test, (1.0, 2.0, 4.0, 8.0))


def table_case(path: Path, n_rows: int, seed: int) -> Case:
    """Return the standardised columns of a table, half of the rows to judge, at most 1,000."""
    with np.load(path) as file:
        X = np.vstack([file["train"], file["test"]]) if "train" in file else file["X"].astype(np.float64)
    X = np.unique(X, axis=0)
    train, test = train_test_split(X[:, X.std(axis=0) > 0.0], test_size=0.5, random_state=seed)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train, test = ((rows - mean) / deviation for rows in (train[:n_rows], test[:1000]))
    return Case(path.stem, train, test, (0.1, 0.3, 1.0))


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Yield what is asked for."""
    wanted = [part for part in args.only.split(",") if part]
    names = ["gaussian", "digits", *TABLES]
    asked = [name for name in names if not wanted or name in wanted or name.partition("_")[2] in wanted]
    for name in asked:
        if name in TABLES:
            if args.data is not None:
                yield table_case(args.data / TABLES[name] / f"{name}.npz", args.rows, args.seed)
        else:
            yield (gaussian_case if name == "gaussian" else digits_case)(args.rows, args.seed)


def linear_filter(rows: np.ndarray, mean: np.ndarray, covariance: np.ndarray, scale: float) -> np.ndarray:
    """Return the conditional mean that Gaussian rows would have."""
    gain = np.linalg.solve(covariance + scale**2 * np.eye(len(covariance)), covariance)
    return mean + (rows - mean) @ gain


def best_of(candidates: Iterator[np.ndarray], clean: np.ndarray) -> np.ndarray:
    """Return the candidate that is nearest to the clean rows."""
    return min(candidates, key=lambda found: float(np.mean((found - clean) ** 2)))


def by_pca(train: np.ndarray, noisy: np.ndarray) -> Iterator[np.ndarray]:
    """Yield reconstructions from each number of components."""
    model = PCA().fit(train)
    scores = model.transform(noisy)
    for k in range(1, scores.shape[1] + 1):
        yield model.mean_ + scores[:, :k] @ model.components_[:k]


def kernel_models(train: np.ndarray) -> list[KernelPCA]:
    """Return models of some numbers of components and widths of the kernel."""
    some = train[:KERNEL_ROWS]
    unit = 1.0 / (some.shape[1] * some.var(axis=0).mean())
    return [
        KernelPCA(n, kernel="rbf", gamma=width * unit, alpha=1e-2, fit_inverse_transform=True).fit(some)
        for width in (0.03, 0.1, 0.3)
        for n in (20, 80)
    ]


def denoised(
    case: Case, noisy: np.ndarray, scale: float, density: FlowDensity, kernels: list[KernelPCA]
) -> dict[str, np.ndarray]:
    """Return the rows as each method gives them back."""
    mean, covariance = case.train.mean(axis=0), np.cov(case.train.T)
    found = {
        OURS: density.denoise(noisy, scale),
        "PCA": best_of(by_pca(case.train, noisy), case.test),
        "KernelPCA": best_of((m.inverse_transform(m.transform(noisy)) for m in kernels), case.test),
        "linear filter": linear_filter(noisy, mean, covariance, scale),
        "noisy": noisy,
    }
    if case.truth is not None:
        found["exact"] = linear_filter(noisy, np.zeros(len(case.truth)), case.truth, scale)
    return found


def judged(case: Case, args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Fit one density, and yield a row of figures for each noise scale."""
    start = time.perf_counter()
    scales = case.scales[0], case.scales[-1]
    density = FlowDensity(
        noise_scales=scales,
        n_layers=3,
        n_bins=4,
        max_steps=args.steps,
        batch_size=256,
        random_state=args.seed,
    ).fit(case.train)
    seconds = time.perf_counter() - start
    kernels = kernel_models(case.train)
    rng = np.random.default_rng(args.seed + 1)
    for scale in case.scales:
        noisy = case.test + scale * rng.normal(size=case.test.shape)
        errors = {
            method: np.mean((rows - case.test) ** 2, axis=1)
            for method, rows in denoised(case, noisy, scale, density, kernels).items()
        }
        best = min((m for m in errors if m != "exact"), key=lambda m: float(errors[m].mean()))
        behind = errors[OURS] - errors[best]
        yield {
            "data": case.name,
            "noise": scale,
            "mean squared error": {method: float(each.mean()) for method, each in errors.items()},
            "best": best,
            "first": bool(behind.mean() <= 2.0 * behind.std() / np.sqrt(len(behind))),
            "fit_s": seconds,
        }


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="comma separated names")
    parser.add_argument("--rows", type=int, default=3000, help="rows to learn from, at most")
    parser.add_argument("--steps", type=int, default=500, help="most steps of a fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for case in cases(args):
        for row in judged(case, args):
            rows.append(row)
            print(row, flush=True)
    methods = [OURS, "PCA", "KernelPCA", "linear filter", "noisy", "exact"]
    lines = []
    for row in rows:
        errors = row["mean squared error"]
        least = min(errors[m] for m in methods[:-1])
        marked = [f"**{errors[m]:.4g}**" if errors.get(m) == least else f"{errors[m]:.4g}" for m in errors]
        lines.append([f"{row['data']}, {row['noise']}", *marked, *[""] * (len(methods) - len(marked))])
    print_table(["data, noise", *methods], lines)
    print(
        f"\n{OURS} is first, or within two standard errors of the first, on {sum(r['first'] for r in rows)} ",
        end="",
    )
    print(f"of {len(rows)}.")
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
