from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.stats import betabinom, false_discovery_control

from flowdetect.calibration import (
    benjamini_hochberg,
    conformal_p_values,
    contamination_offset,
    false_alarm_offset,
    fence_offset,
    smallest_rate,
)
from flowdetect.exceptions import ConfigurationError

SCORES = np.random.default_rng(0).normal(size=300)


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.25, 0.5])
def test_that_many_scores_lie_below_the_offset(contamination):
    below = SCORES < contamination_offset(SCORES, contamination)
    assert below.sum() == round(contamination * 300)


def test_the_offset_follows_a_shift_and_a_scale():
    assert contamination_offset(2 * SCORES + 3, 0.2) == pytest.approx(
        2 * contamination_offset(SCORES, 0.2) + 3
    )
    assert fence_offset(2 * SCORES + 3) == pytest.approx(2 * fence_offset(SCORES) + 3)


def test_the_fence_of_gaussian_scores_is_where_tukey_has_it():
    # Quartiles at -+0.6745, so the fence lies at -0.6745 - 1.5 * 1.349 = -2.698.
    scores = np.random.default_rng(1).normal(size=100_000)
    assert fence_offset(scores) == pytest.approx(-2.698, abs=0.03)


def test_ties_are_flagged_together_or_not_at_all():
    assert (np.zeros(10) < contamination_offset(np.zeros(10), 0.3)).sum() == 0
    assert fence_offset([1.0, 1.0, 1.0]) == 1.0


def test_one_score_is_its_own_offset():
    assert contamination_offset([2.5], 0.1) == fence_offset([2.5]) == 2.5


@pytest.mark.parametrize("contamination", [0.0, -0.1, 0.51, np.nan])
def test_contamination_out_of_range(contamination):
    with pytest.raises(ConfigurationError, match=r"above 0 and at most 0\.5; got"):
        contamination_offset(SCORES, contamination)


@pytest.mark.parametrize(
    "offset",
    [
        fence_offset,
        lambda scores: contamination_offset(scores, 0.1),
        lambda scores: false_alarm_offset(scores, 0.1),
        lambda scores: conformal_p_values([0.0], scores),
    ],
)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan], r"without NaN; got shape \(2,\) with 1 NaN"),
        ([], r"non-empty vector without NaN; got shape \(0,\)"),
        ([[1.0, 2.0]], r"got shape \(1, 2\)"),
    ],
)
def test_scores_that_say_nothing_are_refused(offset, scores, message):
    with pytest.raises(ConfigurationError, match=message):
        offset(scores)


# --- conformal p-values ---------------------------------------------------------------------------


def test_p_values_count_the_calibration_scores_that_are_as_low():
    rng = np.random.default_rng(2)
    for n in (1, 2, 7, 30):
        calibration = rng.integers(0, 6, size=n)
        scores = np.concatenate([rng.integers(-1, 8, size=20), [-np.inf, np.inf]])
        counted = [(1 + sum(c <= score for c in calibration)) / (n + 1) for score in scores]
        np.testing.assert_array_equal(conformal_p_values(scores, calibration), counted)


def test_the_lowest_p_value_is_the_smallest_rate_and_the_largest_is_one():
    p = conformal_p_values([-9.0, 9.0], SCORES)
    assert p.tolist() == [smallest_rate(300), 1.0]


def test_no_scores_give_no_p_values():
    assert conformal_p_values([], [1.0]).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan, np.nan], r"^scores must be a vector without NaN; got shape \(3,\) with 2 NaN"),
        ([[1.0]], r"^scores must be a vector .* got shape \(1, 1\)"),
    ],
)
def test_new_scores_without_a_p_value_are_refused(scores, message):
    with pytest.raises(ConfigurationError, match=message):
        conformal_p_values(scores, SCORES)


@pytest.mark.parametrize("calibration", [[], [np.nan, 1.0]])
def test_an_error_says_that_the_calibration_is_at_fault(calibration):
    for use in (conformal_p_values, lambda _, calibration: false_alarm_offset(calibration, 0.5)):
        with pytest.raises(ConfigurationError, match="^calibration_scores must be a non-empty vector"):
            use([0.0], calibration)


# --- the offset of a false-alarm rate -------------------------------------------------------------


def assert_alarms_are_low_p_values(calibration, rate):
    calibration = np.asarray(calibration, dtype=float)
    around = [np.nextafter(calibration, -np.inf), calibration, np.nextafter(calibration, np.inf)]
    scores = np.concatenate([*around, [-np.inf, -1.0, 0.5, np.inf]])
    alarms = scores < false_alarm_offset(calibration, rate)
    np.testing.assert_array_equal(alarms, conformal_p_values(scores, calibration) <= rate)


def test_alarms_are_low_p_values_for_every_small_calibration():
    for n in range(1, 6):
        rates = np.arange(1, n + 1) / (n + 1)
        for calibration in combinations_with_replacement(range(4), n):
            for rate in [*rates, *np.nextafter(rates, 1.0), *np.nextafter(rates[1:], 0.0)]:
                assert_alarms_are_low_p_values(calibration, float(rate))


def test_alarms_are_low_p_values_under_random_ties():
    rng = np.random.default_rng(3)
    for _ in range(1000):
        n = int(rng.integers(1, 120))
        calibration = rng.integers(0, rng.integers(1, 2 * n + 1), size=n) / 7.0
        if rng.random() < 0.3:
            calibration = np.repeat(calibration, 2)
        rate = max(float(rng.uniform()), smallest_rate(len(calibration)))
        assert_alarms_are_low_p_values(calibration, rate)


@pytest.mark.parametrize("rate", ["0.01", "0.05", "0.07", "0.1", "0.29", "0.3", "0.57", "0.58", "0.7"])
def test_the_offset_is_the_score_that_exact_arithmetic_counts_to(rate):
    # In floating point 0.29 * 100 and 0.57 * 100 lie below 29 and 57.
    for n in range(99, 1000, 50):
        k = int(Fraction(rate) * (n + 1))
        assert false_alarm_offset(np.arange(1, n + 1), float(rate)) == k


def test_nineteen_rows_support_a_rate_of_five_per_cent_and_eighteen_do_not():
    assert smallest_rate(19) == 0.05
    assert false_alarm_offset(np.arange(19), 0.05) == 0.0
    message = r"18 rows support no false-alarm rate below 1 / 19 = 0\.0526; got 0\.05, which needs 19 rows"
    with pytest.raises(ConfigurationError, match=message):
        false_alarm_offset(np.arange(18), 0.05)


def test_as_many_rows_as_an_error_asks_for_are_enough():
    for n in range(2, 300):
        rate = smallest_rate(n)
        assert false_alarm_offset(np.arange(n), rate) == 0.0
        with pytest.raises(ConfigurationError, match=f"which needs {n} rows: give more rows or"):
            false_alarm_offset(np.arange(n - 1), rate)


def test_a_rate_too_small_for_any_table_has_a_sentence_too():
    with pytest.raises(ConfigurationError, match=r"got 5e-324, which needs \d+ rows"):
        false_alarm_offset(SCORES, 5e-324)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, np.nan])
def test_a_false_alarm_rate_out_of_range(rate):
    with pytest.raises(ConfigurationError, match="false-alarm rate must lie between 0 and 1; got"):
        false_alarm_offset(SCORES, rate)


# --- the rate of false alarms ---------------------------------------------------------------------

N_SETS, N_NEW = 400, 50  # calibration sets, and new rows for each of them


def band_of_alarms(n, k):
    """The central 99.9 % of the alarms over all sets, for continuous scores.

    Among n exchangeable calibration scores, those of N_NEW new rows that lie below the k-th smallest are
    beta-binomial; the sets are independent, so that the sum is a convolution.
    """
    one_set = betabinom(N_NEW, k, n + 1 - k).pmf(np.arange(N_NEW + 1))
    length = N_SETS * N_NEW + 1
    total = np.fft.irfft(np.fft.rfft(one_set, 2 * length) ** N_SETS, 2 * length)[:length]
    return np.searchsorted(np.cumsum(total), [0.0005, 0.9995])


def alarms(draw, n, rate, seed):
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(N_SETS):
        scores = draw(rng, n + N_NEW)
        count += int((conformal_p_values(scores[n:], scores[:n]) <= rate).sum())
    return count


def pairs(rng, size):
    """A shuffled draw from a pool that holds each value twice."""
    pool = np.repeat(rng.normal(size=size // 2 + 5), 2)
    return rng.permutation(pool)[:size]


@pytest.mark.parametrize("n", [19, 50, 200])
@pytest.mark.parametrize("rate", [0.05, 0.1])
@pytest.mark.parametrize("draw", [np.random.Generator.normal, np.random.Generator.standard_cauchy])
def test_continuous_scores_raise_false_alarms_at_the_exact_rate(n, rate, draw):
    lower, upper = band_of_alarms(n, int(rate * (n + 1)))
    assert lower <= alarms(lambda rng, size: draw(rng, size=size), n, rate, seed=4) <= upper


@pytest.mark.parametrize("n", [19, 50, 200])
@pytest.mark.parametrize("rate", [0.05, 0.1])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, size: rng.integers(0, 5, size=size),
        lambda rng, size: rng.integers(0, 40, size=size),
        lambda rng, size: rng.poisson(3.0, size=size),
        lambda rng, size: np.zeros(size),
        pairs,
    ],
)
def test_tied_scores_raise_no_more_false_alarms_than_continuous_ones(n, rate, draw):
    # Ties broken at random would turn them into continuous scores, and only add alarms.
    assert alarms(draw, n, rate, seed=5) <= band_of_alarms(n, int(rate * (n + 1)))[1]


@pytest.mark.parametrize(
    ("n", "rate", "expected"), [(50, 0.05, 1 / 26), (50, 0.1, 3 / 26), (20, 0.05, 1 / 11)]
)
def test_calibration_rows_entered_twice_are_worth_half_as_many(n, rate, expected):
    # New rows have no twin, so the scores are not exchangeable and the rate may exceed the nominal one.
    rng = np.random.default_rng(6)
    count = 0
    for _ in range(N_SETS):
        calibration = np.repeat(rng.normal(size=n // 2), 2)
        count += int((rng.normal(size=N_NEW) < false_alarm_offset(calibration, rate)).sum())
    lower, upper = band_of_alarms(n // 2, round(expected * (n // 2 + 1)))
    assert lower <= count <= upper


def test_anomalies_among_the_calibration_rows_make_fewer_alarms():
    def polluted(rng, size):
        scores = rng.normal(size=size)
        scores[:10] -= 6.0
        return scores

    assert alarms(polluted, 200, 0.1, seed=7) < band_of_alarms(200, 20)[0]


# --- the rate of false discoveries ----------------------------------------------------------------


@pytest.mark.parametrize("fdr", [0.01, 0.05, 0.2, 0.7])
def test_selection_agrees_with_scipy(fdr):
    rng = np.random.default_rng(8)
    for n in (1, 2, 10, 200):
        for _ in range(20):
            p = rng.uniform(size=n) ** rng.uniform(1.0, 4.0)
            np.testing.assert_array_equal(benjamini_hochberg(p, fdr), false_discovery_control(p) <= fdr)


def test_equal_p_values_are_selected_together():
    assert benjamini_hochberg([0.04, 0.5, 0.04, 0.04], 0.06).tolist() == [True, False, True, True]
    assert not benjamini_hochberg([0.05, 0.5, 0.05, 0.05], 0.06).any()


def test_a_step_up_takes_smaller_p_values_along():
    # 0.035 and 0.036 exceed their own bounds, 0.0125 and 0.025; 0.0375 equals its.
    assert benjamini_hochberg([0.0375, 0.9, 0.036, 0.035], 0.05).tolist() == [True, False, True, True]


@pytest.mark.parametrize("fdr", ["0.05", "0.07", "0.1", "0.3", "0.7"])
def test_p_values_that_equal_their_bound_are_selected(fdr):
    # Conformal p-values are fractions, so that rounding on either side could drop a row.
    for n in (10, 30, 70, 100):
        for k in range(1, n + 1):
            p = np.ones(n)
            p[:k] = float(Fraction(fdr) * k / n)
            assert benjamini_hochberg(p, float(fdr)).sum() == k
            p[:k] *= 1.0 + 1e-12
            assert not benjamini_hochberg(p, float(fdr)).any()


def test_no_p_values_select_nothing():
    selected = benjamini_hochberg([], 0.1)
    assert selected.shape == (0,) and selected.dtype == bool


@pytest.mark.parametrize(
    ("p_values", "message"),
    [
        ([0.1, np.nan, 1.1, -0.1], r"from 0 to 1; got shape \(4,\) with 3 NaN or out of range"),
        ([[0.1, 0.2]], r"must be a vector .* got shape \(1, 2\)"),
    ],
)
def test_p_values_out_of_range(p_values, message):
    with pytest.raises(ConfigurationError, match=message):
        benjamini_hochberg(p_values, 0.1)


@pytest.mark.parametrize("fdr", [0.0, 1.0, -0.1, np.nan])
def test_a_false_discovery_rate_out_of_range(fdr):
    with pytest.raises(ConfigurationError, match="false discovery rate must lie between 0 and 1; got"):
        benjamini_hochberg([0.1], fdr)


@pytest.mark.parametrize("fdr", [0.1, 0.3])
@pytest.mark.parametrize("decimals", [None, 1])
def test_at_most_the_named_share_of_the_selected_rows_is_normal(fdr, decimals):
    rng = np.random.default_rng(9)
    shares, found = [], []
    for _ in range(1000):
        scores = rng.normal(size=500 + 100)
        scores[-10:] -= 4.0
        if decimals is not None:
            scores = scores.round(decimals)
        selected = benjamini_hochberg(conformal_p_values(scores[500:], scores[:500]), fdr)
        shares.append(selected[:90].sum() / max(selected.sum(), 1))
        found.append(selected[90:].mean())
    assert np.mean(shares) <= 0.9 * fdr + 4.0 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(found) > 0.5
