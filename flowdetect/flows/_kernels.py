"""The fused spline behind `packed_spline`: same numbers, one pass over the data, on the CPU."""

import functools
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["DTYPES", "fused_spline", "is_fusable", "is_plain_cpu", "load_kernels"]

DTYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}


def is_plain_cpu(*tensors: Tensor) -> bool:
    """Return whether compiled kernels can take these tensors: plain ones, on the CPU, of one dtype."""
    dtype = tensors[0].dtype
    return (
        dtype in DTYPES
        and all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and has_kernels()
    )


def is_fusable(inputs: Tensor, params: Tensor) -> bool:
    """Return whether `fused_spline` can take these tensors."""
    return is_plain_cpu(inputs, params)


def has_kernels() -> bool:
    """Return whether the kernels can be had, that is, whether numba is there."""
    try:
        load_kernels()
    except ImportError:
        return False
    return True


@functools.cache
def load_kernels() -> Any:
    """Import the kernels when they are first needed; ImportError without numba."""
    parts = [importlib.import_module(f"flowdetect.flows.{name}") for name in _MODULES]
    found = {name: getattr(part, name) for part in parts for name in part.__all__}
    return SimpleNamespace(**{**found, "BLOCK": int(found["BLOCK"])})


_MODULES = ("_kernels_numba", "_whole_numba", "_layer_numba", "_order_numba", "_codes_numba")


@functools.cache
def _settings(dtype: torch.dtype, *values: float) -> np.ndarray:
    return np.array(values, DTYPES[dtype])


def fused_spline(
    inputs: Tensor, params: Tensor, *, inverse: bool, tail_bound: float, size_scale: float, least: float
) -> tuple[Tensor, Tensor]:
    """Evaluate splines as `packed_spline` does, where `is_fusable`.

    Parameters
    ----------
    inputs : Tensor of shape (m, n)
    params : Tensor of shape (3 * n_bins - 1, m, n)
        Best stored as (m, 3 * n_bins - 1, n), rows contiguous: then nothing is copied.
    inverse, tail_bound, size_scale
        As in `packed_spline`.
    least : float
        Smallest bin width and height, and smallest derivative.

    Returns
    -------
    outputs, log_det : Tensor of shape (m, n)
    """
    arranged = params.transpose(0, 1).contiguous()
    outputs: tuple[Tensor, Tensor] = _FusedSpline.apply(
        inputs.contiguous(), arranged, inverse, tail_bound, size_scale, least
    )
    return outputs


class _FusedSpline(torch.autograd.Function):
    """The kernels with their gradient; that of the inverse, or of a gradient, takes plain operations."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, params: Tensor, inverse: bool, bound: float, scale: float, least: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(inputs, params)
        ctx.settings = (inverse, bound, scale, least)
        outputs, log_det = torch.empty_like(inputs), torch.empty_like(inputs)
        kernels = load_kernels()
        run = kernels.spline_inverse if inverse else kernels.spline_forward
        arrays = (inputs.detach().numpy(), params.detach().numpy())
        run(*arrays, _settings(inputs.dtype, bound, scale, least), outputs.numpy(), log_det.numpy())
        return outputs, log_det

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Any, ...]:
        inputs, params = ctx.saved_tensors
        inverse, *values = ctx.settings
        none = (None,) * 4
        if inverse or torch.is_grad_enabled():
            return *_plain_gradient(ctx, of_outputs, of_log_det), *none
        of_inputs, of_params = torch.empty_like(inputs), torch.empty_like(params)
        given = (tensor.contiguous().numpy() for tensor in (inputs, params, of_outputs, of_log_det))
        load_kernels().spline_backward(
            *given, _settings(inputs.dtype, *values), of_inputs.numpy(), of_params.numpy()
        )
        return of_inputs, of_params, *none


def _plain_gradient(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients by way of the operations that autograd knows."""
    # Imported here because the two modules need each other.
    from flowdetect.flows._splines import plain_spline

    inputs, params = ctx.saved_tensors
    inverse, bound, scale, least = ctx.settings
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if not again:
            inputs, params = inputs.detach().requires_grad_(), params.detach().requires_grad_()
        outputs = plain_spline(
            inputs,
            params.transpose(0, 1),
            n_bins=(params.shape[1] + 1) // 3,
            inverse=inverse,
            tail_bound=bound,
            size_scale=scale,
            min_sizes=(least, least),
            min_derivative=least,
        )
    needed = [t for t, wanted in zip((inputs, params), ctx.needs_input_grad, strict=False) if wanted]
    found = iter(torch.autograd.grad(outputs, needed, (of_outputs, of_log_det), create_graph=again))
    return tuple(next(found) if wanted else None for wanted in ctx.needs_input_grad[:2])
