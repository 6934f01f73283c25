"""A transform with its two directions swapped."""

from nflows.transforms.base import Transform
from torch import Tensor

__all__ = ["Reversed"]


class Reversed(Transform):
    """Go the other way: forward is the inverse of a transform, inverse its forward direction.

    Parameters
    ----------
    transform : Transform

    Notes
    -----
    An autoregressive layer is quick forward, in one pass with a compiled gradient, and takes one pass for
    each feature back. As a map from data to noise it is a masked autoregressive flow, whose densities are
    quick; reversed, it is an inverse autoregressive flow, whose draws are.

    References
    ----------
    Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling (2016). Improved Variational Inference with Inverse
    Autoregressive Flow.

    Examples
    --------
    >>> import torch
    >>> from flowdetect.flows import Permutation
    >>> Reversed(Permutation([2, 0, 1]))(torch.tensor([[10.0, 11.0, 12.0]]))[0].tolist()
    [[11.0, 12.0, 10.0]]
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the inverse to inputs (n, n_features); return the outputs and its log|det| (n,) in nats."""
        outputs, log_det = self.transform.inverse(inputs, context)
        return outputs, log_det

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transform itself; return the outputs and its log|det| (n,)."""
        outputs, log_det = self.transform(inputs, context)
        return outputs, log_det
