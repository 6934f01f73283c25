import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries import _channels
from flowdetect.timeseries._channels import Channels, carry_forward


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 300
    return pd.DataFrame(
        {
            "flow": np.where(np.arange(n) % 50 == 7, np.nan, 5.0 + 2.0 * rng.normal(size=n)),
            "mode": rng.choice(["on", "off"], n),
            "fixed": 3.0,
            "count": rng.integers(0, 3, n),
        }
    )


def test_channels_have_mean_0_and_deviation_1(table: pd.DataFrame) -> None:
    channels = Channels().learn(table)
    values = channels.transform(table)
    np.testing.assert_allclose(np.nanmean(values[:, :-1], axis=0), 0.0, atol=1e-12)
    flag = values[:, :-1][:, channels.columns == 0][:, 1]
    assert flag.max() - flag.min() == pytest.approx(2.0)
    others = np.delete(values[:, :-1], np.flatnonzero(channels.columns == 0)[1], axis=1)
    np.testing.assert_allclose(np.nanstd(others, axis=0), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(values[:, -1], 0.0)
    assert {channels.names[i] for i in channels.columns} == {"flow", "mode", "count"}


def test_numbers_are_only_shifted_and_scaled() -> None:
    X = np.random.default_rng(0).standard_cauchy(size=(500, 1))
    values = Channels().learn(X).transform(X)
    np.testing.assert_allclose(values[:, 0], (X[:, 0] - X.mean()) / X.std(), rtol=1e-10)


def test_chunks_do_not_matter(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Channels().learn(table).transform(table)
    monkeypatch.setattr(_channels, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(Channels().learn(table).transform(table), whole, rtol=1e-10, atol=1e-12)


def test_missing_numbers_are_holes_and_flags(table: pd.DataFrame) -> None:
    channels = Channels().learn(table)
    values = channels.transform(table)
    missing = table["flow"].isna().to_numpy()
    of_flow = values[:, :-1][:, channels.columns == 0]
    np.testing.assert_array_equal(np.isnan(of_flow[:, 0]), missing)
    assert (of_flow[missing, 1] > 1.0).all()
    assert (of_flow[~missing, 1] < 0.0).all()


def test_what_never_varied_has_the_last_channel(table: pd.DataFrame) -> None:
    channels = Channels().learn(table)
    other = table.head(4).assign(fixed=[3.0, 4.0, 3.0, 3.0], count=[1, 1, np.nan, 1])
    np.testing.assert_array_equal(channels.transform(other)[:, -1] > 0.0, [False, True, True, False])
    assert channels.strange(other.iloc[[1]]) == [2]
    assert channels.strange(other.iloc[[0]]) == []


def test_refuses_other_columns(table: pd.DataFrame) -> None:
    with pytest.raises(InvalidTableError, match="missing: 'mode'"):
        Channels().learn(table).transform(table.drop(columns="mode"))


def test_holes_take_the_last_value_before() -> None:
    nan = np.nan
    values = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 5.0]])
    np.testing.assert_array_equal(carry_forward(values), [[0, 1], [2, 1], [2, 1], [3, 5]])
    np.testing.assert_array_equal(carry_forward(values, np.array([9.0, 8.0]))[0], [9, 1])
