from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle, StepPatch

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import AugmentationDisplay
from flowdetect.plotting._marginals import Marginal, bar_shares, step_shares
from flowdetect.preprocessing import Storage
from flowdetect.quality import compare_columns


class Augmenter:
    """Returns rows it was fitted on, and remembers how it was called."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def sample(self, n_samples: int, y: Any = None, *, random_state: Any = None) -> Any:
        self.y = y
        chosen = np.random.default_rng(random_state).integers(len(self.rows), size=n_samples)
        return self.rows.iloc[chosen] if isinstance(self.rows, pd.DataFrame) else self.rows[chosen]


def mixed(n_rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": np.where(rng.random(n_rows) < 0.1, np.nan, rng.normal(size=n_rows)),
            "colour": rng.choice(["red", "blue", "green"], n_rows),
            "flag": rng.random(n_rows) < 0.5,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, n_rows), unit="D"),
            "span": pd.to_timedelta(rng.integers(0, 99, n_rows), unit="h"),
            "count": rng.integers(0, 40, n_rows),
            "level": rng.integers(0, 3, n_rows),
            "tail": rng.lognormal(0.0, 3.0, n_rows),
            "empty": np.nan,
        }
    )


def marginal(real: Any, drawn: Any, kind: str = "number", **settings: Any) -> Marginal:
    parts = [np.asarray(part, dtype=float) for part in (real, drawn)]
    storage = Storage("category", "label", **settings)
    return Marginal("column", kind, storage, ("a", "b", "c", *map(str, range(9))), *parts, 1.0)


def titles(display: AugmentationDisplay) -> list[str]:
    return [ax.get_title(loc="left") for ax in display.marginal_axes_]


# --- the picture -----------------------------------------------------------------------------------------


def test_the_columns_that_differ_most_are_shown_after_the_target() -> None:
    real, drawn = mixed(90, 0), mixed(80, 1)
    drawn["count"] += 30
    drawn["colour"] = "red"
    similarities = compare_columns(real, drawn)["similarity"]
    by_difference = similarities.sort_values(kind="stable").index.tolist()
    display = AugmentationDisplay.from_predictions(real, drawn)
    assert list(display.columns) == by_difference[:6]
    assert display.similarities.tolist() == similarities[by_difference[:6]].tolist()
    display = AugmentationDisplay.from_predictions(real, drawn, target="empty")
    assert list(display.columns) == ["empty", *by_difference[:5]]


def test_both_tables_are_in_one_plane_and_in_the_legend() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3)) * [5.0, 1.0, 1.0]
    drawn = real[:100] + [0.0, 9.0, 0.0]
    display = AugmentationDisplay.from_predictions(real, drawn, name="title")
    assert display.real_points.shape == (200, 2) and display.drawn_points.shape == (100, 2)
    assert np.allclose(display.real_points.mean(axis=0), 0.0)
    assert np.linalg.norm((display.drawn_points - display.real_points[:100]).mean(axis=0)) > 1.0
    assert (np.diff(display.explained) <= 0.0).all() and display.explained.sum() <= 1.0
    legend = display.projection_ax_.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["real (200 rows)", "drawn (100 rows)"]
    assert legend.get_title().get_text() == "title"
    assert len(display.projection_ax_.collections[0].get_offsets()) == 300


def test_the_first_direction_is_that_in_which_real_rows_vary_most() -> None:
    x = np.random.default_rng(0).normal(size=200)
    real = np.column_stack([x, x + 1e-3 * np.random.default_rng(1).normal(size=200)])
    display = AugmentationDisplay(real, real)
    assert abs(np.corrcoef(display.real_points[:, 0], x)[0, 1]) > 0.999
    assert display.explained[0] > 0.99


def test_points_of_big_tables_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowdetect.plotting._augmentation._MOST_POINTS", 30)
    display = AugmentationDisplay.from_predictions(mixed(90, 0), mixed(20, 1))
    assert display.real_points.shape == (30, 2) and display.drawn_points.shape == (20, 2)
    again = AugmentationDisplay(mixed(90, 0), mixed(20, 1))
    assert np.array_equal(display.real_points, again.real_points)


def test_points_far_out_are_counted_not_drawn() -> None:
    real = np.random.default_rng(0).normal(size=(100, 2))
    drawn = real.copy()
    drawn[0] = 1e6
    display = AugmentationDisplay.from_predictions(real, drawn)
    assert "(1 row outside the picture)" in display.projection_ax_.get_xlabel()
    assert np.ptp(display.projection_ax_.get_xlim()) < 100.0


def test_numbers_have_steps_categories_bars_and_missing_shares_are_told() -> None:
    real, drawn = mixed(50, 0), mixed(50, 1)
    real["size"] = np.where(np.arange(50) < 5, np.nan, 0.5 + np.arange(50.0))
    drawn["size"] = real["size"].shift(1)
    chosen = ["size", "colour", "when", "level", "tail", "empty"]
    display = AugmentationDisplay.from_predictions(real, drawn, columns=chosen)
    kinds = [{type(patch) for patch in ax.patches} for ax in display.marginal_axes_]
    assert kinds == [{StepPatch}, {Rectangle}, {StepPatch}, {Rectangle}, {StepPatch}, {Rectangle}]
    assert titles(display)[0].endswith("\nmissing: 10 % of real, 12 % of drawn")
    assert titles(display)[5] == "empty: 1.00"
    assert [ax.get_xscale() for ax in display.marginal_axes_].count("log") == 1
    assert display.marginal_axes_[4].get_xscale() == "log"
    assert [label.get_text() for label in display.marginal_axes_[3].get_yticklabels()] == ["0", "1", "2"]


def test_dates_are_where_they_belong() -> None:
    real = pd.DataFrame({"when": pd.date_range("2024-03-01", periods=99), "x": np.arange(99.0)})
    display = AugmentationDisplay.from_predictions(real, real.iloc[::2], columns=["when"])
    low, high = display.marginal_axes_[0].dataLim.intervalx
    assert np.timedelta64(int(low), "D") + np.datetime64("1970-01-01") == np.datetime64("2024-03-01")
    assert high - low == pytest.approx(98.0)


def test_spans_are_in_days() -> None:
    real = pd.DataFrame({"span": pd.to_timedelta(np.arange(24, 24 * 11), unit="h")})
    ax = AugmentationDisplay.from_predictions(real, real).marginal_axes_[0]
    assert ax.dataLim.intervalx.tolist() == pytest.approx([1.0, 263.0 / 24.0])
    assert ax.get_xlabel() == "days"


@pytest.mark.parametrize("n_columns", [1, 2, 3, 5, 6])
def test_each_column_has_axes(n_columns: int) -> None:
    chosen = mixed(2, 0).columns[:n_columns].tolist()
    display = AugmentationDisplay.from_predictions(mixed(30, 0), mixed(30, 1), columns=chosen)
    assert list(display.columns) == chosen
    assert len(display.figure_.axes) == 1 + n_columns
    assert [title.split(":")[0] for title in titles(display)] == chosen


def test_no_text_is_cut_off_or_covers_another() -> None:
    real, drawn = mixed(50, 0), mixed(50, 1)
    long = "a very long name of a column that never ends"
    real[long], drawn[long] = real["size"] + 10.0, drawn["size"]
    real["town"], drawn["town"] = (
        f.index.map(lambda k: f"a town of a long name {k % 9}") for f in (real, drawn)
    )
    display = AugmentationDisplay.from_predictions(
        real, drawn, columns=[long, "town", "when", "size", "tail", "flag"]
    )
    display.figure_.canvas.draw()
    renderer = display.figure_.canvas.get_renderer()
    whole = display.figure_.bbox
    boxes = [ax.get_tightbbox(renderer) for ax in [display.projection_ax_, *display.marginal_axes_]]
    for k, box in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_a_figure_can_be_chosen() -> None:
    figure = plt.figure(layout="constrained")
    display = AugmentationDisplay(mixed(20, 0), mixed(20, 1))
    assert display.plot(figure).figure_ is figure
    part = plt.figure().subfigures(2, 1)[1]
    assert display.plot(part).projection_ax_.get_figure() is not None
    assert display.figure_ is part


@pytest.mark.parametrize("real", [np.zeros((5, 1)), np.zeros((2, 3)), np.full((4, 2), np.nan)])
def test_tables_that_do_not_vary_are_drawn(real: np.ndarray) -> None:
    display = AugmentationDisplay.from_predictions(real, real)
    assert np.isnan(display.explained).all()
    assert "variance" not in display.projection_ax_.get_xlabel()


# --- shares ----------------------------------------------------------------------------------------------


def test_bars_are_shares_of_all_rows() -> None:
    labels, shares = bar_shares(marginal([0, 0, 1, np.nan], [2, 1], "category"))
    assert labels == ["a", "b", "c", "missing"]
    assert shares.tolist() == [[0.5, 0.0], [0.25, 0.5], [0.0, 0.5], [0.25, 0.0]]


def test_rare_categories_share_a_bar() -> None:
    labels, shares = bar_shares(marginal([0] * 5 + list(range(10)), range(10), "category"))
    assert len(labels) == 7 and labels[0] == "a" and labels[-1] == "other"
    assert shares.sum(axis=0).tolist() == pytest.approx([1.0, 1.0])


def test_ordered_categories_keep_their_order() -> None:
    ordered = {"ordered": True, "declared": ("c", "a", "b")}
    assert bar_shares(marginal([0, 0, 1, 2], [1], "category", **ordered))[0] == ["c", "a", "b"]


def test_numbers_that_real_rows_never_hold_are_other() -> None:
    labels, shares = bar_shares(marginal([3, 1, 1, 3], [1, 2, 2.5, 3]))
    assert labels == ["1", "3", "other"]
    assert shares[:, 1].tolist() == [0.25, 0.25, 0.5]


def test_steps_are_shares_of_present_entries_and_hold_all() -> None:
    rng = np.random.default_rng(0)
    real, drawn = np.append(rng.normal(size=99), np.nan), np.append(rng.normal(size=49), 1e9)
    edges, shares = step_shares(marginal(real, drawn))
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    assert edges[-1] < 100.0 and shares[1, -1] >= 0.02
    edges, shares = step_shares(marginal(np.arange(100), np.arange(50)))
    assert np.array_equal(np.unique(np.diff(edges)), [5.0]) and edges[0] == -0.5
    assert shares[0, 0] == 0.05 and shares[1, 0] == 0.1
    edges, shares = step_shares(marginal([7.5, 7.5], [np.nan]))
    assert edges[0] < 7.5 < edges[-1] and shares[1].sum() == 0.0


# --- from an augmenter -----------------------------------------------------------------------------------


def test_rows_are_drawn_with_the_augmenter() -> None:
    X = mixed(40, 0)
    display = AugmentationDisplay.from_estimator(Augmenter(X), X, random_state=0)
    assert display.n_rows == (40, 40) and display.name == "Augmenter"
    again = AugmentationDisplay.from_estimator(Augmenter(X), X, random_state=0)
    assert np.array_equal(display.drawn_points, again.drawn_points)
    other = AugmentationDisplay.from_estimator(Augmenter(X), X, n_samples=90, random_state=1, name="other")
    assert other.n_rows == (40, 90) and other.name == "other"


@pytest.mark.parametrize("as_array", [False, True])
def test_labels_are_given_to_the_augmenter_and_shown_first(as_array: bool) -> None:
    frame = mixed(40, 0)[["size", "count", "level"]]
    X = frame.to_numpy() if as_array else frame.set_axis(np.arange(40) + 7)
    y = np.repeat(["cat", "dog"], [30, 10])
    augmenter = Augmenter(X)
    display = AugmentationDisplay.from_estimator(augmenter, X, y, random_state=0)
    assert augmenter.y.tolist() == y.tolist()
    assert display.columns[0] == "target" and display.similarities[0] == 1.0
    named = pd.Series(y, name="animal")
    display = AugmentationDisplay.from_estimator(augmenter, X, named, n_samples=200, random_state=0)
    assert len(augmenter.y) == 200 and set(augmenter.y) == {"cat", "dog"}
    assert display.columns[0] == "animal" and display.similarities[0] > 0.85


def test_labels_that_are_not_one_a_row_are_refused() -> None:
    X = mixed(40, 0)
    with pytest.raises(InvalidTableError, match="y must hold one label for each of the 40 rows; got 3"):
        AugmentationDisplay.from_estimator(Augmenter(X), X, [1, 2, 3])


@pytest.mark.parametrize("columns", [[], ["size", "size"], list("abcdefg")])
def test_a_wrong_number_of_columns_is_refused(columns: list[str]) -> None:
    with pytest.raises(
        ConfigurationError, match="columns must be one to 6 different columns of the tables; got"
    ):
        AugmentationDisplay(mixed(5, 0), mixed(5, 1), columns=columns)


@pytest.mark.parametrize("setting", [{"columns": ["weight"]}, {"columns": "weight"}, {"target": "weight"}])
def test_unknown_columns_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match="must be a column of the table; got 'weight', but it has 'size'"
    ):
        AugmentationDisplay(mixed(5, 0), mixed(5, 1), **setting)


def test_tables_of_one_row_are_refused() -> None:
    with pytest.raises(InvalidTableError, match=r"drawn must have at least 2 row\(s\)"):
        AugmentationDisplay(mixed(5, 0), mixed(1, 1))
