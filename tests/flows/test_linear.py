from collections.abc import Callable

import pytest
import torch
from nflows.transforms.lu import LULinear as TheirLULinear
from nflows.transforms.permutations import Permutation as TheirPermutation

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import LULinear, Permutation, RandomPermutation, ReversePermutation


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
def test_lu_agrees_with_nflows(dtype: torch.dtype, tolerance: float, shake: Callable) -> None:
    theirs, ours = shake(TheirLULinear(5), 0.3, dtype), LULinear(5).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(20, 5, dtype=dtype)
    torch.testing.assert_close(ours(inputs), theirs(inputs), atol=tolerance, rtol=tolerance)
    # nflows' inverse calls what torch has removed; its own weight matrix says what it should be.
    back = torch.linalg.solve(theirs.weight(), (inputs - theirs.bias).T).T
    torch.testing.assert_close(ours.inverse(inputs)[0], back, atol=tolerance, rtol=tolerance)


def test_permutation_agrees_with_nflows() -> None:
    order, inputs = torch.tensor([2, 0, 3, 1]), torch.randn(6, 4)
    theirs, ours = TheirPermutation(order), Permutation(order)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(ours(inputs), theirs(inputs))
    torch.testing.assert_close(ours.inverse(inputs), theirs.inverse(inputs))


def test_reverse_and_random() -> None:
    row = torch.arange(50.0)[None]
    assert torch.equal(ReversePermutation(50)(row)[0], row.flip(1))
    one, same, other = (RandomPermutation(50, seed=seed)(row)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("order", [[0, 0], [1, 2], [0.5, 1.5, 9]])
def test_refuses_what_is_no_permutation(order: list) -> None:
    with pytest.raises(ConfigurationError, match="permutation must hold each of"):
        Permutation(order)
