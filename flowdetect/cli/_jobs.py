"""What the commands for jobs have in common: messages, a clean stop, and reports for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from flowdetect.cli._errors import STORAGE, USAGE, CommandError, reported
from flowdetect.jobs._logs import FORMATS, LOGGER, log_event, logging_to, warnings_logged
from flowdetect.jobs._stopping import stoppable

__all__ = ["config_file", "print_json", "print_plan", "running"]


@contextmanager
def running(log_format: str | None, *, quiet: bool) -> Iterator[None]:
    """Run a job: its messages on stderr, its errors as exit codes, SIGTERM as a clean stop.

    Raises
    ------
    typer.Exit
    """
    form = log_format or os.environ.get("FLOWDETECT_LOG_FORMAT") or "text"
    if form not in FORMATS:
        with reported():
            raise CommandError(f"--log-format is one of {', '.join(FORMATS)}; got '{form}'.", USAGE)

    def say(sentence: str, code: int) -> None:
        log_event("failed", level=40, message=sentence, exit_code=code)

    with logging_to(form, quiet=quiet):
        with reported(say) if form == "json" else reported(), stoppable(), warnings_logged():
            yield
        for handler in LOGGER.handlers:
            handler.flush()


def config_file(given: str | None, section: str) -> str | None:
    """Return the TOML file: that of the flag, or of the environment variable."""
    return given or os.environ.get(f"FLOWDETECT_{section.upper()}_CONFIG") or None


def print_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    """Print what a job would do: a line for each fact, or JSON.

    Raises
    ------
    CommandError
        If standard output is closed.
    """
    if as_json:
        print_json(plan)
        return
    for name, value in plan.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        typer.echo(
            "\n".join(f"{name} {key}: {entry}" if key else f"{name}: {entry}" for key, entry in entries)
        )


def print_json(content: dict[str, Any]) -> None:
    """Print a report for machines to standard output.

    Raises
    ------
    CommandError
        If standard output is closed.
    """
    try:
        sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()
    except OSError as error:
        raise CommandError(f"standard output cannot be written: {error.strerror}.", STORAGE) from error
