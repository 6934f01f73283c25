import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline

from flowdetect.exceptions import ConfigurationError
from flowdetect.timeseries import SlidingWindow
from flowdetect.timeseries._windows import average_over_windows, windows_of


def test_windows_of_are_neighbouring_rows() -> None:
    values = np.arange(12.0).reshape(6, 2)
    windows = windows_of(values, 3)
    assert windows.shape == (4, 2, 3)
    np.testing.assert_array_equal(windows[1, 0], values[1:4, 0])


@pytest.mark.parametrize(("n_windows", "window"), [(1, 1), (1, 5), (3, 7), (20, 4), (5, 1)])
def test_average_over_windows_is_the_mean_of_those_that_cover_a_row(n_windows: int, window: int) -> None:
    scores = np.random.default_rng(0).normal(size=n_windows)
    expected = [
        np.mean([scores[i] for i in range(n_windows) if i <= row < i + window])
        for row in range(n_windows + window - 1)
    ]
    np.testing.assert_allclose(average_over_windows(scores, window), expected, rtol=1e-12)


def test_a_huge_score_leaves_no_rounding_behind() -> None:
    scores = np.r_[1e15, np.full(50, 0.1)]
    np.testing.assert_allclose(average_over_windows(scores, 3)[10:], 0.1, rtol=1e-14)


def test_rows_hold_the_rows_before_them_oldest_first() -> None:
    X = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    expected = [[1, 10, 1, 10], [1, 10, 2, 20], [2, 20, 3, 30]]
    np.testing.assert_array_equal(SlidingWindow(2).fit_transform(X), expected)


def test_step_is_the_distance_of_the_rows() -> None:
    X = np.arange(6.0).reshape(-1, 1)
    np.testing.assert_array_equal(SlidingWindow(2, step=3).fit_transform(X)[4:], [[1, 4], [2, 5]])


def test_frames_keep_types_index_and_say_the_lag() -> None:
    frame = pd.DataFrame({"flow": [1, 2, 3], "mode": pd.Categorical(["a", "b", "a"])}, index=[5, 6, 7])
    windows = SlidingWindow(2).fit(frame)
    out = windows.transform(frame)
    assert list(out.columns) == ["flow[-1]", "mode[-1]", "flow", "mode"]
    assert list(windows.get_feature_names_out()) == list(out.columns)
    assert out.index.equals(frame.index)
    assert out.dtypes.tolist() == [frame.dtypes["flow"], frame.dtypes["mode"]] * 2
    assert out["mode[-1]"].tolist() == ["a", "a", "b"]


def test_set_output_gives_a_frame() -> None:
    out = SlidingWindow(2).set_output(transform="pandas").fit_transform(np.eye(3))
    assert list(out.columns) == ["x0[-1]", "x1[-1]", "x2[-1]", "x0", "x1", "x2"]


def test_any_detector_can_stand_behind_it() -> None:
    X = np.sin(np.arange(300) / 5.0).reshape(-1, 1)
    X[200:205] = 0.5
    pipeline = make_pipeline(SlidingWindow(10), IsolationForest(random_state=0)).fit(X)
    assert pipeline.score_samples(X).shape == (300,)


@pytest.mark.parametrize("parameters", [{"window": 0}, {"window": 2.5}, {"window": True}, {"step": 0}])
def test_refuses_what_is_no_number_of_rows(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="must be a whole number of at least 1"):
        SlidingWindow(**parameters).fit(np.eye(3))


def test_refuses_other_columns_and_no_rows() -> None:
    windows = SlidingWindow(2).fit(np.eye(3))
    with pytest.raises(ValueError, match="2 features"):
        windows.transform(np.eye(2))
    with pytest.raises(ValueError, match="minimum of 1"):
        SlidingWindow(2).fit(pd.DataFrame({"a": []}))
