from collections.abc import Callable

import pytest
import torch
from nflows.transforms.autoregressive import (
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
)

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import AffineAutoregressive, SplineAutoregressive

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


def pair(kind: str, n_context: int | None, residual: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = {
        "features": 5,
        "hidden_features": 16,
        "context_features": n_context,
        "use_residual_blocks": residual,
        "activation": torch.nn.functional.silu,
    }
    ours = {"n_context": n_context or 0, "hidden_features": 16, "residual": residual}
    if kind == "affine":
        return MaskedAffineAutoregressiveTransform(**theirs), AffineAutoregressive(
            5, scale="softplus", **ours
        )
    return (
        MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            num_bins=6, tails="linear", tail_bound=4.0, **theirs
        ),
        SplineAutoregressive(5, n_bins=6, tail_bound=4.0, **ours),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["spline", "affine"])
@pytest.mark.parametrize("n_context", [None, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_same_weights_same_numbers_as_nflows(
    dtype: torch.dtype,
    kind: str,
    n_context: int | None,
    residual: bool,
    shake: Callable,
    sort_units: Callable,
) -> None:
    theirs, ours = pair(kind, n_context, residual)
    shake(theirs, dtype=dtype)
    state = sort_units(theirs.state_dict())
    missing, unexpected = ours.to(dtype).load_state_dict(state, strict=False)
    assert not unexpected
    # What nflows has no counterpart of leads the context where it does not go there, and starts at zero.
    assert all("first_network" in name or ("context_layer" in name and not residual) for name in missing)
    inputs = 2.0 * torch.randn(50, 5, dtype=dtype)
    context = None if n_context is None else torch.randn(50, n_context, dtype=dtype)
    for direction in ("forward", "inverse"):
        our, their = (getattr(module, direction)(inputs, context) for module in (ours, theirs))
        torch.testing.assert_close(our, their, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("layer", [SplineAutoregressive, AffineAutoregressive])
def test_features_depend_on_those_before_them_alone(layer: type, shake: Callable) -> None:
    order = [2, 0, 3, 1]
    transform = shake(layer(order, hidden_features=16))
    matrix = torch.autograd.functional.jacobian(
        lambda x: transform(x[None])[0][0], torch.randn(4, dtype=torch.float64)
    )
    in_order = matrix[order][:, order]
    assert (in_order.triu(1) == 0).all()
    assert (in_order.tril()[torch.tril_indices(4, 4).unbind()] != 0).all()


@pytest.mark.parametrize("layer", [SplineAutoregressive, AffineAutoregressive])
def test_unobserved_features_pass_unchanged(layer: type, shake: Callable) -> None:
    transform = shake(layer(3, n_context=3, hidden_features=8, masked=True))
    inputs, observed = torch.randn(2, 3).double(), torch.tensor([[1, 0, 1], [0, 0, 0]]).double()
    for apply in (transform.forward, transform.inverse):
        outputs, log_det = apply(inputs, observed)
        assert torch.equal(outputs[observed == 0], inputs[observed == 0])
        assert log_det[1] == 0 and log_det[0] != 0


@pytest.mark.parametrize("order", [[0, 0], [1, 2], [], 0])
def test_refuses_what_is_no_order(order: object) -> None:
    with pytest.raises(ConfigurationError, match="order must be a number of features"):
        SplineAutoregressive(order)
