"""Every exception and warning of flowdetect.

::

    FlowDetectError
    ├── InvalidTableError      (also ValueError)    the rows or columns given cannot be used
    ├── ConfigurationError     (also ValueError)    parameters that do not go together
    ├── ConstraintError        (also ValueError)    rows that fulfil the constraints were not drawn
    ├── ModelFileError         (also ValueError)    a file does not hold a model that can be trusted
    └── TrainingError          (also RuntimeError)  the loss did not stay finite
    FlowDetectWarning          (also UserWarning)
    ├── TableWarning           columns ignored or values that lose precision
    └── TrainingWarning        training ended before it settled
"""

__all__ = [
    "ConfigurationError",
    "ConstraintError",
    "FlowDetectError",
    "FlowDetectWarning",
    "InvalidTableError",
    "ModelFileError",
    "TableWarning",
    "TrainingError",
    "TrainingWarning",
]


class FlowDetectError(Exception):
    """Base of every error that flowdetect raises on purpose."""


class InvalidTableError(FlowDetectError, ValueError):
    """The rows or columns given cannot be used."""


class ConfigurationError(FlowDetectError, ValueError):
    """Parameters that do not go together, or lie outside their range."""


class ConstraintError(FlowDetectError, ValueError):
    """Rows that fulfil the constraints, or the conditions, were not drawn however often it was tried."""


class ModelFileError(FlowDetectError, ValueError):
    """A file does not hold a model, or not as it was written, or a model cannot be written to a file."""


class TrainingError(FlowDetectError, RuntimeError):
    """The loss did not become finite again after going back and lowering the learning rate."""


class FlowDetectWarning(UserWarning):
    """Base of every warning of flowdetect."""


class TableWarning(FlowDetectWarning):
    """Columns that are ignored, values that lose precision, or entries beyond all that was learnt from."""


class TrainingWarning(FlowDetectWarning):
    """Training ended before it settled."""
