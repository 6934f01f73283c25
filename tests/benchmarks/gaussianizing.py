"""Joint normality of held-out rows after FlowGaussianizer and marginal transformers; models behind them.

    python tests/benchmarks/gaussianizing.py --data FOLDER [--splits 2] [--rows 2000] [--only wilt]
        [--part normality] [--out FILE]

FOLDER holds ``density/``, ``conditional/``, ``adbench/`` and ``imbalanced/``; wine, breast_cancer and digits
are scikit-learn's. Every transformer is fitted on the same rows, at most ``--rows`` of them, and judged on
others, at most 1,500.

Normality (smaller = more normal): the energy distance to the standard normal (times 1000; unbiased, so that
it is about 0 for true normal rows), and the Kolmogorov-Smirnov distance to N(0, 1) along 200 random
directions, mean. "normal rows" are as many rows of a standard normal with as many columns, mean of 5 draws.

Models: log-loss and accuracy of quadratic discriminant analysis and of logistic regression, each behind each
transformer. ``FlowGaussianizer`` sees no classes.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _report import summarise
from scipy.spatial.distance import cdist
from scipy.special import gammaln, hyp1f1
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, QuantileTransformer, StandardScaler

from flowdetect import FlowGaussianizer

MAX_TEST = 1500
N_DIRECTIONS = 200
N_REFERENCES = 5
FLOW, JITTERED, NORMAL = "FlowGaussianizer", "with jitter", "normal rows"


def standardise(seed: int) -> Any:
    return StandardScaler()


def power(seed: int) -> Any:
    return PowerTransformer()


def quantile(seed: int) -> Any:
    return QuantileTransformer(output_distribution="normal", random_state=seed)


def quantile_and_whiten(seed: int) -> Any:
    return make_pipeline(quantile(seed), PCA(whiten=True))


def flow(seed: int) -> Any:
    return FlowGaussianizer(random_state=seed)


TRANSFORMERS: dict[str, Callable[[int], Any]] = {
    "StandardScaler": standardise,
    "PowerTransformer": power,
    "QuantileTransformer": quantile,
    "Quantile, whitened": quantile_and_whiten,
    FLOW: flow,
}
MODELS: dict[str, Callable[[], Any]] = {
    "QDA": lambda: QuadraticDiscriminantAnalysis(reg_param=1e-3),
    "logistic": lambda: LogisticRegression(max_iter=2000),
}


# --- tables ------------------------------------------------------------------------------------------------


def normality_tables(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield numeric tables: name and rows."""
    for name in ("power_plant", "magic_gamma", "protein"):
        with np.load(folder / "density" / f"{name}.npz") as file:
            yield name, np.vstack([file["train"], file["test"]]).astype(np.float64)
    for name in ("concrete", "wine-quality-red"):
        with np.load(folder / "conditional" / f"bdl_{name}.npz") as file:
            yield name, file["X"].astype(np.float64)
    for name in ("28_pendigits", "44_Wilt", "39_vertebral", "37_Stamps"):
        with np.load(folder / "adbench" / f"{name}.npz") as file:
            yield name[3:].lower(), file["X"][file["y"] == 0].astype(np.float64)
    yield "wine", load_wine().data
    yield "breast_cancer", load_breast_cancer().data


def class_tables(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield tables with classes: name, rows and classes."""
    yield "wine", *load_wine(return_X_y=True)
    yield "breast_cancer", *load_breast_cancer(return_X_y=True)
    X, y = load_digits(return_X_y=True)
    yield "digits, 10 components", PCA(10, random_state=0).fit_transform(X), y
    for name in ("keel_pima", "keel_vehicle1", "keel_page-blocks0", "phoneme"):
        table = pd.read_csv(folder / "imbalanced" / f"{name}.csv.gz")
        columns = table.iloc[:, :-1].select_dtypes("number")
        yield name.removeprefix("keel_"), columns.to_numpy(np.float64), table.iloc[:, -1].to_numpy()


# --- measures ----------------------------------------------------------------------------------------------


def energy_distance(Z: np.ndarray) -> float:
    """Return the unbiased energy distance between the rows and the standard normal, times 1000."""
    n, d = Z.shape
    log_ratio = gammaln((d + 1) / 2) - gammaln(d / 2)
    to_normal = np.sqrt(2) * np.exp(log_ratio) * hyp1f1(-0.5, d / 2, -0.5 * (Z**2).sum(axis=1))
    among = cdist(Z, Z).sum() / (n * (n - 1))
    return float(1000 * (2 * to_normal.mean() - among - 2 * np.exp(log_ratio)))


def projected_distance(Z: np.ndarray, seed: int) -> float:
    """Return the mean Kolmogorov-Smirnov distance to N(0, 1) along random directions."""
    directions = np.random.default_rng(seed).normal(size=(Z.shape[1], N_DIRECTIONS))
    along = norm.cdf(np.sort(Z @ (directions / np.linalg.norm(directions, axis=0)), axis=0))
    steps = np.arange(len(Z) + 1)[:, None] / len(Z)
    return float(np.maximum(np.abs(along - steps[1:]), np.abs(along - steps[:-1])).max(axis=0).mean())


# --- runs --------------------------------------------------------------------------------------------------


def normality_rows(name: str, X: np.ndarray, seed: int, n_rows: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of every transformer on one split of a table."""
    train, test = train_test_split(X, test_size=0.25, random_state=seed)
    train, test = train[:n_rows], test[:MAX_TEST]
    found = {}
    for method, make in TRANSFORMERS.items():
        start = time.perf_counter()
        transformer = make(seed).fit(train)
        seconds = time.perf_counter() - start
        found[method] = transformer.transform(test), seconds
        if method == FLOW:
            back = transformer.inverse_transform(found[method][0])
            error = float(np.abs((back - test) / np.maximum(train.std(axis=0), 1e-12)).max())
            print(name, f"split {seed}: {seconds:.0f} s, round trip {error:.1e} of the columns' spread")
            found[JITTERED] = transformer.set_params(jitter=True).transform(test), seconds
    for method, (Z, seconds) in found.items():
        figures = {"energy": energy_distance(Z), "projections": projected_distance(Z, seed)}
        yield {"data": name, "split": seed, "method": method, "fit_s": seconds, **figures}
    normal = np.random.default_rng(seed).normal(size=(N_REFERENCES, *found[FLOW][0].shape))
    figures = {
        "energy": float(np.mean([energy_distance(Z) for Z in normal])),
        "projections": float(np.mean([projected_distance(Z, seed) for Z in normal])),
    }
    yield {"data": name, "split": seed, "method": NORMAL, "fit_s": 0.0, **figures}


def model_rows(name: str, X: np.ndarray, y: np.ndarray, seed: int, n_rows: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of every model behind every transformer on one split of a table."""
    parts = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
    train, y_train = parts[0][:n_rows], parts[2][:n_rows]
    test, y_test = parts[1][:MAX_TEST], parts[3][:MAX_TEST]
    for method, make in TRANSFORMERS.items():
        transformer = make(seed).fit(train)
        Z_train, Z_test = transformer.transform(train), transformer.transform(test)
        for model_name, make_model in MODELS.items():
            shares = make_model().fit(Z_train, y_train).predict_proba(Z_test)
            classes = np.unique(y_train)
            figures = {
                "log-loss": log_loss(y_test, shares, labels=classes),
                "accuracy": accuracy_score(y_test, classes[shares.argmax(axis=1)]),
            }
            yield {"data": f"{name}, {model_name}", "split": seed, "method": method, **figures}


def count_wins(rows: list[dict[str, Any]], value: str, sign: float = 1.0) -> str:
    """Return on how many tables the flow is first, or within the spread of the splits of the first."""
    table = pd.DataFrame(rows)
    table = table[~table["method"].isin([NORMAL, JITTERED])]
    first = within = 0
    for _, part in table.groupby("data"):
        values = sign * part.pivot_table(index="split", columns="method", values=value)
        means, ours = values.mean(), values[FLOW].mean()
        best = means.drop(FLOW).idxmin()
        first += ours <= means[best]
        spread = np.hypot(values[best].std(ddof=0), values[FLOW].std(ddof=0))
        within += ours <= means[best] + spread
    return f"{value}: first on {first}, first or within the spread on {within} of {table['data'].nunique()}"


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2000, help="most rows to fit on")
    parser.add_argument("--only", default="", help="comma separated parts of names of tables")
    parser.add_argument("--part", choices=("normality", "models", "both"), default="both")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = [part for part in args.only.split(",") if part]
    # QDA says that columns are collinear, and PowerTransformer that it stops early: both then go on.
    warnings.simplefilter("ignore")
    plans = {
        "normality": (normality_tables, normality_rows, {"energy": 1.0, "projections": 1.0}),
        "models": (class_tables, model_rows, {"log-loss": 1.0, "accuracy": -1.0}),
    }
    for part, (tables, run, measures) in plans.items():
        if args.part not in (part, "both"):
            continue
        rows: list[dict[str, Any]] = []
        for name, *arrays in tables(args.data):
            if wanted and not any(word in name for word in wanted):
                continue
            for seed in range(args.splits):
                found = list(run(name, *arrays, seed, args.rows))
                for row in found:
                    print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
                rows += found
        out = args.out and args.out.with_stem(f"{args.out.stem}_{part}")
        for value, sign in measures.items():
            summarise(rows, value=value, out=out, better=min if sign > 0 else max)
            print(count_wins(rows, value, sign), flush=True)


if __name__ == "__main__":
    main()
