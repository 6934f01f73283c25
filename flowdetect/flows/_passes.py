"""What the compiled passes share: when they step aside, how weights are packed, and gradients summed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from flowdetect._utils.threads import run_parts
from flowdetect.flows._kernels import load_kernels

__all__ = [
    "choose_weights",
    "count_blocks",
    "in_plain_layers",
    "pack",
    "plain_gradient",
    "plain_layers",
    "run_blocks",
    "sum_over_groups",
    "unpack",
]

# Multiply-adds that are worth waking a thread for: somewhat less than a millisecond.
_WORK_PER_THREAD = 30_000_000
# Gradients are summed over groups of blocks, and then over groups: whatever the number of threads, the sums
# are the same.
_MOST_GROUPS = 16

_switch = threading.local()


@contextmanager
def plain_layers() -> Iterator[None]:
    """Let layers called in this thread work by torch's own operations."""
    before = in_plain_layers()
    _switch.plain = True
    try:
        yield
    finally:
        _switch.plain = before


def in_plain_layers() -> bool:
    """Return whether this thread is inside `plain_layers`."""
    return getattr(_switch, "plain", False)


def pack(weights: Sequence[Tensor], mask: np.ndarray | None) -> np.ndarray:
    """Return all weights as one vector, times the mask."""
    # numpy's operations: torch would share them out between threads, which then stay awake for a while and
    # take the cores from those that the kernels are given.
    flat = np.concatenate([weight.detach().numpy().ravel() for weight in weights])
    return flat if mask is None else np.multiply(flat, mask, out=flat)


def unpack(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a vector in the shapes of some tensors."""
    parts = flat.split([tensor.numel() for tensor in like])
    return [part.view_as(tensor) for part, tensor in zip(parts, like, strict=True)]


def choose_weights(leaves: Sequence[Tensor] | None, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the leaves if the parameters still are views of them from end to end, otherwise the parameters.

    A module that has been converted or moved since has parameters elsewhere.
    """
    if not leaves:
        return parameters
    first, last = parameters[0], parameters[-1]
    ends = (last.data_ptr() + last.nbytes, leaves[-1].data_ptr() + leaves[-1].nbytes)
    return leaves if first.data_ptr() == leaves[0].data_ptr() and ends[0] == ends[1] else parameters


def count_blocks(n_rows: int) -> int:
    """Return the number of blocks of rows, of which the last may be filled in part."""
    return -(-n_rows // load_kernels().BLOCK)


def run_blocks(work: Callable[[int, int], None], n_blocks: int, n_weights: int) -> None:
    """Call ``work(first, last)`` for all blocks, shared out between threads if they are worth it."""
    most = n_blocks * load_kernels().BLOCK * n_weights // _WORK_PER_THREAD
    run_parts(lambda _, first, last: work(first, last), n_blocks, most=most)


def sum_over_groups(
    work: Callable[[int, int, np.ndarray], None], n_blocks: int, like: np.ndarray
) -> np.ndarray:
    """Return the sum over all blocks of what ``work(first, last, total)`` adds to a vector of zeros."""
    # The gradient is twice the work of what it is the gradient of.
    worth = 2 * n_blocks * load_kernels().BLOCK * len(like) // _WORK_PER_THREAD
    n_groups = max(1, min(_MOST_GROUPS, n_blocks, worth))
    bounds = [n_blocks * group // n_groups for group in range(n_groups + 1)]
    totals = np.empty((n_groups, *like.shape), like.dtype)

    def run(_: int, first: int, last: int) -> None:
        for group in range(first, last):
            totals[group] = 0.0
            work(bounds[group], bounds[group + 1], totals[group])

    run_parts(run, n_groups, most=n_groups)
    for more in totals[1:]:
        totals[0] += more
    return totals[0]


def plain_gradient(
    run: nn.Module,
    parameters: dict[str, Tensor],
    weights: Sequence[Tensor],
    given: Sequence[Tensor],
    wanted: Sequence[bool],
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return gradients by way of the operations that autograd knows.

    Parameters
    ----------
    run : nn.Module
        Maps ``given`` to what the compiled pass returns.
    parameters : dict of Tensor
        Its parameters that the pass used, by name and in order.
    weights : sequence of Tensor
        What the pass used for them: the parameters, or vectors that hold them from end to end.
    given : sequence of Tensor
    wanted : sequence of bool
        For which of given and weights a gradient is asked.
    gradients : sequence of Tensor
        Of what the pass returned.
    """
    again = torch.is_grad_enabled()
    tensors = [*given, *weights]
    with torch.enable_grad(), plain_layers():
        if not again:
            pairs = zip(tensors, wanted, strict=True)
            tensors = [tensor.detach().requires_grad_(want) for tensor, want in pairs]
        given, weights = tensors[: len(given)], tensors[len(given) :]
        shapes = [tensor.shape for tensor in weights]
        if shapes != [parameter.shape for parameter in parameters.values()]:
            weights = unpack(torch.cat([*weights]), list(parameters.values()))
        outputs: Any = functional_call(run, dict(zip(parameters, weights, strict=True)), tuple(given))
        asked = [tensor for tensor, want in zip(tensors, wanted, strict=True) if want]
        found = torch.autograd.grad(outputs, asked, gradients, create_graph=again, allow_unused=True)
    results = iter(found)
    return [next(results) if want else None for want in wanted]
