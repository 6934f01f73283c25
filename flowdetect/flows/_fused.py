"""Spline layers as one compiled pass: network, splines and gradient, with the numbers of the plain layers."""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from flowdetect._utils.threads import count_parts, run_parts
from flowdetect.flows._conditioners import ACTIVATIONS, REACH, ResidualNetwork
from flowdetect.flows._elementwise import SplineMap
from flowdetect.flows._kernels import DTYPES, is_plain_cpu, load_kernels
from flowdetect.flows._masked_networks import MaskedLinear, MaskedNetwork

__all__ = ["FusedLayer", "plain_layers", "plan_coupling", "plan_order"]

_NO_CONTEXT, _GATE, _SUM = 0, 1, 2
_ACTIVATION_NUMBERS = {ACTIVATIONS["relu"]: 0, ACTIVATIONS["silu"]: 1}
# A block has 64 rows; for fewer blocks waking a thread costs about what it saves. A training step of the
# usual size stays in one thread, so that its sums do not depend on the number of cores.
_BLOCKS_PER_THREAD, _TRAINING_BLOCKS_PER_THREAD = 8, 16
_MINIMUM = 1e-3

_switch = threading.local()


@contextmanager
def plain_layers() -> Iterator[None]:
    """Let layers called in this thread work by torch's own operations."""
    before = in_plain_layers()
    _switch.plain = True
    try:
        yield
    finally:
        _switch.plain = before


def in_plain_layers() -> bool:
    """Return whether this thread is inside `plain_layers`."""
    return getattr(_switch, "plain", False)


class FusedLayer:
    """What the compiled pass has to know of a layer.

    Parameters
    ----------
    name : str
        Name of the network in the layer.
    network : ResidualNetwork or MaskedNetwork
    spline : SplineMap
    read, changed : ndarray of int
        Features that the network reads, and that are transformed.
    n_features, n_context : int
        Width of the rows and of the context.
    scale : float
        Factor on the widths and heights of bins.
    masked : bool
        Whether the context starts with the observed indicator.
    order : sequence of int, optional
        Of an autoregressive layer: its features in their order.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        spline: SplineMap,
        *,
        read: np.ndarray,
        changed: np.ndarray,
        n_features: int,
        n_context: int,
        scale: float,
        masked: bool,
        order: Sequence[int] | None = None,
    ) -> None:
        self.name, self.network, self.n_features, self.n_context = name, network, n_features, n_context
        self.order = None if order is None else np.array(order)
        mode = _NO_CONTEXT if not n_context else _GATE if order is None else _SUM
        self.weights = _list_weights(network, mode)
        first = getattr(network, "first_network", None)
        first_units = 0 if first is None else int(first.hidden_layer.out_features)
        width = network.initial_layer.out_features
        activation = _ACTIVATION_NUMBERS[network.blocks[0].activation]
        self.shape = (spline.n_bins, n_context, width, len(network.blocks), mode, activation)
        self.layout = (
            read,
            changed,
            int(order[0]) if order is not None and first else -1,
            first_units,
            masked,
        )
        self.inverse_layout = (self.order, first_units, masked)
        self.units = None if order is None else _by_degree(network, n_features)
        self._values = (spline.tail_bound, scale, _MINIMUM, REACH)
        self._settings: dict[torch.dtype, np.ndarray] = {}
        self._masks: dict[torch.dtype, Tensor | None] = {}

    def can_run(self, network: nn.Module, inputs: Tensor, context: Tensor | None, inverse: bool) -> bool:
        """Return whether the compiled pass can take these tensors, in the mode the network is in."""
        width = 0 if context is None else context.shape[-1]
        weight = self.weights[0][1]["weight"]
        return (
            network is self.network
            and inputs.ndim == 2
            and inputs.shape[1] == self.n_features
            and width == self.n_context
            and is_plain_cpu(inputs, weight, *(() if context is None else (context,)))
            and not in_plain_layers()
            and not (network.training and network.blocks[0].dropout.p > 0.0)
            and not (inverse and self.order is not None and torch.is_grad_enabled())
        )

    def __call__(
        self, layer: nn.Module, inputs: Tensor, context: Tensor | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Map inputs (n, n_features); return outputs and log|det| (n,)."""
        columns = inputs.T.contiguous()
        given = columns.new_empty(0, columns.shape[1]) if context is None else context.T.contiguous()
        weights = [own[kind] for _, own, kind in self.weights]
        outputs, log_det = _FusedMap.apply(self, layer, inverse, columns, given, *weights)
        return outputs.T, log_det

    def settings(self, dtype: torch.dtype) -> np.ndarray:
        """Return (bound, scale, minimum, reach)."""
        if dtype not in self._settings:
            self._settings[dtype] = np.array(self._values, DTYPES[dtype])
        return self._settings[dtype]

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """Return 0 for each weight that a masked network leaves out, 1 for the others, as one vector."""
        if dtype not in self._masks:
            self._masks[dtype] = None if self.order is None else self._find_mask(dtype)
        return self._masks[dtype]

    def _find_mask(self, dtype: torch.dtype) -> Tensor:
        masks = {
            f"{name}.weight": module.mask
            for name, module in self.network.named_modules()
            if isinstance(module, MaskedLinear)
        }
        parts = [masks.get(name, torch.ones_like(own[kind])) for name, own, kind in self.weights]
        return torch.cat([part.detach().reshape(-1) for part in parts]).to(dtype)

    def pack(self, weights: Sequence[Tensor]) -> Tensor:
        """Return all weights as one vector, without those that the mask leaves out."""
        flat: Tensor = torch._utils._flatten_dense_tensors(weights)
        mask = self.mask(flat.dtype)
        return flat if mask is None else flat.mul_(mask)


def plan_coupling(
    network: nn.Module, spline: Any, read: Tensor, changed: Tensor, n_features: int, masked: bool
) -> FusedLayer | None:
    """Return the compiled pass of a coupling layer; None for maps and networks that it does not know."""
    if not isinstance(spline, SplineMap) or type(network) is not ResidualNetwork:
        return None
    return FusedLayer(
        "transform_net",
        network,
        spline,
        read=read.numpy().copy(),
        changed=changed.numpy().copy(),
        n_features=n_features,
        n_context=network.initial_layer.in_features - len(read),
        scale=1.0 / math.sqrt(network.hidden_features),
        masked=masked,
    )


def plan_order(network: Any, spline: Any, order: Sequence[int], masked: bool) -> FusedLayer | None:
    """Return the compiled pass of an autoregressive layer; None for maps and networks not known to it."""
    plain = isinstance(network, MaskedNetwork) and type(network.initial_layer) is MaskedLinear
    if not isinstance(spline, SplineMap) or not plain or not network.residual:
        return None
    every = np.arange(len(order))
    return FusedLayer(
        "autoregressive_net",
        network,
        spline,
        read=every,
        changed=every,
        n_features=len(order),
        n_context=network.context_layer.in_features if network.context_layer is not None else 0,
        scale=1.0,
        masked=masked,
        order=order,
    )


def _list_weights(network: Any, mode: int) -> list[tuple[str, dict[str, Any], str]]:
    """Return name, owner and kind of the parameters, in the order in which the kernels want them.

    The owner is the dictionary in which torch keeps a module's parameters: what is in it now, counts.
    """
    parts: list[tuple[str, nn.Module]] = [("initial_layer", network.initial_layer)]
    if mode == _SUM:
        parts.append(("context_layer", network.context_layer))
    for i, block in enumerate(network.blocks):
        parts += [(f"blocks.{i}.linear_layers.{j}", part) for j, part in enumerate(block.linear_layers)]
        if mode != _NO_CONTEXT:
            parts.append((f"blocks.{i}.context_layer", block.context_layer))
    parts.append(("final_layer", network.final_layer))
    if getattr(network, "first_network", None) is not None:
        parts.append(("first_network.hidden_layer", network.first_network.hidden_layer))
        parts.append(("first_network.final_layer", network.first_network.final_layer))
    return [
        (f"{name}.{kind}", part._parameters, kind)
        for name, part in parts
        for kind in ("weight", "bias")
        if part._parameters[kind] is not None
    ]


def _by_degree(network: MaskedNetwork, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden units by degree, and how many have at most the degree 0 .. n_features - 1."""
    degrees = network.initial_layer.degrees.numpy()  # type: ignore[operator]
    ends = np.searchsorted(np.sort(degrees), np.arange(n_features), side="right")
    return np.argsort(degrees, kind="stable"), ends


class _FusedMap(torch.autograd.Function):
    """The kernels with their gradient; that of the inverse, or of a gradient, takes plain operations."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: FusedLayer,
        layer: nn.Module,
        inverse: bool,
        columns: Tensor,
        context: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        kernels = load_kernels()
        flat = plan.pack(weights)
        keep = not inverse and any(ctx.needs_input_grad)
        n_blocks = -(-columns.shape[1] // kernels.BLOCK)
        kept = _make_room(plan, n_blocks if keep else 0, kernels, DTYPES[columns.dtype])
        outputs, log_det = columns.clone(), columns.new_empty(columns.shape[1])
        arrays = (columns.detach().numpy(), context.detach().numpy(), flat.numpy())
        results = (outputs.numpy(), log_det.numpy())
        about = (plan.shape, plan.settings(columns.dtype), inverse)

        def work(_: int, first: int, last: int) -> None:
            if inverse and plan.order is not None:
                layout = plan.inverse_layout
                kernels.order_inverse(*arrays, layout, plan.units, *about, (first, last), *results)
            else:
                kernels.layer_forward(*arrays, plan.layout, *about, (first, last), *results, *kept)

        least = _TRAINING_BLOCKS_PER_THREAD if keep else _BLOCKS_PER_THREAD
        run_parts(work, n_blocks, units_per_thread=least)
        ctx.plan, ctx.layer, ctx.inverse, ctx.kept = plan, layer, inverse, (arrays, kept)
        ctx.save_for_backward(columns, context, *weights)
        return outputs, log_det

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Any, ...]:
        columns, context, *weights = ctx.saved_tensors
        if ctx.inverse or torch.is_grad_enabled():
            return None, None, None, *_plain_gradient(ctx, of_outputs, of_log_det)
        kernels, plan = load_kernels(), ctx.plan
        arrays, kept = ctx.kept
        wants_context = ctx.needs_input_grad[4]
        of_outputs = of_outputs.contiguous()
        of_columns = of_outputs.clone()
        of_context = torch.zeros_like(context if wants_context else context[:0])
        n_blocks = -(-columns.shape[1] // kernels.BLOCK)
        of_weights = columns.new_zeros(count_parts(n_blocks, _TRAINING_BLOCKS_PER_THREAD), len(arrays[2]))
        own_gradients = of_weights.numpy()
        given = (of_outputs.numpy(), of_log_det.contiguous().numpy())
        results = (of_columns.numpy(), of_context.numpy())
        about = (plan.layout, plan.shape, plan.settings(columns.dtype))

        def work(part: int, first: int, last: int) -> None:
            own = own_gradients[part]
            kernels.layer_backward(*arrays, *about, (first, last), kept, given, (*results, own))

        run_parts(work, n_blocks, units_per_thread=_TRAINING_BLOCKS_PER_THREAD)
        total = of_weights[0] if len(of_weights) == 1 else of_weights.sum(0)
        mask = plan.mask(columns.dtype)
        if mask is not None:
            total.mul_(mask)
        shaped = torch._utils._unflatten_dense_tensors(total, weights)
        return None, None, None, of_columns, of_context if wants_context else None, *shaped


def _make_room(plan: FusedLayer, n_blocks: int, kernels: Any, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `layer_forward` keeps for the gradient."""
    n_bins, _, width, depth = plan.shape[:4]
    hidden = np.empty((n_blocks, 2 * depth + 1, width, kernels.BLOCK), dtype)
    states = np.empty((n_blocks, len(plan.layout[1]), kernels.state_size(n_bins)), dtype)
    return hidden, states


def _plain_gradient(ctx: Any, of_outputs: Tensor, of_log_det: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients by way of the operations that autograd knows."""
    saved = list(ctx.saved_tensors)
    wanted = ctx.needs_input_grad[3:]
    again = torch.is_grad_enabled()
    with torch.enable_grad(), plain_layers():
        if not again:
            saved = [tensor.detach().requires_grad_(want) for tensor, want in zip(saved, wanted, strict=True)]
        columns, context, *weights = saved
        run = _Inverse(ctx.layer) if ctx.inverse else ctx.layer
        prefix = ("layer." if ctx.inverse else "") + ctx.plan.name
        names = [f"{prefix}.{name}" for name, _, _ in ctx.plan.weights]
        given = (columns.T, context.T if len(context) else None)
        outputs, log_det = functional_call(run, dict(zip(names, weights, strict=True)), given)
        asked = [tensor for tensor, want in zip(saved, wanted, strict=True) if want]
        gradients = (of_outputs, of_log_det)
        found = torch.autograd.grad(
            (outputs.T, log_det), asked, gradients, create_graph=again, allow_unused=True
        )
    results = iter(found)
    return tuple(next(results) if want else None for want in wanted)


class _Inverse(nn.Module):
    """A layer the other way round."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = self.layer.inverse(inputs, context)
        return outputs
