"""Consecutive spline layers as one compiled pass, with the numbers of the layers themselves."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nflows.transforms.base import CompositeTransform, Transform
from torch import Tensor, nn

from flowdetect.flows._fused import FusedLayer
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

__all__ = ["LayerChain", "can_fuse", "fused_map"]


def can_fuse(layers: Sequence[Any], inputs: Tensor, context: Tensor | None, *, inverse: bool) -> bool:
    """Return whether `fused_map` can take these layers and tensors."""
    plan: FusedLayer | None = layers[0].plan
    return (
        plan is not None
        and inputs.ndim == 2
        and inputs.shape[1] == plan.n_features
        and (0 if context is None else context.shape[-1]) == plan.n_context
        and is_plain_cpu(inputs, *(() if context is None else (context,)))
        and not in_plain_layers()
        and all(layer.plan.can_run(layer, inputs.dtype, inverse) for layer in layers)
    )


def fused_map(
    layers: Sequence[Any],
    inputs: Tensor,
    context: Tensor | None,
    *,
    inverse: bool,
    leaves: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Map rows through layers, from the last to the first for the inverse, where `can_fuse`.

    Parameters
    ----------
    layers : sequence of modules with a ``plan``
    inputs : Tensor of shape (n, n_features)
    context : Tensor of shape (n, n_context), optional
    inverse : bool
    leaves : sequence of Tensor, optional
        Vectors that hold all parameters of the layers, in the order of their plans; gradients then go there.

    Returns
    -------
    outputs : Tensor of shape (n, n_features)
    log_det : Tensor of shape (n,)
    """
    columns = inputs.T.contiguous()
    given = columns.new_empty(0, columns.shape[1]) if context is None else context.T.contiguous()
    weights = choose_weights(leaves, _parameters(layers))
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (columns, given, *weights))
    outputs, log_det = _FusedMap.apply(layers, inverse, keep, columns, given, *weights)
    return outputs.T, log_det


class LayerChain(CompositeTransform):
    """Transforms one after the other; neighbours that have a plan as one compiled pass.

    Parameters
    ----------
    transforms : sequence of Transform
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__(transforms)
        self._runs: list[list[Any]] = []
        for transform in self._transforms:
            if self._runs and _fit_together(self._runs[-1][-1], transform):
                self._runs[-1].append(transform)
            else:
                self._runs.append([transform])
        self._leaves: dict[int, Sequence[Tensor]] = {}

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform inputs (n, n_features); return the outputs and log|det| (n,) in nats."""
        return self._map(inputs, context, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; return the outputs and log|det| (n,) of the inverse."""
        return self._map(inputs, context, inverse=True)

    def flat_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each compiled pass, in the order in which it wants them side by side."""
        return [_parameters(run) for run in self._runs if _has_plan(run[0])]

    def use_flat(self, leaves: Sequence[Sequence[Tensor]] | None) -> None:
        """Take the weights from these vectors, some for each of `flat_parameters`; None: from the parameters.

        The parameters have to be views of the memory that the vectors are, from end to end.
        """
        places = [place for place, run in enumerate(self._runs) if _has_plan(run[0])]
        self._leaves = {} if leaves is None else dict(zip(places, leaves, strict=True))

    def _map(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        total: Tensor | None = None
        places = range(len(self._runs))
        for place in reversed(places) if inverse else places:
            run = self._runs[place]
            if _has_plan(run[0]) and can_fuse(run, inputs, context, inverse=inverse):
                leaves = self._leaves.get(place)
                inputs, log_det = fused_map(run, inputs, context, inverse=inverse, leaves=leaves)
            else:
                inputs, log_det = _one_by_one(run, inputs, context, inverse)
            total = log_det if total is None else total + log_det
        return inputs, inputs.new_zeros(len(inputs)) if total is None else total


def _has_plan(transform: Any) -> bool:
    return getattr(transform, "plan", None) is not None


def _fit_together(one: Any, other: Any) -> bool:
    if not _has_plan(one) or not _has_plan(other):
        return False
    shapes = [(layer.plan.n_features, layer.plan.n_context) for layer in (one, other)]
    return shapes[0] == shapes[1]


def _parameters(layers: Sequence[Any]) -> list[nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.plan.parameters()]


def _one_by_one(
    layers: Sequence[Any], inputs: Tensor, context: Tensor | None, inverse: bool
) -> tuple[Tensor, Tensor]:
    total: Tensor | None = None
    for layer in reversed(layers) if inverse else layers:
        inputs, log_det = layer.inverse(inputs, context) if inverse else layer(inputs, context)
        total = log_det if total is None else total + log_det
    return inputs, inputs.new_zeros(len(inputs)) if total is None else total


class _Pass:
    """One call of the kernels for a chain: what they need besides the rows."""

    def __init__(self, layers: Sequence[Any], weights: Sequence[Tensor], inverse: bool) -> None:
        self.layers, self.inverse = layers, inverse
        self.plans: list[FusedLayer] = [layer.plan for layer in layers]
        self.kernels = load_kernels()
        dtype = weights[0].dtype
        self.settings = [plan.settings(dtype) for plan in self.plans]
        self.mask = _mask_of(self.plans, dtype)
        self.weights = pack(weights, self.mask)
        self.stops = np.cumsum([plan.n_weights for plan in self.plans]).tolist()

    def own(self, place: int, vector: np.ndarray) -> np.ndarray:
        """Return a layer's part of a vector of all weights."""
        stop = self.stops[place]
        return vector[stop - self.plans[place].n_weights : stop]

    def map(
        self, context: np.ndarray, blocks: tuple[int, int], columns: np.ndarray, log_det: np.ndarray
    ) -> None:
        """Map some blocks of rows in place; add to log_det."""
        places = range(len(self.plans))
        for place in reversed(places) if self.inverse else places:
            plan = self.plans[place]
            given = (columns, context, self.own(place, self.weights))
            about = (self.settings[place], self.inverse, blocks, columns, log_det)
            if self.inverse and plan.order is not None:
                self.kernels.order_inverse(*given, plan.inverse_layout, plan.units, plan.shape, *about)
            else:
                shape = (plan.layout, plan.shape, plan.spans)
                self.kernels.layer_forward(*given, *shape, *about, *_nothing(columns.dtype))

    def map_and_keep(
        self,
        context: np.ndarray,
        blocks: tuple[int, int],
        stages: np.ndarray,
        log_det: np.ndarray,
        kept: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Map some blocks of rows from the first of the stages to the last; keep what the gradient needs."""
        rows = slice(blocks[0] * self.kernels.BLOCK, blocks[1] * self.kernels.BLOCK)
        for place, plan in enumerate(self.plans):
            before, after = stages[place], stages[place + 1]
            after[:, rows] = before[:, rows]
            given = (before, context, self.own(place, self.weights), plan.layout, plan.shape, plan.spans)
            about = (self.settings[place], self.inverse, blocks, after, log_det)
            self.kernels.layer_forward(*given, *about, *kept[place])

    def gradient(
        self,
        context: np.ndarray,
        blocks: tuple[int, int],
        stages: np.ndarray,
        of_log_det: np.ndarray,
        kept: Sequence[tuple[np.ndarray, np.ndarray]],
        gradients: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Turn the gradient of some blocks of outputs into that of inputs; add to context's and weights'."""
        of_columns, of_context, of_weights = gradients
        for place in reversed(range(len(self.plans))):
            plan = self.plans[place]
            given = (stages[place], context, self.own(place, self.weights))
            results = (of_columns, of_context, self.own(place, of_weights))
            about = (
                plan.layout,
                plan.shape,
                plan.spans,
                self.settings[place],
                blocks,
                kept[place],
                (of_columns, of_log_det),
                results,
            )
            self.kernels.layer_backward(*given, *about)


def _mask_of(plans: Sequence[FusedLayer], dtype: torch.dtype) -> np.ndarray | None:
    """Return 0 for each weight that is left out, 1 for the others; None if none is."""
    if all(plan.order is None for plan in plans):
        return None
    if len(plans) == 1:
        return plans[0].mask(dtype)
    # Kept by the first plan, for as long as its neighbours stay the same.
    neighbours, mask = plans[0].chain_masks.get(dtype, ((), None))
    if mask is None or len(neighbours) != len(plans) or any(map(operator.is_not, neighbours, plans)):
        mask = np.concatenate([plan.mask(dtype) for plan in plans])
        plans[0].chain_masks[dtype] = (tuple(plans), mask)
    return mask


@functools.cache
def _nothing(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays by which the kernels know that nothing is to be kept."""
    return np.empty((0, 0, 0, 0), dtype), np.empty((0, 0, 0), dtype)


def _make_room(plan: FusedLayer, n_blocks: int, kernels: Any, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `layer_forward` keeps for the gradient."""
    n_bins, _, width, depth = plan.shape[:4]
    hidden = np.empty((n_blocks, 2 * depth + 1, width, kernels.BLOCK), dtype)
    states = np.empty((n_blocks, len(plan.layout[1]), kernels.state_size(n_bins)), dtype)
    return hidden, states


class _FusedMap(torch.autograd.Function):
    """The kernels with their gradient; that of the inverse, or of a gradient, takes plain operations."""

    @staticmethod
    def forward(
        ctx: Any,
        layers: Sequence[Any],
        inverse: bool,
        keep: bool,
        columns: Tensor,
        context: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        run = _Pass(layers, weights, inverse)
        n_features, n_rows = columns.shape
        n_blocks, size = count_blocks(n_rows), len(run.weights)
        log_det, given = columns.new_zeros(n_rows), context.detach().numpy()
        totals = log_det.numpy()
        if keep and not inverse:
            stages = columns.new_empty(len(layers) + 1, n_features, n_rows)
            stages[0] = columns
            kept = [_make_room(plan, n_blocks, run.kernels, DTYPES[columns.dtype]) for plan in run.plans]
            steps = stages.numpy()
            run_blocks(lambda *blocks: run.map_and_keep(given, blocks, steps, totals, kept), n_blocks, size)
            ctx.kept, outputs = (steps, kept), stages[-1]
        else:
            outputs = columns.detach().clone()
            mapped = outputs.numpy()
            run_blocks(lambda *blocks: run.map(given, blocks, mapped, totals), n_blocks, size)
        ctx.run = run
        ctx.save_for_backward(columns, context, *weights)
        return outputs, log_det

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Any, ...]:
        columns, context, *weights = ctx.saved_tensors
        run, wanted = ctx.run, ctx.needs_input_grad[3:]
        if run.inverse or torch.is_grad_enabled():
            parameters = _named(run.layers)
            given, gradients = (columns, context), (of_outputs, of_log_det)
            found = plain_gradient(_Together(run), parameters, weights, given, wanted, gradients)
            return None, None, None, *found
        stages, kept = ctx.kept
        of_columns = of_outputs.contiguous().clone()
        of_context = torch.zeros_like(context if wanted[1] else context[:0])
        results = (of_columns.numpy(), of_context.numpy())
        arrays, given = (stages, of_log_det.contiguous().numpy(), kept), context.detach().numpy()

        def work(first: int, last: int, total: np.ndarray) -> None:
            run.gradient(given, (first, last), *arrays, (*results, total))

        total = sum_over_groups(work, count_blocks(columns.shape[1]), run.weights)
        if run.mask is not None:
            total *= run.mask
        of_weights = unpack(torch.from_numpy(total), weights)
        return None, None, None, of_columns, of_context if wanted[1] else None, *of_weights


class _Together(nn.Module):
    """The layers of a pass, one after the other, with features first."""

    def __init__(self, run: _Pass) -> None:
        super().__init__()
        self.layers = nn.ModuleList(run.layers)
        self.reverse = run.inverse

    def forward(self, columns: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        given = context.T if len(context) else None
        outputs, log_det = _one_by_one(list(self.layers), columns.T, given, self.reverse)
        return outputs.T, log_det


def _named(layers: Sequence[Any]) -> dict[str, Tensor]:
    """Return the parameters of `_Together` by name."""
    names = [
        f"layers.{place}.{layer.plan.name}.{name}"
        for place, layer in enumerate(layers)
        for name, _, _ in layer.plan.weights
    ]
    return dict(zip(names, _parameters(layers), strict=True))
