"""What others are told while a model trains."""

from collections.abc import Sequence
from typing import Any

from flowdetect.training._config import EvaluationRecord, TrainingPlan, TrainingResult

__all__ = ["Callback", "ProgressBar"]


class Callback:
    """Base of callbacks; every method does nothing.

    Examples
    --------
    >>> class StopBelowOneNat(Callback):
    ...     def on_evaluation(self, record):
    ...         return record.validation_loss is not None and record.validation_loss < 1.0
    """

    def on_start(self, plan: TrainingPlan) -> None:
        """Take note of the plan, once, before the first step."""

    def on_step(self, step: int) -> None:
        """Take note of the number of steps done, every few steps."""

    def on_evaluation(self, record: EvaluationRecord) -> bool | None:
        """Take note of an evaluation and return True to stop; the module is in eval mode meanwhile."""
        return None

    def on_end(self, result: TrainingResult | None) -> None:
        """Take note of the end; ``result`` is None if training failed or was interrupted."""


class ProgressBar(Callback):
    """A bar of the steps done, with the validation loss, on standard error.

    It vanishes at the end, and writes nothing where standard error is not a terminal. Training that stops
    early ends before the bar does.

    Parameters
    ----------
    description : str, default="training"
        What is written before the bar.
    console : rich.console.Console, optional
        Where to draw; by default standard error.

    Examples
    --------
    >>> bar = ProgressBar("fitting")
    """

    def __init__(self, description: str = "training", console: Any = None) -> None:
        self.description = description
        self.console = console
        self._progress: Any = None
        self._task: Any = None

    def on_start(self, plan: TrainingPlan) -> None:
        """Draw an empty bar."""
        # Imported here because most training draws nothing.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = self.console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(self.description, total=plan.n_steps, loss="")
        self._progress.start()

    def on_step(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Show the validation loss."""
        loss = record.train_loss if record.validation_loss is None else record.validation_loss
        self._progress.update(self._task, completed=record.step, loss=f"{loss:.4f} nats")

    def on_end(self, result: TrainingResult | None) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()


def ask_to_stop(callbacks: Sequence[Callback], record: EvaluationRecord) -> bool:
    """Tell every callback of an evaluation and return whether one of them wants to stop."""
    # A list, so that all are told even after one wants to stop.
    return any([bool(callback.on_evaluation(record)) for callback in callbacks])
