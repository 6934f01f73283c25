"""What the compiled passes have to know of spline layers and their networks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowdetect.flows._conditioners import ACTIVATIONS, REACH, ResidualNetwork
from flowdetect.flows._elementwise import SplineMap
from flowdetect.flows._kernels import DTYPES
from flowdetect.flows._masked_networks import MaskedLinear, MaskedNetwork

__all__ = ["NO_CONTEXT", "SUM", "FusedLayer", "NetworkPlan", "frozen", "plan_coupling", "plan_order"]

NO_CONTEXT, _GATE, SUM = 0, 1, 2
_ACTIVATION_NUMBERS = {ACTIVATIONS["relu"]: 0, ACTIVATIONS["silu"]: 1}
_MINIMUM = 1e-3


def frozen(value: Any) -> Any:
    """Return an array, or the arrays of a tuple, as read-only ones; anything else as it is.

    numba compiles read-only arrays apart from others: were they a mixture, a copy of a model would wait for
    kernels of its own, whose last bit may differ.
    """
    if isinstance(value, tuple):
        return tuple(frozen(part) for part in value)
    if isinstance(value, np.ndarray):
        value = np.asarray(value).view()
        value.setflags(write=False)
    return value


# What the kernels take for: nothing is known to be 0.
EVERYTHING = frozen(np.array([[0, 2**62]]))


class NetworkPlan:
    """What a compiled pass has to know of a network, and when it is of use.

    Parameters
    ----------
    name : str
        Name of the network in the module it is a part of.
    network : ResidualNetwork or MaskedNetwork
    mode : int
        How the context enters: not, as a gate, as a sum.
    """

    def __init__(self, name: str, network: Any, mode: int) -> None:
        self.name, self.network = name, network
        self.weights = _list_weights(network, mode)
        self.n_weights = sum(parameter.numel() for parameter in self.parameters())
        first = getattr(network, "first_network", None)
        self.first_units = 0 if first is None else int(first.hidden_layer.out_features)
        self.activation = _ACTIVATION_NUMBERS[network.blocks[0].activation]
        self.spans: tuple[np.ndarray, ...] = _hidden_spans(network)
        self._dropout = network.blocks[0].dropout
        self._masks: dict[torch.dtype, np.ndarray] = {}
        self.chain_masks: dict[torch.dtype, tuple[tuple[Any, ...], np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the rest is not worth its place in a pickle.
        return {**self.__dict__, "_masks": {}, "chain_masks": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copied array can be written to.
        self.__dict__.update({name: frozen(value) for name, value in state.items()})

    def is_current(self, owner: Any, dtype: torch.dtype) -> bool:
        """Return whether the owner still has this network, in a state that the compiled pass knows."""
        weight = self.weights[0][1]["weight"]
        return (
            getattr(owner, self.name) is self.network
            and weight.dtype == dtype
            and weight.device.type == "cpu"
            and not (self._dropout.training and self._dropout.p > 0.0)
        )

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters, in the order in which the kernels want them."""
        return [own[kind] for _, own, kind in self.weights]

    def mask(self, dtype: torch.dtype) -> np.ndarray:
        """Return 0 for each weight that a masked network leaves out, 1 for the others, as one vector."""
        if dtype not in self._masks:
            parts = dict(self.network.named_modules())
            masks = {f"{name}.weight": part.mask for name, part in parts.items() if hasattr(part, "mask")}
            found = [masks.get(name, torch.ones_like(own[kind])) for name, own, kind in self.weights]
            whole = np.concatenate([part.detach().cpu().numpy().ravel() for part in found])
            self._masks[dtype] = whole.astype(DTYPES[dtype])
        return self._masks[dtype]


class FusedLayer(NetworkPlan):
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
        mode = NO_CONTEXT if not n_context else _GATE if order is None else SUM
        super().__init__(name, network, mode)
        self.n_features, self.n_context = n_features, n_context
        self.order = None if order is None else np.array(order)
        width = network.initial_layer.out_features
        self.shape = (spline.n_bins, n_context, width, len(network.blocks), mode, self.activation)
        first = int(order[0]) if order is not None and self.first_units else -1
        self.layout = frozen((read, changed, first, self.first_units, masked))
        self.inverse_layout = frozen((self.order, self.first_units, masked))
        self.units = None if order is None else frozen(_by_degree(network, n_features))
        last = EVERYTHING if order is None else _last_spans(network, spline.n_params)
        self.spans = (*self.spans, last)
        self._values = (spline.tail_bound, scale, _MINIMUM, REACH)
        self._settings: dict[torch.dtype, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_settings": {}}

    def can_run(self, layer: Any, dtype: torch.dtype, inverse: bool) -> bool:
        """Return whether the layer still is what was planned, and in a mode that the compiled pass knows."""
        slow_inverse = inverse and self.order is not None and torch.is_grad_enabled()
        return self.is_current(layer, dtype) and not slow_inverse

    def settings(self, dtype: torch.dtype) -> np.ndarray:
        """Return (bound, scale, minimum, reach)."""
        if dtype not in self._settings:
            self._settings[dtype] = np.array(self._values, DTYPES[dtype])
        return self._settings[dtype]


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
    if mode == SUM:
        parts.append(("context_layer", network.context_layer))
    for i, block in enumerate(network.blocks):
        parts += [(f"blocks.{i}.linear_layers.{j}", part) for j, part in enumerate(block.linear_layers)]
        if mode != NO_CONTEXT:
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


def _hidden_spans(network: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what is not masked in the rows, and in the columns, of a matrix between hidden layers."""
    if not isinstance(network, MaskedNetwork):
        return EVERYTHING, EVERYTHING
    degrees = network.final_layer.in_degrees.numpy()
    first, last = (np.searchsorted(degrees, degrees, side=side) for side in ("left", "right"))
    whole = np.full(len(degrees), len(degrees))
    return frozen((np.stack([0 * last, last], axis=1), np.stack([first, whole], axis=1)))


def _last_spans(network: Any, n_params: int) -> np.ndarray:
    """Return what is not masked in the rows of the last layer, for each feature."""
    degrees, places = network.final_layer.in_degrees.numpy(), network.final_layer.degrees.numpy()[::n_params]
    last = np.searchsorted(degrees, places, side="left")
    return frozen(np.stack([0 * last, last], axis=1))


def _by_degree(network: MaskedNetwork, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden units by degree, and how many have at most the degree 0 .. n_features - 1."""
    degrees = network.final_layer.in_degrees.numpy()
    ends = np.searchsorted(degrees, np.arange(n_features), side="right")
    return np.arange(len(degrees)), ends
