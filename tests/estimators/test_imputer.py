"""`FlowImputer`: draws with the right distribution, entries kept, every kind of column."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import flowdetect
from flowdetect import FlowImputer
from flowdetect.estimators._entries import Entries
from flowdetect.estimators._filling import fill_column, summarise
from flowdetect.estimators._limits import ColumnLimits
from flowdetect.estimators._normal import fit_normal
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError
from flowdetect.preprocessing import TableEncoder

QUICK: dict[str, Any] = {
    **{"max_steps": 3, "n_layers": 2, "hidden_features": 8, "n_bins": 4, "n_draws": 16},
    "random_state": 0,
}


def gaussian_table(n_rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, 3)) @ np.array([[1.0, 0.8, 0.3], [0.0, 0.6, 0.5], [0.0, 0.0, 0.4]])


def mixed_table(n_rows: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n_rows)
    table = pd.DataFrame(
        {
            "number": x,
            "whole": pd.array(np.rint(10 * x), dtype="Int64"),
            "kind": pd.Categorical(np.where(x > 0, "high", "low"), categories=["low", "high", "never"]),
            "flag": pd.array(x > 0.5, dtype="boolean"),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.rint(20 * x), unit="D"),
            "text": np.where(x > 0, "yes", "no"),
            "spike": np.where(x < 0, 0.0, x),
            "few": rng.integers(1, 4, n_rows).astype(float),
        },
        index=np.arange(n_rows) + 1000,
    )
    return table.mask(rng.random(table.shape) < 0.25)


@pytest.fixture(scope="module")
def mixed() -> tuple[FlowImputer, pd.DataFrame]:
    table = mixed_table()
    return FlowImputer(**QUICK).fit(table), table


# --- numbers against the truth ---------------------------------------------------------------------------


def test_normal_distribution_of_incomplete_rows_is_that_of_the_complete_ones() -> None:
    X = gaussian_table(20_000, seed=1)
    known = np.random.default_rng(2).random(X.shape) > 0.3
    mean, covariance = fit_normal(np.where(known, X, np.nan), known)
    assert np.abs(mean - X.mean(axis=0)).max() < 0.03
    assert np.abs(covariance - np.cov(X, rowvar=False)).max() < 0.04


def test_normal_distribution_counts_rows_by_weight() -> None:
    X = gaussian_table(50, seed=1)
    weights = np.arange(50) % 3.0
    known = np.ones(X.shape, dtype=bool)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    for found, expected in zip(
        fit_normal(X, known, weights), fit_normal(repeated, np.ones(repeated.shape, dtype=bool)), strict=True
    ):
        assert np.allclose(found, expected)


def test_many_coordinates_are_taken_for_independent() -> None:
    X = np.random.default_rng(0).normal(size=(200, 81))
    covariance = fit_normal(X, np.ones(X.shape, dtype=bool))[1]
    assert np.count_nonzero(covariance) == 81


def test_normal_rows_get_their_exact_conditional_distribution() -> None:
    """On normal rows nothing is left to learn, and mean and variance are known."""
    X = gaussian_table(4000, seed=3)
    imputer = FlowImputer(**{**QUICK, "n_draws": 64, "learning_rate": 1e-6}).fit(X)
    covariance = np.cov(X, rowvar=False)
    row = np.array([[1.0, np.nan, -0.5]])
    weights = np.linalg.solve(covariance[np.ix_([0, 2], [0, 2])], covariance[[0, 2], 1])
    expected = X[:, 1].mean() + (row[0, [0, 2]] - X[:, [0, 2]].mean(axis=0)) @ weights
    variance = covariance[1, 1] - covariance[1, [0, 2]] @ weights
    assert imputer.transform(row)[0, 1] == pytest.approx(expected, abs=0.02)
    draws = np.array([table[0, 1] for table in imputer.sample(row, 2000, random_state=0)])
    assert draws.mean() == pytest.approx(expected, abs=0.05)
    assert draws.var() == pytest.approx(variance, rel=0.15)


def test_entries_of_a_row_are_drawn_jointly() -> None:
    X = gaussian_table(4000, seed=3)
    imputer = FlowImputer(**{**QUICK, "learning_rate": 1e-6}).fit(X)
    draws = np.array([t[0] for t in imputer.sample(np.array([[0.2, np.nan, np.nan]]), 2000, random_state=0)])
    covariance = np.cov(X, rowvar=False)
    rest = covariance[1:, 1:] - np.outer(covariance[1:, 0], covariance[0, 1:]) / covariance[0, 0]
    assert np.allclose(np.cov(draws[:, 1:], rowvar=False), rest, rtol=0.15, atol=0.01)


def test_learns_what_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=600)
    X = np.column_stack([x, x**2 + 0.1 * rng.normal(size=600)])
    imputer = FlowImputer(
        max_steps=600, n_layers=2, hidden_features=32, learning_rate=1e-2, random_state=0
    ).fit(X)
    asked = np.array([[-1.5, np.nan], [0.0, np.nan], [1.5, np.nan]])
    # The best straight line says 1.33 everywhere.
    assert np.abs(imputer.transform(asked)[:, 1] - [2.25, 0.0, 2.25]).max() < 0.5


def test_median_of_a_column_of_few_numbers_is_one_of_them() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=100), rng.integers(1, 4, 100)])
    asked = np.array([[0.0, np.nan]])
    mean, median = (
        FlowImputer(strategy=strategy, **QUICK).fit(X).transform(asked)[0, 1]
        for strategy in ("mean", "median")
    )
    assert 1.0 < mean < 3.0
    assert median in (1.0, 2.0, 3.0)


# --- tables ----------------------------------------------------------------------------------------------


def test_every_kind_of_column_keeps_its_dtype(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    imputer, table = mixed
    for filled in [imputer.transform(table), *imputer.sample(table, 2, random_state=0)]:
        assert filled.dtypes.to_dict() == table.dtypes.to_dict()
        assert filled.index.equals(table.index)
        assert not filled.isna().any().any()
        assert set(filled["few"].unique()) >= {1.0, 2.0, 3.0}
        assert set(filled["kind"]) == {"low", "high"}
        assert (filled["day"] == filled["day"].dt.normalize()).all()
        for name in table:
            there = table[name].notna()
            assert (filled[name][there] == table[name][there]).all()


def test_draws_of_categories_follow_what_is_given(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    asked = pd.DataFrame({name: [None, None] for name in mixed[1]}).astype(mixed[1].dtypes.to_dict())
    draws = pd.concat(mixed[0].sample(asked, 200, random_state=0))
    assert set(draws["kind"]) == {"low", "high"}
    share = (mixed[1]["kind"] == "high").sum() / mixed[1]["kind"].notna().sum()
    assert (draws["kind"] == "high").mean() == pytest.approx(share, abs=0.15)


def test_columns_may_be_missing_that_never_were(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    complete = mixed[0].transform(mixed[1])
    imputer = FlowImputer(**QUICK).fit(complete)
    assert not imputer.transform(mixed[1]).isna().any().any()
    for name in complete:
        one = complete.copy()
        one[name] = None
        assert not imputer.transform(one).isna().any().any()


def test_complete_rows_come_back_as_they_are(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    complete = mixed[0].transform(mixed[1])
    assert mixed[0].transform(complete).equals(complete)
    assert mixed[0].sample(complete, 3)[2].equals(complete)


def test_a_row_does_not_depend_on_the_others(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    imputer, table = mixed
    together = imputer.transform(table)["number"]
    alone = pd.concat([imputer.transform(table.iloc[[k]])["number"] for k in range(6)])
    assert np.allclose(alone, together.iloc[:6], rtol=1e-9)


def test_whole_rows_do_not_depend_on_the_others() -> None:
    k = np.arange(80)
    days = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(2 * k, unit="D"))
    table = pd.DataFrame(
        {"day": days, "count": pd.array(k % 5, dtype="Int64"), "word": np.where(k % 3, "a", "b")}
    )
    holes = table.mask(np.random.default_rng(0).random(table.shape) < 0.3)
    imputer = FlowImputer(**QUICK).fit(holes)
    together = imputer.transform(holes)
    alone = pd.concat([imputer.transform(holes.iloc[[row]]) for row in range(40)])
    pd.testing.assert_frame_equal(alone, together.iloc[:40])
    assert ((together["day"] - days[0]).dt.days % 2 == 0).all()


@pytest.mark.parametrize("keep", [False, True])
def test_columns_that_are_always_missing(keep: bool) -> None:
    table = pd.DataFrame({"a": [1.5, 2.5, np.nan, 0.25], "b": np.nan, "c": [1.0, np.nan, 0.5, 2.25]})
    imputer = FlowImputer(keep_empty_features=keep, **QUICK).fit(table)
    names = ["a", "b", "c"] if keep else ["a", "c"]
    assert imputer.get_feature_names_out().tolist() == names
    filled = imputer.transform(table)
    assert filled.columns.tolist() == names
    assert not filled[["a", "c"]].isna().any().any()
    if keep:
        assert filled["b"].isna().all()
    assert imputer.fit(table.to_numpy()).transform(table.to_numpy()).shape == (4, len(names))


def test_a_copy_of_a_column_says_what_the_column_is() -> None:
    x = np.random.default_rng(0).normal(size=50)
    imputer = FlowImputer(**QUICK).fit(pd.DataFrame({"x": x, "again": x, "other": -x + 0.5}))
    asked = pd.DataFrame(
        {"x": [np.nan, 0.7, np.nan], "again": [0.3, np.nan, np.nan], "other": [0.1, 0.2, 0.4]}
    )
    filled = imputer.transform(asked)
    assert filled["x"][0] == pytest.approx(0.3)
    assert filled["again"][1] == pytest.approx(0.7)
    assert filled["x"][2] == filled["again"][2]


def test_columns_in_another_order_come_back_in_the_order_of_fit(
    mixed: tuple[FlowImputer, pd.DataFrame],
) -> None:
    imputer, table = mixed
    assert imputer.transform(table.iloc[:, ::-1]).equals(imputer.transform(table))


def test_arrays_keep_their_dtype_and_set_output_gives_frames() -> None:
    X = gaussian_table(40, seed=0).astype(np.float32)
    X[::3, 1] = np.nan
    imputer = FlowImputer(**QUICK).fit(X)
    assert imputer.transform(X).dtype == np.float32
    assert imputer.sample(X, 1)[0].dtype == np.float32
    framed = imputer.set_output(transform="pandas").transform(X)
    assert framed.columns.tolist() == ["x0", "x1", "x2"]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1.5, 2.5]}),
        pd.DataFrame({"a": ["x", None, "y"], "b": [None, "u", "u"]}),
        pd.DataFrame({"a": [1.0, 1.0, 1.0], "b": [0.1, np.nan, 0.3]}),
        pd.DataFrame({"a": [1e300, -1e300, np.nan, 1.0], "b": [1e-300, 0.0, 1.0, np.nan]}),
        pd.DataFrame({"a": [np.nan, 1.5, np.nan], "b": [np.nan, np.nan, 0.5]}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0.0, np.nan, 1.5, 2.5])}),
        pd.DataFrame({"a": np.array([2.5, None, 1.5], dtype=object)}),
    ],
    ids=["two rows", "texts", "constant", "huge", "rows without entries", "sparse", "objects"],
)
def test_odd_tables(table: pd.DataFrame) -> None:
    imputer = FlowImputer(**QUICK).fit(table)
    for filled in [imputer.transform(table), *imputer.sample(table, 2, random_state=0)]:
        assert not filled.isna().any().any()
        assert filled.dtypes.to_dict() == table.dtypes.to_dict()


def test_random_state_decides_the_draws(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    imputer, table = mixed
    first, again, other = (imputer.sample(table, 1, random_state=seed)[0] for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_rows_of_weight_zero_are_as_good_as_absent() -> None:
    X = gaussian_table(60, seed=0)
    weights = np.r_[np.ones(40), np.zeros(20)]
    weighted = FlowImputer(**QUICK).fit(np.vstack([X[:40], X[40:] + 100.0]), sample_weight=weights)
    plain = FlowImputer(**QUICK).fit(X[:40], sample_weight=np.ones(40))
    asked = np.array([[0.1, np.nan, np.nan]])
    assert np.allclose(weighted.transform(asked), plain.transform(asked))


# --- parts -----------------------------------------------------------------------------------------------


def test_entries_split_and_join(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    encoder = TableEncoder(missing="always").fit(mixed[1])
    entries = Entries.of(encoder)
    complete = mixed[0].transform(mixed[1])
    matrix = encoder.encode(complete)[0]
    rows, known = entries.split(matrix)
    assert known.all()
    assert np.array_equal(entries.join(rows), matrix)
    assert np.array_equal(entries.split(encoder.encode(mixed[1])[0])[1], mixed[1].notna().to_numpy())


def test_summaries() -> None:
    assert summarise(pd.Series([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 2, "mean").tolist() == [3.0, 1.0]
    assert summarise(pd.Series([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 2, "median").tolist() == [2.0, 0.0]
    assert summarise(pd.Series(["a", "b", "b"]), 1, "mean").tolist() == ["b"]
    days = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-06"]))
    assert summarise(days, 1, "mean").tolist() == [pd.Timestamp("2024-01-03")]
    zoned = days.dt.tz_localize("Europe/Paris")
    assert summarise(zoned, 1, "median").dtype == zoned.dtype
    two = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-01", "2024-01-04"]))
    by_day = summarise(two, 2, "mean", pd.Timedelta(1, unit="D"))
    assert by_day.tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-03")]  # 1.5 rounds to even


def test_equally_frequent_entries_do_not_depend_on_other_rows() -> None:
    rows = [["a", "b", "b", "a"], ["b", "b", "a", "a"], [None, "b", None, "b"]]
    together = summarise(pd.Series(sum(rows, [])), 3, "mean").tolist()
    assert together == [summarise(pd.Series(row), 1, "mean").item() for row in rows] == ["a", "b", "b"]


def test_whole_numbers_stay_whole_where_all_are_missing() -> None:
    column = pd.Series([pd.NA, pd.NA], dtype="Int64")
    filled = fill_column(column, np.array([True, True]), pd.Series([0.6, 2.25]))
    assert filled.dtype == "Int64"
    assert filled.tolist() == [1, 2]


def test_a_category_that_a_column_does_not_know_is_added() -> None:
    column = pd.Series(pd.Categorical(["a", None]))
    filled = fill_column(column, np.array([False, True]), pd.Series(pd.Categorical(["b"])))
    assert filled.tolist() == ["a", "b"]


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategy": "mode"}, "strategy must be one of"),
        ({"n_draws": 0}, "n_draws must be a whole number of at least 1"),
    ],
)
def test_refuses_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FlowImputer(**parameters).fit(gaussian_table(20, seed=0))


def test_refuses_a_table_without_entries() -> None:
    with pytest.raises(InvalidTableError, match="must have a column with entries that are not missing"):
        FlowImputer(**QUICK).fit(np.full((4, 2), np.nan))


def test_refuses_what_cannot_be_used(mixed: tuple[FlowImputer, pd.DataFrame]) -> None:
    with pytest.raises(ConfigurationError, match="n_draws must be a whole number"):
        mixed[0].sample(mixed[1], 0)
    with pytest.raises(InvalidTableError, match="must have the columns seen in training"):
        mixed[0].transform(mixed[1].drop(columns="kind"))
    with pytest.raises(InvalidTableError, match="finite or missing"):
        mixed[0].transform(mixed[1].assign(number=np.inf))
    with pytest.raises(NotFittedError):
        FlowImputer().transform(mixed[1])


# --- files -----------------------------------------------------------------------------------------------


def test_files_give_the_same_imputer(mixed: tuple[FlowImputer, pd.DataFrame], tmp_path: Path) -> None:
    imputer, table = mixed
    flowdetect.save(imputer, tmp_path / "imputer.fd")
    again = flowdetect.load(tmp_path / "imputer.fd")
    assert again.transform(table).equals(imputer.transform(table))
    assert again.sample(table, 1, random_state=0)[0].equals(imputer.sample(table, 1, random_state=0)[0])


@pytest.mark.parametrize(
    ("bounds", "ends"),
    [
        ("observed", (-np.sin(1.0), np.sin(1.0))),
        ({1: (-0.5, None)}, (-0.5, np.inf)),
        (None, (-np.inf, np.inf)),
    ],
)
def test_filled_numbers_stay_within_the_bounds(bounds: Any, ends: tuple[float, float]) -> None:
    x = np.linspace(-1.0, 1.0, 201)
    odd = np.array([[50.0, np.nan], [-50.0, np.nan]])
    imputer = FlowImputer(bounds=bounds, **QUICK).fit(np.column_stack([x, np.sin(x)]))
    for filled in (imputer.transform(odd), *imputer.sample(odd, 3, random_state=0)):
        np.testing.assert_array_equal(filled[:, 0], odd[:, 0])
        beyond = np.clip([30.0, -30.0], *ends)
        assert filled[0, 1] == pytest.approx(beyond[0], abs=0.02) or filled[0, 1] > beyond[0] >= 30.0
        assert filled[1, 1] == pytest.approx(beyond[1], abs=0.02) or filled[1, 1] < beyond[1] <= -30.0


def test_observed_bounds_are_exact() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=60), rng.beta(0.3, 0.3, size=60)])
    X[0, 1] = 0.9999999999
    odd = np.array([[99.0, np.nan], [-99.0, np.nan], [0.0, np.nan]] * 40)
    filled = FlowImputer(**QUICK).fit(X).sample(odd, 1, random_state=0)[0]
    assert X[:, 1].min() <= filled[:, 1].min()
    assert filled[:, 1].max() <= X[:, 1].max()


def test_declared_bounds_are_kept_by_columns_of_all_kinds() -> None:
    k = np.arange(120)
    frame = pd.DataFrame(
        {
            "whole": k * 2,
            "few": k % 6,
            "same": k % 6,
            "spike": np.where(k % 2, -999.0, np.sin(k)),
            "day": pd.date_range("2024-01-01", periods=120),
            "zoned": pd.date_range("2024-01-01", periods=120, tz="Europe/Berlin"),
            "span": pd.to_timedelta(k, unit="h"),
        }
    )
    bounds = {
        "whole": (0.5, 7.5),
        "few": [2, 4],
        "same": (3, np.inf),
        "spike": (np.float32(0.0), 5),
        "day": ("2024-02-01", "2024-02-03"),
        "zoned": (pd.Timestamp("2024-02-01"), None),
        "span": ("3h", pd.Timedelta(hours=5)),
    }
    imputer = FlowImputer(bounds=bounds, **QUICK).fit(frame)
    holes = frame.astype({"whole": "Int64", "few": "Int64", "same": "Int64"}).mask(np.eye(120, 7, -3) > 0)
    holes = pd.concat([holes, frame.head(0)]).mask(np.tile(k[:, None] % 5 == 0, 7))
    low = [1, 2, 3, 0.0, "2024-02-01", "2024-02-01T00:00+01:00", "3h"]
    high = [7, 4, 5, 5.0, "2024-02-03", "2024-12-31T00:00+01:00", "5h"]
    for filled in (imputer.transform(holes), *imputer.sample(holes, 2, random_state=0)):
        for name, least, most in zip(frame, low, high, strict=True):
            kind = pd.Timedelta if name == "span" else pd.Timestamp if name in ("day", "zoned") else float
            entries = filled.loc[holes[name].isna().to_numpy(), name]
            assert len(entries) >= 24
            assert entries.min() >= kind(least)
            assert entries.max() <= kind(most)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ("none", "bounds must be 'observed', None, or a mapping"),
        (pd.DataFrame(), "bounds must be 'observed', None, or a mapping"),
        ({7: (0, 1)}, "must name columns of numbers or times; got 7"),
        ({0: (1, 0)}, "low <= high"),
        ({0: (0, np.nan)}, "each a value that the column could hold"),
        ({0: ("a", None)}, "each a value that the column could hold"),
        ({0: (0, 10**400)}, "each a value that the column could hold"),
        ({0: 3}, "must be \\(low, high\\)"),
    ],
)
def test_wrong_bounds_are_refused(bounds: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FlowImputer(bounds=bounds, **QUICK).fit(gaussian_table(20, seed=0))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_mean", np.zeros(2), "the normal distribution has other columns"),
        ("_covariance", -np.eye(3), "the covariance is none"),
        ("_limits", ColumnLimits([0.0, 0.0], [1.0, None]), "the limits are not those of the columns"),
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(
    name: str, value: np.ndarray, message: str, tmp_path: Path
) -> None:
    imputer = FlowImputer(**QUICK).fit(gaussian_table(20, seed=0))
    setattr(imputer, name, value)
    path = tmp_path / "imputer.fd"
    flowdetect.save(imputer, path)
    with pytest.raises(ModelFileError, match=message):
        flowdetect.load(path)
