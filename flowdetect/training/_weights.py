"""All trainable weights of a module in a few flat buffers."""

import functools
import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["AdamW", "AveragedWeights", "FlatWeights", "Snapshot"]

# Offsets are multiples of 16 elements, so that every parameter starts on a 64-byte boundary, as alone.
_ALIGNMENT = 16
# Torch shares out work on more numbers than this between threads. For a few thousand more that gains little,
# and the threads stay awake for a while, on the cores that others could use.
_SERIAL = 32768

Snapshot = tuple[list[Tensor], list[Tensor]]


class FlatWeights:
    """The trainable parameters of a module as views of a flat tensor (one for each dtype).

    Clipping, the optimiser's step, averaging and snapshots then are one pass over memory instead of an
    operation per parameter, which for a small flow is most of the cost of a step outside the model.

    Parameters
    ----------
    module : nn.Module
        Its parameters are moved into the buffers, and their ``grad`` with them. Call `release` at the end.
        Parts of it may have ``flat_parameters()`` and ``use_flat(leaves)``: each of the lists of parameters
        that the first returns then lies side by side here, and the second is given, for each of these lists,
        a few leaves that are that memory from end to end.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._buffers = list(module.buffers())
        self._parts: list[Any] = [part for part in module.modules() if hasattr(part, "flat_parameters")]
        wanted = [part.flat_parameters() for part in self._parts]
        groups = _group([group for groups in wanted for group in groups], self._parameters)
        by_dtype: dict[torch.dtype, list[list[nn.Parameter]]] = {}
        for group in groups:
            by_dtype.setdefault(group[0].dtype, []).append(group)
        self.tensors: list[Tensor] = []
        self.decayed: list[Tensor] = []
        leaves: dict[int, list[Tensor]] = {}
        for same in by_dtype.values():
            flat, decayed = _flatten(same, leaves)
            self.tensors.append(flat)
            self.decayed.append(decayed)
        for part, lists in zip(self._parts, wanted, strict=True):
            if all(id(group[0]) in leaves for group in lists):
                part.use_flat([leaves[id(group[0])] for group in lists])

    @property
    def compiled(self) -> bool:
        """Whether most of the work on these weights is done by compiled passes."""
        return bool(self._parts) and all(_passes_for(flat) is not None for flat in self.tensors)

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place."""
        for flat in self.tensors:
            for start in range(0, flat.numel(), _SERIAL):
                _gradient(flat)[start : start + _SERIAL].zero_()

    def clip_gradient(self, loss: Tensor, limit: float) -> Tensor:
        """Scale the gradient to a norm of at most ``limit``; set it to zero where step or loss is not finite.

        Returns a boolean tensor, True where the gradient was usable. Nothing is copied to the host: the
        decision is a multiplication on the device, and a bad gradient cannot reach the weights.
        """
        gradients = [_gradient(flat) for flat in self.tensors]
        if all(_passes_for(gradient) is not None for gradient in gradients):
            return torch.tensor(_clip([gradient.numpy() for gradient in gradients], float(loss), limit))
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
        for part in self._parts:
            part.use_flat(None)
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None

    def _everything(self) -> Iterator[Tensor]:
        yield from self.tensors
        yield from self._buffers


def _group(wanted: list[list[nn.Parameter]], parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the wanted lists that are all there to be trained, and the other parameters one by one."""
    trained = {id(parameter) for parameter in parameters}
    groups = [
        group
        for group in wanted
        if all(id(parameter) in trained and parameter.dtype == group[0].dtype for parameter in group)
    ]
    grouped = {id(parameter) for group in groups for parameter in group}
    return groups + [[parameter] for parameter in parameters if id(parameter) not in grouped]


def _flatten(groups: list[list[nn.Parameter]], leaves: dict[int, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Move groups of parameters of one dtype into one tensor, and return it and which entries are matrices'.

    The leaves of each group of several parameters are put into ``leaves``, by the first of them.
    """
    sizes = [sum(parameter.numel() for parameter in group) for group in groups]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)
    flat = groups[0][0].new_zeros(starts[-1]).detach().requires_grad_()
    flat.grad = torch.zeros_like(flat)
    decayed = torch.zeros_like(flat, requires_grad=False)
    for group, start, size in zip(groups, starts, sizes, strict=False):
        if len(group) > 1:
            leaves[id(group[0])] = [
                _leaf(flat, flat.grad, slice(begin, min(begin + _SERIAL, start + size)))
                for begin in range(start, start + size, _SERIAL)
            ]
        for parameter in group:
            stop = start + parameter.numel()
            view = flat.detach()[start:stop].view_as(parameter)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = flat.grad[start:stop].view_as(parameter)
            decayed[start:stop] = float(parameter.ndim > 1)
            start = stop
    return flat, decayed


def _leaf(flat: Tensor, gradient: Tensor, part: slice) -> Tensor:
    leaf = flat.detach()[part].requires_grad_()
    leaf.grad = gradient[part]
    return leaf


def _gradient(flat: Tensor) -> Tensor:
    if flat.grad is None:  # only a caller that deletes it can get here
        flat.grad = torch.zeros_like(flat)
    return flat.grad


@functools.cache
def _load_passes() -> Any:
    """Import the compiled passes; None without numba."""
    try:
        return importlib.import_module("flowdetect.training._update_numba")
    except ImportError:
        return None


def _passes_for(values: Tensor) -> Any:
    plain = values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)
    return _load_passes() if plain else None


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]


def _clip(gradients: list[np.ndarray], loss: float, limit: float) -> bool:
    """Do what `FlatWeights.clip_gradient` does, in place, where decisions cost nothing."""
    norm = math.sqrt(sum(_load_passes().square_sum(gradient) for gradient in gradients))
    usable = math.isfinite(norm + loss)
    for gradient in gradients:
        if not usable:
            gradient.fill(0.0)
        elif norm > limit:
            gradient *= gradient.dtype.type(limit / norm)
    return usable


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
        self._weights, self._weight_decay = weights, weight_decay
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
        for flat, decayed, mean, square in zip(
            self._weights.tensors, self._weights.decayed, self._means, self._squares, strict=True
        ):
            corrections = [1.0 - beta**self._n_steps for beta in self._betas]
            gradient, rate, decay = _gradient(flat), learning_rate, learning_rate * self._weight_decay
            numbers = [1.0 - beta for beta in self._betas]
            numbers += [rate / corrections[0], 1.0 / corrections[1], self._eps, decay]
            passes = _passes_for(flat)
            if passes is None:
                _adamw_step(flat, gradient, mean, square, decayed, numbers)
            else:
                shrunk = decayed if decay else decayed[:0]
                arrays = _arrays(flat, gradient, mean, square, shrunk)
                passes.adamw_step(*arrays, np.array(numbers, arrays[0].dtype))


def _adamw_step(
    flat: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, decayed: Tensor, numbers: Sequence[float]
) -> None:
    """Do what the compiled pass of the same name does by torch's operations."""
    new, new_square, rate, correction, eps, decay = numbers
    mean.lerp_(gradient, new)
    square.mul_(1.0 - new_square).addcmul_(gradient, gradient, value=new_square)
    root = (square * correction).sqrt_().add_(eps)
    if decay:
        flat.mul_(1.0 - decay * decayed)
    flat.addcdiv_(mean, root, value=-rate)


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
            passes = _passes_for(flat)
            if passes is None:
                average.lerp_(flat, 1.0 - decay)
            else:
                arrays = _arrays(average, flat)
                passes.move_towards(*arrays, arrays[0].dtype.type(1.0 - decay))

    def snapshot(self) -> Snapshot:
        """Return a copy of the averaged weights, with the module's buffers as they are."""
        return [average.clone() for average in self._average], self._weights.snapshot()[1]
