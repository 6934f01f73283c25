from collections.abc import Callable

import pytest
import torch
from nflows.nn.nets import ResidualNet
from nflows.transforms.coupling import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import AffineCoupling, LearntParameters, ResidualNetwork, SplineCoupling

MASK = [1, 0, 0, 1, 1]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


def their_network(n_context: int | None) -> Callable:
    return lambda i, o: ResidualNet(i, o, 16, n_context, activation=torch.nn.functional.silu)


def our_network(n_context: int | None) -> Callable:
    return lambda i, o: ResidualNetwork(i, o, n_context=n_context or 0, hidden_features=16)


def pair(kind: str, n_context: int | None) -> tuple[torch.nn.Module, torch.nn.Module]:
    if kind == "affine":
        theirs = AffineCouplingTransform(MASK, their_network(n_context))
        return theirs, AffineCoupling(MASK, our_network(n_context), scale="sigmoid")
    theirs = PiecewiseRationalQuadraticCouplingTransform(
        MASK, their_network(n_context), num_bins=6, tails="linear", tail_bound=4.0
    )
    return theirs, SplineCoupling(MASK, our_network(n_context), n_bins=6, tail_bound=4.0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["spline", "affine"])
@pytest.mark.parametrize("n_context", [None, 3])
def test_same_weights_same_numbers_as_nflows(
    dtype: torch.dtype, kind: str, n_context: int | None, shake: Callable
) -> None:
    theirs, ours = pair(kind, n_context)
    shake(theirs, dtype=dtype)
    ours.to(dtype).load_state_dict(theirs.state_dict())
    inputs = 2.0 * torch.randn(50, 5, dtype=dtype)
    context = None if n_context is None else torch.randn(50, n_context, dtype=dtype)
    for direction in ("forward", "inverse"):
        our, their = (getattr(module, direction)(inputs, context) for module in (ours, theirs))
        torch.testing.assert_close(our, their, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_one_feature_without_context_learns_one_transform(shake: Callable) -> None:
    layer = shake(SplineCoupling([True], lambda _, o: LearntParameters(o)))
    outputs, _ = layer(torch.tensor([[0.5], [0.5], [9.0]], dtype=torch.float64))
    assert outputs[0] == outputs[1] != 0.5
    assert outputs[2] == 9.0


@pytest.mark.parametrize("layer", [SplineCoupling, AffineCoupling])
def test_unobserved_features_pass_unchanged(layer: type, shake: Callable) -> None:
    transform = shake(layer(MASK, our_network(5), masked=True))
    inputs, observed = torch.randn(2, 5).double(), torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0]]).double()
    outputs, log_det = transform(inputs, observed)
    unobserved = observed == 0
    assert torch.equal(outputs[unobserved], inputs[unobserved])
    assert log_det[1] == 0 and log_det[0] != 0


@pytest.mark.parametrize("mask", [[False, False], [], [[True]]])
def test_refuses_a_mask_without_work(mask: list) -> None:
    with pytest.raises(
        ConfigurationError, match="mask must be one-dimensional and mark at least one feature"
    ):
        SplineCoupling(mask, our_network(None))


def test_refuses_settings_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match=r"n_bins must lie in 2\.\.500; got 1"):
        SplineCoupling(MASK, our_network(None), n_bins=1)
    with pytest.raises(ConfigurationError, match=r"tail_bound must be positive and finite; got 0\.0"):
        SplineCoupling(MASK, our_network(None), tail_bound=0.0)
    with pytest.raises(ConfigurationError, match="scale must be one of .* got 'tanh'"):
        AffineCoupling(MASK, our_network(None), scale="tanh")
