"""The optimiser's work on flat weights, each a single pass over memory, compiled by numba."""

from typing import Any

from flowdetect._utils.jit import cached

__all__ = ["adamw_step", "move_towards", "square_sum"]


@cached
def square_sum(values: Any) -> Any:
    """Return the sum of squares, formed in double precision."""
    total = 0.0
    for i in range(values.size):
        total += float(values[i]) * float(values[i])
    return total


@cached
def adamw_step(weights: Any, gradient: Any, mean: Any, square: Any, shrunk: Any, numbers: Any) -> None:
    """Move weights against their gradient, and its two means along.

    Parameters
    ----------
    weights, gradient, mean, square : array of shape (n,)
    shrunk : array of shape (n,)
        1 where weight decay applies, 0 elsewhere; or of shape (0,) if it applies nowhere.
    numbers : array of shape (6,), of the weights' type
        1 - beta_1, 1 - beta_2, rate / (1 - beta_1^t), 1 / (1 - beta_2^t), eps, rate x decay.
    """
    new, new_square, rate, correction, eps, decay = numbers
    tiny = weights.dtype.type(1e-30)
    for i in range(weights.size):
        g = gradient[i]
        mean[i] += new * (g - mean[i])
        square[i] += new_square * (g * g - square[i])
        # The root of an exact 0 (a masked weight) takes a CPU ten times as long; 1e-30 changes nothing.
        root = (square[i] * correction + tiny) ** 0.5 + eps
        if shrunk.size:
            weights[i] *= 1 - decay * shrunk[i]
        weights[i] -= rate * mean[i] / root


@cached
def move_towards(average: Any, values: Any, share: Any) -> None:
    """Move an average by a share of the way to the values."""
    for i in range(average.size):
        average[i] += share * (values[i] - average[i])
