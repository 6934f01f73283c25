"""Classes by density: FlowClassifier beside QDA, GaussianNB and HistGradientBoosting of scikit-learn.

    python tests/benchmarks/classification.py --data FOLDER [--only wine,adult] [--rows 2000] [--splits 3]

Tables: wine, breast cancer, iris and twelve principal components of the digits from scikit-learn; from FOLDER
``imbalanced/`` (phoneme, vehicle1, pima, satimage) and ``mixed/`` (adult, shoppers, magic), at most
``--rows`` rows of each, three quarters of them to fit and the rest to judge. FlowClassifier takes a table as
it is; HistGradientBoosting takes categories as ordinals declared categorical, QDA and GaussianNB one-hot
columns, missing numbers at the mean, standardised. Accuracy, log-loss, and the expected calibration error of
the largest probability in ten bins of equal width, as means over ``--splits`` random splits. "Within the
spread of the best": the mean difference from the best method is at most one standard error, over all
held-out rows and splits for accuracy and log-loss, over the splits for the calibration error.

Then the two smallest classes are left out of fitting in turn, and the AUROC says how well the left-out class
is told from held-out rows of the others: by ``score_samples`` of FlowClassifier, the largest probability of
HistGradientBoosting, QDA's log-density, and IsolationForest. Tables with at least three classes.
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
from scipy.special import logsumexp
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from flowdetect import FlowClassifier

MEASURES = ("accuracy", "log-loss", "ECE")
IMBALANCED = ("phoneme", "keel_vehicle1", "keel_pima", "imblearn_satimage")
MIXED = {"adult": "income", "shoppers": "Revenue", "magic": "class"}
TEXTS = make_column_selector(dtype_exclude="number")


def tables(folder: Path, n_rows: int) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Yield name, table and classes."""
    digits, number = load_digits(return_X_y=True)
    small = {
        "wine": load_wine(return_X_y=True),
        "cancer": load_breast_cancer(return_X_y=True),
        "digits": (PCA(12, random_state=0).fit_transform(digits), number),
        "iris": load_iris(return_X_y=True),
    }
    for name, (X, y) in small.items():
        yield name, *_some(pd.DataFrame(X).add_prefix("x"), y, n_rows)
    for name in IMBALANCED:
        table = pd.read_csv(folder / "imbalanced" / f"{name}.csv.gz")
        yield name.rpartition("_")[2], *_some(table.iloc[:, :-1], table.iloc[:, -1].to_numpy(), n_rows)
    for name, label in MIXED.items():
        table = pd.read_csv(folder / "mixed" / f"{name}.csv.gz").drop(columns="__split", errors="ignore")
        yield name, *_some(table.drop(columns=label), table[label].astype(str).to_numpy(), n_rows)


def _some(X: pd.DataFrame, y: np.ndarray, n_rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    rows = np.sort(np.random.default_rng(0).permutation(len(X))[:n_rows])
    return X.iloc[rows].reset_index(drop=True), np.asarray(y)[rows]


def as_numbers() -> ColumnTransformer:
    """Return what makes standardised and one-hot columns of a table."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
        ]
    )


def boosting(X: pd.DataFrame, seed: int) -> Any:
    """Return boosted trees on ordinals that are declared categories."""
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=200)
    encode = ColumnTransformer([("texts", ordinal, TEXTS)], remainder="passthrough")
    categorical = list(range(len(TEXTS(X))))
    return make_pipeline(
        encode, HistGradientBoostingClassifier(categorical_features=categorical, random_state=seed)
    )


def classifiers(X: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return the methods."""
    return {
        "FlowClassifier": FlowClassifier(random_state=seed),
        "QDA": make_pipeline(as_numbers(), QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.01)),
        "GaussianNB": make_pipeline(as_numbers(), GaussianNB()),
        "HistGradientBoosting": boosting(X, seed),
    }


def judge(probabilities: np.ndarray, classes: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return accuracy, log-loss and expected calibration error."""
    found, sure = classes[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(
        np.mean(bins == b) * abs(np.mean((found == y)[bins == b]) - sure[bins == b].mean())
        for b in np.unique(bins)
    )
    return {
        "accuracy": accuracy_score(y, found),
        "log-loss": log_loss(y, probabilities, labels=classes),
        "ECE": float(error),
    }


def compare(X: pd.DataFrame, y: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of each method on held-out rows."""
    fit, held_out, y_fit, y_out = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    for method, model in classifiers(X, seed).items():
        start = time.perf_counter()
        model.fit(fit, y_fit)
        seconds = time.perf_counter() - start
        probabilities = model.predict_proba(held_out)
        yield {
            "method": method,
            "fit_s": seconds,
            **judge(probabilities, model.classes_, y_out),
            "each": of_each_row(probabilities, model.classes_, y_out),
        }


def of_each_row(probabilities: np.ndarray, classes: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """Return what accuracy and log-loss are the means of."""
    own = probabilities[np.arange(len(y)), np.searchsorted(classes, y)]
    right = classes[probabilities.argmax(axis=1)] == y
    tiny = np.finfo(np.float64).eps
    return {"accuracy": right.astype(float).tolist(), "log-loss": (-np.log(np.maximum(own, tiny))).tolist()}


def without_a_class(X: pd.DataFrame, y: np.ndarray, left_out: Any, seed: int) -> dict[str, float]:
    """Return the AUROC of telling a class never seen from held-out rows of the others."""
    known = y != left_out
    fit, held_out, y_fit, _ = train_test_split(X[known], y[known], test_size=0.25, random_state=seed)
    judged = pd.concat([held_out, X[~known]])
    odd = np.r_[np.zeros(len(held_out)), np.ones(int((~known).sum()))]
    models = classifiers(X, seed)
    models["IsolationForest"] = make_pipeline(as_numbers(), IsolationForest(random_state=seed))
    for model in models.values():
        model.fit(fit, y_fit)
    quadratic = models["QDA"]
    scores = {
        "FlowClassifier": models["FlowClassifier"].score_samples(judged),
        "HistGradientBoosting": models["HistGradientBoosting"].predict_proba(judged).max(axis=1),
        "QDA density": logsumexp(_qda_log_densities(quadratic, judged), axis=1),
        "IsolationForest": models["IsolationForest"].score_samples(judged),
    }
    return {method: float(roc_auc_score(odd, -score)) for method, score in scores.items()}


def _qda_log_densities(model: Any, X: pd.DataFrame) -> np.ndarray:
    rows, quadratic = model[0].transform(X), model[-1]
    densities = []
    for k, mean in enumerate(quadratic.means_):
        along = (rows - mean) @ quadratic.rotations_[k]
        densities.append(
            np.log(quadratic.priors_[k])
            - 0.5 * (np.square(along) / quadratic.scalings_[k]).sum(axis=1)
            - 0.5 * np.log(quadratic.scalings_[k]).sum()
        )
    return np.stack(densities, axis=1)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="comma separated names")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    wanted = [part for part in args.only.split(",") if part]
    rows: list[dict[str, Any]] = []
    unseen: list[dict[str, Any]] = []
    for name, X, y in tables(args.data, args.rows):
        if wanted and name not in wanted:
            continue
        for split in range(args.splits):
            for row in compare(X, y, args.seed + split):
                rows.append({"data": name, "split": split, **row})
                print({key: _short(value) for key, value in row.items() if key != "each"}, flush=True)
        labels, counts = np.unique(y, return_counts=True)
        for left_out in labels[np.argsort(counts)][: 2 if len(labels) > 2 else 0]:
            area = without_a_class(X, y, left_out, args.seed)
            unseen.append({"data": f"{name} without {left_out}", **area})
            print({key: _short(value) for key, value in unseen[-1].items()}, flush=True)
    for measure in MEASURES:
        report(rows, measure)
    if unseen:
        print_table(
            ["AUROC, class left out", *list(unseen[0])[1:]],
            [[_short(value) for value in row.values()] for row in unseen],
        )
    if args.out is not None:
        args.out.write_text(json.dumps({"held-out": rows, "class left out": unseen}, indent=1))


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def report(rows: list[dict[str, Any]], measure: str) -> None:
    """Print one measure, tables by methods: the best of each line in bold, a star within its spread."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines, counts = [], dict.fromkeys(methods, [0, 0])
    sign = 1.0 if measure == "accuracy" else -1.0
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [[row for row in rows if (row["data"], row["method"]) == (name, method)] for method in methods]
        means = [float(np.mean([row[measure] for row in some])) for some in own]
        best = int(np.argmax(sign * np.array(means)))
        line = [name]
        for k, method in enumerate(methods):
            first, near = k == best or means[k] == means[best], within(own[k], own[best], measure, sign)
            counts[method] = [counts[method][0] + first, counts[method][1] + (first or near)]
            mark = "**" if first else "*" if near else ""
            line.append(f"{mark}{means[k]:.3f}{mark}")
        lines.append(line)
    print_table([measure, *methods], lines)
    print(
        f"\n{measure} of {len(lines)} tables, best and within the spread of the best: "
        + "; ".join(f"{method} {first} and {near}" for method, (first, near) in counts.items()),
        flush=True,
    )


def within(rows: list[dict[str, Any]], best: list[dict[str, Any]], measure: str, sign: float) -> bool:
    """Return whether a method is at most a standard error of the difference behind the best one."""
    if measure == "ECE":
        behind = np.array([b[measure] - a[measure] for a, b in zip(rows, best, strict=True)])
    else:
        behind = np.concatenate([b["each"][measure] for b in best]) - np.concatenate(
            [a["each"][measure] for a in rows]
        )
    behind = sign * behind
    return len(behind) > 1 and bool(behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)))


if __name__ == "__main__":
    main()
