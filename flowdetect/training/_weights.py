"""All trainable weights of a module in a few flat buffers."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["AdamW", "AveragedWeights", "FlatWeights", "Snapshot"]

# Offsets are multiples of 16 elements, so that every parameter starts on a 64-byte boundary, as alone.
_ALIGNMENT = 16

Snapshot = tuple[list[Tensor], list[Tensor]]


class FlatWeights:
    """The trainable parameters of a module as views of a few flat tensors.

    Clipping, the optimiser's step, averaging and snapshots then are one operation per buffer instead of
    one per parameter, which for a small flow is most of the cost of a step outside the model. There is one
    buffer per dtype for matrices (which weight decay shrinks) and one for vectors (which it leaves alone).

    Parameters
    ----------
    module : nn.Module
        Its parameters are moved into the buffers, and their ``grad`` with them. Call `release` at the end.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._buffers = list(module.buffers())
        self.decayed = _flatten([p for p in self._parameters if p.ndim > 1])
        self.plain = _flatten([p for p in self._parameters if p.ndim <= 1])

    @property
    def tensors(self) -> list[Tensor]:
        """The flat buffers, each with its ``grad``."""
        return self.decayed + self.plain

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place."""
        for flat in self.tensors:
            _gradient(flat).zero_()

    def clip_gradient(self, loss: Tensor, limit: float) -> Tensor:
        """Scale the gradient to a norm of at most ``limit``; set it to zero where step or loss is not finite.

        Returns a boolean tensor, True where the gradient was usable. Nothing is copied to the host: the
        decision is a multiplication on the device, and a bad gradient cannot reach the weights.
        """
        gradients = [_gradient(flat) for flat in self.tensors]
        norms = [torch.linalg.vector_norm(gradient).float() for gradient in gradients]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        usable = torch.isfinite(norm + loss)
        scale = torch.where(usable, (limit / (norm + 1e-12)).clamp(max=1.0), 0.0)
        for gradient in gradients:
            # NaN * 0 is NaN, so the entries are cleaned first; for a usable gradient this changes nothing.
            gradient.nan_to_num_(0.0, 0.0, 0.0).mul_(scale)
        return usable

    def finite(self) -> Tensor:
        """Return a boolean tensor: whether all weights are finite."""
        return torch.isfinite(torch.stack([flat.detach().sum().float() for flat in self.tensors]).sum())

    def snapshot(self) -> Snapshot:
        """Return a copy of all weights and buffers."""
        return [flat.detach().clone() for flat in self.tensors], [buffer.clone() for buffer in self._buffers]

    def restore(self, snapshot: Snapshot) -> None:
        """Set all weights and buffers to those of a snapshot."""
        with torch.no_grad():
            for current, saved in zip(self._everything(), snapshot[0] + snapshot[1], strict=True):
                current.copy_(saved)

    def release(self) -> None:
        """Give every parameter its own memory again (safetensors refuses shared memory), and no gradient."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None

    def _everything(self) -> Iterator[Tensor]:
        yield from self.tensors
        yield from self._buffers


def _flatten(parameters: list[nn.Parameter]) -> list[Tensor]:
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    return [_flatten_group(group) for group in by_dtype.values()]


def _flatten_group(parameters: list[nn.Parameter]) -> Tensor:
    sizes = [-(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT for parameter in parameters]
    flat = parameters[0].new_zeros(sum(sizes)).detach().requires_grad_()
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter, size in zip(parameters, sizes, strict=True):
        view = flat.detach()[start : start + parameter.numel()].view_as(parameter)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad = flat.grad[start : start + parameter.numel()].view_as(parameter)
        start += size
    return flat


def _gradient(flat: Tensor) -> Tensor:
    if flat.grad is None:  # only a caller that deletes it can get here
        flat.grad = torch.zeros_like(flat)
    return flat.grad


class AdamW:
    """Adam with decoupled weight decay, on flat weights.

    The same numbers as ``torch.optim.AdamW``. That one imports torch's compiler when the first optimiser is
    made, which takes longer (1.8 s) than fitting a small table; on flat buffers its fused kernel gains
    nothing that would make up for it.

    Parameters
    ----------
    weights : FlatWeights
        The weights to move.
    weight_decay : float
        Share of every matrix taken off per step and unit of learning rate; vectors are left alone.
    betas : tuple of two floats, default=(0.9, 0.999)
        Decay of the means of the gradient and of its square.
    eps : float, default=1e-8
        Added to the denominator.

    References
    ----------
    I. Loshchilov, F. Hutter (2019), Decoupled Weight Decay Regularization.
    """

    def __init__(
        self,
        weights: FlatWeights,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._weights = weights
        self._decays = [weight_decay] * len(weights.decayed) + [0.0] * len(weights.plain)
        self._betas, self._eps = betas, eps
        self.restart()

    def restart(self) -> None:
        """Forget all gradients so far."""
        self._n_steps = 0
        self._means = [torch.zeros_like(flat) for flat in self._weights.tensors]
        self._squares = [torch.zeros_like(flat) for flat in self._weights.tensors]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the weights against their gradient."""
        self._n_steps += 1
        for flat, decay, mean, square in zip(
            self._weights.tensors, self._decays, self._means, self._squares, strict=True
        ):
            gradient = _gradient(flat)
            mean.lerp_(gradient, 1.0 - self._betas[0])
            square.mul_(self._betas[1]).addcmul_(gradient, gradient, value=1.0 - self._betas[1])
            # The root of an exact 0 (a masked weight) takes a CPU ten times as long; 1e-30 changes nothing.
            root = (square / (1.0 - self._betas[1] ** self._n_steps)).add_(1e-30).sqrt_().add_(self._eps)
            if decay:
                flat.mul_(1.0 - learning_rate * decay)
            flat.addcdiv_(mean, root, value=-learning_rate / (1.0 - self._betas[0] ** self._n_steps))


class AveragedWeights:
    """Exponential moving average of flat weights.

    Parameters
    ----------
    weights : FlatWeights
        The weights to average.
    decay : float
        Share of the old average kept at each step; smaller during the first steps, so that the start is
        forgotten: ``min(decay, (1 + t) / (10 + t))``.
    """

    def __init__(self, weights: FlatWeights, decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self.restart()

    def restart(self) -> None:
        """Forget the past: the average is what the weights are now."""
        self._n_updates = 0
        self._average = self._weights.snapshot()[0]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self._n_updates += 1
        decay = min(self._decay, (1 + self._n_updates) / (10 + self._n_updates))
        for average, flat in zip(self._average, self._weights.tensors, strict=True):
            average.lerp_(flat, 1.0 - decay)

    def snapshot(self) -> Snapshot:
        """Return a copy of the averaged weights, with the module's buffers as they are."""
        return [average.clone() for average in self._average], self._weights.snapshot()[1]
