"""What a job says while it runs: sentences, or one JSON object a line; never a secret."""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["LOGGER", "log_event", "logging_to", "redact", "warnings_logged"]

LOGGER = logging.getLogger("flowdetect.jobs")
FORMATS = ("text", "json")

# Also where a slash of the URL is missing, or the password holds one; digits before one are a port.
_URL_PASSWORD = re.compile(r"(:/+[^/\s:@'\"]*):(?!\d+/)[^\s'\"]*@")
# Also within a value of a URL, where "=" is "%3D".
_NAMED = re.compile(
    r"(?i)\b([\w-]*(?:passw|pwd|secret|token|api[_-]?key|credential)[\w-]*\s*(?:[=:]|%3D)\s*['\"]?)"
    r"(?:\{[^}]*\}|[^\s&'\";,]+)"
)


def redact(text: str) -> str:
    """Return a text without the passwords of URLs, and without what follows names such as "password=".

    Examples
    --------
    >>> redact("postgresql://scorer:xyzzy@db/visits?password=abc&sslmode=require")
    'postgresql://scorer:***@db/visits?password=***&sslmode=require'
    >>> redact("there is no file 'postgresql:/scorer:xyzzy@db/visits'.")
    "there is no file 'postgresql:/scorer:***@db/visits'."
    """
    return _NAMED.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text))


def redact_all(value: Any) -> Any:
    """Return lists and dicts with every text in them redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(entry) for key, entry in value.items()}
    return [redact_all(entry) for entry in value] if isinstance(value, list | tuple) else value


def log_event(event: str, *, level: int = logging.INFO, **values: Any) -> None:
    """Log what happened, with numbers and names about it."""
    LOGGER.log(level, event, extra={"values": values})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in _values(record).items() if v is not None)
        return redact(f"{record.getMessage()}: {values}" if values else record.getMessage())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_values(record),
        }
        return json.dumps(redact_all(entry), ensure_ascii=False, default=str)


def _values(record: logging.LogRecord) -> dict[str, Any]:
    values: dict[str, Any] = getattr(record, "values", {})
    return values


@contextmanager
def logging_to(format: str, *, quiet: bool = False, stream: TextIO | None = None) -> Iterator[None]:
    """Write what jobs log to standard error, as text or as JSON; only warnings and errors if quiet."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text())
    before = LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before[0])
        LOGGER.propagate = before[1]


@contextmanager
def warnings_logged() -> Iterator[None]:
    """Log each warning of the libraries once, without the line of code that gave it."""
    seen: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            log_event("warning", level=logging.WARNING, message=str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # A stop may come between the opening of a file and the block that closes it; the process ends then.
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.showwarning = show
        yield
