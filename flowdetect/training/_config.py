"""Settings of a training run, and its outcome."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from flowdetect.exceptions import ConfigurationError

__all__ = ["EvaluationRecord", "StopReason", "TrainingConfig", "TrainingPlan", "TrainingResult"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train.

    Parameters
    ----------
    max_steps : int, default=2000
        Most steps of the optimiser.
    max_epochs : int or None, default=None
        Most passes over the training rows; whichever of the two ends first counts.
    batch_size : int, default=256
        Rows per step. An epoch is cut into equal batches of about this size.
    learning_rate : float, default=2e-3
        Peak of the schedule: warm-up, then a cosine down to almost zero at the last step (or at the end of
        the time budget, if that comes first).
    weight_decay : float, default=0.0
        Decoupled decay of matrices; biases and other vectors are left alone.
    warmup_fraction : float, default=0.05
        Share of the run in which the learning rate rises.
    gradient_clip : float or None, default=5.0
        Largest norm of the gradient of the mean loss.
    validation_fraction : float, default=0.1
        Share of the rows kept for validation; 0 trains on all rows for all steps.
    min_validation_rows, max_validation_rows : int, default=32 and 16384
        Bounds of the number of validation rows; never more than a quarter of the rows. Validation rows stay
        in memory.
    patience : int or None, default=8
        Evaluations without a better validation loss after which training stops; None trains to the end.
    min_improvement : float, default=1e-4
        Smallest fall of the validation loss, in nats, that counts for ``patience``.
    evaluate_every : int or None, default=None
        Steps between evaluations; None takes 50, or a twelfth of the steps if that is less, and more where
        validating would take more than about a fifth of the time.
    average_decay : float or None, default=0.99
        Decay of the exponential moving average of the weights; the better of averaged and current weights is
        kept. None keeps no average.
    time_budget : float or None, default=None
        Seconds after which training stops.
    device : str, default="auto"
        ``"auto"`` takes CUDA where there is a device; otherwise a name that torch understands.
    seed : int, default=0
        Seed of everything random in the run.

    Raises
    ------
    ConfigurationError
        If a setting lies outside its range.

    Notes
    -----
    With n training rows an epoch has ``round(n / batch_size)`` batches, at least one, of equal size.

    A phase of falling learning rate after patience has run out was tried and gained nothing over the averaged
    weights, which do the same smoothing at every evaluation.

    Examples
    --------
    >>> TrainingConfig(max_steps=500, time_budget=60.0).learning_rate
    0.002
    """

    max_steps: int = 2000
    max_epochs: int | None = None
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    warmup_fraction: float = 0.05
    gradient_clip: float | None = 5.0
    validation_fraction: float = 0.1
    min_validation_rows: int = 32
    max_validation_rows: int = 16384
    patience: int | None = 8
    min_improvement: float = 1e-4
    evaluate_every: int | None = None
    average_decay: float | None = 0.99
    time_budget: float | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "min_validation_rows", "max_validation_rows"):
            self._require(name, isinstance(getattr(self, name), int), "be a whole number")
        for name in ("max_steps", "max_epochs", "batch_size", "evaluate_every", "patience"):
            self._require(name, _none_or(getattr(self, name), lambda value: value >= 1), "be at least 1")
        for name in ("learning_rate", "time_budget", "gradient_clip"):
            value = getattr(self, name)
            self._require(name, _none_or(value, lambda v: 0 < v < math.inf), "be positive and finite")
        for name in ("weight_decay", "min_improvement", "min_validation_rows"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "not be negative")
        for name in ("warmup_fraction", "validation_fraction"):
            self._require(name, 0 <= getattr(self, name) < 1, "lie in [0, 1)")
        self._require("average_decay", _none_or(self.average_decay, lambda v: 0 < v < 1), "lie in (0, 1)")
        self._require(
            "max_validation_rows",
            self.max_validation_rows >= max(1, self.min_validation_rows),
            "be at least min_validation_rows",
        )

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigurationError(f"{name} must {rule}; got {getattr(self, name)!r}.")

    def n_validation(self, n_rows: int) -> int:
        """Return the number of validation rows of a table with ``n_rows`` rows of positive weight."""
        if n_rows < 10 or self.validation_fraction == 0:
            return 0
        wanted = max(round(self.validation_fraction * n_rows), self.min_validation_rows)
        return max(1, min(wanted, self.max_validation_rows, n_rows // 4))


class StopReason(StrEnum):
    """Why training ended."""

    MAX_STEPS = "max_steps"
    PATIENCE = "patience"
    TIME_BUDGET = "time_budget"
    CALLBACK = "callback"
    FEW_ROWS = "few_rows"

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return _SENTENCES[self]


_SENTENCES = {
    StopReason.MAX_STEPS: "All steps were done.",
    StopReason.PATIENCE: "The validation loss had stopped falling.",
    StopReason.TIME_BUDGET: "The time budget was spent.",
    StopReason.CALLBACK: "A callback asked to stop.",
    StopReason.FEW_ROWS: "There were too few rows to validate on, so a small number of steps was done.",
}


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is going to do, told to callbacks before it starts.

    Attributes
    ----------
    n_steps : int
        Most steps.
    evaluate_every : int
        Steps between evaluations.
    n_training, n_validation : int
        Number of rows of either kind.
    steps_per_epoch : int
        Batches in one pass over the training rows.
    device : str
        Where it runs.
    """

    n_steps: int
    evaluate_every: int
    n_training: int
    n_validation: int
    steps_per_epoch: int
    device: str

    @property
    def n_evaluations(self) -> int:
        """Most evaluations, the one before the first step and the one after the last included."""
        return 2 + self.n_steps // self.evaluate_every


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation during training.

    Attributes
    ----------
    step, epoch : int
        Steps done, and full passes over the training rows.
    train_loss : float
        Mean loss in nats over the steps since the last evaluation; NaN before the first step.
    validation_loss : float or None
        Loss in nats on the validation rows, of the better of current and averaged weights; None without
        validation rows.
    learning_rate : float
        Of the last step.
    seconds : float
        Since the start.
    """

    step: int
    epoch: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training run.

    Attributes
    ----------
    history : list of EvaluationRecord
        One record per evaluation, the first before any step.
    best_step : int
        Step whose weights were kept.
    best_validation_loss : float or None
        Their validation loss in nats; None without validation rows.
    stop_reason : StopReason
        Why training ended.
    n_steps : int
        Steps done.
    seconds : float
        Time taken.
    recoveries : int
        How often training went back to earlier weights because a loss or gradient was not finite.
    n_training, n_validation : int
        Number of rows of either kind.
    """

    history: list[EvaluationRecord] = field(repr=False)
    best_step: int
    best_validation_loss: float | None
    stop_reason: StopReason
    n_steps: int
    seconds: float
    recoveries: int
    n_training: int
    n_validation: int

    @property
    def message(self) -> str:
        """The outcome in one or two sentences."""
        text = f"{self.stop_reason.sentence} {self.n_steps} steps in {self.seconds:.1f} s"
        if self.best_validation_loss is not None:
            text += f", best validation loss {self.best_validation_loss:.4f} nats at step {self.best_step}"
        if self.recoveries:
            text += f"; returned {self.recoveries} x to earlier weights from a loss that was not finite"
        return text + "."


def _none_or(value: float | None, rule: Callable[[float], bool]) -> bool:
    return value is None or rule(value)
