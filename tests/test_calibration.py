import numpy as np
import pytest

from flowdetect.calibration import contamination_offset, fence_offset
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


@pytest.mark.parametrize("offset", [fence_offset, lambda scores: contamination_offset(scores, 0.1)])
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
