from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowdetect.estimators import FlowDensity
from flowdetect.timeseries import SeriesOutlierDetector, _surprise
from flowdetect.timeseries._stretch import ModelledStretch
from flowdetect.timeseries._surprise import RowSurprise


def stretch_of(values: np.ndarray, context: pd.DataFrame | None = None) -> ModelledStretch:
    """Channels, and the last one, which says that constants have changed."""
    context = pd.DataFrame(index=range(len(values))) if context is None else context
    return ModelledStretch(np.column_stack([values, np.zeros(len(values))]), context)


def walk(n_rows: int, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=n_rows))


def learnt(stretches: list[ModelledStretch], reach: int = 40, **settings: Any) -> RowSurprise:
    density = FlowDensity(max_steps=settings.pop("max_steps", 40), random_state=0)
    return RowSurprise(reach, density).learn(stretches)


def test_surprise_is_minus_the_log_density_of_a_random_walk() -> None:
    surprise = learnt([stretch_of(walk(2000))], max_steps=200)
    new = walk(500, seed=1)
    own = surprise.measure(stretch_of(new))[1:, 1]
    exact = 0.5 * np.diff(new) ** 2 + 0.5 * np.log(2.0 * np.pi)
    known = ~np.isnan(own)
    assert known.sum() >= 460
    assert np.corrcoef(own[known], exact[known])[0, 1] > 0.85
    assert np.abs(own[known] - exact[known]).mean() < 0.25


def test_a_leap_surprises_and_so_do_its_neighbours_on_average() -> None:
    values = walk(600)
    surprise = learnt([stretch_of(values)])
    values[300:] += 25.0
    measured = surprise.measure(stretch_of(values))
    assert int(np.nanargmax(measured[:, 1])) == 300
    assert abs(int(measured[:, 0].argmax()) - 300) <= 2
    assert measured[330, 0] < measured[310, 0] < measured[300, 0]


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = stretch_of(walk(700))
    surprise = learnt([stretch])
    whole = surprise.measure(stretch)
    monkeypatch.setattr(_surprise, "_ROWS_AT_ONCE", 97)
    np.testing.assert_allclose(surprise.measure(stretch), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reach", [4, 7, 40])
def test_a_row_depends_on_no_row_out_of_reach(reach: int) -> None:
    values = walk(300)
    surprise = learnt([stretch_of(values)], reach)
    before = surprise.measure(stretch_of(values))
    values[150] += 10.0
    changed = np.flatnonzero((surprise.measure(stretch_of(values)) != before).any(axis=1))
    changed = changed[~np.isnan(before[changed]).any(axis=1)]
    assert changed.min() > 150 - reach
    assert changed.max() < 150 + reach


def test_without_channels_there_is_no_surprise() -> None:
    surprise = learnt([ModelledStretch(np.zeros((50, 1)), pd.DataFrame(index=range(50)))])
    assert np.isnan(surprise.measure(stretch_of(np.empty((20, 0))))).all()


def test_context_of_many_kinds_is_given() -> None:
    rng = np.random.default_rng(0)
    mode = rng.integers(0, 30, size=900)
    context = pd.DataFrame(
        {
            "mode": pd.Series([f"m{k}" for k in mode], dtype=object),
            "load": np.where(rng.random(900) < 0.1, np.nan, rng.normal(size=900)),
            "flag": mode > 3,
        }
    )
    values = np.where(mode > 3, 5.0, -5.0) + 0.1 * rng.normal(size=900)
    stretch = stretch_of(values, context)
    surprise = learnt([stretch], max_steps=150)
    told = surprise.measure(stretch)[:, 1]
    lied = context.assign(flag=~context["flag"])
    assert np.nanmedian(surprise.measure(stretch_of(values, lied))[:, 1]) > np.nanmedian(told) + 2.0


def test_a_single_odd_row_scores_lowest() -> None:
    series = np.sin(np.arange(2000) * 2 * np.pi / 50) + 0.05 * np.random.default_rng(0).normal(size=2000)
    series[1203] += 1.0
    detector = SeriesOutlierDetector(max_steps=60, random_state=0).fit(series)
    assert int(detector.training_scores_.argmin()) == 1203
    events = detector.events(series)
    assert events["peak"].tolist() == [1203]
