"""Rows for training: where they come from, and how they are cut into batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flowdetect.exceptions import ConfigurationError

__all__ = ["ArraySource", "Batch", "RowSource"]

BLOCK_ROWS = 16384


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    Parameters
    ----------
    inputs : Tensor of shape (n, n_columns)
        The rows whose density is learnt.
    context : Tensor of shape (n, n_context) or None
        What the density is conditional on.
    weights : Tensor of shape (n,) or None
        How much each row counts; None counts every row once.

    Examples
    --------
    >>> import torch
    >>> len(Batch(torch.zeros(3, 2)))
    3
    """

    inputs: Tensor
    context: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """Return the batch on ``device``, every tensor of type ``dtype``."""
        return self._map(lambda part: part.to(device, dtype))

    def __getitem__(self, rows: slice) -> "Batch":
        return self._map(lambda part: part[rows])

    def repeat(self, times: int) -> "Batch":
        """Return the batch with all its rows ``times`` times, one copy after the other."""
        return self if times == 1 else self._map(lambda part: torch.cat([part] * times))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        context = None if self.context is None else change(self.context)
        weights = None if self.weights is None else change(self.weights)
        return Batch(change(self.inputs), context, weights)


class RowSource(Protocol):
    """A table that hands out rows on request, so that it never has to be on the device as a whole."""

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of every row, shape (n,), or None when all count once."""

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return the rows ``index``, in that order.

        With ``rng`` the source may add dequantisation noise drawn from it; with None the same index must
        give the same rows every time (validation).
        """


class ArraySource:
    """Rows of arrays that are in memory.

    Parameters
    ----------
    inputs : array-like of shape (n, n_columns)
        The rows whose density is learnt.
    context : array-like of shape (n, n_context), optional
        What the density is conditional on.
    weights : array-like of shape (n,), optional
        Non-negative weights. A weight of 2 acts, in expectation, like the row given twice.

    Raises
    ------
    ConfigurationError
        If the lengths differ, or the weights are negative, not finite or all zero.

    Examples
    --------
    >>> source = ArraySource([[1.0], [2.0], [3.0]], weights=[1, 0, 2])
    >>> source.rows(np.array([2, 0]), None).inputs.tolist()
    [[3.0], [1.0]]
    """

    def __init__(self, inputs: Any, context: Any = None, weights: Any = None) -> None:
        self.inputs = _matrix(inputs, "inputs")
        n_rows = len(self.inputs)
        self.context = None if context is None else _matrix(context, "context")
        if self.context is not None and len(self.context) != n_rows:
            raise ConfigurationError(
                f"context must have one row per row of inputs; got {len(self.context)} for {n_rows}."
            )
        self.weights: np.ndarray | None = None if weights is None else check_weights(weights, n_rows)

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return the rows ``index``; arrays need no noise, so ``rng`` is not drawn from."""
        context = None if self.context is None else torch.from_numpy(self.context[index])
        weights = None if self.weights is None else torch.from_numpy(self.weights[index])
        return Batch(torch.from_numpy(self.inputs[index]), context, weights)


def check_weights(weights: Any, n_rows: int) -> np.ndarray:
    """Return ``weights`` as float64, or say why they cannot be used."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise ConfigurationError(f"weights must have shape ({n_rows},); got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigurationError(
            "weights must be finite and not negative; set a row's weight to 0 to leave it out."
        )
    if not weights.any():
        raise ConfigurationError("weights must not all be zero; got no row to learn from.")
    return weights


def split_rows(
    n_rows: int, weights: np.ndarray | None, n_validation: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of training and validation rows, rows of zero weight in neither."""
    usable = np.arange(n_rows) if weights is None else np.flatnonzero(weights)
    chosen = np.zeros(len(usable), dtype=bool)
    chosen[rng.permutation(len(usable))[:n_validation]] = True
    return usable[~chosen], usable[chosen]


def n_batches(n_rows: int, batch_size: int) -> int:
    """Return the number of batches of one epoch: all rows in equal parts of about ``batch_size``.

    Equal parts have between 2/3 and 3/2 of ``batch_size`` rows (fewer only when the table has fewer), so
    that no row is dropped and no batch is too small for its gradient to mean something.
    """
    return max(1, round(n_rows / batch_size))


def epoch_batches(rows: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield every row once, in random order, in equal parts of about ``batch_size``."""
    order = rng.permutation(rows)
    bounds = np.linspace(0, len(order), n_batches(len(order), batch_size) + 1).astype(np.int64)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        yield order[start:stop]


def index_blocks(
    rows: np.ndarray, batch_size: int, n_steps: int, rng: np.random.Generator, block_rows: int
) -> Iterator[list[np.ndarray]]:
    """Yield ``n_steps`` batches of indices, as many at once as ``block_rows`` rows hold.

    A block may span epochs: on a small table one request to the source then serves many steps. The first
    blocks are small and double in size, so that a short run does not prepare rows that it never uses.
    """
    block: list[np.ndarray] = []
    size, room, remaining = 0, min(block_rows, 4 * batch_size), n_steps
    while remaining:
        for batch in epoch_batches(rows, batch_size, rng):
            if block and size + len(batch) > room:
                yield block
                block, size, room = [], 0, min(block_rows, 2 * room)
            block.append(batch)
            size += len(batch)
            remaining -= 1
            if not remaining:
                break
    yield block


def fetch_rows(source: RowSource, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
    """Return rows of the source with their weights, which `RowSource.rows` need not fill in."""
    batch = source.rows(index, rng)
    weights = None if source.weights is None else torch.from_numpy(np.asarray(source.weights)[index])
    return replace(batch, weights=weights)


def stream_batches(
    source: RowSource,
    rows: np.ndarray,
    *,
    batch_size: int,
    n_steps: int,
    rng: np.random.Generator,
    device: torch.device,
    dtype: torch.dtype,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Batch]:
    """Yield ``n_steps`` batches on the device.

    The source is asked for at most ``block_rows`` rows at once (more only if one batch has more), so
    memory beyond the input is one permutation of indices and one block.
    """
    for block in index_blocks(rows, batch_size, n_steps, rng, block_rows):
        fetched = fetch_rows(source, np.concatenate(block), rng).to(device, dtype)
        start = 0
        for batch in block:
            yield fetched[start : start + len(batch)]
            start += len(batch)


def _matrix(values: Any, name: str) -> np.ndarray:
    matrix = np.asarray(values)
    matrix = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
    if matrix.ndim != 2:
        raise ConfigurationError(
            f"{name} must have two dimensions (rows, columns); got shape {matrix.shape}."
        )
    return matrix
