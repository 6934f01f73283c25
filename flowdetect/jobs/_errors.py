"""What stops a job, each with the exit code that says so."""

from flowdetect.exceptions import FlowDetectError
from flowdetect.jobs._logs import redact

__all__ = [
    "InputError",
    "InternalError",
    "JobError",
    "ModelError",
    "SchemaError",
    "StorageError",
    "TryAgainError",
    "UsageError",
]


class JobError(FlowDetectError):
    """Base of every error that ends a job on purpose; its text holds no password, whatever was misspelt."""

    exit_code = 6

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class UsageError(JobError):
    """Settings that do not go together, or lie outside their range."""

    exit_code = 2


class InputError(JobError):
    """A source cannot be read."""

    exit_code = 3


class SchemaError(JobError):
    """The columns of a source are not those of the model, or change between files."""

    exit_code = 3


class ModelError(JobError):
    """The model file cannot be used."""

    exit_code = 4


class StorageError(JobError):
    """A target cannot be written."""

    exit_code = 5


class TryAgainError(JobError):
    """Something that may work later: a lock that is held, a connection that was dropped."""

    exit_code = 75


class InternalError(JobError):
    """Something that cannot be: a defect, or a fit that failed."""

    exit_code = 6
