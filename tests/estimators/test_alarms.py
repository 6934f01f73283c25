"""False alarms: p-values, thresholds by them, and selections."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score

from flowdetect import FlowOutlierDetector
from flowdetect.calibration import conformal_p_values
from flowdetect.estimators._labels import best_threshold
from flowdetect.exceptions import ConfigurationError, InvalidTableError

# --- p-values ----------------------------------------------------------------------------------------------


def test_p_values_compare_with_the_held_out_scores(detector, new_rows):
    p_values = detector.p_values(new_rows)
    assert np.array_equal(
        p_values, conformal_p_values(detector.score_samples(new_rows), detector.training_scores_)
    )
    assert p_values.dtype == np.float64
    assert (p_values >= 1 / 201).all()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, np.float64(0.35)])
def test_predict_flags_the_rows_with_p_values_up_to_the_rate(quick, table, new_rows, rate):
    detector = quick("detector", false_alarm_rate=rate).fit(table)
    rows = pd.concat([new_rows, new_rows.assign(size=new_rows["size"] + 3.0)])
    assert np.array_equal(detector.predict(rows) == -1, detector.p_values(rows) <= rate)
    assert np.array_equal(detector.decision_function(rows), detector.score_samples(rows) - detector.offset_)


def test_a_rate_that_the_rows_cannot_support(quick, blob):
    with pytest.raises(ConfigurationError, match=r"119 rows support no false-alarm rate below .* 0\.00833"):
        quick("detector", false_alarm_rate=0.008).fit(blob[:119])
    quick("detector", false_alarm_rate=0.009).fit(blob[:119])


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1, "0.1", np.nan, True])
def test_a_rate_that_is_none(quick, blob, rate):
    with pytest.raises(ConfigurationError, match="false_alarm_rate must be None or between 0 and 1; got"):
        quick("detector", false_alarm_rate=rate).fit(blob)


def test_two_thresholds_at_once(quick, blob):
    with pytest.raises(ConfigurationError, match="are two thresholds; leave one of them at its default"):
        quick("detector", false_alarm_rate=0.1, contamination=0.1).fit(blob)


def rows_of(kind, n_rows, rng):
    """Rows of one distribution: continuous, with many ties, or every row twice."""
    if kind == "ties":
        return rng.poisson(1.0, (n_rows, 2)).astype(float)
    rows = rng.normal(size=(n_rows, 2)) @ np.array([[1.0, 0.7], [0.0, 0.7]])
    return np.repeat(rows, 2, axis=0)[rng.permutation(2 * n_rows)] if kind == "twice" else rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "ties", "twice"])
@pytest.mark.parametrize("n_rows", [19, 60])
def test_false_alarms_stay_within_their_band(quick, kind, n_rows):
    rate, n_new, n_seeds = 0.1, 200, 12
    alarms = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        fit, new = rows_of(kind, n_rows, rng), rows_of(kind, n_new, rng)
        detector = quick("detector", n_models=3, max_steps=20, random_state=seed).fit(fit)
        alarms.append(np.mean(detector.p_values(new) <= rate))
    # Of exact p-values the number of alarms among the new rows of one fit is beta-binomial; rows given twice
    # are half as many.
    n_fit, n_told = len(fit), len(new) // (2 if kind == "twice" else 1)
    n_below = int(rate * (n_fit + 1))
    spread = betabinom(n_told, n_below, n_fit + 1 - n_below).std() / n_told / np.sqrt(n_seeds)
    if kind == "twice":  # the training rows are half as many as well
        spread *= np.sqrt(2.0)
    assert np.mean(alarms) <= rate + 3.0 * spread
    assert np.mean(alarms) > 0.2 * rate or kind == "ties"


# --- select ------------------------------------------------------------------------------------------------


def test_few_of_the_selected_rows_are_false_alarms(quick):
    shares, found = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        detector = quick("detector", max_steps=40, random_state=seed).fit(rng.normal(size=(300, 2)))
        new = rng.normal(size=(200, 2))
        new[:20] += 7.0
        selected = detector.select(new, fdr=0.2)
        assert selected.dtype == bool
        shares.append(selected[20:].sum() / max(selected.sum(), 1))
        found.append(selected[:20].mean())
    assert np.mean(shares) <= 0.25
    assert np.mean(found) > 0.9


def test_nothing_is_selected_among_normal_rows(quick, blob):
    detector = quick("detector").fit(blob)
    assert not detector.select(np.zeros((5, 3)), fdr=0.05).any()
    with pytest.raises(ConfigurationError, match="false discovery rate must lie between 0 and 1; got 2"):
        detector.select(blob, fdr=2.0)


# --- labels ------------------------------------------------------------------------------------------------


def with_a_cluster(rng, n_rows=400, n_odd=60):
    """Return rows of which the last form a cluster of anomalies, and which these are."""
    X = np.vstack([rng.normal(size=(n_rows, 3)), rng.normal(loc=2.5, scale=0.3, size=(n_odd, 3))])
    return X, np.arange(len(X)) >= n_rows


def test_known_anomalies_reveal_others_like_them(quick):
    rng = np.random.default_rng(0)
    X, odd = with_a_cluster(rng)
    labels = np.zeros(len(X), dtype=int)
    labels[np.flatnonzero(odd)[:10]] = -1
    labels[:5] = 1
    without = quick("detector", max_steps=100).fit(X)
    detector = quick("detector", max_steps=100).fit(X, labels=labels)
    unknown = labels == 0
    area = roc_auc_score(odd[unknown], -detector.training_scores_[unknown])
    assert area > roc_auc_score(odd[unknown], -without.training_scores_[unknown])
    assert area > 0.95
    new, new_odd = with_a_cluster(rng, 100, 20)
    assert roc_auc_score(new_odd, -detector.score_samples(new)) > 0.95
    # The threshold lies between known anomalies and the others.
    verdict = detector.predict(new) == -1
    assert verdict[new_odd].mean() > 0.8
    assert verdict[~new_odd].mean() < 0.2


def test_no_labels_are_as_good_as_none(quick, blob):
    plain = quick("detector").fit(blob)
    unknown = quick("detector").fit(blob, labels=np.zeros(len(blob)))
    assert np.array_equal(plain.score_samples(blob), unknown.score_samples(blob))
    assert plain.offset_ == unknown.offset_


def test_known_anomalies_do_not_calibrate(quick, blob):
    labels = np.zeros(len(blob))
    labels[:20] = -1
    detector = quick("detector", false_alarm_rate=0.1).fit(blob, labels=labels)
    assert detector.p_values([[50.0, 50.0, 50.0]])[0] == 1 / 101
    assert len(detector.training_scores_) == len(blob)
    assert np.isfinite(detector.training_scores_).all()


def test_anomalies_that_score_as_normal_leave_a_finite_threshold():
    scores, known = np.array([5.0, 6, 7, 8, 9, 0, 1, 2, 3, 4]), np.repeat([-1, 0], 5)
    assert np.isfinite(best_threshold(scores, known))


@pytest.mark.parametrize("n_odd", [8, 12])
def test_more_anomalies_than_other_rows(quick, blob, n_odd):
    detector = quick("detector").fit(blob[: n_odd + 3], labels=[-1] * n_odd + [0] * 3)
    assert np.isfinite(detector.score_samples(blob)).all()
    assert np.isfinite(detector.offset_)


def test_one_known_anomaly_is_enough(quick, blob):
    labels = np.zeros(len(blob))
    labels[7] = -1
    detector = quick("detector").fit(blob, labels=labels)
    assert np.isfinite(detector.score_samples(blob)).all()
    unlabelled = quick("detector").fit(blob)
    for near in (blob[7:8] + 0.02, blob[7:8]):  # the known anomaly itself as well
        assert detector.score_samples(near) < unlabelled.score_samples(near)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(3), r"labels must have shape \(120,\), one per row of X; got shape \(3,\)"),
        (np.full(120, 2), r"labels must be -1 \(known anomaly\), .*; got .*2.* in row 0"),
        (np.full(120, np.nan), "labels must be -1"),
        (np.full(120, -1), "at least 2 rows must not be labelled as anomalies; got 0"),
    ],
)
def test_labels_that_are_none(quick, blob, labels, sentence):
    with pytest.raises(InvalidTableError, match=sentence):
        quick("detector").fit(blob, labels=labels)


def test_labels_are_routed(blob):
    from sklearn import config_context
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.zeros(len(blob))
    labels[:6] = -1
    with config_context(enable_metadata_routing=True):
        detector = FlowOutlierDetector(max_steps=5, n_models=2, random_state=0).set_fit_request(labels=True)
        pipeline = make_pipeline(StandardScaler(), detector).fit(blob, labels=labels)
    assert np.isfinite(pipeline.score_samples(blob)).all()
    assert pipeline[-1]._members[0].anomalies is not None
