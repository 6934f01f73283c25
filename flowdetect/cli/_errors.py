"""Mistakes of the user, each one sentence on stderr and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from flowdetect.exceptions import ConfigurationError, FlowDetectError, InvalidTableError

__all__ = ["FIT_FAILED", "INPUT", "USAGE", "CommandError", "reported"]

FIT_FAILED = 1
USAGE = 2
INPUT = 3


class CommandError(FlowDetectError):
    """A mistake that the command itself noticed."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def reported() -> Iterator[None]:
    """Turn flowdetect's own errors into their sentence on stderr and the exit code.

    Raises
    ------
    typer.Exit
        After an error of flowdetect. Every other exception is a defect and passes with its traceback.
    """
    try:
        yield
    except FlowDetectError as error:
        typer.echo(f"flowdetect: {error}", err=True)
        raise typer.Exit(_code(error)) from error


def _code(error: FlowDetectError) -> int:
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, ConfigurationError):
        return USAGE
    return INPUT if isinstance(error, InvalidTableError) else FIT_FAILED
