import numpy as np
import pandas as pd

from flowdetect.inference._trend import LinearTrend


def rows(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) * [1.0, 1e6]
    table = np.column_stack([5.0 + 2.0 * x[:, 0] - 3e-6 * x[:, 1], rng.normal(size=n)])
    return table, x


def test_a_linear_relation_is_taken_off_and_put_back() -> None:
    table, x = rows()
    trend = LinearTrend.learn(table, x)
    rest = trend.take_off(table, x)
    assert np.abs(rest[:, 0]).max() < 0.01
    np.testing.assert_allclose(trend.put_back(rest, x), table, atol=1e-12)


def test_what_says_nothing_gets_almost_no_weight() -> None:
    table, x = rows()
    trend = LinearTrend.learn(table, x)
    assert np.abs(trend.take_off(table, x)[:, 1] - table[:, 1]).max() < 0.6


def test_columns_that_are_not_regular_are_left_alone() -> None:
    table, x = rows()
    counts, tails = np.arange(400) % 50, np.tan(np.linspace(-1.57, 1.57, 400))
    frame = pd.DataFrame({"count": counts, "tail": tails, "text": "a", "line": table[:, 0]})
    trend = LinearTrend.learn(frame, pd.DataFrame(x))
    assert trend.columns.tolist() == [3]
    rest = trend.take_off(frame, pd.DataFrame(x))
    pd.testing.assert_frame_equal(rest[["count", "tail", "text"]], frame[["count", "tail", "text"]])
    assert frame["line"].iloc[0] == table[0, 0]


def test_rows_without_weight_do_not_count() -> None:
    table, x = rows()
    wrong = table.copy()
    wrong[:100] += 1e3
    weights = np.repeat([0.0, 1.0], [100, 300])
    trend = LinearTrend.learn(wrong, x, weights)
    assert np.abs(trend.take_off(table, x)[:, 0]).max() < 0.02
