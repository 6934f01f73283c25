from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowdetect import FlowAugmenter, FlowDensity, FlowOutlierDetector

QUICK = {
    "max_steps": 12,
    "n_layers": 2,
    "hidden_features": 8,
    "n_bins": 4,
    "batch_size": 64,
    "random_state": 0,
}
ESTIMATORS = {"augmenter": FlowAugmenter, "density": FlowDensity, "detector": FlowOutlierDetector}
SCORING = [name for name, estimator in ESTIMATORS.items() if hasattr(estimator, "score_samples")]


def build_table(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Mixed columns: ``size`` depends on ``colour``, ``weight`` on ``size`` and is missing now and then."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(["red", "green", "blue"], n_rows, p=[0.5, 0.3, 0.2])
    size = rng.normal(size=n_rows) + 4.0 * (colour == "red")
    weight = 2.0 * size + rng.normal(scale=0.3, size=n_rows)
    weight[rng.random(n_rows) < 0.15] = np.nan
    return pd.DataFrame(
        {
            "size": size,
            "weight": weight,
            "colour": pd.Categorical(colour, categories=["red", "green", "blue", "black"]),
            "count": rng.poisson(20, n_rows),
            "old": rng.random(n_rows) < 0.3,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, n_rows), unit="D"),
        },
        index=pd.RangeIndex(100, 100 + n_rows),
    )


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    return build_table


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return build_table(200)


@pytest.fixture(scope="session")
def labels(table: pd.DataFrame) -> np.ndarray:
    """Classes of the rows of the table: 140 common, 45 medium, 15 rare, the latter larger than the others."""
    order = np.argsort(table["size"].to_numpy(), kind="stable")
    classes = np.empty(len(table), dtype=object)
    classes[order] = np.repeat(["common", "medium", "rare"], [140, 45, 15])
    return classes.astype(str)


@pytest.fixture(scope="session")
def new_rows() -> pd.DataFrame:
    """Rows that no model has seen."""
    return build_table(30, seed=1)


@pytest.fixture(scope="session")
def blob() -> np.ndarray:
    """Correlated Gaussian rows."""
    return np.random.default_rng(0).normal(size=(120, 3)) @ np.array([[1, 0.8, 0], [0, 0.6, 0], [0, 0, 1]])


@pytest.fixture(scope="session")
def quick() -> Callable[..., Any]:
    """Return a factory of estimators, by name, that fit in a moment."""

    def make(name: str, **parameters: Any) -> Any:
        few = {"n_models": 2} if name == "detector" else {}
        return ESTIMATORS[name](**{**QUICK, **few, **parameters})

    return make


@pytest.fixture(params=SCORING)
def name(request: pytest.FixtureRequest) -> str:
    """Each estimator that scores rows in turn."""
    return request.param


@pytest.fixture(scope="session")
def fitted_by_name(quick: Callable, table: pd.DataFrame) -> dict[str, Any]:
    return {name: quick(name).fit(table) for name in SCORING}


@pytest.fixture
def fitted(fitted_by_name: dict[str, Any], name: str) -> Any:
    """Each estimator fitted on the mixed table; not to be changed."""
    return fitted_by_name[name]


@pytest.fixture
def detector(fitted_by_name: dict[str, Any]) -> FlowOutlierDetector:
    return fitted_by_name["detector"]


@pytest.fixture
def density(fitted_by_name: dict[str, Any]) -> FlowDensity:
    return fitted_by_name["density"]


@pytest.fixture(scope="session")
def augmenter(quick: Callable, table: pd.DataFrame, labels: np.ndarray) -> FlowAugmenter:
    """Fitted on the mixed table and its classes; not to be changed."""
    return quick("augmenter").fit(table, labels)
