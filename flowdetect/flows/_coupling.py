"""Coupling layers: some features stay, and decide how the others are transformed."""

from collections.abc import Callable, Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._chain import can_fuse, fused_map
from flowdetect.flows._conditioners import start_network
from flowdetect.flows._elementwise import AffineMap, ElementwiseMap, SplineMap, apply_where_observed
from flowdetect.flows._fused import plan_coupling

__all__ = ["AffineCoupling", "SplineCoupling"]

NetworkFactory = Callable[[int, int], nn.Module]


class _Coupling(Transform):
    """What both coupling layers share: the split, the conditioner, the mask of observed features."""

    identity_features: Tensor
    transform_features: Tensor

    def __init__(
        self,
        mask: Sequence[bool] | Tensor,
        make_network: NetworkFactory,
        elementwise: ElementwiseMap,
        masked: bool,
    ) -> None:
        super().__init__()
        transformed = torch.as_tensor(mask, dtype=torch.bool)
        if transformed.ndim != 1 or not bool(transformed.any()):
            raise ConfigurationError(
                "mask must be one-dimensional and mark at least one feature to transform; "
                f"got {transformed.tolist()!r}. Set an entry to True."
            )
        self.n_features = len(transformed)
        self.masked = masked
        self.elementwise = elementwise
        self.register_buffer("identity_features", torch.nonzero(~transformed).flatten())
        self.register_buffer("transform_features", torch.nonzero(transformed).flatten())
        self.n_transformed = len(self.transform_features)
        n_outputs = self.n_transformed * elementwise.n_params
        self.transform_net = make_network(len(self.identity_features), n_outputs)
        start_network(self.transform_net, self._disarrange(elementwise.start()))
        self.plan = plan_coupling(
            self.transform_net,
            elementwise,
            self.identity_features,
            self.transform_features,
            self.n_features,
            masked,
        )

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform inputs (n, n_features); return the outputs and log|det| (n,) in nats."""
        return self._apply_map(inputs, context, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; return the outputs and log|det| (n,) of the inverse."""
        return self._apply_map(inputs, context, inverse=True)

    def _apply_map(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        if can_fuse([self], inputs, context, inverse=inverse):
            return fused_map([self], inputs, context, inverse=inverse)
        # Features first, rows last and contiguous: the layout in which the splines are fast.
        columns = inputs.T
        changing = columns.index_select(0, self.transform_features)
        params = self._arrange(self.transform_net(inputs.index_select(1, self.identity_features), context).T)
        hidden_features = getattr(self.transform_net, "hidden_features", 1)
        outputs, log_det = self.elementwise(changing, params, hidden_features, inverse)
        if self.masked and context is not None:
            observed = context.T.index_select(0, self.transform_features) > 0.5
            outputs, log_det = apply_where_observed(outputs, log_det, changing, observed)
        return columns.index_copy(0, self.transform_features, outputs).T, log_det.sum(dim=0)

    def _arrange(self, params: Tensor) -> Tensor:
        """Give the network's outputs, transposed, the shape (n_params, n_transformed, n)."""
        return params.unflatten(0, (self.n_transformed, self.elementwise.n_params)).transpose(0, 1)

    def _disarrange(self, start: Tensor) -> Tensor:
        """Return the network's outputs that give every transformed feature these parameters."""
        return start.repeat(self.n_transformed)


class SplineCoupling(_Coupling):
    """Coupling layer of rational-quadratic splines.

    Parameters
    ----------
    mask : sequence of bool, one per feature
        True where the feature is transformed, given the others.
    make_network : callable (n_inputs, n_outputs) -> Module
        Makes the conditioner, called with (inputs, context). Its ``hidden_features``, if it has some,
        scales widths and heights as in nflows; its ``final_layer``, if it has one, is initialised so that
        the layer starts near the identity.
    n_bins : int, default 8
    tail_bound : float, default 5.0
    masked : bool, default False
        The first n_features columns of the context then say which features are observed (1) in a row;
        the others pass unchanged and add nothing to the log-determinant.

    Raises
    ------
    ConfigurationError
        If the mask transforms nothing, or the spline's settings are out of range.

    References
    ----------
    Durkan, Bekasov, Murray, Papamakarios (2019). Neural Spline Flows.

    Examples
    --------
    >>> from flowdetect.flows import ResidualNetwork, SplineCoupling
    >>> layer = SplineCoupling([True, False], lambda i, o: ResidualNetwork(i, o, hidden_features=8))
    >>> outputs, log_det = layer(torch.zeros(4, 2))
    >>> outputs.shape, log_det.shape
    (torch.Size([4, 2]), torch.Size([4]))
    """

    def __init__(
        self,
        mask: Sequence[bool] | Tensor,
        make_network: NetworkFactory,
        *,
        n_bins: int = 8,
        tail_bound: float = 5.0,
        masked: bool = False,
    ) -> None:
        super().__init__(mask, make_network, SplineMap(n_bins, tail_bound), masked)


class AffineCoupling(_Coupling):
    """Coupling layer that scales and shifts (RealNVP).

    Parameters
    ----------
    mask, make_network, masked
        As in :class:`SplineCoupling`.
    scale : {"exp", "sigmoid", "softplus"}, default "exp"
        ``"exp"`` keeps the scale within e^-5 .. e^5. ``"sigmoid"`` is nflows' own form: with it, and the
        same weights, the numbers are those of nflows' AffineCouplingTransform.

    Raises
    ------
    ConfigurationError
        If the mask transforms nothing or the scale is unknown.

    References
    ----------
    Dinh, Sohl-Dickstein, Bengio (2017). Density Estimation using Real NVP.
    """

    def __init__(
        self,
        mask: Sequence[bool] | Tensor,
        make_network: NetworkFactory,
        *,
        scale: str = "exp",
        masked: bool = False,
    ) -> None:
        super().__init__(mask, make_network, AffineMap(scale), masked)

    def _arrange(self, params: Tensor) -> Tensor:
        # nflows' order: all shifts, then all scales.
        return params.unflatten(0, (2, self.n_transformed)).flip(0)

    def _disarrange(self, start: Tensor) -> Tensor:
        return start.flip(0).repeat_interleave(self.n_transformed)
