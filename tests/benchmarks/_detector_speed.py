"""Speed of detectors; ``speed.py`` says what each part is."""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from _tables import Detector, find_tables, flow_scores, peer_scores, read_table
from _timing import Figure, Settings, take_turns
from _workers import Work
from sklearn.ensemble import IsolationForest

from flowdetect import FlowOutlierDetector

__all__ = ["measure_detector", "measure_small"]

OURS = "FlowOutlierDetector"

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def pyod_detectors() -> dict[str, Callable[[], Any]]:
    """Return the detectors of PyOD, or none and the reason where it is missing."""
    try:
        from pyod.models.auto_encoder import AutoEncoder
        from pyod.models.knn import KNN
    except ImportError as error:
        print(f"PyOD is left out: {error}", file=sys.stderr)
        return {}
    return {"kNN": KNN, "AutoEncoder": partial(AutoEncoder, verbose=0, random_state=0)}


def _fit_and_score(
    make: Callable[[], Detector], protocol: str, fit: np.ndarray, score: np.ndarray
) -> np.ndarray:
    return peer_scores(make(), fit, score, protocol)


def measure_detector(settings: Settings) -> Iterator[Figure]:
    """Time fitting and scoring on tables, and add the totals."""
    if settings.tables is None:
        print("detector is left out: --tables FOLDER is not given", file=sys.stderr)
        return
    methods: dict[str, Method] = {OURS: partial(flow_scores, protocol=settings.protocol, seed=0)}
    for name, make in pyod_detectors().items():
        methods[name] = partial(_fit_and_score, make, settings.protocol)
    warm = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    totals = dict.fromkeys(methods, 0.0)
    for method in methods.values():
        method(warm, warm)
    for path in find_tables(settings.tables, settings.match):
        fit, score, _ = read_table(path, settings.protocol, 0)
        for name, method in methods.items():
            start = time.perf_counter()
            method(fit, score)
            seconds = time.perf_counter() - start
            totals[name] += seconds
            print(f"{path.stem}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)
            yield Figure("fit and score", path.stem, name, "s", [seconds])
    for name, seconds in totals.items():
        yield Figure("fit and score", "total", name, "s", [seconds])


def fit_work(make: Callable[[], Any], rows: np.ndarray) -> Work:
    """Return making and fitting a detector."""
    return lambda: make().fit(rows)


def score_work(make: Callable[[], Any], rows: np.ndarray) -> Work:
    """Return scoring one row by a fitted detector."""
    return partial(make().fit(rows).decision_function, rows[:1])


def measure_small(settings: Settings) -> Iterator[Figure]:
    """Time detectors on a small table."""
    rows = np.random.default_rng(0).normal(size=(200, 8))
    make: dict[str, Callable[[], Any]] = {
        OURS: partial(FlowOutlierDetector, random_state=0),
        "IsolationForest": partial(IsolationForest, random_state=0),
        **pyod_detectors(),
    }
    for measure, recipe in (
        ("fit 200 rows of 8 columns", fit_work),
        ("score one row of 8 columns", score_work),
    ):
        recipes = {name: partial(recipe, kind, rows) for name, kind in make.items()}
        for name, values in take_turns(recipes, settings).items():
            yield Figure(measure, "normal rows", name, "ms", values)
