"""Write the golden files of the present format: model files that every later version must load.

    python tests/persistence/golden.py

writes ``tests/persistence/golden/v<format>_<class>.flow``, and beside each what the model says of fixed rows.
Run it once for each new format, and add the files; those of earlier formats stay as they are.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import flowdetect
from flowdetect import (
    FlowAugmenter,
    FlowClassifier,
    FlowDensity,
    FlowGaussianizer,
    FlowImputer,
    FlowOutlierDetector,
)
from flowdetect.inference import FlowMixture, FlowPosterior, VariationalFlow
from flowdetect.persistence import FORMAT_VERSION
from flowdetect.timeseries import SeriesAugmenter, SeriesOutlierDetector, SlidingWindow, _detector

FOLDER = Path(__file__).parent / "golden"
SMALL = {"hidden_features": 6, "n_bins": 4, "max_steps": 4, "random_state": 0}


def table(n_rows: int = 60) -> pd.DataFrame:
    """Return rows of every kind of column."""
    k = np.arange(n_rows)
    return pd.DataFrame(
        {
            "number": np.sin(k) + 0.1 * k,
            "count": k % 7,
            "text": np.array(["red", "green", "blue"], dtype=object)[k % 3],
            "flag": k % 5 > 2,
            "date": pd.Timestamp("2024-01-01") + pd.to_timedelta(k * 7, unit="h"),
            "holes": np.where(k % 4 == 0, np.nan, np.cos(3 * k)),
            "level": pd.Categorical(
                np.array(["low", "high"])[k % 2], categories=["low", "high"], ordered=True
            ),
        }
    )


def classes(n_rows: int = 60) -> np.ndarray:
    """Return a class of each row of the table."""
    return np.where(np.arange(n_rows) % 6 == 0, "rare", "usual")


def series(n_rows: int = 120) -> pd.DataFrame:
    """Return a series with time stamps, an entity and two channels."""
    k = np.arange(n_rows)
    stamps = pd.date_range("2024-03-01", periods=n_rows // 2, freq="h", tz="Europe/Rome")
    return pd.DataFrame(
        {
            "time": np.tile(stamps, 2),
            "pump": np.repeat(["a", "b"], n_rows // 2),
            "flow": np.sin(k * 2 * np.pi / 12) + 0.05 * np.cos(7 * k),
            "mode": np.array(["on", "off"], dtype=object)[(k // 9) % 2],
        }
    )


def models() -> dict[str, Any]:
    """Return a small fitted estimator of each class."""
    rows = table()
    small_density = functools.partial(FlowDensity, hidden_features=6, n_bins=4, n_layers=1)
    whole, _detector.FlowDensity = _detector.FlowDensity, small_density
    try:
        watcher = SeriesOutlierDetector(time="time", entity="pump", window=8, max_steps=4, random_state=0)
        watcher.fit(series())
    finally:
        _detector.FlowDensity = whole
    augmenter = SeriesAugmenter(
        time="time", entity="pump", season=12, hidden_features=6, max_steps=4, random_state=0
    )
    return {
        "FlowDensity": FlowDensity(**SMALL, n_layers=1).fit(rows, context=rows[["flag", "holes"]]),
        "FlowGaussianizer": FlowGaussianizer(**SMALL, n_layers=1).fit(rows, context=rows[["flag", "holes"]]),
        "FlowImputer": FlowImputer(**SMALL, n_layers=1, n_draws=4).fit(rows),
        "FlowOutlierDetector": FlowOutlierDetector(**SMALL, n_layers=1).fit(rows),
        "FlowAugmenter": FlowAugmenter(**SMALL, n_layers=1).fit(rows, classes()),
        "FlowClassifier": FlowClassifier(**SMALL, n_layers=1, reject_below=0.1).fit(rows, classes()),
        "FlowMixture": FlowMixture(2, **SMALL, max_iter=2, n_layers=1).fit(rows),
        "SeriesOutlierDetector": watcher,
        "SeriesAugmenter": augmenter.fit(series()),
        "SlidingWindow": SlidingWindow(window=3).fit(series()[["flow"]]),
        "FlowPosterior": FlowPosterior(**SMALL, n_layers=1, n_models=2, bounds={"number": (-2, 9)}).fit(
            rows[["number", "count"]], rows[["text", "holes"]]
        ),
        "VariationalFlow": variational(),
    }


def variational() -> VariationalFlow:
    """Return a flow of a formula."""
    flow = VariationalFlow(
        2,
        n_layers=1,
        hidden_features=6,
        n_bins=4,
        max_steps=4,
        batch_size=64,
        n_importance=50,
        random_state=0,
    )
    return flow.fit(lambda x: -0.5 * (x - 1.0).square().sum(1))


def answers(name: str, model: Any) -> list[float]:
    """Return what a model says of fixed rows."""
    return [float(value) for value in np.ravel(ANSWERS[name](model, table()))]


# What each is asked: the model, and the rows of `table`.
ANSWERS: dict[str, Callable[[Any, pd.DataFrame], Any]] = {
    "FlowDensity": lambda model, rows: model.score_samples(rows, context=rows[["flag", "holes"]]),
    "FlowGaussianizer": lambda model, rows: model.transform(rows, context=rows[["flag", "holes"]]),
    "FlowImputer": lambda model, rows: model.transform(rows.assign(number=np.nan))[["number", "holes"]],
    "FlowOutlierDetector": lambda model, rows: [
        *model.score_samples(rows),
        *model.p_values(rows),
        model.offset_,
    ],
    "FlowAugmenter": lambda model, _: model.sample(20, random_state=0)[["number", "count"]],
    "FlowPosterior": lambda model, rows: model.log_prob(rows[["number", "count"]], rows[["text", "holes"]]),
    "FlowClassifier": lambda model, rows: [*model.predict_proba(rows)[:, 0], *model.score_samples(rows)],
    "FlowMixture": lambda model, rows: [*model.predict_proba(rows)[:, 0], *model.score_samples(rows)],
    "SeriesOutlierDetector": lambda model, _: [*model.score_samples(series()), model.offset_],
    "VariationalFlow": lambda model, _: [
        *model.score_samples([[0.5, 1.0], [3.0, -2.0]]),
        model.expectation(lambda x: x[:, 0])[0],
    ],
    "SeriesAugmenter": lambda model, _: model.forecast(steps=3, n_paths=2, random_state=0)["flow"],
    "SlidingWindow": lambda model, _: model.transform(series()[["flow"]]),
}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, model in models().items():
        path = FOLDER / f"v{FORMAT_VERSION}_{name}.flow"
        flowdetect.save(model, path, metadata={"purpose": "golden file"})
        path.with_suffix(".json").write_text(json.dumps(answers(name, model)), encoding="utf-8")


if __name__ == "__main__":
    main()
