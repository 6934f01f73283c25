from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from flowdetect.exceptions import InvalidTableError
from flowdetect.jobs import ColumnDrift, DriftReport, ScoreDrift
from flowdetect.plotting import DriftDisplay
from flowdetect.plotting._style import COMMON_COLOUR, RARE_COLOUR


def score(drift: bool = False) -> ScoreDrift:
    return ScoreDrift(0.2, drift, 0.1, 0.15, 500, (0.1, 0.5), (0.15, 0.5), (1.5, 0.0), 3.0)


def column(name: str, p_value: float, **changes: Any) -> ColumnDrift:
    fields = {"what": "< 3", "expected": 0.5, "share": 0.25, "p_value": p_value, "p_adjusted": p_value}
    return ColumnDrift(name, **fields | {"drift": p_value < 0.005} | changes)


def report(*columns: ColumnDrift, **changes: Any) -> DriftReport:
    fields = {"n_rows": 300, "verdict": "drift", "p_value": 1e-6, "alpha": 0.01, "min_rows": 50}
    return DriftReport(**fields | {"score": score(), "columns": columns} | changes)


def test_the_curve_is_drawn_with_its_band() -> None:
    display = DriftDisplay.from_report(report(column("age", 1e-6)), name="night 4")
    ax = display.axes_[0]
    assert ax.lines[1].get_xdata().tolist() == [0.1, 0.5]
    assert ax.lines[1].get_ydata().tolist() == [1.5, 0.0]
    assert ax.lines[1].get_color() == COMMON_COLOUR
    assert ax.patches[0].get_bbox().bounds[1::2] == (-3.0, 6.0)
    assert display.figure_.get_suptitle() == "night 4: drift in 300 rows (alpha 0.01)"


def test_columns_stand_in_their_order_and_drifted_ones_stand_out() -> None:
    shown = report(column("age", 1e-6), column("sex", 0.5, what="= 'F'", expected=None))
    ax = DriftDisplay.from_report(shown).axes_[1]
    bars = ax.patches
    assert [bar.get_width() for bar in bars] == pytest.approx([6.0, -np.log10(0.5)])
    assert bars[0].get_y() > bars[1].get_y()
    assert [plt.matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in bars] == [
        RARE_COLOUR,
        COMMON_COLOUR,
    ]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["age < 3", "sex = 'F'"]
    assert [text.get_text() for text in ax.texts] == ["50 % → 25 %", ""]
    assert ax.lines[0].get_xdata()[0] == pytest.approx(-np.log10(0.005))


def test_many_columns_are_cut_and_tiny_p_values_too() -> None:
    columns = [column(f"c{k}", 0.0 if k == 0 else 0.5) for k in range(20)]
    ax = DriftDisplay.from_report(report(*columns)).axes_[1]
    assert len(ax.patches) == 12
    assert ax.patches[0].get_width() == pytest.approx(16.0)
    assert "and 8 more columns" in ax.get_xlabel()


def test_a_report_may_have_one_half_only() -> None:
    scores_only = DriftDisplay.from_report(report(score=score(drift=True)))
    assert len(scores_only.axes_) == 1
    assert scores_only.axes_[0].lines[1].get_color() == RARE_COLOUR
    columns_only = DriftDisplay.from_report(report(column("a", 0.2), score=None))
    assert columns_only.axes_[0].lines[0].get_xdata()[0] == pytest.approx(2.0)


def test_given_axes_are_drawn_on() -> None:
    figure, axes = plt.subplots(1, 2)
    display = DriftDisplay(report(column("a", 0.2))).plot(axes)
    assert display.figure_ is figure
    with pytest.raises(InvalidTableError, match="axes must be 2; got 1"):
        DriftDisplay(report(column("a", 0.2))).plot(axes[:1])


def test_too_few_rows_are_not_drawn() -> None:
    empty = report(score=None, verdict="too few rows", p_value=None, n_rows=12)
    with pytest.raises(InvalidTableError, match="12 rows; a verdict takes 50"):
        DriftDisplay.from_report(empty)


def test_names_with_formulas_are_text() -> None:
    ax = DriftDisplay.from_report(report(column("$x$", 0.2))).axes_[1]
    assert ax.get_yticklabels()[0].get_text() == r"\$x\$ < 3"
    assert isinstance(report(column("a", 0.2)).table, pd.DataFrame)
