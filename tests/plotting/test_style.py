import numpy as np
import pytest
from matplotlib import pyplot as plt

from flowdetect.exceptions import ConfigurationError
from flowdetect.plotting._style import check_row, column_text, drawn_range, put_legend_above, shortened


def test_the_drawn_range_leaves_extremes_out() -> None:
    values = np.append(np.linspace(0.0, 1.0, 200), [-1e6, 1e6])
    low, high = drawn_range(values)
    assert (low, high) == (0.0, 1.0)


def test_shortened_names_keep_both_ends_on_one_line() -> None:
    assert shortened("short", 8) == "short"
    assert shortened("two\nlines", 20) == "two lines"
    long = shortened("laboratory_value_17", 11)
    assert long == "labor…ue_17"
    assert shortened("$x$", 8) == r"\$x\$"  # else matplotlib would set it as a formula


def test_columns_of_arrays_are_named_by_their_position() -> None:
    assert column_text(np.int64(3)) == "column 3"
    assert column_text("3") == "3"


@pytest.mark.parametrize("row", [0, 4, np.int64(4)])
def test_rows_of_the_table_are_found(row: int) -> None:
    assert check_row(row, n_rows=5) == row


@pytest.mark.parametrize("row", [-1, 5, 1.0, "a", True])
def test_rows_that_the_table_has_not_are_refused(row: object) -> None:
    with pytest.raises(
        ConfigurationError, match=r"row must be the position of one of the 5 rows of X, .*; got"
    ):
        check_row(row, n_rows=5)


@pytest.mark.parametrize(("width", "n_columns"), [(8.0, 3), (3.0, 1)])
def test_the_legend_of_narrow_axes_is_put_below_each_other(width: float, n_columns: int) -> None:
    _, ax = plt.subplots(figsize=(width, 3.0))
    for name in ("the first of the names", "the second of the names"):
        ax.plot([0.0, 1.0], label=name)
    put_legend_above(ax, "title")
    legend = ax.get_legend()
    assert legend is not None
    assert legend._ncols == n_columns
