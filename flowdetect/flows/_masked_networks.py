"""Networks whose k-th block of outputs sees only the inputs before the k-th (MADE)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect.flows._conditioners import clamp_reach, find_activation, linear_rows_last

__all__ = ["MaskedLinear", "MaskedNetwork", "hidden_degrees"]


def hidden_degrees(n_features: int, hidden_features: int) -> Tensor:
    """Return the degrees of the hidden units, in rising order: as many of each of 1 .. n_features - 1.

    These are nflows' degrees, sorted: then all that a unit reads lies in front of it. With fewer units than
    that their degrees are spread evenly, so that no input is dropped: it reaches the later outputs, but for
    the few before the next unit's degree. With one feature the degree is 0: the units see the context alone.
    """
    n_degrees = n_features - 1
    if hidden_features < n_degrees:
        return torch.arange(1, hidden_features + 1) * n_degrees // hidden_features
    return (torch.arange(hidden_features) % max(1, n_degrees) + min(1, n_degrees)).sort().values


class MaskedLinear(nn.Linear):
    """Linear layer in which a unit sees the units of lower (or equal) degree.

    Parameters
    ----------
    in_degrees, out_degrees : Tensor of int
    strict : bool
        True if a unit must not see its own degree: the last layer.
    """

    mask: Tensor
    in_degrees: Tensor
    degrees: Tensor

    def __init__(self, in_degrees: Tensor, out_degrees: Tensor, *, strict: bool) -> None:
        super().__init__(len(in_degrees), len(out_degrees))
        compare = torch.gt if strict else torch.ge
        mask = compare(out_degrees[:, None], in_degrees[None, :]).float()
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("in_degrees", in_degrees.clone(), persistent=False)
        self.register_buffer("degrees", out_degrees.clone(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, in) to (n, out)."""
        return F.linear(inputs, self.weight * self.mask, self.bias)

    def select(self, inputs: Tensor, start: int, length: int) -> Tensor:
        """Return only the outputs start .. start + length - 1."""
        weight = self.weight.narrow(0, start, length) * self.mask.narrow(0, start, length)
        return F.linear(inputs, weight, self.bias.narrow(0, start, length))


class _MaskedResidualBlock(nn.Module):
    def __init__(
        self, degrees: Tensor, n_context: int, activation: Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        last = MaskedLinear(degrees, degrees, strict=False)
        self.linear_layers = nn.ModuleList([MaskedLinear(degrees, degrees, strict=False), last])
        self.context_layer = nn.Linear(n_context, len(degrees)) if n_context else None
        nn.init.uniform_(last.weight, -1e-3, 1e-3)
        nn.init.uniform_(last.bias, -1e-3, 1e-3)

    def forward(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.linear_layers[0](self.activation(inputs))
        if self.context_layer is not None and context is not None:
            hidden = hidden + self.context_layer(context)
        return inputs + self.linear_layers[1](self.dropout(self.activation(hidden)))


class _MaskedPlainBlock(nn.Module):
    def __init__(
        self, degrees: Tensor, n_context: int, activation: Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.linear = MaskedLinear(degrees, degrees, strict=False)
        self.context_layer = nn.Linear(n_context, len(degrees)) if n_context else None
        if self.context_layer is not None:
            # nflows' blocks ignore the context: from zero, its weights give its numbers.
            nn.init.zeros_(self.context_layer.weight)
            nn.init.zeros_(self.context_layer.bias)

    def forward(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.linear(inputs)
        if self.context_layer is not None and context is not None:
            hidden = hidden + self.context_layer(context)
        return self.dropout(self.activation(hidden))


class MaskedNetwork(nn.Module):
    """Masked autoregressive network: ``nflows.transforms.made.MADE`` with the hidden units in another order.

    Parameters
    ----------
    in_degrees : Tensor of int, shape (n_inputs,)
        Place of each input in the order, from 1 to n_features.
    out_degrees : Tensor of int, shape (n_outputs,)
        Place of the feature that each output belongs to: it depends on the inputs of lower degree.
    n_context, hidden_features, n_blocks, activation, dropout
        As in :class:`ResidualNetwork`. With n_features - 1 hidden units or more every input reaches every
        later output, see :func:`hidden_degrees`.
    residual : bool, default True
        Residual or plain blocks.
    initial_layer : Module, optional
        Replaces the first masked layer, for inputs that are no plain vectors; its units must have the
        degrees :func:`hidden_degrees` gives.

    Notes
    -----
    The units behind the first layer have degree 1 or more, so through them no context reaches the feature
    that comes first. A small network of its own (``first_network``) leads the context there; its last layer
    starts at zero, so that with nflows' weights the numbers are nflows'.

    Raises
    ------
    ConfigurationError
        If the activation is unknown.

    References
    ----------
    Germain, Gregor, Murray, Larochelle (2015). MADE: Masked Autoencoder for Distribution Estimation.
    """

    def __init__(
        self,
        in_degrees: Tensor,
        out_degrees: Tensor,
        *,
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        residual: bool = True,
        activation: str = "silu",
        dropout: float = 0.0,
        initial_layer: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.activation = find_activation(activation)
        self.residual = residual
        n_features = int(out_degrees.max())
        degrees = hidden_degrees(n_features, hidden_features)
        self.hidden_features = len(degrees)
        self.initial_layer = initial_layer or MaskedLinear(in_degrees, degrees, strict=False)
        self.context_layer = nn.Linear(n_context, len(degrees)) if n_context else None
        block = _MaskedResidualBlock if residual else _MaskedPlainBlock
        self.blocks = nn.ModuleList(
            block(degrees, n_context, self.activation, dropout) for _ in range(n_blocks)
        )
        self.final_layer = MaskedLinear(degrees, out_degrees, strict=True)
        first = torch.nonzero(out_degrees == 1).flatten()
        self._first_start, self._first_length = int(first[0]), len(first)
        self.first_network: _FirstNetwork | None = None
        if n_context and n_features > 1:
            self.first_network = _FirstNetwork(n_context, hidden_features, len(first), self.activation)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Map inputs (n, n_inputs) and context (n, n_context) to (n, n_outputs)."""
        context = clamp_reach(context)
        return self.outputs(self.hidden(self.initial_layer(clamp_reach(inputs)), context), context)

    def hidden(self, start: Tensor, context: Tensor | None) -> Tensor:
        """Return the last hidden layer, given what the initial layer makes of the inputs."""
        if self.context_layer is not None and context is not None:
            start = start + self.activation(self.context_layer(context))
        if not self.residual:
            start = self.activation(start)
        for block in self.blocks:
            start = block(start, context)
        return start

    def outputs(self, hidden: Tensor, context: Tensor | None) -> Tensor:
        """Return all outputs, given the last hidden layer."""
        final = self.final_layer
        outputs = linear_rows_last(hidden, final.weight * final.mask, final.bias)
        if self.first_network is None or context is None:
            return outputs
        extra = self.first_network(context)
        behind = outputs.shape[1] - self._first_start - self._first_length
        return outputs + F.pad(extra, (self._first_start, behind))

    def select_outputs(self, hidden: Tensor, context: Tensor | None, start: int, length: int) -> Tensor:
        """Return the outputs start .. start + length - 1, which belong to one feature."""
        outputs = self.final_layer.select(hidden, start, length)
        if self.first_network is None or context is None or start != self._first_start:
            return outputs
        return outputs + self.first_network(context)


class _FirstNetwork(nn.Module):
    """Leads the context to the outputs of the feature that comes first."""

    def __init__(
        self, n_context: int, hidden_features: int, n_outputs: int, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.activation = activation
        self.hidden_layer = nn.Linear(n_context, hidden_features)
        self.final_layer = nn.Linear(hidden_features, n_outputs, bias=False)
        nn.init.zeros_(self.final_layer.weight)

    def forward(self, context: Tensor) -> Tensor:
        return self.final_layer(self.activation(self.hidden_layer(context)))
