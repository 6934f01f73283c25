"""A multi-scale flow of small images, given and returned as flat rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from nflows.flows import Flow
from nflows.transforms.base import CompositeTransform, Transform
from torch import Tensor, nn

from flowdetect.flows._build import check_choice, check_dropout, check_whole_number, local_seed
from flowdetect.flows._conditioners import ACTIVATIONS
from flowdetect.flows._convolutions import (
    CheckerboardCoupling,
    ConvolutionalCoupling,
    ConvolutionalNetwork,
    InvertibleConvolution,
    Squeeze,
)
from flowdetect.flows._distributions import StandardNormal
from flowdetect.flows._elementwise import AffineMap, ElementwiseMap, SplineMap

__all__ = ["ImageFlowConfig", "MultiScale", "build_image_flow"]

Shape = tuple[int, int, int]

_MOST_LEVELS = 3


@dataclass(frozen=True)
class ImageFlowConfig:
    """Everything that decides a flow of images, but its seed.

    Parameters
    ----------
    channels, height, width : int
        Size of the images. Rows hold them flat, in this order: ``images.reshape(n, -1)``.
    n_context : int, default 0
        Width of the context, a vector for each image.
    n_levels : int or "auto", default "auto"
        How often the image is squeezed, each time into a quarter of the pixels with four times the channels;
        half of the channels then leave for the base, but for the last time. "auto": as often as height and
        width are even and stay at least 2, at most 3 times. An image of odd size is not squeezed at all.
    n_steps : int, default 4
        Couplings at each level, each behind an invertible convolution.
    n_checkerboard : int, default 0
        Couplings on a checkerboard before all others, at full resolution.
    transform : {"spline", "affine"}, default "spline"
    n_bins : int, default 8
    tail_bound : float, default 5.0
        Splines act within ``[-tail_bound, tail_bound]`` and are the identity outside.
    hidden_channels : int, default 32
    n_blocks : int, default 2
        Residual blocks of each conditioner network.
    places : bool, default True
        Whether the networks have a bias of their own for each place, see :class:`ConvolutionalNetwork`.
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0

    Raises
    ------
    ConfigurationError
        If a setting is out of range, or the image cannot be halved as often as n_levels says.

    Examples
    --------
    >>> ImageFlowConfig(1, 28, 28).halvings, ImageFlowConfig(3, 7, 9).halvings
    (2, 0)
    """

    channels: int
    height: int
    width: int
    n_context: int = 0
    n_levels: int | str = "auto"
    n_steps: int = 4
    n_checkerboard: int = 0
    transform: str = "spline"
    n_bins: int = 8
    tail_bound: float = 5.0
    hidden_channels: int = 32
    n_blocks: int = 2
    places: bool = True
    activation: str = "silu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width", "n_steps", "hidden_channels", "n_blocks"):
            check_whole_number(name, getattr(self, name), 1, math.inf)
        for name in ("n_context", "n_checkerboard"):
            check_whole_number(name, getattr(self, name), 0, math.inf)
        check_choice("transform", self.transform, ("spline", "affine"))
        check_choice("activation", self.activation, tuple(sorted(ACTIVATIONS)))
        SplineMap(self.n_bins, self.tail_bound)  # refuses settings of a spline
        check_dropout(self.dropout)
        if self.n_levels != "auto":
            check_whole_number("n_levels", self.n_levels, 0, _halvings(self.height, self.width, least=1))

    @property
    def n_features(self) -> int:
        """Width of the rows."""
        return self.channels * self.height * self.width

    @property
    def halvings(self) -> int:
        """How often the image is squeezed."""
        if self.n_levels == "auto":
            return min(_MOST_LEVELS, _halvings(self.height, self.width, least=2))
        return int(self.n_levels)

    @property
    def elementwise(self) -> ElementwiseMap:
        """How each element is transformed."""
        if self.transform == "affine":
            return AffineMap()
        return SplineMap(self.n_bins, self.tail_bound)


def build_image_flow(config: ImageFlowConfig, *, seed: int) -> Flow:
    """Build the flow of a configuration; it starts as a reordering of the elements, nearly.

    Parameters
    ----------
    config : ImageFlowConfig
    seed : int
        Decides permutations and initial weights. Torch's global random stream is neither read nor moved.

    Returns
    -------
    nflows.flows.Flow
        ``log_prob(rows, context)`` in nats, for rows (n, channels * height * width) of about unit scale.
        Draw rows with :func:`sample_flow`, train it with :func:`flowdetect.training.train`.

    Examples
    --------
    >>> from flowdetect.flows import sample_flow
    >>> flow = build_image_flow(ImageFlowConfig(1, 8, 8, n_steps=1, hidden_channels=4), seed=0)
    >>> flow.log_prob(torch.zeros(5, 64)).shape
    torch.Size([5])
    >>> sample_flow(flow, 3).shape
    torch.Size([3, 64])
    """
    with local_seed(seed):
        levels, shapes = _levels(config, seed)
        transform = MultiScale((config.channels, config.height, config.width), levels, shapes)
        return Flow(transform, StandardNormal(config.n_features))


class MultiScale(Transform):
    """Levels of layers of images, half of whose channels leave behind each level but the last.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width of the images, which come and go as flat rows.
    levels : sequence of Transform
        Each maps images to images.
    shapes : sequence of (int, int, int)
        Channels, height and width behind each level.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio (2017), "Density Estimation using Real NVP", section 3.6.
    """

    def __init__(self, shape: Shape, levels: Sequence[Transform], shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.shape = shape
        self.levels = nn.ModuleList(levels)
        # Half of the channels leave behind each level, and all of them behind the last.
        leaving = [channels // 2 for channels, *_ in shapes[:-1]] + [shapes[-1][0]]
        self.parts = [(n, height, width) for n, (_, height, width) in zip(leaving, shapes, strict=True)]

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform rows (n, n_features); return the outputs and log|det| (n,) in nats."""
        images = inputs.reshape(-1, *self.shape)
        log_det = inputs.new_zeros(len(inputs))
        left = []
        for level, (leaving, *_) in zip(self.levels, self.parts, strict=True):
            images, change = level(images, context)
            log_det = log_det + change
            left.append(images[:, :leaving].flatten(1))
            images = images[:, leaving:]
        return torch.cat(left, dim=1), log_det

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; return the outputs and log|det| (n,) of the inverse."""
        left = inputs.split([math.prod(part) for part in self.parts], dim=1)
        log_det = inputs.new_zeros(len(inputs))
        images = inputs.new_zeros(len(inputs), 0, *self.parts[-1][1:])
        for level, rows, part in reversed(list(zip(self.levels, left, self.parts, strict=True))):
            images, change = level.inverse(torch.cat((rows.reshape(-1, *part), images), dim=1), context)
            log_det = log_det + change
        return images.flatten(1), log_det


def _levels(config: ImageFlowConfig, seed: int) -> tuple[list[Transform], list[Shape]]:
    """Return the levels, and the shape of the images behind each."""
    channels, height, width = config.channels, config.height, config.width
    layers = [_checkerboard(config, channels, (height, width), k) for k in range(config.n_checkerboard)]
    if not config.halvings:
        layers += _steps(config, channels, (height, width), seed)
        return [CompositeTransform(layers)], [(channels, height, width)]
    levels, shapes = [], []
    for number in range(config.halvings):
        channels, height, width = 4 * channels, height // 2, width // 2
        steps = _steps(config, channels, (height, width), seed + number * config.n_steps)
        levels.append(CompositeTransform([*layers, Squeeze(), *steps]))
        shapes.append((channels, height, width))
        channels, layers = channels - channels // 2, []
    return levels, shapes


def _steps(config: ImageFlowConfig, channels: int, size: tuple[int, int], seed: int) -> list[Transform]:
    """Return the couplings of a level, which transform the channels that leave behind it last."""
    if channels == 1:
        return [_checkerboard(config, 1, size, k) for k in range(2 * config.n_steps)]
    mask = [place < channels // 2 for place in range(channels)]
    layers: list[Transform] = []
    for step in range(config.n_steps):
        layers.append(InvertibleConvolution(channels, seed=seed + step))
        layers.append(ConvolutionalCoupling(mask, _network(config, size), config.elementwise))
    return layers


def _checkerboard(config: ImageFlowConfig, channels: int, size: tuple[int, int], number: int) -> Transform:
    return CheckerboardCoupling(channels, number % 2 == 0, _network(config, size), config.elementwise)


def _network(config: ImageFlowConfig, size: tuple[int, int]) -> partial[ConvolutionalNetwork]:
    return partial(
        ConvolutionalNetwork,
        n_context=config.n_context,
        hidden_channels=config.hidden_channels,
        n_blocks=config.n_blocks,
        size=size if config.places else None,
        activation=config.activation,
        dropout=config.dropout,
    )


def _halvings(height: int, width: int, *, least: int) -> int:
    """Return how often height and width are even, and then at least ``least``."""
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * least:
        height, width, count = height // 2, width // 2, count + 1
    return count
