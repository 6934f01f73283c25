"""Oversampling of rare classes: FlowAugmenter beside imbalanced-learn's samplers, judged by classifiers.

    python tests/benchmarks/oversampling.py --data FOLDER [--only yeast] [--folds 3] [--seed 0] [--out FILE]

FOLDER holds ``.csv.gz`` files whose last column is the label, 1 = rare; text columns are categories. In each
stratified fold the training part is resampled to balance, boosted trees, logistic regression and nearest
neighbours learn from it, and the untouched part judges them: average precision, and F1 and the geometric mean
of the recalls at the classifiers' own threshold. Missing numbers are imputed, numbers standardised and
categories one-hot encoded before a sampler sees them; "as is" takes the table as it comes instead.
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
from imblearn.over_sampling import (
    ADASYN,
    SMOTE,
    SMOTENC,
    SVMSMOTE,
    BorderlineSMOTE,
    RandomOverSampler,
)
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, recall_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from flowdetect import FlowAugmenter

MEASURES = ("AP", "F1", "G-mean")


def make_samplers(seed: int) -> dict[str, Any]:
    """Return the samplers of encoded numbers, all with the neighbours that few rare rows allow."""
    near = {"k_neighbors": 3, "random_state": seed}
    return {
        "none": None,
        "FlowAugmenter": FlowAugmenter(random_state=seed),
        "random": RandomOverSampler(random_state=seed),
        "SMOTE": SMOTE(**near),
        "BorderlineSMOTE": BorderlineSMOTE(**near),
        "SVMSMOTE": SVMSMOTE(**near),
        "ADASYN": ADASYN(n_neighbors=3, random_state=seed),
    }


def encoder() -> ColumnTransformer:
    """Return what turns a table into numbers."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include=np.number)),
            ("categories", categories, make_column_selector(dtype_exclude=np.number)),
        ]
    )


def resample(sampler: Any, X: Any, y: np.ndarray) -> tuple[Any, np.ndarray, bool]:
    """Return the resampled rows, or the rows as they are where the sampler fails, and whether it did."""
    if sampler is None:
        return X, y, False
    try:
        return *sampler.fit_resample(X, y), False
    except ValueError as error:  # too few rows for the neighbours, as a rule
        print(f"  {type(sampler).__name__} failed: {error}"[:150], flush=True)
        return X, y, True


def variants(
    X: pd.DataFrame, y: np.ndarray, encode: ColumnTransformer, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float, bool]]:
    """Yield name, rows to learn from, their labels, seconds and failure of each sampler."""
    numbers = encode.transform(X)
    for name, sampler in make_samplers(seed).items():
        start = time.perf_counter()
        rows, labels, failed = resample(sampler, numbers, y)
        yield name, rows, labels, time.perf_counter() - start, failed
    categories = X.select_dtypes(exclude="number").columns.tolist()
    if categories:
        as_is = {"FlowAugmenter, as is": FlowAugmenter(random_state=seed)}
        if len(categories) < X.shape[1] and not X.isna().any(axis=None):
            as_is["SMOTENC"] = SMOTENC(categories, k_neighbors=3, random_state=seed)
        for name, sampler in as_is.items():
            start = time.perf_counter()
            table, labels, failed = resample(sampler, X, y)
            yield name, encode.transform(table), labels, time.perf_counter() - start, failed


def judge(
    rows: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int
) -> dict[str, float]:
    """Return the mean of each measure over the classifiers."""
    found = []
    for model in (
        HistGradientBoostingClassifier(max_iter=60, random_state=seed),
        LogisticRegression(max_iter=500),
        KNeighborsClassifier(5),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, labels)
        chance, said = model.predict_proba(test)[:, 1], model.predict(test)
        recalls = recall_score(truth, said, average=None, labels=[0, 1], zero_division=0)
        found.append(
            (
                average_precision_score(truth, chance),
                f1_score(truth, said, zero_division=0),
                np.sqrt(recalls.prod()),
            )
        )
    return dict(zip(MEASURES, 100.0 * np.mean(found, axis=0), strict=True))


def compare(path: Path, n_folds: int, seed: int) -> list[dict[str, Any]]:
    """Return the figures of all samplers in all folds of one table."""
    table = pd.read_csv(path)
    X, y = table.iloc[:, :-1], table.iloc[:, -1].to_numpy(int)
    X = X.astype(dict.fromkeys(X.select_dtypes(exclude="number").columns, "category"))
    found = []
    for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, y):
        learnt = X.iloc[train].reset_index(drop=True)
        encode = encoder().fit(learnt)
        tested = encode.transform(X.iloc[test])
        for name, rows, labels, seconds, failed in variants(learnt, y[train], encode, seed):
            figures = judge(rows, labels, tested, y[test], seed)
            data = path.name.removesuffix(".csv.gz")
            found.append({"data": data, "method": name, "seconds": seconds, "failed": failed, **figures})
    return found


def report(rows: list[dict[str, Any]]) -> None:
    """Print means and mean ranks over the tables that every sampler took, and those taken as they are."""
    frame = pd.DataFrame(rows)
    means = frame.groupby(["data", "method"], sort=False)[[*MEASURES, "seconds", "failed"]].mean()
    n_tables = means.groupby("method").size()
    everywhere = n_tables.index[n_tables == n_tables.max()]
    for title, kept in (
        ("all tables", means[means.index.isin(everywhere, level=1)]),
        ("tables with categories", means[means.index.isin(set(_with_categories(means)), level=0)]),
    ):
        if kept.empty:
            continue
        ranks = {name: kept[name].unstack().rank(axis=1, ascending=False).mean() for name in MEASURES}
        shown = kept.groupby("method").mean()
        shown["mean rank"] = pd.DataFrame(ranks).mean(axis=1)
        print(f"\n{title}: {kept.index.get_level_values(0).nunique()}")
        lines = [
            [
                str(name),
                *(f"{line[m]:.1f}" for m in MEASURES),
                f"{line['mean rank']:.2f}",
                f"{line['seconds']:.1f}",
            ]
            for name, line in shown.sort_values("mean rank").iterrows()
        ]
        print_table(["sampler", *MEASURES, "mean rank", "seconds"], lines)


def _with_categories(means: pd.DataFrame) -> list[str]:
    return [data for data, method in means.index if method == "FlowAugmenter, as is"]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    parts = [part for part in args.only.split(",") if part]
    rows: list[dict[str, Any]] = []
    for path in sorted(args.data.glob("*.csv.gz")):
        if parts and not any(part in path.name for part in parts):
            continue
        rows += compare(path, args.folds, args.seed)
        here = pd.DataFrame(rows).query("data == @rows[-1]['data']").groupby("method", sort=False)
        print(rows[-1]["data"], here[list(MEASURES)].mean().round(1).to_dict("index"), flush=True)
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1, default=float))
    report(rows)


if __name__ == "__main__":
    main()
