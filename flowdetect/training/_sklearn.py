"""The bridge to scikit-learn's own callbacks, which exist from version 1.9 and are experimental there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flowdetect.training._callbacks import Callback
from flowdetect.training._config import EvaluationRecord, TrainingPlan, TrainingResult

__all__ = ["SklearnCallbacks", "sklearn_fit_task"]


class SklearnCallbacks(Callback):
    """Forward one training run to the callbacks set with the estimator's ``set_callbacks``.

    The run becomes a task ``"train"`` below the estimator's fit, each evaluation a task below that. A
    callback's ``on_fit_task_end`` that returns True at an evaluation stops the run.

    Parameters
    ----------
    estimator : object
        The estimator being fitted.
    fit_context : object or None
        What `sklearn_fit_task` gave; with None nothing is forwarded.
    X, y : array-like, optional
        What ``fit`` was given, for callbacks that score.
    metadata : mapping, optional
        Such as ``{"sample_weight": ...}``.
    attributes : callable, optional
        Returns the fitted attributes that the estimator would have if training ended now. It is called only
        if a callback asks for the fitted estimator, with the module in eval mode; it should copy the module.

    Examples
    --------
    >>> SklearnCallbacks(object(), None).on_evaluation(None)
    False
    """

    def __init__(
        self,
        estimator: Any,
        fit_context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Mapping[str, Any] | None = None,
        attributes: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._fit_context = fit_context
        self._data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._attributes = attributes
        self._task: Any = None

    def on_start(self, plan: TrainingPlan) -> None:
        """Begin the task of the run."""
        if self._fit_context is not None:
            self._task = self._fit_context.subcontext(task_name="train", max_subtasks=plan.n_evaluations)
            self._task.call_on_fit_task_begin(**self._data)

    def on_evaluation(self, record: EvaluationRecord) -> bool:
        """Forward an evaluation, and whether a callback wants to stop."""
        if self._task is None:
            return False
        task = self._task.subcontext(task_name="evaluation")
        task.call_on_fit_task_begin(**self._data)
        return bool(task.call_on_fit_task_end(**self._data, reconstruction_attributes=self._attributes))

    def on_end(self, result: TrainingResult | None) -> None:
        """End the task of the run, unless it failed."""
        if self._task is not None and result is not None:
            self._task.call_on_fit_task_end(**self._data)


@contextmanager
def sklearn_fit_task(
    estimator: Any,
    *,
    n_trainings: int = 1,
    X: Any = None,
    y: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """Tell scikit-learn's callbacks that a fit begins, and at the end of the block that it ended.

    Fitted attributes must be set inside the block. Yields what `SklearnCallbacks` needs, or None where
    scikit-learn has no callbacks. The ``fit`` method around it is decorated with ``with_callbacks``.

    Parameters
    ----------
    estimator : object
        The estimator being fitted.
    n_trainings : int, default=1
        Number of training runs in this fit; more than one when it cross-fits.
    X, y, metadata
        As for `SklearnCallbacks`.

    Examples
    --------
    >>> with sklearn_fit_task(object()) as fit_context:
    ...     fit_context is None
    True
    """
    if not hasattr(estimator, "_init_callback_context"):
        yield None
        return
    data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    context = estimator._init_callback_context(max_subtasks=n_trainings)
    context.call_on_fit_task_begin(**data)
    yield context
    context.call_on_fit_task_end(**data, reconstruction_attributes={})
