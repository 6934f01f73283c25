"""The fused spline against the plain one: values, gradients, extremes, NaN, and when it steps aside."""

import pytest
import torch
from torch import Tensor

from flowdetect.flows import FlowConfig, _kernels, _splines, build_flow

K, BOUND = 6, 4.0
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-10}


def draw(dtype: torch.dtype, n_rows: int = 301, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = 3.0 * torch.randn(4, n_rows, generator=generator, dtype=torch.float64)
    params = spread * torch.randn(3 * K - 1, 4, n_rows, generator=generator, dtype=torch.float64)
    return inputs.to(dtype), params.to(dtype)


def fused(inputs: Tensor, params: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    assert _kernels.is_fusable(inputs, params)
    return _kernels.fused_spline(
        inputs, params, inverse=inverse, tail_bound=BOUND, size_scale=0.3, least=1e-3
    )


def plain(inputs: Tensor, params: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    return _splines.plain_spline(inputs, params, n_bins=K, inverse=inverse, tail_bound=BOUND, size_scale=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inverse", [False, True])
def test_values_are_those_of_the_plain_spline(dtype: torch.dtype, inverse: bool) -> None:
    inputs, params = draw(dtype)
    for ours, reference in zip(fused(inputs, params, inverse), plain(inputs, params, inverse), strict=True):
        torch.testing.assert_close(ours, reference, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_the_plain_spline(dtype: torch.dtype, inverse: bool) -> None:
    inputs, params = (tensor.requires_grad_() for tensor in draw(dtype, spread=1.0))
    weights = torch.linspace(-1.0, 1.0, inputs.numel(), dtype=dtype).view_as(inputs)
    found = []
    for spline in (fused, plain):
        outputs, log_det = spline(inputs, params, inverse)
        found.append(
            torch.autograd.grad((weights * outputs + (1 - weights) * log_det).sum(), (inputs, params))
        )
    tolerance = {torch.float32: 2e-3, torch.float64: 1e-9}[dtype]
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)


def test_gradcheck_and_gradgradcheck_pass() -> None:
    inputs, params = (tensor.requires_grad_() for tensor in draw(torch.float64, n_rows=2, spread=1.0))
    assert torch.autograd.gradcheck(fused, (inputs, params))
    assert torch.autograd.gradgradcheck(fused, (inputs, params))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inverse", [False, True])
def test_extremes_stay_finite_and_nan_stays_in_its_place(dtype: torch.dtype, inverse: bool) -> None:
    inputs, params = draw(dtype, n_rows=9)
    inputs[0] = torch.tensor([1e30, -1e30, BOUND, -BOUND, 0.0, 3e38, -3e38, 1.0, torch.nan], dtype=dtype)
    params[:, 1] *= 1e4
    params[3, 2, 5] = torch.nan
    inputs[2] = 0.5
    outputs, log_det = fused(inputs, params, inverse)
    wrong = torch.zeros(4, 9, dtype=torch.bool)
    wrong[0, 8] = wrong[2, 5] = True
    for result in (outputs, log_det):
        assert torch.equal(torch.isnan(result), wrong)
        assert bool(result[~wrong].isfinite().all())
    assert outputs[0, :2].tolist() == inputs[0, :2].tolist()


def test_results_do_not_depend_on_the_other_rows() -> None:
    inputs, params = draw(torch.float64)
    together = fused(inputs, params)
    alone = fused(inputs[:, 7:8], params[:, :, 7:8])
    for whole, part in zip(together, alone, strict=True):
        torch.testing.assert_close(whole[:, 7:8], part, rtol=1e-13, atol=1e-13)


def test_it_steps_aside_for_other_dtypes_and_transforms() -> None:
    inputs, params = draw(torch.float64, n_rows=2)
    assert not _kernels.is_fusable(inputs.half(), params.half())
    assert not _kernels.is_fusable(inputs.to("meta"), params.to("meta"))
    seen = []
    torch.func.vmap(lambda x: seen.append(_kernels.is_fusable(x, params)) or x)(inputs)
    assert seen == [False]


def test_the_plain_operations_serve_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> object:
        raise ImportError("no numba")

    monkeypatch.setattr(_kernels, "load_kernels", refuse)
    inputs, params = draw(torch.float64, n_rows=2)
    assert not _kernels.is_fusable(inputs, params)
    ours = _splines.packed_spline(inputs, params, n_bins=K, tail_bound=BOUND, size_scale=0.3)
    assert torch.equal(ours[0], plain(inputs, params)[0])
    for kind in ("coupling", "autoregressive"):
        flow = build_flow(FlowConfig(3, kind=kind), seed=0)
        assert bool(flow.log_prob(torch.zeros(2, 3)).isfinite().all())
