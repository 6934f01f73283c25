"""Networks that turn the features seen so far, and the context, into the parameters of a transform."""

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError

__all__ = [
    "ACTIVATIONS",
    "REACH",
    "LearntParameters",
    "PlainNetwork",
    "ResidualNetwork",
    "clamp_reach",
    "find_activation",
    "linear_rows_last",
    "start_network",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu}

# Networks extrapolate linearly; features and context beyond this are read as if they lay on it, so that
# no finite row, however far out, overflows inside a network. Within it the numbers are those of nflows.
REACH = 1e4


def find_activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation function of that name.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    if name not in ACTIVATIONS:
        raise ConfigurationError(
            f"activation must be one of {sorted(ACTIVATIONS)}; got {name!r}. Choose one of these."
        )
    return ACTIVATIONS[name]


def start_network(network: nn.Module, outputs: Tensor) -> None:
    """Let a network start near these outputs (n_outputs,), whatever its inputs.

    Networks of other makers, without a ``final_layer``, are left as they are.
    """
    if isinstance(network, LearntParameters):
        network.values.data.copy_(outputs)
        return
    layer = getattr(network, "final_layer", None)
    if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
        nn.init.uniform_(layer.weight, -1e-3, 1e-3)
        layer.bias.data.copy_(outputs)


@overload
def clamp_reach(values: Tensor) -> Tensor: ...
@overload
def clamp_reach(values: None) -> None: ...
def clamp_reach(values: Tensor | None) -> Tensor | None:
    """Cut what a network reads to the range in which nothing inside it overflows; NaN stays NaN."""
    return None if values is None else values.clamp(-REACH, REACH)


def linear_rows_last(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``F.linear(inputs, weight, bias)`` (n, n_outputs), stored with the rows contiguous.

    The elementwise maps behind it want the rows on the inner axis; written that way at once, the result
    need not be transposed.
    """
    return torch.addmm(bias.unsqueeze(1), weight, inputs.T).T


def _join(inputs: Tensor, context: Tensor | None) -> Tensor:
    return inputs if context is None else torch.cat((inputs, context), dim=1)


class _ResidualBlock(nn.Module):
    def __init__(
        self, features: int, n_context: int, activation: Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        last = nn.Linear(features, features)
        self.linear_layers = nn.ModuleList([nn.Linear(features, features), last])
        self.context_layer = nn.Linear(n_context, features) if n_context else None
        nn.init.uniform_(last.weight, -1e-3, 1e-3)
        nn.init.uniform_(last.bias, -1e-3, 1e-3)

    def forward(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.linear_layers[0](self.activation(inputs))
        hidden = self.linear_layers[1](self.dropout(self.activation(hidden)))
        if self.context_layer is not None and context is not None:
            hidden = hidden * torch.sigmoid(self.context_layer(context))
        return inputs + hidden


class ResidualNetwork(nn.Module):
    """Residual network; parameters named and used as in ``nflows.nn.nets.ResidualNet``.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Width of the inputs and of the result.
    n_context : int, default 0
        Width of the context: joined to the inputs at the first layer, and gating each block.
    hidden_features : int, default 64
    n_blocks : int, default 2
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0

    Raises
    ------
    ConfigurationError
        If the activation is unknown.

    Examples
    --------
    >>> network = ResidualNetwork(3, 5, n_context=2, hidden_features=16)
    >>> network(torch.zeros(4, 3), torch.zeros(4, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        function = find_activation(activation)
        self.hidden_features = hidden_features
        self.initial_layer = nn.Linear(n_inputs + n_context, hidden_features)
        self.blocks = nn.ModuleList(
            _ResidualBlock(hidden_features, n_context, function, dropout) for _ in range(n_blocks)
        )
        self.final_layer = nn.Linear(hidden_features, n_outputs)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, n_inputs) and context (n, n_context) to (n, n_outputs)."""
        context = clamp_reach(context)
        hidden = self.initial_layer(_join(clamp_reach(inputs), context))
        for block in self.blocks:
            hidden = block(hidden, context)
        return linear_rows_last(hidden, self.final_layer.weight, self.final_layer.bias)


class PlainNetwork(nn.Module):
    """Multi-layer perceptron; layers named as in ``nflows.nn.nets.MLP``, the context joined to the inputs.

    Parameters
    ----------
    n_inputs, n_outputs, n_context, hidden_features, activation, dropout
        As in :class:`ResidualNetwork`.
    n_blocks : int, default 2
        Number of hidden layers.

    Raises
    ------
    ConfigurationError
        If the activation is unknown.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = find_activation(activation)
        self.hidden_features = hidden_features
        self.dropout = nn.Dropout(dropout)
        self._input_layer = nn.Linear(n_inputs + n_context, hidden_features)
        self._hidden_layers = nn.ModuleList(
            nn.Linear(hidden_features, hidden_features) for _ in range(n_blocks - 1)
        )
        self._output_layer = nn.Linear(hidden_features, n_outputs)

    @property
    def final_layer(self) -> nn.Linear:
        """The last layer, under the name it has in the other networks."""
        return self._output_layer

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, n_inputs) and context (n, n_context) to (n, n_outputs)."""
        joined = _join(clamp_reach(inputs), clamp_reach(context))
        hidden = self.activation(self._input_layer(joined))
        for layer in self._hidden_layers:
            hidden = self.activation(layer(self.dropout(hidden)))
        return linear_rows_last(hidden, self._output_layer.weight, self._output_layer.bias)


class LearntParameters(nn.Module):
    """The conditioner of a transform with nothing to condition on: one learnt vector for all rows.

    Parameters
    ----------
    n_outputs : int
    hidden_features : int, default 64
        Only read by transforms that scale their parameters by it.
    """

    def __init__(self, n_outputs: int, *, hidden_features: int = 64) -> None:
        super().__init__()
        self.hidden_features = hidden_features
        self.values = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the vector once per row of inputs."""
        return self.values.expand(inputs.shape[0], -1)
