import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline

from flowdetect.flows import rational_quadratic_spline

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


def make(n_rows: int = 400, n_bins: int = 8, dtype: torch.dtype = torch.float64, size: float = 1.0):
    inputs = torch.linspace(-4.4, 4.6, n_rows, dtype=dtype)
    widths, heights = (size * torch.randn(n_rows, n_bins, dtype=dtype) for _ in range(2))
    return inputs, widths, heights, size * torch.randn(n_rows, n_bins - 1, dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("n_bins", [2, 8, 20])
def test_agrees_with_nflows(dtype: torch.dtype, inverse: bool, n_bins: int) -> None:
    inputs, *params = make(dtype=dtype, n_bins=n_bins, size=0.7)
    ours = rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0)
    theirs = unconstrained_rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("inverse", [False, True])
def test_minimal_sizes_may_differ(inverse: bool) -> None:
    inputs, *params = make()
    least = {"min_bin_width": 0.02, "min_bin_height": 0.05, "min_derivative": 0.1}
    ours = rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0, **least)
    theirs = unconstrained_rational_quadratic_spline(
        inputs, *params, inverse=inverse, tail_bound=3.0, **least
    )
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_of_first_and_second_order(inverse: bool) -> None:
    def both(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rational_quadratic_spline(*tensors, inverse=inverse, tail_bound=3.0)

    tensors = tuple(tensor.requires_grad_() for tensor in make(n_rows=7, n_bins=4))
    assert torch.autograd.gradcheck(both, tensors)
    assert torch.autograd.gradgradcheck(both, tensors)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_agree_with_nflows(inverse: bool) -> None:
    gradients = []
    for spline in (rational_quadratic_spline, unconstrained_rational_quadratic_spline):
        torch.default_generator.manual_seed(3)
        tensors = [tensor.requires_grad_() for tensor in make()]
        outputs, log_det = spline(*tensors, inverse=inverse, tail_bound=3.0)
        gradients.append(torch.autograd.grad((outputs.square() + log_det).sum(), tensors))
    torch.testing.assert_close(*gradients, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_finite_for_every_finite_input(inverse: bool, size: float) -> None:
    extremes = [0.0, 3.0, -3.0, 3.0000002, 1e30, -1e30, 3e38, -3e38, 1e-45]
    inputs = torch.tensor(extremes, requires_grad=True)
    params = [tensor.requires_grad_() for tensor in make(len(extremes), dtype=torch.float32, size=size)[1:]]
    outputs, log_det = rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0)
    gradients = torch.autograd.grad(outputs.sum() + log_det.sum(), [inputs, *params])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (outputs, log_det, *gradients))
    assert torch.equal(outputs[4:8], inputs[4:8])
    assert torch.equal(log_det[4:8], torch.zeros(4))


@pytest.mark.parametrize("inverse", [False, True])
def test_nan_stays_nan_and_alone(inverse: bool) -> None:
    inputs, *params = make(n_rows=5)
    clean = rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0)
    inputs[2] = torch.nan
    params[0][4] = torch.nan
    inputs[4] = 1.0
    for dirty, expected in zip(
        rational_quadratic_spline(inputs, *params, inverse=inverse, tail_bound=3.0), clean, strict=True
    ):
        assert torch.isnan(dirty[2]) and torch.isnan(dirty[4])
        assert torch.equal(dirty[[0, 1, 3]], expected[[0, 1, 3]])


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_inverse_is_accurate_in_float32(size: float) -> None:
    inputs, *params = make(n_rows=20_000, dtype=torch.float32, size=size)
    outputs, log_det = rational_quadratic_spline(inputs, *params, inverse=True, tail_bound=3.0)
    again, log_det_back = rational_quadratic_spline(outputs, *params, tail_bound=3.0)
    torch.testing.assert_close(again, inputs, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-2, rtol=0.0)


def test_shape_is_free() -> None:
    inputs, *params = make(n_rows=24)
    flat = rational_quadratic_spline(inputs, *params, tail_bound=3.0)
    folded = [tensor.reshape(2, 3, 4, *tensor.shape[1:]) for tensor in (inputs, *params)]
    for one, other in zip(flat, rational_quadratic_spline(*folded, tail_bound=3.0), strict=True):
        assert torch.equal(one.reshape(2, 3, 4), other)


def test_works_under_functional_transforms() -> None:
    inputs, *params = make(n_rows=5)

    def log_det(x: torch.Tensor, *settings: torch.Tensor) -> torch.Tensor:
        return rational_quadratic_spline(x, *settings, tail_bound=3.0)[1]

    found = torch.func.vmap(torch.func.grad(log_det))(inputs, *params)
    inputs.requires_grad_()
    expected = torch.autograd.grad(log_det(inputs, *params).sum(), inputs)[0]
    torch.testing.assert_close(found, expected)


def test_derivative_is_continuous_at_the_ends_of_the_box() -> None:
    _, *params = make(n_rows=1)
    inputs = torch.tensor([-3.0 + 1e-9, 3.0 - 1e-9], dtype=torch.float64)
    _, log_det = rational_quadratic_spline(inputs, *(p.expand(2, -1) for p in params), tail_bound=3.0)
    assert log_det.abs().max() < 1e-6
