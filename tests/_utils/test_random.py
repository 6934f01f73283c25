import numpy as np
import pytest

from flowdetect._utils.random import resolve_seed
from flowdetect.exceptions import ConfigurationError


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 2, np.int64(5), np.uint8(5)])
def test_a_whole_number_is_itself(seed):
    assert resolve_seed(seed) == seed
    assert type(resolve_seed(seed)) is int


def test_a_large_one_is_folded():
    assert 0 <= resolve_seed(2**60 + 1) < 2**31


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_stream_advances_and_can_be_repeated(make):
    stream = make(3)
    first, second = resolve_seed(stream), resolve_seed(stream)
    assert first != second
    assert first == resolve_seed(make(3))


def test_none_differs_each_time():
    assert len({resolve_seed(None) for _ in range(5)}) > 1


@pytest.mark.parametrize("random_state", [-1, 1.5, "a", True, False, np.random, [1]])
def test_anything_else_is_refused(random_state):
    with pytest.raises(ConfigurationError, match="non-negative whole number, a RandomState or a Generator"):
        resolve_seed(random_state)
