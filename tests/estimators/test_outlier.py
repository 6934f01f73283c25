import numpy as np
import pandas as pd
import pytest

from flowdetect.calibration import contamination_offset, fence_offset
from flowdetect.exceptions import ConfigurationError

# --- scores and threshold ----------------------------------------------------------------------------------


def test_the_methods_agree(detector, new_rows):
    scores, decision = detector.score_samples(new_rows), detector.decision_function(new_rows)
    assert np.array_equal(decision, scores - detector.offset_)
    labels = detector.predict(new_rows)
    assert np.array_equal(labels, np.where(decision >= 0, 1, -1))
    assert labels.dtype.kind == "i"


def test_fit_predict_is_fit_then_predict(quick, table):
    together = quick("detector").fit_predict(table)
    assert np.array_equal(together, quick("detector").fit(table).predict(table))


def test_a_far_row_is_an_anomaly(quick, blob):
    detector = quick("detector", max_steps=60).fit(blob)
    assert detector.predict([[0.0, 0.0, 0.0], [0.0, 30.0, 0.0]]).tolist() == [1, -1]


@pytest.mark.parametrize("contamination", [0.05, np.float64(0.25), 0.5])
def test_contamination_is_the_share_of_training_rows(quick, table, contamination):
    detector = quick("detector", contamination=contamination).fit(table)
    assert np.sum(detector.predict(table) == -1) == round(200 * contamination)
    assert detector.offset_ == contamination_offset(detector.score_samples(table), contamination)


def test_auto_is_the_fence_of_the_held_out_scores(detector):
    assert detector.offset_ == fence_offset(detector.training_scores_)


def test_each_training_row_is_scored_by_the_flow_that_did_not_see_it(detector, table):
    *_, split_seed = detector._seeds(2 * detector.n_models + 1)
    splits = detector._splits(len(table), np.random.default_rng(split_seed))
    assert len(splits) == len(detector.densities_) == len(detector.training_results_) == 2
    seen = np.zeros(len(table), dtype=int)
    for density, (learnt, held_out) in zip(detector.densities_, splits, strict=True):
        assert not np.intersect1d(learnt, held_out).size
        assert len(learnt) + len(held_out) == len(table)
        seen[held_out] += 1
        scores = detector._score(table.iloc[held_out], None, [density])
        assert detector.training_scores_[held_out] == pytest.approx(scores, rel=1e-9)
    assert (seen == 1).all()


def test_the_score_is_the_mean_over_flows(detector, new_rows):
    single = [detector._score(new_rows, None, [density]) for density in detector.densities_]
    assert detector.score_samples(new_rows) == pytest.approx(np.mean(single, axis=0), rel=1e-12)


def test_values_of_a_row_do_not_reach_its_held_out_score_by_training(quick, blob):
    plain = quick("detector").fit(blob)
    *_, split_seed = plain._seeds(5)
    _, held_out = plain._splits(len(blob), np.random.default_rng(split_seed))[0]
    changed = blob.copy()
    # Within the bulk, so that median and quartiles, which scale the columns, stay as they are.
    row = held_out[np.argmin(np.abs(blob[held_out]).max(axis=1))]
    changed[row] *= 1.01
    other = quick("detector").fit(changed)
    for name, weights in plain.densities_[0].state_dict().items():
        assert np.allclose(weights, other.densities_[0].state_dict()[name], atol=1e-4), name


@pytest.mark.parametrize(("n_rows", "n_models", "n_flows"), [(19, 3, 1), (20, 3, 2), (40, 3, 3), (40, 1, 1)])
def test_few_rows_are_not_cut_into_folds(quick, blob, n_rows, n_models, n_flows):
    detector = quick("detector", n_models=n_models, max_steps=2).fit(blob[:n_rows])
    assert len(detector.densities_) == n_flows
    if n_flows == 1:
        assert np.array_equal(detector.training_scores_, detector.score_samples(blob[:n_rows]))


def test_rows_of_weight_zero_have_no_held_out_score(quick, blob):
    weights = np.ones(len(blob))
    weights[[3, 50]] = 0.0
    detector = quick("detector").fit(blob, sample_weight=weights)
    assert np.flatnonzero(np.isnan(detector.training_scores_)).tolist() == [3, 50]
    assert np.isfinite(detector.offset_)
    assert np.isfinite(detector.score_samples(blob)).all()


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_kinds(quick, table, new_rows, kind):
    assert np.isfinite(quick("detector", kind=kind).fit(table).score_samples(new_rows)).all()


@pytest.mark.parametrize("contamination", [0.7, 0.0, 0, 1, -0.1, "some", None, np.nan])
def test_contamination_that_is_none(quick, blob, contamination):
    with pytest.raises(ConfigurationError, match=r"'auto' or a fraction above 0 and at most 0\.5; got"):
        quick("detector", contamination=contamination).fit(blob)


@pytest.mark.parametrize("n_models", [0, -1, 1.5, "a", True])
def test_a_number_of_models_that_is_none(quick, blob, n_models):
    with pytest.raises(ConfigurationError, match="n_models must be a whole number, at least 1; got"):
        quick("detector", n_models=n_models).fit(blob)


# --- explain -----------------------------------------------------------------------------------------------


def test_an_explanation_has_the_shape_and_names_of_the_table(detector, new_rows):
    reasons = detector.explain(new_rows.iloc[:5])
    assert list(reasons.columns) == list(new_rows.columns)
    assert reasons.index.equals(new_rows.index[:5])
    assert np.isfinite(reasons).all(axis=None)
    assert (reasons >= 0.0).all(axis=None)


def test_an_array_has_its_columns_counted(quick, blob):
    reasons = quick("detector").fit(blob).explain(blob[:4])
    assert reasons.columns.tolist() == [0, 1, 2]
    assert reasons.index.equals(pd.RangeIndex(4))


def test_the_column_that_is_odd_beside_the_others_comes_first(quick, make_table):
    detector = quick("detector", max_steps=250, hidden_features=24, n_models=1).fit(make_table(400))
    rows = make_table(40, seed=2).dropna().iloc[:20]
    # Well inside what weights are, but not beside this size.
    odd = rows.assign(weight=np.where(rows["size"] > 2.0, -1.0, 9.0))
    first = detector.explain(odd).idxmax(axis=1)
    assert first.isin(["weight", "size"]).mean() >= 0.8
    usual = detector.explain(rows)
    assert detector.explain(odd)["weight"].median() > 3 * usual["weight"].median()


def test_an_odd_category_or_missing_value_comes_first(quick):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.choice(["x", "y"], 200)})
    X.loc[:2, "b"] = np.nan
    detector = quick("detector", max_steps=100).fit(X)
    odd = pd.DataFrame({"a": [0.0, 0.0, 9.0], "b": [0.1, np.nan, 0.1], "c": ["z", "x", "x"]})
    assert detector.explain(odd).idxmax(axis=1).tolist() == ["c", "b", "a"]


def test_explanations_come_in_chunks(quick, blob, monkeypatch):
    detector = quick("detector", n_models=1, max_steps=2).fit(blob)
    whole = detector.explain(blob[:5])
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 3)
    pd.testing.assert_frame_equal(detector.explain(blob[:5]), whole, rtol=1e-9)


def test_an_explanation_is_the_same_for_a_row_alone(detector, new_rows):
    whole = detector.explain(new_rows.iloc[:4])
    pd.testing.assert_frame_equal(detector.explain(new_rows.iloc[[2]]), whole.iloc[[2]], rtol=1e-7)
