"""What a run needs before its first step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.training._config import TrainingConfig, TrainingPlan
from flowdetect.training._data import RowSource, check_weights, n_batches, split_rows

__all__ = [
    "choose_rows",
    "held_out_rows",
    "learning_rate_share",
    "make_plan",
    "own_random_stream",
    "resolve_device",
    "split_stream",
]

_STEPS_PER_ROW_WITHOUT_VALIDATION = 20
# Steps between two looks at the validation rows; fewer in short runs, so that they are looked at so often.
_USUAL_LOOK, _LOOKS = 50, 12
# The schedule starts and ends at these shares of the peak.
_FIRST_SHARE, _LAST_SHARE = 0.04, 1e-3


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"device must be 'auto' or a name that torch knows; got {name!r}."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"device is {name!r}, but torch finds no CUDA device here; use 'auto' or 'cpu'."
        )
    return device


def trained_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype of the weights to be trained, which batches are converted to."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            return parameter.dtype
    raise ConfigurationError(f"module must have parameters to train; {type(module).__name__} has none.")


def choose_rows(
    n_rows: int, weights: np.ndarray | None, config: TrainingConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of training rows and of validation rows."""
    n_usable = n_rows if weights is None else int(np.count_nonzero(weights))
    if not n_usable:
        raise ConfigurationError("source must have at least one row; got none.")
    return split_rows(n_rows, weights, config.n_validation(n_usable), rng)


def held_out_rows(source: RowSource, config: TrainingConfig) -> np.ndarray:
    """Return the indices of the rows that `train` validates on and does not learn from, sorted.

    Parameters
    ----------
    source : RowSource
        The rows given to `train`.
    config : TrainingConfig
        The settings given to `train`.

    Returns
    -------
    ndarray of int
        Empty if it trains on all rows.

    Examples
    --------
    >>> from flowdetect.training import ArraySource
    >>> len(held_out_rows(ArraySource(np.zeros((400, 1))), TrainingConfig(seed=0)))
    40
    """
    weights = None if source.weights is None else check_weights(source.weights, len(source))
    return choose_rows(len(source), weights, config, split_stream(config))[1]


def split_stream(config: TrainingConfig) -> np.random.Generator:
    """Return the random stream that parts training from validation rows."""
    return np.random.default_rng(np.random.SeedSequence(config.seed).spawn(3)[0])


def make_plan(
    config: TrainingConfig, n_training: int, n_validation: int, device: torch.device
) -> TrainingPlan:
    """Return how many steps are done at most, and how often they are evaluated."""
    steps_per_epoch = n_batches(n_training, config.batch_size)
    n_steps = config.max_steps
    if config.max_epochs is not None:
        n_steps = min(n_steps, config.max_epochs * steps_per_epoch)
    if not n_validation and config.validation_fraction > 0:
        # Nothing would show that these few rows are learnt by heart, so there is no time to do so.
        n_steps = min(n_steps, _STEPS_PER_ROW_WITHOUT_VALIDATION * n_training)
    # Validating forwards two sets of weights, each about a third of a step's work per row.
    step_rows = n_training / steps_per_epoch
    affordable = math.ceil(10 / 3 * n_validation / step_rows)
    return TrainingPlan(
        n_steps=n_steps,
        evaluate_every=config.evaluate_every or max(min(_USUAL_LOOK, -(-n_steps // _LOOKS)), affordable),
        n_training=n_training,
        n_validation=n_validation,
        steps_per_epoch=steps_per_epoch,
        device=str(device),
    )


def learning_rate_share(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, then a cosine down to almost 0."""
    if progress < warmup:
        return _FIRST_SHARE + (1.0 - _FIRST_SHARE) * progress / warmup
    falling = 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))
    return _LAST_SHARE + (1.0 - _LAST_SHARE) * falling


@contextmanager
def own_random_stream(module: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global stream inside, and put it back after, if the module draws from it (dropout)."""
    if not any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in module.modules()):
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
