"""Autoregressive layers: each feature is transformed given the features before it."""

from collections.abc import Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._chain import can_fuse, fused_map
from flowdetect.flows._conditioners import clamp_reach, start_network
from flowdetect.flows._elementwise import AffineMap, ElementwiseMap, SplineMap, apply_where_observed
from flowdetect.flows._fused import plan_order
from flowdetect.flows._masked_networks import MaskedNetwork

__all__ = ["AffineAutoregressive", "SplineAutoregressive"]


class _Autoregressive(Transform):
    """What both autoregressive layers share: the masked network, one pass forward, D short ones back."""

    def __init__(
        self,
        order: Sequence[int] | int,
        elementwise: ElementwiseMap,
        *,
        n_context: int,
        hidden_features: int,
        n_blocks: int,
        residual: bool,
        activation: str,
        dropout: float,
        masked: bool,
    ) -> None:
        super().__init__()
        self.order = _check_order(order)
        self.n_features = len(self.order)
        self.masked = masked
        self.elementwise = elementwise
        degrees = torch.argsort(torch.tensor(self.order)) + 1
        self.autoregressive_net = MaskedNetwork(
            degrees,
            degrees.repeat_interleave(elementwise.n_params),
            n_context=n_context,
            hidden_features=hidden_features,
            n_blocks=n_blocks,
            residual=residual,
            activation=activation,
            dropout=dropout,
        )
        start_network(self.autoregressive_net, elementwise.start().repeat(self.n_features))
        self.plan = plan_order(self.autoregressive_net, elementwise, self.order, masked)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform inputs (n, n_features) in one pass; return the outputs and log|det| (n,) in nats."""
        if can_fuse([self], inputs, context, inverse=False):
            return fused_map([self], inputs, context, inverse=False)
        params = self.autoregressive_net(inputs, context)
        outputs, log_det = self._map(inputs.T, params.T, self._observed(context), inverse=False)
        return outputs.T, log_det.sum(dim=0)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`, one feature after the other; return the outputs and log|det| (n,).

        The last layer and the map are evaluated for one feature at a time, not for all of them each time.
        """
        if can_fuse([self], inputs, context, inverse=True):
            return fused_map([self], inputs, context, inverse=True)
        network, n_params = self.autoregressive_net, self.elementwise.n_params
        observed, read = self._observed(context), clamp_reach(context)
        columns, log_dets = [inputs.new_zeros(len(inputs))] * self.n_features, []
        for feature in self.order:
            seen = clamp_reach(torch.stack(columns, dim=1))
            hidden = network.hidden(network.initial_layer(seen), read)
            params = network.select_outputs(hidden, read, feature * n_params, n_params).T
            here = slice(feature, feature + 1)
            present = None if observed is None else observed[here]
            column, log_det = self._map(inputs.T[here], params, present, inverse=True)
            columns[feature] = column[0]
            log_dets.append(log_det[0])
        return torch.stack(columns, dim=1), torch.stack(log_dets).sum(dim=0)

    def _map(
        self, columns: Tensor, params: Tensor, observed: Tensor | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Map columns (m, n), rows last, by the network's outputs (m * n_params, n)."""
        params = params.unflatten(0, (len(columns), self.elementwise.n_params)).transpose(0, 1)
        # nflows scales widths and heights by the hidden features in coupling layers only: 1 here.
        outputs, log_det = self.elementwise(columns, params, 1, inverse)
        return apply_where_observed(outputs, log_det, columns, observed)

    def _observed(self, context: Tensor | None) -> Tensor | None:
        if not self.masked or context is None:
            return None
        return context[:, : self.n_features].T > 0.5


def _check_order(order: Sequence[int] | int) -> list[int]:
    features = list(range(order)) if isinstance(order, int) else [int(feature) for feature in order]
    if not features or sorted(features) != list(range(len(features))):
        raise ConfigurationError(
            "order must be a number of features, at least 1, or hold each of 0 .. n_features - 1 once; "
            f"got {order!r}. Pass the number of features for the order of the columns."
        )
    return features


class SplineAutoregressive(_Autoregressive):
    """Autoregressive layer of rational-quadratic splines.

    Parameters
    ----------
    order : int or sequence of int
        The features in the order in which they condition each other; a number means 0, 1, 2, ...
    n_bins : int, default 8
    tail_bound : float, default 5.0
    n_context : int, default 0
    hidden_features : int, default 64
        With fewer than n_features - 1 some inputs do not reach the few outputs that follow them.
    n_blocks : int, default 2
    residual : bool, default True
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0
    masked : bool, default False
        The first n_features of the n_context columns then say which features are observed (1) in a row;
        the others pass unchanged and add nothing to the log-determinant.

    Raises
    ------
    ConfigurationError
        If a setting is out of range.

    References
    ----------
    Durkan, Bekasov, Murray, Papamakarios (2019). Neural Spline Flows.

    Examples
    --------
    >>> layer = SplineAutoregressive(3, hidden_features=8)
    >>> outputs, log_det = layer(torch.zeros(4, 3))
    >>> outputs.shape, log_det.shape
    (torch.Size([4, 3]), torch.Size([4]))
    """

    def __init__(
        self,
        order: Sequence[int] | int,
        *,
        n_bins: int = 8,
        tail_bound: float = 5.0,
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        residual: bool = True,
        activation: str = "silu",
        dropout: float = 0.0,
        masked: bool = False,
    ) -> None:
        super().__init__(
            order,
            SplineMap(n_bins, tail_bound),
            n_context=n_context,
            hidden_features=hidden_features,
            n_blocks=n_blocks,
            residual=residual,
            activation=activation,
            dropout=dropout,
            masked=masked,
        )


class AffineAutoregressive(_Autoregressive):
    """Autoregressive layer that scales and shifts (MAF).

    Parameters
    ----------
    order, n_context, hidden_features, n_blocks, residual, activation, dropout, masked
        As in :class:`SplineAutoregressive`.
    scale : {"exp", "sigmoid", "softplus"}, default "exp"
        ``"exp"`` keeps the scale within e^-5 .. e^5. ``"softplus"`` is nflows' own form: with it, and the
        same weights, the numbers are those of nflows' MaskedAffineAutoregressiveTransform.

    Raises
    ------
    ConfigurationError
        If a setting is out of range.

    References
    ----------
    Papamakarios, Pavlakou, Murray (2017). Masked Autoregressive Flow for Density Estimation.
    """

    def __init__(
        self,
        order: Sequence[int] | int,
        *,
        scale: str = "exp",
        n_context: int = 0,
        hidden_features: int = 64,
        n_blocks: int = 2,
        residual: bool = True,
        activation: str = "silu",
        dropout: float = 0.0,
        masked: bool = False,
    ) -> None:
        super().__init__(
            order,
            AffineMap(scale),
            n_context=n_context,
            hidden_features=hidden_features,
            n_blocks=n_blocks,
            residual=residual,
            activation=activation,
            dropout=dropout,
            masked=masked,
        )
