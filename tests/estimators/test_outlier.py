import numpy as np
import pytest
from scipy.special import digamma

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


def splits_of(detector, n_rows):
    *_, split_seed = detector._seeds(2 * detector.n_models + 1)
    return detector._splits(np.zeros(n_rows), np.random.default_rng(split_seed))


def test_each_training_row_is_scored_by_the_member_that_did_not_see_it(detector, table):
    splits = splits_of(detector, len(table))
    assert len(splits) == len(detector._members) == len(detector.training_results_) == 2
    assert detector.densities_ == [member.density for member in detector._members]
    seen = np.zeros(len(table), dtype=int)
    points = detector.encoder_.coordinates(detector.encoder_.encode(table)[0])
    for member, (learnt, held_out) in zip(detector._members, splits, strict=True):
        assert not np.intersect1d(learnt, held_out).size
        assert len(learnt) + len(held_out) == len(table)
        seen[held_out] += 1
        scores = detector._score_rows(table.iloc[held_out], [member])
        assert detector.training_scores_[held_out] == pytest.approx(scores, rel=1e-9)
        # Every neighbour is one of the rows learnt from.
        near = (member.neighbours.points[:, None] == points[learnt][None]).all(axis=2).any(axis=1)
        assert near.all()
    assert (seen == 1).all()


def test_the_score_is_the_largest_of_the_members(detector, new_rows):
    single = [detector._score_rows(new_rows, [member]) for member in detector._members]
    assert detector.score_samples(new_rows) == pytest.approx(np.max(single, axis=0), rel=1e-12)


def test_the_score_is_what_the_notes_say(quick, blob):
    detector = quick("detector", n_models=1).fit(blob)
    new = np.random.default_rng(5).normal(size=(6, 3))
    encoder, [member] = detector.encoder_, detector._members

    def pooled(rows, own):
        matrix, log_det = encoder.encode(rows)
        distances = np.linalg.norm(matrix[:, None] - member.neighbours.points[None], axis=2)
        order = np.argsort(np.where(distances < 1e-4, np.inf, distances) if own else distances, axis=1)
        near = np.take_along_axis(distances, order, axis=1)
        unit_ball, n = 4.0 / 3.0 * np.pi, len(member.neighbours.points)
        of_rank = digamma(np.arange(1, 11)) - np.log(n * unit_ball) - 3.0 * np.log(near[:, :10] + 1e-3)
        flow = detector._by_scale(matrix, member.density, detector.scales_).mean(axis=0)
        return log_det + 0.25 * flow + 0.75 * of_rank.mean(axis=1), order[:, :20]

    levels, _ = pooled(encoder.decode(member.neighbours.points), own=True)
    own, around = pooled(new, own=False)
    expected = own + 0.5 * (levels.mean() - levels[around].mean(axis=1))
    assert detector.score_samples(new) == pytest.approx(expected, rel=1e-6)


def test_values_of_a_row_do_not_reach_its_held_out_score_by_training(quick, blob):
    plain = quick("detector").fit(blob)
    _, held_out = splits_of(plain, len(blob))[0]
    changed = blob.copy()
    # Within the bulk, so that median and quartiles, which scale the columns, stay as they are.
    row = held_out[np.argmin(np.abs(blob[held_out]).max(axis=1))]
    changed[row] *= 1.01
    other = quick("detector").fit(changed)
    for name, weights in plain.densities_[0].state_dict().items():
        assert np.allclose(weights, other.densities_[0].state_dict()[name], atol=1e-4), name


@pytest.mark.parametrize(("n_rows", "n_models", "n_flows"), [(9, 3, 1), (10, 3, 2), (15, 3, 3), (40, 1, 1)])
def test_few_rows_are_not_cut_into_folds(quick, blob, n_rows, n_models, n_flows):
    detector = quick("detector", n_models=n_models, max_steps=2).fit(blob[:n_rows])
    assert len(detector.densities_) == n_flows
    if n_flows == 1:
        assert np.array_equal(detector.training_scores_, detector.score_samples(blob[:n_rows]))
        with pytest.raises(ConfigurationError, match="fit with n_models of at least 2 on at least 10 rows"):
            detector.p_values(blob)


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
    with pytest.raises(ConfigurationError, match="n_models must be a whole number of at least 1; got"):
        quick("detector", n_models=n_models).fit(blob)
