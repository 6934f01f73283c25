import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import ContributionDisplay
from flowdetect.plotting._style import COMMON_COLOUR, NEUTRAL_COLOUR, RARE_COLOUR


class Explainer:
    """Contributes -1, 0, +1, ... to the columns of every row, less 10 for the position in the first."""

    def explain(self, X: pd.DataFrame | np.ndarray) -> pd.DataFrame:
        frame = pd.DataFrame(X)
        nats = np.tile(np.arange(frame.shape[1]) - 1.0, (len(frame), 1))
        return pd.DataFrame(nats, index=frame.index, columns=frame.columns)


def labels(display: ContributionDisplay) -> list[str]:
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def lengths(display: ContributionDisplay) -> list[float]:
    return [bar.get_width() for bar in display.ax_.patches]


def texts(display: ContributionDisplay) -> list[str]:
    return [text.get_text() for text in display.ax_.texts]


def test_the_most_negative_column_is_at_the_top() -> None:
    contributions = pd.Series({"age": 0.5, "sex": -0.25, "TSH": -12.0})
    display = ContributionDisplay.from_predictions(contributions, name="title")
    assert labels(display) == ["TSH", "sex", "age"]
    assert lengths(display) == [-12.0, -0.25, 0.5]
    assert texts(display) == ["-12.0", "-0.2", "+0.5"]
    bottom, top = display.ax_.get_ylim()
    assert bottom > top  # the first bar is drawn highest
    assert [bar.get_facecolor() for bar in display.ax_.patches] == [
        plt.matplotlib.colors.to_rgba(colour) for colour in (RARE_COLOUR, RARE_COLOUR, COMMON_COLOUR)
    ]
    assert display.ax_.get_title(loc="left") == "title"
    assert display.figure_ is display.ax_.figure
    assert "sum -11.8 = score of the row less that of a typical row" in display.ax_.get_xlabel()


def test_entries_are_written_beside_the_names() -> None:
    values = [71.0, None, "F", np.float64(1 / 3), 12345, np.nan]
    display = ContributionDisplay.from_predictions(np.arange(6.0), values=values, names=list("abcdef"))
    assert labels(display) == ["a = 71", "b = missing", "c = F", "d = 0.333333", "e = 12345", "f = missing"]


def test_columns_without_names_are_counted() -> None:
    assert labels(ContributionDisplay.from_predictions([-1.0, 2.0])) == ["column 0", "column 1"]


def test_small_contributions_share_the_last_bar() -> None:
    contributions = [0.1, -5.0, 0.2, 3.0, 0.3]
    display = ContributionDisplay.from_predictions(contributions, names=list("abcde"), max_columns=2)
    assert labels(display) == ["b", "d", "3 other columns"]
    assert lengths(display) == pytest.approx([-5.0, 3.0, 0.6])
    assert display.ax_.patches[-1].get_facecolor() == plt.matplotlib.colors.to_rgba(NEUTRAL_COLOUR)
    display = ContributionDisplay.from_predictions(contributions, max_columns=4)
    assert labels(display)[-1] == "1 other column"


@pytest.mark.parametrize(
    ("contributions", "expected"),
    [
        ([0.0, 0.0], ["0", "0"]),
        ([-0.0123, 0.0004], ["-0.012", "0"]),
        ([-1234.56, -0.04], ["-1,234.6", "0"]),
        ([-1e6, 0.5], ["-1e+06", "+0.5"]),
    ],
)
def test_numbers_have_the_digits_that_the_largest_needs(
    contributions: list[float], expected: list[str]
) -> None:
    assert texts(ContributionDisplay.from_predictions(contributions)) == expected


def test_bars_without_length_have_an_axis() -> None:
    display = ContributionDisplay.from_predictions(np.zeros(3))
    assert display.ax_.get_xlim() == (-1.0, 1.0)


def test_axes_can_be_chosen_and_figures_grow_with_the_bars() -> None:
    _, ax = plt.subplots()
    assert ContributionDisplay([1.0]).plot(ax).ax_ is ax
    heights = [ContributionDisplay(np.ones(n)).plot().figure_.get_figheight() for n in (1, 8)]
    assert heights[0] < heights[1]


def test_long_names_and_entries_are_shortened_in_the_picture_only() -> None:
    name = "a_measurement_with_a_name_that_does_not_end_17"
    display = ContributionDisplay.from_predictions([1.0], names=[name], values=["text " * 20])
    (label,) = labels(display)
    assert len(label) < 50
    assert "end_17 = text" in label
    assert display.names == [name]


def test_from_estimator_explains_a_row_of_a_dataframe() -> None:
    X = pd.DataFrame({"n": [1, 2], "t": ["x", "y"], "f": [0.5, np.nan]}, index=["first", "second"])
    display = ContributionDisplay.from_estimator(Explainer(), X, 1)
    assert labels(display) == ["n = 2", "t = y", "f = missing"]
    assert display.name == "Explainer, row second"


def test_from_estimator_explains_a_row_of_an_array() -> None:
    display = ContributionDisplay.from_estimator(Explainer(), np.array([[1.5, 2.5]]), name="mine")
    assert labels(display) == ["column 0 = 1.5", "column 1 = 2.5"]
    assert display.name == "mine"


def test_rows_outside_the_table_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"row must be the position of one of the 3 rows of X"):
        ContributionDisplay.from_estimator(Explainer(), np.zeros((3, 2)), 3)


@pytest.mark.parametrize("max_columns", [0, 2.0, True])
def test_wrong_numbers_of_bars_are_refused(max_columns: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_columns must be a whole number of at least 1; got"):
        ContributionDisplay([1.0], max_columns=max_columns)


@pytest.mark.parametrize("wrong", [[], [[1.0, 2.0]], 3.0])
def test_contributions_of_a_wrong_shape_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidTableError, match=r"contributions must be one number a column; got an array"):
        ContributionDisplay(wrong)


def test_contributions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidTableError, match=r"contributions must be finite; 2 of 3 are not"):
        ContributionDisplay([0.0, np.nan, np.inf])


@pytest.mark.parametrize("what", ["values", "names"])
def test_entries_of_another_number_are_refused(what: str) -> None:
    with pytest.raises(InvalidTableError, match=rf"{what} must hold one entry for each of the 2 .*; got 1"):
        ContributionDisplay([0.0, 1.0], **{what: ["a"]})
