from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from flowdetect import FlowDensity
from flowdetect.exceptions import InvalidTableError
from flowdetect.inference import probability


def distribution_function(density: FlowDensity, at: float) -> float:
    """One pass through the monotone flow of a single column."""
    matrix = density.encoder_.encode(np.array([[at]]))[0]
    noise = density.density_.flow.transform_to_noise(_tensor(matrix))
    return float(norm.cdf(noise.item()))


def _tensor(matrix: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(matrix)


@pytest.mark.parametrize("method", ["rqmc", "mc"])
@pytest.mark.parametrize("bounds", [(-3.0, 2.0), (None, -1.0), (3.0, None), (None, None), (-np.inf, -2.0)])
def test_interval_of_one_column_is_exact(line: FlowDensity, bounds: tuple[Any, Any], method: str) -> None:
    low, high = bounds
    exact = (1.0 if high is None else distribution_function(line, high)) - (
        0.0 if low in (None, -np.inf) else distribution_function(line, low)
    )
    value, error = probability(line, {0: bounds}, method=method, random_state=4)
    assert abs(value - exact) <= 5.0 * error + 1e-9
    assert error < {"rqmc": 2e-3, "mc": 1e-2}[method]


EVENTS: dict[str, tuple[Any, Any]] = {
    "bounds of numbers": ({"weight": (0, 2.5)}, lambda t: t["weight"].between(0, 2.5)),
    "bounds of objects": ({"size": (9, None)}, lambda t: t["size"] >= 9),
    "bounds of counts": ({"count": (18, 22)}, lambda t: t["count"].between(18, 22)),
    "bounds of times": ({"day": ("2024-06-01", None)}, lambda t: t["day"] >= pd.Timestamp("2024-06-01")),
    "bounds of grades": ({"grade": ("mid", None)}, lambda t: t["grade"] >= "mid"),
    "missing": ({"weight": None}, lambda t: t["weight"].isna()),
    "missing or": ({"weight": [float("nan")]}, lambda t: t["weight"].isna()),
    "present": ({"weight": (None, None)}, lambda t: t["weight"].notna()),
    "one category": ({"colour": "red"}, lambda t: t["colour"] == "red"),
    "categories": ({"colour": {"red", "blue"}}, lambda t: t["colour"].isin(["red", "blue"])),
    "a boolean": ({"old": True}, lambda t: t["old"]),
    "some counts": ({"count": [19, 20, 21]}, lambda t: t["count"].isin([19, 20, 21])),
    "a time": ({"day": "2024-06-01"}, lambda t: t["day"] == pd.Timestamp("2024-06-01")),
    "both, by position": (
        {2: "red", 5: False, "weight": (2.0, None)},
        lambda t: (t["colour"] == "red") & ~t["old"] & (t["weight"] >= 2.0),
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_are_those_of_drawn_rows(mixed: FlowDensity, name: str) -> None:
    event, holds = EVENTS[name]
    value, error = probability(mixed, event, random_state=0)
    share = float(holds(mixed.sample(8000, random_state=1)).mean())
    assert abs(value - share) < 5.0 * (error + np.sqrt(share * (1.0 - share) / 8000.0)) + 1e-3
    assert 0.0 < value < 1.0 or name == "a time"


def test_context_gives_a_probability_each(plane: FlowDensity) -> None:
    value, error = probability(plane, {0: (0.5, None)}, context=[-1.0, 0.0, 2.0], random_state=0)
    assert value.shape == error.shape == (3,)
    assert value[0] < value[1] < value[2]


def test_times_with_zones_and_nullable_columns() -> None:
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-01-01", tz="Europe/Berlin")
    table = pd.DataFrame(
        {
            "day": start + pd.to_timedelta(rng.integers(0, 9000, 120), unit="h"),
            "span": pd.to_timedelta(rng.integers(0, 9000, 120), unit="s"),
            "count": pd.array(rng.integers(0, 500, 120), dtype="Int64"),
        }
    )
    table.loc[:11, "count"] = pd.NA
    density = FlowDensity(max_steps=20, n_layers=2, hidden_features=8, random_state=0).fit(table)
    middle = start + pd.Timedelta("4500h")
    for event, share in (
        ({"day": (middle, None)}, 0.5),
        ({"day": (str(middle.date()), None)}, 0.5),
        ({"span": (None, "75min")}, 0.5),
        ({"count": pd.NA}, 0.1),
        ({"count": range(500)}, 0.85),
    ):
        assert probability(density, event, random_state=0).value == pytest.approx(share, abs=0.15)


def test_values_of_float32_are_found() -> None:
    rows = np.random.default_rng(0).choice(np.float32([0.1, 0.2, 0.7]), size=(200, 1), p=[0.5, 0.3, 0.2])
    density = FlowDensity(max_steps=5, n_layers=1, hidden_features=4, random_state=0).fit(rows)
    assert probability(density, {0: 0.1}, random_state=0).value == pytest.approx(0.5, abs=0.1)
    assert probability(density, {0: [0.1, 0.2, 0.7]}, random_state=0).value == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "event must be a mapping of columns.*got {}"),
        ([(0, 1)], "event must be a mapping"),
        ({"colr": "red"}, "must be among those of the table; got 'colr'. Known are 'size', 'weight'"),
        ({7: 1.0}, "got 7. Known are"),
        ({"weight": (2.0, 1.0)}, r"must not have low above high; got \(2.0, 1.0\). Swap them"),
        ({"grade": ("high", "low")}, "must not have low above high"),
        ({"weight": (1.0,)}, r"must be a tuple \(low, high\); got \(1.0,\)"),
        ({"weight": ("a", None)}, r"comparable with its entries \(float64\); got 'a'"),
        ({"weight": (float("nan"), None)}, "got nan. Use None for an open end"),
        ({"day": (3.5j, None)}, r"comparable with its entries \(datetime64"),
        ({"grade": ("best", None)}, "comparable with its entries"),
        ({"colour": ("blue", "red")}, "categories without an order, so bounds mean nothing"),
        ({"colour": "pink"}, "must be categories seen in training; got 'pink'. Known are 'blue'"),
        ({"colour": []}, "must be at least one; got an empty list"),
        ({"count": "many"}, "Values of column 'count' must be numbers; got 'many'"),
    ],
)
def test_wrong_events_are_refused(mixed: FlowDensity, event: Any, message: str) -> None:
    with pytest.raises(InvalidTableError, match=message):
        probability(mixed, event, n_samples=64)
