import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.stats import binom

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import PValueCalibrationDisplay
from flowdetect.plotting._p_values import _binomial_band


class Detector:
    """The only column holds the p-values."""

    def p_values(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def curve(display: PValueCalibrationDisplay) -> tuple[list[float], list[float]]:
    line = display.ax_.lines[1]
    return list(line.get_xdata()), list(line.get_ydata())


def test_the_curve_is_the_share_of_rows_up_to_a_rate() -> None:
    display = PValueCalibrationDisplay.from_predictions([0.5, 0.25, 0.5, 1.0], scale="linear")
    assert curve(display) == ([0.0, 0.25, 0.5, 1.0, 1.0], [0.0, 0.25, 0.75, 1.0, 1.0])
    assert display.ax_.lines[1].get_drawstyle() == "steps-post"
    assert display.ax_.get_xlim() == display.ax_.get_ylim() == (0.0, 1.0)
    assert display.figure_ is display.ax_.figure


def test_log_axes_begin_at_half_a_row() -> None:
    display = PValueCalibrationDisplay.from_predictions([0.0, 0.25, 0.5, 1.0])
    assert display.ax_.get_xscale() == display.ax_.get_yscale() == "log"
    assert display.ax_.get_xlim() == display.ax_.get_ylim() == (0.125, 1.0)
    assert curve(display)[0][:2] == [0.125, 0.125]  # a p-value of 0 lies on the edge


@pytest.mark.parametrize("n_trials", [1, 7, 300, 20_000])
def test_the_band_is_binomial(n_trials: int) -> None:
    rates = np.array([0.0, 1e-5, 0.003, 0.2, 0.5, 0.97, 1.0])
    low, high = _binomial_band(rates, n_trials=n_trials)
    assert np.allclose(low * n_trials, binom.ppf(0.025, n_trials, rates).clip(min=0.0))
    assert np.allclose(high * n_trials, binom.ppf(0.975, n_trials, rates).clip(min=0.0))


def test_calibrated_p_values_stay_inside_the_band() -> None:
    rng = np.random.default_rng(0)
    low, high = _binomial_band(np.array([0.05]), n_trials=200)
    shares = np.mean(rng.uniform(size=(2000, 200)) <= 0.05, axis=1)
    assert np.mean((shares >= low) & (shares <= high)) >= 0.94


def test_the_legend_names_the_rows_and_the_band() -> None:
    display = PValueCalibrationDisplay.from_predictions([0.5], name="title")
    legend = display.ax_.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["95 % band at each rate", "calibrated", "p-values of 1 row"]
    assert legend.get_title().get_text() == "title"


def test_from_estimator_takes_p_values_and_name() -> None:
    display = PValueCalibrationDisplay.from_estimator(Detector(), np.array([[0.5], [0.1]]), scale="linear")
    assert np.array_equal(display.p_values, [0.5, 0.1])
    assert display.name == "Detector"


def test_axes_can_be_chosen() -> None:
    _, ax = plt.subplots()
    assert PValueCalibrationDisplay([0.5]).plot(ax).ax_ is ax


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(
        InvalidTableError, match=r"p_values must be numbers from 0 to 1; 1 of 3 are not, .* is"
    ):
        PValueCalibrationDisplay([0.0, bad, 1.0])


@pytest.mark.parametrize("wrong", [[], [[0.1, 0.2]], 0.3])
def test_p_values_of_a_wrong_shape_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidTableError, match="p_values must be one number a row; got an array of shape"):
        PValueCalibrationDisplay(wrong)


def test_unknown_scales_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="scale must be 'log' or 'linear'; got 'sqrt'"):
        PValueCalibrationDisplay.from_predictions([0.5], scale="sqrt")
