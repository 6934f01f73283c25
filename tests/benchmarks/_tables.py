"""Tables with labelled anomalies: which are read, which rows are fitted and scored, and the scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sklearn.preprocessing import StandardScaler

from flowdetect import FlowOutlierDetector

__all__ = ["Detector", "find_tables", "flow_scores", "peer_scores", "read_table", "split_rows"]

MAX_ROWS = 5000


class Detector(Protocol):
    """A detector of PyOD."""

    decision_scores_: np.ndarray

    def fit(self, X: np.ndarray) -> Any: ...

    def decision_function(self, X: np.ndarray) -> np.ndarray: ...


def find_tables(folder: Path, wanted: str) -> Iterator[Path]:
    """Yield the ``.npz`` files whose names have one of the comma separated parts, or all for ``""``."""
    parts = [part for part in wanted.split(",") if part]
    for path in sorted(folder.glob("*.npz")):
        if not parts or any(part in path.stem for part in parts):
            yield path


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


def read_table(path: Path, protocol: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the standardised rows to fit and to score, and the labels of the latter."""
    with np.load(path) as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(int)
    fit_rows, score_rows = split_rows(y, protocol, seed)
    scaler = StandardScaler().fit(X[fit_rows])
    fit, score = (scaler.transform(X[rows]).astype(np.float32) for rows in (fit_rows, score_rows))
    return fit, score, y[score_rows]


def flow_scores(fit: np.ndarray, score: np.ndarray, protocol: str, seed: int) -> np.ndarray:
    """Return the abnormality of the rows to score by FlowOutlierDetector with its defaults."""
    detector = FlowOutlierDetector(random_state=seed).fit(fit)
    return -(detector.training_scores_ if protocol == "mixed" else detector.score_samples(score))


def peer_scores(detector: Detector, fit: np.ndarray, score: np.ndarray, protocol: str) -> np.ndarray:
    """Return the same by a detector of PyOD."""
    detector.fit(fit)
    scores = detector.decision_scores_ if protocol == "mixed" else detector.decision_function(score)
    return np.asarray(scores)
