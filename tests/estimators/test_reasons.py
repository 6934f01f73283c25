import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError

# --- explain -----------------------------------------------------------------------------------------------


def test_an_explanation_has_the_shape_and_names_of_the_table(detector, new_rows):
    reasons = detector.explain(new_rows.iloc[:5])
    assert list(reasons.columns) == list(new_rows.columns)
    assert reasons.index.equals(new_rows.index[:5])
    assert np.isfinite(reasons).all(axis=None)


def test_contributions_sum_to_the_score_less_that_of_a_typical_row(detector, table, new_rows):
    rows = pd.concat([table.iloc[:20], new_rows])
    rows.iloc[0, 1] = -30.0
    difference = detector.score_samples(rows) - detector.typical_score_
    reasons = detector.explain(rows)
    assert reasons.sum(axis=1).to_numpy() == pytest.approx(difference, rel=1e-9)
    assert ((reasons <= 0.0).all(axis=1) | (reasons >= 0.0).all(axis=1)).all()
    assert (difference < 0.0).any()
    assert (difference > 0.0).any()
    assert detector.typical_score_ == np.median(detector.training_scores_)


def test_an_array_has_its_columns_counted(quick, blob):
    reasons = quick("detector").fit(blob).explain(blob[:4])
    assert reasons.columns.tolist() == [0, 1, 2]
    assert reasons.index.equals(pd.RangeIndex(4))


def test_the_column_that_is_odd_beside_the_others_comes_first(quick, make_table):
    detector = quick("detector", max_steps=250, hidden_features=24, n_models=1).fit(make_table(400))
    rows = make_table(40, seed=2).dropna().iloc[:20]
    # Well inside what weights are, but not beside this size.
    odd = rows.assign(weight=np.where(rows["size"] > 2.0, -1.0, 9.0))
    first = detector.explain(odd).idxmin(axis=1)
    assert first.isin(["weight", "size"]).mean() >= 0.8
    assert detector.explain(odd)["weight"].median() < 3 * detector.explain(rows)["weight"].median()


def test_an_odd_category_or_missing_value_comes_first(quick):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.choice(["x", "y"], 200)})
    X.loc[:2, "b"] = np.nan
    detector = quick("detector", max_steps=100).fit(X)
    odd = pd.DataFrame({"a": [0.0, 0.0, 9.0], "b": [0.1, np.nan, 0.1], "c": ["z", "x", "x"]})
    assert detector.explain(odd).idxmin(axis=1).tolist() == ["c", "b", "a"]


def test_explanations_come_in_chunks(quick, blob, monkeypatch):
    detector = quick("detector", n_models=1, max_steps=2).fit(blob)
    whole, typical = detector.explain(blob[:5]), detector.typical(blob[:5])
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 3)
    pd.testing.assert_frame_equal(detector.explain(blob[:5]), whole, rtol=1e-9)
    pd.testing.assert_frame_equal(detector.typical(blob[:5]), typical)


def test_an_explanation_is_the_same_for_a_row_alone(detector, new_rows):
    together = detector.explain(new_rows.iloc[:4])
    alone = pd.concat([detector.explain(new_rows.iloc[[i]]) for i in range(4)])
    pd.testing.assert_frame_equal(together, alone, rtol=1e-9)


def test_of_many_columns_those_that_differ_most_are_judged(quick, monkeypatch):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(150, 12))).assign(kind=np.repeat(["a", "b"], [145, 5]))
    X.columns = X.columns.astype(str)
    detector = quick("detector", max_steps=60).fit(X)
    odd = X.iloc[:6].copy()
    odd.iloc[:3, 4] += 9.0
    odd.iloc[3:, 12] = "c"
    every = detector.explain(odd)
    assert (every < 0.0).sum(axis=1).max() > 3
    monkeypatch.setattr("flowdetect.estimators._reasons._MOST_COLUMNS", 3)
    few = detector.explain(odd)
    assert (few < 0.0).sum(axis=1).max() <= 3
    assert few.idxmin(axis=1).tolist() == ["4", "4", "4", "kind", "kind", "kind"]
    assert few.sum(axis=1).to_numpy() == pytest.approx(every.sum(axis=1).to_numpy())


# --- typical -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(quick, make_table):
    return quick("detector", max_steps=250, hidden_features=24, n_models=2).fit(make_table(400))


def test_what_is_typical_follows_from_the_other_columns(trained, make_table):
    rows = make_table(60, seed=3).dropna()
    expected = trained.typical(rows, columns=["weight"], coverage=0.9)["weight"]
    truth = 2.0 * rows["size"]
    assert (expected["typical"] - truth).abs().median() < 1.5
    inside = (expected["low"] <= rows["weight"]) & (rows["weight"] <= expected["high"])
    assert inside.mean() > 0.6
    narrow = trained.typical(rows, columns=["weight"], coverage=0.5)["weight"]
    known = expected["typical"].notna()
    assert (narrow["low"] >= expected["low"])[known].all()
    assert (narrow["high"] <= expected["high"])[known].all()


def test_typical_entries_have_the_types_of_the_table(trained, make_table):
    rows = make_table(8, seed=3)
    expected = trained.typical(rows)
    assert expected.index.equals(rows.index)
    assert list(expected.columns.get_level_values(0).unique()) == list(rows.columns)
    assert expected["day", "typical"].dtype.kind == "M"
    assert expected["colour", "typical"].isin(["red", "green", "blue"]).all()
    assert expected["colour", "low"].isna().all()
    assert (expected["count", "low"] <= expected["count", "high"]).all()
    assert set(expected["old", "typical"]) <= {True, False}


def test_a_copy_is_typically_a_copy(quick, blob):
    X = np.column_stack([blob, blob[:, 0], np.full(len(blob), 7.0)])
    detector = quick("detector").fit(X)
    odd = X[:2].copy()
    odd[:, 3] += 5.0
    expected = detector.typical(odd, columns=[3, 4])
    assert expected[3, "typical"].to_numpy() == pytest.approx(odd[:, 0])
    assert (expected[4, "low"] == 7.0).all()


def test_a_missing_entry_can_be_what_is_typical(quick):
    rng = np.random.default_rng(0)
    kind = rng.random(300) < 0.5
    X = pd.DataFrame({"kind": kind, "size": np.where(kind, rng.normal(size=300), np.nan)})
    detector = quick("detector", max_steps=150, hidden_features=16).fit(X)
    expected = detector.typical(pd.DataFrame({"kind": [True, False], "size": [0.0, 0.0]}), columns=["size"])
    assert expected["size", "typical"].isna().tolist() == [False, True]


def test_columns_and_coverage_that_are_none(detector, new_rows):
    with pytest.raises(ConfigurationError, match=r"columns must be columns of fit; got \['height'\]"):
        detector.typical(new_rows, columns=["height"])
    with pytest.raises(ConfigurationError, match="coverage must lie between 0 and 1; got 1.5"):
        detector.typical(new_rows, coverage=1.5)
