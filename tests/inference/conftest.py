from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowdetect import FlowAugmenter, FlowDensity

QUICK = {"max_steps": 60, "n_layers": 2, "hidden_features": 8, "n_bins": 4, "random_state": 0}


@pytest.fixture(scope="session")
def line() -> FlowDensity:
    """A density of one continuous column: its distribution function is one pass through the flow."""
    rows = np.random.default_rng(0).gamma(3.0, 2.0, size=(400, 1)) - 5.0
    return FlowDensity(**QUICK).fit(rows)


@pytest.fixture(scope="session")
def plane() -> FlowDensity:
    """A density of two columns, given one."""
    rng = np.random.default_rng(1)
    given = rng.normal(size=(500, 1))
    rows = given + rng.normal(size=(500, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    return FlowDensity(**QUICK).fit(rows, context=given)


def mixed_table(n_rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    colour = rng.choice(["red", "green", "blue"], n_rows, p=[0.5, 0.3, 0.2])
    weight = rng.normal(size=n_rows) + 3.0 * (colour == "red")
    weight[rng.random(n_rows) < 0.2] = np.nan
    return pd.DataFrame(
        {
            "size": rng.normal(10.0, 2.0, size=n_rows).astype(object),
            "weight": weight,
            "colour": colour,
            "grade": pd.Categorical(
                rng.choice(["low", "mid", "high"], n_rows), categories=["low", "mid", "high"], ordered=True
            ),
            "count": rng.poisson(20, n_rows),
            "old": rng.random(n_rows) < 0.3,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, n_rows), unit="D"),
        }
    )


@pytest.fixture(scope="session")
def mixed() -> FlowDensity:
    """A density of a table with every kind of column."""
    return FlowDensity(**QUICK).fit(mixed_table())


@pytest.fixture(scope="session")
def augmenter() -> Any:
    rng = np.random.default_rng(3)
    labels = np.repeat(["a", "b"], [150, 50])
    return FlowAugmenter(**QUICK).fit(rng.normal(size=(200, 2)) + 4.0 * (labels == "b")[:, None], labels)
