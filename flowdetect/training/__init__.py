"""One training loop for any module with ``log_prob(inputs, context)``."""

from flowdetect.training._callbacks import Callback, ProgressBar
from flowdetect.training._config import (
    EvaluationRecord,
    StopReason,
    TrainingConfig,
    TrainingPlan,
    TrainingResult,
)
from flowdetect.training._data import ArraySource, Batch, RowSource
from flowdetect.training._hidden import HiddenEntries
from flowdetect.training._loop import train
from flowdetect.training._objectives import (
    MaximumLikelihood,
    NoiseConditional,
    Objective,
    ReverseKL,
    noise_context,
)
from flowdetect.training._setup import held_out_rows
from flowdetect.training._sklearn import SklearnCallbacks, sklearn_fit_task

__all__ = [
    "ArraySource",
    "Batch",
    "Callback",
    "EvaluationRecord",
    "HiddenEntries",
    "MaximumLikelihood",
    "NoiseConditional",
    "Objective",
    "ProgressBar",
    "ReverseKL",
    "RowSource",
    "SklearnCallbacks",
    "StopReason",
    "TrainingConfig",
    "TrainingPlan",
    "TrainingResult",
    "held_out_rows",
    "noise_context",
    "sklearn_fit_task",
    "train",
]
