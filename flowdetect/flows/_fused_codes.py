"""The log-probabilities of codes as one compiled pass, with the numbers of `AutoregressiveCategorical`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowdetect.flows._conditioners import REACH
from flowdetect.flows._fused import NO_CONTEXT, SUM, NetworkPlan, frozen
from flowdetect.flows._kernels import DTYPES, is_plain_cpu, load_kernels
from flowdetect.flows._passes import (
    choose_weights,
    count_blocks,
    in_plain_layers,
    pack,
    plain_gradient,
    run_blocks,
    sum_over_groups,
    unpack,
)

__all__ = ["FusedCodes"]


class FusedCodes(NetworkPlan):
    """What the compiled pass has to know of the distribution of codes.

    Parameters
    ----------
    network : MaskedNetwork
        Its name in its owner is ``network``.
    cardinalities : sequence of int
    order : sequence of int
        The columns of more than one code, counted among these, in the order of the network's outputs.
    smoothing : float
    """

    def __init__(
        self, network: Any, cardinalities: Sequence[int], order: Sequence[int], smoothing: float
    ) -> None:
        context_layer = network.context_layer
        self.n_context = 0 if context_layer is None else context_layer.in_features
        mode = SUM if self.n_context else NO_CONTEXT
        super().__init__("network", network, mode)
        sizes = np.array(cardinalities)
        columns = np.flatnonzero(sizes > 1)
        offsets = np.concatenate([[0], np.cumsum(sizes[columns])])
        self.n_codes, self.n_outputs = len(sizes), int(offsets[-1])
        self.layout = frozen((sizes, columns, offsets, np.array(order), self.first_units))
        shape = (network.hidden_features, len(network.blocks), mode, self.activation)
        self.shape = (0, self.n_context, *shape)
        self.values = (smoothing, REACH)

    def can_run(self, owner: Any, codes: Tensor, context: Tensor | None) -> bool:
        """Return whether the compiled pass can take these tensors."""
        return (
            codes.ndim == 2
            and codes.shape[1] == self.n_codes
            and not codes.requires_grad
            and (0 if context is None else context.shape[-1]) == self.n_context
            and is_plain_cpu(codes, *(() if context is None else (context,)))
            and not in_plain_layers()
            and self.is_current(owner, codes.dtype)
        )

    def __call__(
        self, owner: nn.Module, codes: Tensor, context: Tensor | None, leaves: Sequence[Tensor] | None
    ) -> Tensor:
        """Map codes (n, n_codes) to the log-probability of each column, of the same shape.

        The gradient goes to the leaves, if there are some: vectors that hold all parameters from end to end.
        """
        rows = codes.T.contiguous()
        given = rows.new_empty(0, rows.shape[1]) if context is None else context.T.contiguous()
        weights = choose_weights(leaves, self.parameters())
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (given, *weights))
        found: Tensor = _FusedCodesMap.apply(self, owner, keep, rows, given, *weights)
        return found.T

    def room(self, n_blocks: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return arrays for what the kernels keep of so many blocks."""
        block, (_, _, width, depth, _, _) = load_kernels().BLOCK, self.shape
        hidden = np.empty((n_blocks, 2 * depth + 1, width, block), dtype)
        return hidden, np.empty((n_blocks, self.n_outputs, block), dtype)


class _FusedCodesMap(torch.autograd.Function):
    """The kernels with their gradient; the gradient of a gradient takes plain operations."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: FusedCodes,
        owner: nn.Module,
        keep: bool,
        codes: Tensor,
        context: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        dtype = DTYPES[codes.dtype]
        found, n_blocks = torch.empty_like(codes), count_blocks(codes.shape[1])
        flat = pack(weights, plan.mask(codes.dtype))
        arrays = (codes.numpy(), context.detach().numpy(), flat)
        about = (plan.layout, plan.shape, plan.spans, np.array(plan.values, dtype))
        # Room for two blocks at least tells the kernel to keep them.
        kept = plan.room(max(2, n_blocks), dtype) if keep else None
        results = found.numpy()

        def work(first: int, last: int) -> None:
            load_kernels().codes_forward(
                *arrays, *about, (first, last), results, *(kept or plan.room(1, dtype))
            )

        run_blocks(work, n_blocks, plan.n_weights)
        ctx.about, ctx.arrays, ctx.kept = (plan, owner, about), arrays, kept
        ctx.save_for_backward(codes, context, *weights)
        return found

    @staticmethod
    def backward(ctx: Any, of_found: Tensor) -> tuple[Any, ...]:
        codes, context, *weights = ctx.saved_tensors
        plan, owner, about = ctx.about
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            parameters = {f"owner.network.{name}": own[kind] for name, own, kind in plan.weights}
            given = (codes, context)
            found = plain_gradient(_Columns(owner), parameters, weights, given, wanted, (of_found,))
            return None, None, None, *found
        of_context = torch.zeros_like(context if wanted[1] else context[:0])
        results, given_gradient = of_context.numpy(), of_found.contiguous().numpy()
        # The kernel overwrites the shares; whoever asks again has to find them.
        kept = (ctx.kept[0], ctx.kept[1].copy())

        def work(first: int, last: int, total: np.ndarray) -> None:
            load_kernels().codes_backward(
                *ctx.arrays, *about, (first, last), kept, given_gradient, (results, total)
            )

        total = sum_over_groups(work, count_blocks(codes.shape[1]), ctx.arrays[2])
        total *= plan.mask(codes.dtype)
        of_weights = unpack(torch.from_numpy(total), weights)
        return None, None, None, None, of_context if wanted[1] else None, *of_weights


class _Columns(nn.Module):
    """The plain operations of the distribution, with columns first."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, codes: Tensor, context: Tensor) -> Tensor:
        found: Tensor = self.owner.log_prob_columns(codes.T, context.T if len(context) else None)  # type: ignore[operator]
        return found.T
