"""From a configuration to a flow."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nflows.flows import Flow
from nflows.transforms.base import Transform
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._autoregressive import AffineAutoregressive, SplineAutoregressive
from flowdetect.flows._chain import LayerChain
from flowdetect.flows._conditioners import ACTIVATIONS, LearntParameters, PlainNetwork, ResidualNetwork
from flowdetect.flows._coupling import AffineCoupling, SplineCoupling
from flowdetect.flows._distributions import DiagonalNormal, StandardNormal
from flowdetect.flows._linear import LULinear
from flowdetect.flows._reversed import Reversed

__all__ = [
    "FlowConfig",
    "FlowSettings",
    "build_flow",
    "check_choice",
    "check_dropout",
    "check_whole_number",
    "local_seed",
    "splits_of",
]

_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("coupling", "autoregressive", "iaf"),
    "transform": ("spline", "affine"),
    "conditioner": ("residual", "plain"),
    "mixing": ("none", "permutation", "lu"),
    "activation": tuple(sorted(ACTIVATIONS)),
    "base": ("normal", "diagonal"),
}
_AT_LEAST_ONE = ("n_layers", "hidden_features", "n_blocks")


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """The shape of a flow, apart from the columns it is for.

    Parameters
    ----------
    kind : {"coupling", "autoregressive", "iaf"}, default "coupling"
        Coupling layers score and sample in one pass. Autoregressive ones are more flexible per layer. As
        ``"autoregressive"`` (MAF) they score in one pass and sample in n_features passes; as ``"iaf"``
        (inverse autoregressive flow) they sample in one, with the exact density of what is drawn, and score
        other rows, and so learn by likelihood, in n_features passes. Both ways are exact for all.
    transform : {"spline", "affine"}, default "spline"
    n_layers : int, default 5
    hidden_features : int, default 64
    n_blocks : int, default 2
        Blocks of a residual, or hidden layers of a plain conditioner network.
    n_bins : int, default 8
        Bins of a spline.
    tail_bound : float, default 5.0
        Splines act within ``[-tail_bound, tail_bound]`` and are the identity outside.
    conditioner : {"residual", "plain"}, default "residual"
    mixing : {"none", "permutation", "lu"}, default "permutation"
        What changes from layer to layer. ``"none"``: one random split (order) and its complement (reverse)
        alternate. ``"permutation"``: new random splits (orders). ``"lu"``: in addition a learnt linear map
        before each layer.
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0
    base : {"normal", "diagonal"}, default "normal"
        Standard normal, or normal with learnt (context-dependent) means and standard deviations.

    Raises
    ------
    ConfigurationError
        If a setting is out of range.
    """

    kind: str = "coupling"
    transform: str = "spline"
    n_layers: int = 5
    hidden_features: int = 64
    n_blocks: int = 2
    n_bins: int = 8
    tail_bound: float = 5.0
    conditioner: str = "residual"
    mixing: str = "permutation"
    activation: str = "silu"
    dropout: float = 0.0
    base: str = "normal"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in _AT_LEAST_ONE:
            check_whole_number(name, getattr(self, name), 1, math.inf)
        check_whole_number("n_bins", self.n_bins, 2, 500)
        if not 0.0 < self.tail_bound < math.inf:
            raise ConfigurationError(
                f"tail_bound must be positive and finite; got {self.tail_bound!r}. "
                "Standardised data want 3 to 10."
            )
        check_dropout(self.dropout)


@dataclass(frozen=True)
class FlowConfig(FlowSettings):
    """Everything that decides a flow, but its seed. JSON-able through ``dataclasses.asdict``.

    Parameters
    ----------
    n_features : int
        Width of the rows.
    n_context : int, default 0
        Width of the context, without the observed indicator.
    masked : bool, default False
        The context then starts with n_features columns more, the *observed* indicator (1 observed, 0 not):
        the context is ``[observed | n_context columns]``. The flow is an exact density of the observed
        features of each row; what stands at the others is not read.
    **settings
        As in :class:`FlowSettings`.

    Raises
    ------
    ConfigurationError
        If a setting is out of range, or masked goes with ``mixing="lu"``.

    Examples
    --------
    >>> FlowConfig(3, n_context=2, n_layers=4).kind
    'coupling'
    """

    n_features: int
    n_context: int = 0
    masked: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("n_features", self.n_features, 1, math.inf)
        check_whole_number("n_context", self.n_context, 0, math.inf)
        if self.masked and self.mixing == "lu":
            raise ConfigurationError(
                "mixing must not be 'lu' in a masked flow, as a linear map would mix unobserved "
                "features into observed ones; got masked=True, mixing='lu'. Use mixing='permutation'."
            )

    @property
    def context_width(self) -> int:
        """Number of columns of the context that the flow is called with."""
        return self.n_context + (self.n_features if self.masked else 0)


def build_flow(config: FlowConfig, *, seed: int, splits: Sequence[Sequence[int]] | None = None) -> Flow:
    """Build the flow of a configuration, starting near the identity.

    Parameters
    ----------
    config : FlowConfig
    seed : int
        Decides the splits (orders) of the features and the initial weights. Torch's global random stream is
        neither read nor moved.
    splits : sequence of sequence of int, optional
        Instead of drawn ones, as :func:`splits_of` gives them.

    Returns
    -------
    nflows.flows.Flow
        ``log_prob(inputs, context)`` in nats. Draw rows with :func:`~flowdetect.flows.sample_flow`.

    Raises
    ------
    ConfigurationError
        If there is not one split for each layer, or one does not fit.

    Examples
    --------
    >>> flow = build_flow(FlowConfig(2, n_layers=2), seed=0)
    >>> flow.log_prob(torch.zeros(4, 2)).shape
    torch.Size([4])
    """
    with local_seed(seed) as generator:
        transforms: list[Transform] = []
        drawn = _splits(config, generator) if splits is None else _given_splits(config, splits)
        for split in drawn:
            if config.mixing == "lu":
                transforms.append(LULinear(config.n_features))
            transforms.append(_layer(config, split))
        if config.kind == "iaf":
            # From the noise the layers come in the opposite order: linear maps stay on the side of the data.
            transforms = [Reversed(LayerChain(transforms[::-1]))]
        if config.masked:
            transforms.insert(0, _Unobserved(config.n_features))
        return Flow(LayerChain(transforms), _base(config))


def splits_of(flow: Flow) -> list[list[int]]:
    """Return for each layer of a flow the features it transforms (coupling), or their order (autoregressive).

    Examples
    --------
    >>> splits_of(build_flow(FlowConfig(2, n_layers=2, kind="autoregressive"), seed=0))
    [[0, 1], [1, 0]]
    """
    layers: list[Any] = []
    for part in flow._transform._transforms:
        layers += reversed(part.transform._transforms) if isinstance(part, Reversed) else [part]
    return [
        layer.transform_features.tolist() if hasattr(layer, "transform_features") else list(layer.order)
        for layer in layers
        if hasattr(layer, "transform_features") or hasattr(layer, "order")
    ]


class local_seed:  # noqa: N801 - used as a function
    """Context in which torch's global CPU stream starts from a seed; put back behind it.

    Only one thread at a time is inside: the stream belongs to the process.
    """

    _lock = threading.RLock()

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> torch.Generator:
        self._lock.acquire()
        self._state = torch.random.get_rng_state()
        # Not torch.manual_seed: it would also seed the devices, whose streams are not ours either.
        torch.default_generator.manual_seed(self.seed)
        return torch.Generator().manual_seed(self.seed)

    def __exit__(self, *_: Any) -> None:
        torch.random.set_rng_state(self._state)
        self._lock.release()


class _Unobserved(Transform):
    """Put 0 where a feature is not observed, so that nothing behind it can read what stood there."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if context is None:
            raise ConfigurationError(
                "context must start with the observed indicator in a masked flow; got none. "
                f"Pass context with at least {self.n_features} columns."
            )
        observed = context[:, : self.n_features] > 0.5
        return torch.where(observed, inputs, 0.0), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.forward(inputs, context)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {choices}; got {value!r}. Choose one of these.")


def check_dropout(value: float) -> None:
    """Refuse a share of units to leave out that does not lie in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ConfigurationError(f"dropout must lie in [0, 1); got {value!r}. 0 switches it off.")


def check_whole_number(name: str, value: object, low: int, high: float) -> None:
    """Refuse a value that is no whole number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        bounds = f" of at least {low}" if high == math.inf else f", within {low}..{high}"
        raise ConfigurationError(f"{name} must be a whole number{bounds}; got {value!r}.")


def _base(config: FlowConfig) -> StandardNormal | DiagonalNormal:
    if config.base == "normal":
        return StandardNormal(config.n_features, masked=config.masked)
    return DiagonalNormal(config.n_features, n_context=config.context_width, masked=config.masked)


def _splits(config: FlowConfig, generator: torch.Generator) -> list[Tensor]:
    """Return per layer the mask of transformed features (coupling) or the order (autoregressive)."""
    make = _split_pair if config.kind == "coupling" else _order_pair
    separated = torch.eye(config.n_features, dtype=torch.bool)
    splits: list[Tensor] = []
    while len(splits) < config.n_layers:
        if config.mixing == "none" and splits:
            splits += splits[:2]
        else:
            splits += make(config.n_features, separated, generator)
    return splits[: config.n_layers]


def _given_splits(config: FlowConfig, splits: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the splits as `_splits` does."""
    orders = config.kind != "coupling"
    fits = all(
        0 < len(split) == len(set(split)) and set(split) <= set(range(config.n_features)) for split in splits
    )
    if (
        len(splits) != config.n_layers
        or not fits
        or (orders and any(map(config.n_features.__ne__, map(len, splits))))
    ):
        raise ConfigurationError(
            f"splits must have {config.n_layers} entries, each of different features out of "
            f"{config.n_features}; got {splits!r}."
        )
    if orders:
        return [torch.tensor(split) for split in splits]
    return [
        torch.zeros(config.n_features, dtype=torch.bool).index_fill(0, torch.tensor(s), True) for s in splits
    ]


def _order_pair(n_features: int, separated: Tensor, generator: torch.Generator) -> list[Tensor]:
    order = torch.randperm(n_features, generator=generator)
    return [order, order.flip(0)]


def _split_pair(n_features: int, separated: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Draw halves a few times; keep those that part most pairs of features not parted before."""
    if n_features == 1:
        return [torch.ones(1, dtype=torch.bool)] * 2
    best, best_gain = torch.zeros(n_features, dtype=torch.bool), -1
    for _ in range(8):
        half = torch.zeros(n_features, dtype=torch.bool)
        half[torch.randperm(n_features, generator=generator)[: n_features // 2]] = True
        gain = int(((half[:, None] ^ half[None, :]) & ~separated).sum())
        if gain > best_gain:
            best, best_gain = half, gain
    separated |= best[:, None] ^ best[None, :]
    return [best, ~best]


def _layer(config: FlowConfig, split: Tensor) -> Transform:
    return _coupling_layer(config, split) if config.kind == "coupling" else _order_layer(config, split)


def _coupling_layer(config: FlowConfig, mask: Tensor) -> Transform:
    def make_network(n_inputs: int, n_outputs: int) -> nn.Module:
        if n_inputs + config.context_width == 0:
            return LearntParameters(n_outputs, hidden_features=config.hidden_features)
        network = ResidualNetwork if config.conditioner == "residual" else PlainNetwork
        return network(
            n_inputs,
            n_outputs,
            n_context=config.context_width,
            hidden_features=config.hidden_features,
            n_blocks=config.n_blocks,
            activation=config.activation,
            dropout=config.dropout,
        )

    if config.transform == "affine":
        return AffineCoupling(mask, make_network, masked=config.masked)
    return SplineCoupling(
        mask, make_network, n_bins=config.n_bins, tail_bound=config.tail_bound, masked=config.masked
    )


def _order_layer(config: FlowConfig, order: Tensor) -> Transform:
    settings: dict[str, Any] = {
        "n_context": config.context_width,
        "hidden_features": config.hidden_features,
        "n_blocks": config.n_blocks,
        "residual": config.conditioner == "residual",
        "activation": config.activation,
        "dropout": config.dropout,
        "masked": config.masked,
    }
    if config.transform == "affine":
        return AffineAutoregressive(order.tolist(), **settings)
    return SplineAutoregressive(
        order.tolist(), n_bins=config.n_bins, tail_bound=config.tail_bound, **settings
    )
