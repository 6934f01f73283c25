"""The fused spline behind `packed_spline`: same numbers, one pass over the data, on the CPU."""

import functools
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["fused_spline", "is_fusable"]

_DTYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}


def is_fusable(inputs: Tensor, params: Tensor) -> bool:
    """Return whether the compiled kernels can take these tensors: plain CPU tensors, and numba is there."""
    return (
        inputs.dtype in _DTYPES
        and params.dtype == inputs.dtype
        and inputs.device.type == params.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and _kernels() is not None
    )


@functools.cache
def _kernels() -> ModuleType | None:
    """Import the kernels when they are first needed; None without numba."""
    try:
        from flowdetect.flows import _kernels_numba
    except ImportError:
        return None
    return _kernels_numba


@functools.cache
def _constants(dtype: torch.dtype, least: float) -> tuple[np.ndarray, np.ndarray]:
    kernels = _kernels()
    if kernels is None:  # is_fusable has been asked before
        raise ImportError("numba is needed for the fused spline")
    floats, layout = kernels.constants(np.dtype(_DTYPES[dtype]), least)
    return floats, layout


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
        kernels = _kernels()
        run = kernels.spline_inverse if inverse else kernels.spline_forward  # type: ignore[union-attr]
        real = _DTYPES[inputs.dtype]
        arrays = (inputs.detach().numpy(), params.detach().numpy(), real(bound), real(scale))
        run(*arrays, *_constants(inputs.dtype, least), outputs.numpy(), log_det.numpy())
        return outputs, log_det

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Any, ...]:
        inputs, params = ctx.saved_tensors
        inverse, bound, scale, least = ctx.settings
        none = (None,) * 4
        if inverse or torch.is_grad_enabled():
            return *_plain_gradient(ctx, of_outputs, of_log_det), *none
        of_inputs, of_params = torch.empty_like(inputs), torch.empty_like(params)
        real = _DTYPES[inputs.dtype]
        given = (tensor.contiguous().numpy() for tensor in (inputs, params, of_outputs, of_log_det))
        kernels = _kernels()
        kernels.spline_backward(  # type: ignore[union-attr]
            *given,
            real(bound),
            real(scale),
            *_constants(inputs.dtype, least),
            of_inputs.numpy(),
            of_params.numpy(),
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
