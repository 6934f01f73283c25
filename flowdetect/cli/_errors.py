"""Exit codes, the same for all commands, and mistakes of the user as one sentence on stderr."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from flowdetect.exceptions import ConfigurationError, FlowDetectError, InvalidTableError, ModelFileError
from flowdetect.jobs._errors import JobError
from flowdetect.jobs._logs import redact

__all__ = [
    "EXIT_CODES",
    "FOUND",
    "INPUT",
    "INTERNAL",
    "MODEL",
    "STORAGE",
    "TRY_AGAIN",
    "USAGE",
    "CommandError",
    "exit_code_of",
    "reported",
]

FOUND, USAGE, INPUT, MODEL, STORAGE, INTERNAL, TRY_AGAIN = 1, 2, 3, 4, 5, 6, 75
EXIT_CODES = {
    0: "done",
    FOUND: "found what --fail-on names",
    USAGE: "wrong usage or configuration",
    INPUT: "a source or its contents cannot be used",
    MODEL: "the model cannot be used",
    STORAGE: "an output cannot be written",
    INTERNAL: "the fit failed, or an error of flowdetect itself",
    TRY_AGAIN: "try again: locked, stopped or a lost connection",
}


class CommandError(FlowDetectError):
    """A mistake that the command itself noticed."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _say(sentence: str, code: int) -> None:
    del code
    typer.echo(f"flowdetect: {sentence}", err=True)


@contextmanager
def reported(say: Callable[[str, int], None] = _say) -> Iterator[None]:
    """Turn errors into their sentence on stderr and the exit code.

    Parameters
    ----------
    say : callable, optional
        Prints the sentence; it gets the exit code as well.

    Raises
    ------
    typer.Exit
        After any error. One that flowdetect did not raise on purpose is a defect, and shown with its
        traceback.
    """
    try:
        yield
    except FlowDetectError as error:
        code = exit_code_of(error)
        say(redact(str(error)), code)
        raise typer.Exit(code) from error
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError as error:
        # Else the interpreter would try once more to write what is left, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say("standard output was closed before everything was written.", STORAGE)
        raise typer.Exit(STORAGE) from error
    except Exception as error:
        # Python would end with code 1, which means something else.
        sys.stderr.write(redact(traceback.format_exc()))
        say(redact(f"an error of flowdetect itself: {type(error).__name__}: {error}"), INTERNAL)
        raise typer.Exit(INTERNAL) from error


def exit_code_of(error: FlowDetectError) -> int:
    """Return the exit code of an error that was raised on purpose.

    Examples
    --------
    >>> exit_code_of(ConfigurationError("n_models must be at least 1."))
    2
    """
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, JobError):
        return error.exit_code
    codes = {ConfigurationError: USAGE, InvalidTableError: INPUT, ModelFileError: MODEL}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), INTERNAL)
