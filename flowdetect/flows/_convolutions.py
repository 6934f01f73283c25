"""Invertible layers of images, tensors of shape (n, channels, height, width)."""

from collections.abc import Callable, Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._conditioners import clamp_reach, find_activation, start_network
from flowdetect.flows._elementwise import ElementwiseMap
from flowdetect.flows._linear import LULinear, cut

__all__ = [
    "CheckerboardCoupling",
    "ConvolutionalCoupling",
    "ConvolutionalNetwork",
    "InvertibleConvolution",
    "Squeeze",
]

ImageNetworkFactory = Callable[[int, int], nn.Module]


class Squeeze(Transform):
    """Turn each block of 2 x 2 pixels into one pixel of four times as many channels.

    The number of channels comes first and then the place in the block, as in nflows' SqueezeTransform.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio (2017), "Density Estimation using Real NVP".

    Examples
    --------
    >>> Squeeze()(torch.zeros(5, 3, 28, 28))[0].shape
    torch.Size([5, 12, 14, 14])
    """

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (n, c, h, w) to (n, 4 c, h / 2, w / 2); the log-determinant is 0.

        Raises
        ------
        ConfigurationError
            If height or width is odd.
        """
        if inputs.ndim != 4 or inputs.shape[2] % 2 or inputs.shape[3] % 2:
            raise ConfigurationError(
                f"Squeeze takes images (n, channels, height, width) of even size; got {tuple(inputs.shape)}."
            )
        return F.pixel_unshuffle(inputs, 2), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (n, 4 c, h, w) back to (n, c, 2 h, 2 w); the log-determinant is 0."""
        return F.pixel_shuffle(inputs, 2), inputs.new_zeros(len(inputs))


class InvertibleConvolution(LULinear):
    """Mix the channels of each pixel by one invertible matrix, after a fixed permutation of them.

    Parameters
    ----------
    n_channels : int
    seed : int
        Decides the permutation.

    Notes
    -----
    The map is ``x -> L U P x + b`` in each pixel, with the parameters of :class:`LULinear`, as in nflows'
    OneByOneConvolution; it starts as the permutation P. Diagonal and bias are a learnt scale and shift of
    each channel, so that these need no layer of their own.

    References
    ----------
    D. P. Kingma, P. Dhariwal (2018), "Glow: Generative Flow with Invertible 1x1 Convolutions".

    Examples
    --------
    >>> InvertibleConvolution(4, seed=0)(torch.zeros(5, 4, 7, 7))[0].shape
    torch.Size([5, 4, 7, 7])
    """

    _permutation: Tensor

    def __init__(self, n_channels: int, *, seed: int) -> None:
        super().__init__(n_channels)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("_permutation", torch.randperm(n_channels, generator=generator))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map images (n, n_channels, h, w); return the outputs and log|det| (n,) in nats."""
        lower, upper, diagonal = self._factors()
        pixels = cut(inputs).index_select(1, self._permutation)
        # One after the other as in LULinear: their product could overflow where its parts do not.
        outputs = F.conv2d(F.conv2d(pixels, upper[:, :, None, None]), lower[:, :, None, None], self.bias)
        return outputs, self._log_det(diagonal, inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; return the outputs and log|det| (n,) of the inverse."""
        lower, upper, diagonal = self._factors()
        right = (cut(inputs) - self.bias[:, None, None]).transpose(0, 1).flatten(1)
        right = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        pixels = torch.linalg.solve_triangular(upper, right, upper=True)
        shape = (self.n_features, len(inputs), *inputs.shape[2:])
        outputs = pixels.view(shape).transpose(0, 1).index_select(1, torch.argsort(self._permutation))
        return outputs, -self._log_det(diagonal, inputs)

    def _log_det(self, diagonal: Tensor, inputs: Tensor) -> Tensor:
        n_pixels = inputs.shape[2] * inputs.shape[3]
        return (diagonal.log().sum() * n_pixels).expand(len(inputs))


class _ConvolutionalBlock(nn.Module):
    def __init__(
        self, channels: int, n_context: int, activation: Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout2d(dropout)
        last = nn.Conv2d(channels, channels, 1)
        self.layers = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1), last])
        self.context_layer = nn.Linear(n_context, channels) if n_context else None
        for parameter in last.parameters():
            nn.init.uniform_(parameter, -1e-3, 1e-3)

    def forward(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.layers[0](self.activation(inputs))
        hidden = self.layers[1](self.dropout(self.activation(hidden)))
        if self.context_layer is not None and context is not None:
            hidden = hidden * torch.sigmoid(self.context_layer(context))[:, :, None, None]
        return inputs + hidden


class ConvolutionalNetwork(nn.Module):
    """Residual network of convolutions that keep the size of the image.

    The first layer and the first of each block see the 3 x 3 pixels around each; the others mix the channels
    of a pixel, at a ninth of the cost.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels of the inputs and of the result.
    n_context : int, default 0
        Width of the context: added at the first layer, and gating each block.
    hidden_channels : int, default 32
    n_blocks : int, default 2
    size : (int, int), optional
        Height and width of the images; then each place has a learnt bias of its own at the first layer, for
        images in which a place means something. Without it, the network is the same everywhere, and takes
        images of any size.
    activation : {"silu", "relu"}, default "silu"
    dropout : float, default 0.0
        Share of whole channels left out at each training step.

    Raises
    ------
    ConfigurationError
        If the activation is unknown.

    Examples
    --------
    >>> network = ConvolutionalNetwork(3, 5, n_context=2, hidden_channels=8)
    >>> network(torch.zeros(4, 3, 7, 7), torch.zeros(4, 2)).shape
    torch.Size([4, 5, 7, 7])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_context: int = 0,
        hidden_channels: int = 32,
        n_blocks: int = 2,
        size: tuple[int, int] | None = None,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        function = find_activation(activation)
        # Under the name that the elementwise maps ask for.
        self.hidden_features = hidden_channels
        self.initial_layer = nn.Conv2d(n_inputs, hidden_channels, 3, padding=1)
        self.context_layer = nn.Linear(n_context, hidden_channels, bias=False) if n_context else None
        self.place = None if size is None else nn.Parameter(torch.zeros(hidden_channels, *size))
        self.blocks = nn.ModuleList(
            _ConvolutionalBlock(hidden_channels, n_context, function, dropout) for _ in range(n_blocks)
        )
        self.activation = function
        self.final_layer = nn.Conv2d(hidden_channels, n_outputs, 1)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Map (n, n_inputs, h, w) and context (n, n_context) to (n, n_outputs, h, w)."""
        context = clamp_reach(context)
        hidden = self.initial_layer(clamp_reach(inputs))
        if self.place is not None:
            hidden = hidden + self.place
        if self.context_layer is not None and context is not None:
            hidden = hidden + self.context_layer(context)[:, :, None, None]
        for block in self.blocks:
            hidden = block(hidden, context)
        return self.final_layer(self.activation(hidden))


class _ImageCoupling(Transform):
    """What the couplings of images share: elements transformed by a network that sees the others."""

    def __init__(
        self, n_kept: int, n_transformed: int, make_network: ImageNetworkFactory, elementwise: ElementwiseMap
    ) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.transform_net = make_network(n_kept, n_transformed * elementwise.n_params)
        start_network(self.transform_net, elementwise.start().repeat(n_transformed))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform images (n, c, h, w); return the outputs and log|det| (n,) in nats."""
        return self._apply_map(inputs, context, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`; return the outputs and log|det| (n,) of the inverse."""
        return self._apply_map(inputs, context, inverse=True)

    def _apply_map(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _map_elements(
        self, changing: Tensor, kept: Tensor, context: Tensor | None, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the mapped elements and their log-derivatives, both in the shape of ``changing``."""
        # Parameters of a channel lie behind each other and pixels are innermost: nothing has to be moved.
        params = self.transform_net(kept, context).reshape(
            -1, self.elementwise.n_params, changing.shape[2] * changing.shape[3]
        )
        hidden_features = getattr(self.transform_net, "hidden_features", 1)
        outputs, log_det = self.elementwise(
            changing.reshape(len(params), -1), params.transpose(0, 1), hidden_features, inverse
        )
        return outputs.view(changing.shape), log_det.view(changing.shape)


class ConvolutionalCoupling(_ImageCoupling):
    """Coupling layer of images: some channels stay, and decide how the others are transformed.

    Parameters
    ----------
    mask : sequence of bool, one per channel
        True where the channel is transformed, given the others.
    make_network : callable (n_inputs, n_outputs) -> Module
        Makes the conditioner, called with (images, context), such as a :class:`ConvolutionalNetwork`.
    elementwise : SplineMap or AffineMap
        How each element is transformed.

    Raises
    ------
    ConfigurationError
        If the mask transforms nothing, or everything.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio (2017), "Density Estimation using Real NVP".

    Examples
    --------
    >>> from flowdetect.flows import AffineMap, ConvolutionalCoupling, ConvolutionalNetwork
    >>> layer = ConvolutionalCoupling([True, False], ConvolutionalNetwork, AffineMap())
    >>> outputs, log_det = layer(torch.zeros(4, 2, 7, 7))
    >>> outputs.shape, log_det.shape
    (torch.Size([4, 2, 7, 7]), torch.Size([4]))
    """

    identity_channels: Tensor
    transform_channels: Tensor

    def __init__(
        self, mask: Sequence[bool], make_network: ImageNetworkFactory, elementwise: ElementwiseMap
    ) -> None:
        transformed = torch.as_tensor(mask, dtype=torch.bool)
        n_transformed = int(transformed.sum())
        if transformed.ndim != 1 or not 0 < n_transformed < len(transformed):
            raise ConfigurationError(
                "mask must be one-dimensional, with channels to transform and channels to keep; "
                f"got {transformed.tolist()!r}."
            )
        super().__init__(len(transformed) - n_transformed, n_transformed, make_network, elementwise)
        self.register_buffer("identity_channels", torch.nonzero(~transformed).flatten())
        self.register_buffer("transform_channels", torch.nonzero(transformed).flatten())

    def _apply_map(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        kept = inputs.index_select(1, self.identity_channels)
        changing = inputs.index_select(1, self.transform_channels)
        outputs, log_det = self._map_elements(changing, kept, context, inverse)
        return inputs.index_copy(1, self.transform_channels, outputs), log_det.sum(dim=(1, 2, 3))


class CheckerboardCoupling(_ImageCoupling):
    """Coupling layer of images whose pixels, coloured as on a checkerboard, stay or are transformed.

    It serves images of one channel, of which no channel could stay. Half of the elements are mapped in vain.

    Parameters
    ----------
    n_channels : int
    odd : bool
        Whether the pixels with an odd sum of row and column are transformed, or the others.
    make_network, elementwise
        As in :class:`ConvolutionalCoupling`.

    Examples
    --------
    >>> from flowdetect.flows import AffineMap, CheckerboardCoupling, ConvolutionalNetwork
    >>> layer = CheckerboardCoupling(1, True, ConvolutionalNetwork, AffineMap())
    >>> layer(torch.zeros(4, 1, 3, 5))[0].shape
    torch.Size([4, 1, 3, 5])
    """

    def __init__(
        self, n_channels: int, odd: bool, make_network: ImageNetworkFactory, elementwise: ElementwiseMap
    ) -> None:
        super().__init__(n_channels, n_channels, make_network, elementwise)
        self.odd = odd

    def _apply_map(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        rows, columns = (torch.arange(size, device=inputs.device) for size in inputs.shape[2:])
        changes = (rows[:, None] + columns) % 2 == int(self.odd)
        outputs, log_det = self._map_elements(inputs, torch.where(changes, 0.0, inputs), context, inverse)
        return torch.where(changes, outputs, inputs), torch.where(changes, log_det, 0.0).sum(dim=(1, 2, 3))
