"""Oversampling of rare classes of series: SeriesAugmenter beside copies and SMOTE on flattened windows.

    python tests/benchmarks/resampling_series.py [--data FOLDER] [--only NAB] [--folds 3] [--seed 0]
        [--out FILE]

"cylinder-bell-funnel" (Saito 1994) is made here: 120 cylinders, 24 bells and 12 funnels of 128 rows. FOLDER
holds ``.npz`` files with a series ``X``, named by number and family, such as ``010_NAB_...``; of each family
the series of one channel, standardised, are cut into windows of 32 rows, and the class of a window is the
series it is from: 120 windows spread over the first one, 15 over each other one. In each stratified fold the
training windows are resampled to balance, a random forest and a logistic regression learn from their values,
and the untouched windows judge them: balanced accuracy, and the average precision of the rarer classes.

"C2ST" is `compare_series`' figure of drawn series against real ones of the same class, each as many as there
are real ones, all of which were learnt from; beside it that of one half of the real series against the other.
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
from imblearn.over_sampling import SMOTE, RandomOverSampler
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowdetect.timeseries import SeriesAugmenter, compare_series

MEASURES = ("balanced accuracy", "AP")
LENGTH, COMMON, RARE = 32, 120, 15


def cylinders_bells_funnels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the series, shape (156, 128, 1), and their classes."""
    rng, time_of = np.random.default_rng(seed), np.arange(128)
    labels = np.repeat([0, 1, 2], [120, 24, 12])
    series = []
    for label in labels:
        begin, length = rng.integers(16, 33), rng.integers(32, 97)
        rising = np.clip((time_of - begin) / length, 0.0, 1.0)
        shape = (np.ones(128), rising, 1.0 - rising)[label] * (
            (time_of >= begin) & (time_of < begin + length)
        )
        series.append((6.0 + rng.normal()) * shape + rng.normal(size=128))
    return np.stack(series)[:, :, None], labels


def cut(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return windows of several series, shape (n_windows, 32, 1), and the number of the series of each."""
    windows, labels = [], []
    for path in paths:
        with np.load(path) as file:
            rows = file["X"].astype(np.float64).ravel()
        rows = (rows - rows.mean()) / rows.std()
        views = rows[: len(rows) // LENGTH * LENGTH].reshape(-1, LENGTH, 1)
        wanted = RARE if windows else COMMON
        windows.append(views[np.unique(np.linspace(0, len(views) - 1, wanted).astype(int))])
        labels.append(np.full(len(windows[-1]), len(labels)))
    return np.concatenate(windows), np.concatenate(labels)


def collections(folder: Path | None, only: str, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, series and classes of each collection."""
    if only in "cylinder-bell-funnel":
        yield "cylinder-bell-funnel", *cylinders_bells_funnels(seed)
    families: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.npz")) if folder is not None else []:
        with np.load(path) as file:
            if file["X"].size == len(file["X"]):
                families.setdefault(path.stem.split("_")[1], []).append(path)
    for name, paths in families.items():
        if only in name and len(paths) > 1:
            yield name, *cut(paths)


def resample(name: str, series: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the flattened series, resampled to balance."""
    flat = series.reshape(len(series), -1)
    if name == "none":
        return flat, y
    if name == "SeriesAugmenter":
        resampled, labels = SeriesAugmenter(random_state=seed).fit_resample(series, y)
        return resampled.reshape(len(resampled), -1), labels
    sampler = RandomOverSampler(random_state=seed)
    if name == "SMOTE":
        sampler = SMOTE(k_neighbors=3, random_state=seed)
    return sampler.fit_resample(flat, y)


def judge(rows: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Return both measures in per cent, each the mean over the classifiers."""
    rare = [label for label in np.unique(truth) if label != 0]
    found = []
    for model in (
        RandomForestClassifier(300, random_state=seed),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, labels)
        chance = model.predict_proba(test)
        precisions = [average_precision_score(truth == label, chance[:, label]) for label in rare]
        found.append((balanced_accuracy_score(truth, model.predict(test)), np.mean(precisions)))
    return 100.0 * np.mean(found, axis=0)


def compare(name: str, series: np.ndarray, y: np.ndarray, n_folds: int, seed: int) -> list[dict[str, Any]]:
    """Return the figures of all samplers in all folds."""
    found = []
    for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(series, y):
        tested = series[test].reshape(len(test), -1)
        for method in ("none", "SeriesAugmenter", "random", "SMOTE"):
            start = time.process_time()
            rows, labels = resample(method, series[train], y[train], seed)
            seconds = time.process_time() - start
            figures = judge(rows, labels, tested, y[test], seed)
            figures_by_name = dict(zip(MEASURES, figures.tolist(), strict=True))
            found.append({"data": name, "method": method, "seconds": seconds, **figures_by_name})
    return found


def told_apart(name: str, series: np.ndarray, y: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Return how well drawn series of each class are told from the real ones."""
    augmenter = SeriesAugmenter(random_state=seed).fit(series, y)
    found = []
    for label in np.unique(y):
        real = series[y == label]
        drawn = augmenter.sample(len(real), y=label, random_state=seed)
        measures = compare_series(real, drawn, random_state=seed).loc["C2ST AUROC"]
        found.append({"data": name, "class": int(label), "series": len(real), **measures.to_dict()})
    return found


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    alike: list[dict[str, Any]] = []
    for name, series, y in collections(args.data, args.only, args.seed):
        rows += compare(name, series, y, args.folds, args.seed)
        alike += told_apart(name, series, y, args.seed)
        here = pd.DataFrame(rows).query("data == @name").groupby("method", sort=False)
        print(name, here[[*MEASURES, "seconds"]].mean().round(1).to_dict("index"), flush=True)
    means = pd.DataFrame(rows).groupby(["data", "method"], sort=False)[[*MEASURES, "seconds"]].mean()
    shown = means.groupby("method", sort=False).mean()
    lines = [[str(method), *(f"{value:.1f}" for value in line)] for method, line in shown.iterrows()]
    print_table(["sampler", *MEASURES, "seconds"], lines)
    header = ["data", "class", "series", "C2ST AUROC", "halves of real ones"]
    print_table(
        header,
        [[*map(str, list(row.values())[:3]), *(f"{v:.2f}" for v in list(row.values())[3:])] for row in alike],
    )
    if args.out is not None:
        args.out.write_text(json.dumps({"resampling": rows, "C2ST": alike}, indent=1))


if __name__ == "__main__":
    main()
