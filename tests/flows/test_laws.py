"""What holds for every transform, in one table."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from nflows.transforms.base import CompositeTransform, Transform

from flowdetect.flows import (
    AffineAutoregressive,
    AffineCoupling,
    FlowConfig,
    LULinear,
    Permutation,
    PlainNetwork,
    RandomPermutation,
    ResidualNetwork,
    ReversePermutation,
    SplineAutoregressive,
    SplineCoupling,
    build_flow,
)

N_CONTEXT = 2
residual = partial(ResidualNetwork, n_context=N_CONTEXT, hidden_features=16)
plain = partial(PlainNetwork, n_context=N_CONTEXT, hidden_features=16)
settings = {"n_context": N_CONTEXT, "hidden_features": 16}


def alternating(layer: Callable[..., Transform], network: Callable, **kwargs: object) -> Transform:
    masks = [True, False, True, False], [False, True, False, True]
    return CompositeTransform([layer(mask, network, **kwargs) for mask in masks])


def flow(n_features: int = 4, **kwargs: object) -> Transform:
    config = FlowConfig(n_features, n_context=N_CONTEXT, n_layers=2, hidden_features=16, **kwargs)
    return build_flow(config, seed=3)._transform


TRANSFORMS: dict[str, tuple[int, Callable[[], Transform]]] = {
    "spline coupling": (4, lambda: alternating(SplineCoupling, residual)),
    "spline coupling, plain": (4, lambda: alternating(SplineCoupling, plain, n_bins=4, tail_bound=3.0)),
    "spline coupling, one feature": (1, lambda: SplineCoupling([True], residual)),
    "affine coupling": (4, lambda: alternating(AffineCoupling, residual)),
    "affine coupling, sigmoid": (4, lambda: alternating(AffineCoupling, residual, scale="sigmoid")),
    "affine coupling, softplus": (4, lambda: alternating(AffineCoupling, plain, scale="softplus")),
    "spline autoregressive": (4, lambda: SplineAutoregressive(4, **settings)),
    "spline autoregressive, plain": (
        4,
        lambda: SplineAutoregressive([2, 0, 3, 1], residual=False, **settings),
    ),
    "spline autoregressive, one feature": (1, lambda: SplineAutoregressive(1, **settings)),
    "affine autoregressive": (4, lambda: AffineAutoregressive(4, **settings)),
    "affine autoregressive, softplus": (4, lambda: AffineAutoregressive(4, scale="softplus", **settings)),
    "LU": (4, lambda: LULinear(4)),
    "permutation": (4, lambda: Permutation([2, 0, 3, 1])),
    "reverse": (4, lambda: ReversePermutation(4)),
    "random permutation": (4, lambda: RandomPermutation(4, seed=1)),
    "flow, coupling": (4, flow),
    "flow, LU": (4, lambda: flow(mixing="lu")),
    "flow, autoregressive": (4, lambda: flow(kind="autoregressive", transform="affine", mixing="none")),
    "flow, inverse autoregressive": (4, lambda: flow(kind="iaf")),
    "flow, inverse autoregressive, affine": (4, lambda: flow(kind="iaf", transform="affine", mixing="none")),
    "flow, inverse autoregressive, LU": (4, lambda: flow(kind="iaf", mixing="lu")),
}
MIXING = {"LU", "permutation", "reverse", "random permutation"}
# One MADE network sees the masked-out rows of one feature only: its hidden units read the context alone.
UNUSED = {"spline autoregressive, one feature": {"initial_layer.weight", "linear_layers"}}

every = pytest.mark.parametrize("name", TRANSFORMS)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def build(name: str) -> tuple[Transform, torch.Tensor, torch.Tensor]:
    n_features, make = TRANSFORMS[name]
    return make(), 1.5 * torch.randn(9, n_features), torch.randn(9, N_CONTEXT)


@every
@both_dtypes
def test_round_trip(name: str, dtype: torch.dtype, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform, dtype=dtype), inputs.to(dtype), context.to(dtype)
    outputs, log_det = transform(inputs, context)
    again, log_det_back = transform.inverse(outputs, context)
    tolerance = {torch.float32: 2e-3, torch.float64: 1e-8}[dtype]
    torch.testing.assert_close(again, inputs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det, atol=tolerance, rtol=tolerance)
    assert outputs.dtype == log_det.dtype == dtype
    assert log_det.shape == (9,)


@every
@pytest.mark.parametrize("inverse", [False, True])
def test_log_det_is_that_of_the_jacobian(name: str, inverse: bool, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform), inputs.double()[:3], context.double()[:3]
    apply = transform.inverse if inverse else transform.forward
    _, log_det = apply(inputs, context)
    for row in range(3):
        here = context[row : row + 1]
        matrix = torch.autograd.functional.jacobian(
            lambda x, here=here: apply(x[None], here)[0][0], inputs[row]
        )
        torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], log_det[row], atol=1e-9, rtol=1e-9)


@every
def test_gradient_reaches_every_parameter(name: str, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform = shake(transform)
    outputs, log_det = transform(inputs.double(), context.double())
    if not list(transform.parameters()):
        return
    (outputs.square().sum() + log_det.sum()).backward()
    for parameter_name, parameter in transform.named_parameters():
        if any(part in parameter_name for part in UNUSED.get(name, ())):
            continue
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@every
def test_starts_near_the_identity(name: str) -> None:
    transform, inputs, context = build(name)
    if name in MIXING - {"LU"}:
        return
    outputs, log_det = transform(inputs, context)
    torch.testing.assert_close(outputs, inputs, atol=0.1, rtol=0.0)
    torch.testing.assert_close(log_det, torch.zeros(9), atol=0.1, rtol=0.0)


@every
@pytest.mark.parametrize("size", [1e30, 3e38])
@pytest.mark.parametrize("inverse", [False, True])
def test_extremes_stay_finite(name: str, size: float, inverse: bool, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform = shake(transform, dtype=torch.float32)
    inputs[0], inputs[1], inputs[2, 0], inputs[3, -1] = size, -size, size, -size
    context[4], context[5, 0] = size, -size
    inputs.requires_grad_()
    outputs, log_det = (transform.inverse if inverse else transform)(inputs, context)
    assert torch.isfinite(outputs).all() and torch.isfinite(log_det).all()
    # The mean keeps the loss itself in range; what is tested is the transform.
    (outputs.clamp(-1e3, 1e3).mean() + log_det.mean()).backward()
    assert torch.isfinite(inputs.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in transform.parameters() if p.grad is not None)


@every
@pytest.mark.parametrize("inverse", [False, True])
def test_nan_makes_nan_of_its_row_alone(name: str, inverse: bool, shake: Callable) -> None:
    transform, inputs, context = build(name)
    transform, inputs, context = shake(transform), inputs.double(), context.double()
    apply = transform.inverse if inverse else transform.forward
    clean = apply(inputs, context)
    inputs[3, 0] = torch.nan
    outputs, log_det = apply(inputs, context)
    others = [row for row in range(9) if row != 3]
    torch.testing.assert_close((outputs[others], log_det[others]), (clean[0][others], clean[1][others]))
    assert torch.isnan(outputs[3]).any()


@every
def test_context_reaches_every_feature(name: str, shake: Callable) -> None:
    if name in MIXING:
        return
    transform, inputs, context = build(name)
    transform = shake(transform)
    outputs, _ = transform(inputs.double(), context.double())
    moved, _ = transform(inputs.double(), context.double() + torch.tensor([0.0, 1.0]))
    assert ((outputs - moved).abs().amax(dim=0) > 1e-6).all()


@every
def test_state_goes_round(name: str, shake: Callable) -> None:
    transform, inputs, context = build(name)
    shake(transform, dtype=torch.float32)
    expected = transform.inverse(inputs, context)
    other = TRANSFORMS[name][1]().eval()
    other.inverse(inputs, context)
    other.load_state_dict(transform.state_dict())
    torch.testing.assert_close(other.inverse(inputs, context), expected, atol=1e-6, rtol=1e-6)
