import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from flowdetect.timeseries._period import find_period, find_season

Array = NDArray[np.float64]


def waves(n_rows: int, period: float, seed: int, n_channels: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(n_rows) * 2.0 * np.pi / period)
    return wave[:, None] + rng.normal(size=(n_rows, n_channels))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("period", [7, 12, 24])
def test_a_season_is_found_under_noise(period: int, seed: int) -> None:
    assert find_season([waves(600, period, seed, n_channels=2)]) == pytest.approx(period, abs=1)
    assert find_season([waves(250, period, seed + k) for k in range(6)]) == pytest.approx(period, abs=1)


def test_a_season_is_found_under_trends_outliers_and_holes() -> None:
    values = waves(400, 12, 0) + 0.1 * np.arange(400)[:, None]
    values[[50, 51, 300]] = [[100.0], [-80.0], [60.0]]
    values[120:124] = np.nan
    assert find_season([values]) == 12


def test_channels_without_a_season_do_not_hide_one() -> None:
    walk = np.random.default_rng(0).normal(size=(400, 3)).cumsum(axis=0)
    assert find_season([np.hstack([walk, waves(400, 12, 0)])]) == 12


def test_noise_has_hardly_ever_a_season() -> None:
    found = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=(400, 1))
        found += sum(
            find_season([lfilter([1.0], [1.0, -phi], noise, axis=0)]) is not None for phi in (0, 0.8)
        )
    assert found <= 3


@pytest.mark.parametrize(
    "values", [np.zeros((100, 1)), np.zeros((4, 1)), np.full((50, 1), np.nan), np.arange(90.0)[:, None]]
)
def test_constant_and_short_series_and_trends_have_none(values: Array) -> None:
    assert find_season([values]) is None


def test_a_clear_period_comes_again() -> None:
    rng = np.random.default_rng(0)
    once = rng.normal(size=(400, 1))
    once[200:260] = once[100:160] = 4.0 * rng.normal(size=(60, 1))
    assert find_period(once, longest=150) == 100
    assert find_period(once, longest=150, clear=True) is None
