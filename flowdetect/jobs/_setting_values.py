"""What a TOML file, or an environment variable, may say for a setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BadRowLimit",
    "contamination",
    "limit",
    "number",
    "one_of",
    "setting",
    "some_of",
    "switch",
    "table",
    "text",
    "texts",
    "whole",
]

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def setting(default: Any, read: Callable[[Any], Any]) -> Any:
    """Return a field: its default, and the function that checks what a file or a variable says."""
    return field(default=default, metadata={"read": read})


def _said(read: Callable[[Any], Any], what: str) -> Callable[[Any], Any]:
    """Return a reader that says what must hold where `read` fails."""

    def checked(value: Any) -> Any:
        try:
            return read(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(what) from error

    return checked


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Accept a list, or a text with commas, which is what an environment variable can hold."""
    entries = [entry.strip() for entry in value.split(",")] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError("a list of texts (in a variable: separated by commas)")
    return tuple(entry for entry in entries if entry)


def switch(value: Any) -> bool:
    text = str(value).lower()
    if isinstance(value, float) or text not in _TRUE + _FALSE:
        raise ValueError("true or false")
    return text in _TRUE


def whole(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = int(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError
        return number

    return _said(read, f"a whole number of at least {least}")


def number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = float("nan") if isinstance(value, bool) else float(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return _said(read, f"a number from {low:g} to {high:g}")


def one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return read


def some_of(*choices: str) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        found = texts(value)
        if not set(found) <= set(choices):
            raise ValueError(f"some of {', '.join(choices)}")
        return found

    return read


def table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def limit(value: Any) -> str:
    text = str(value).strip()
    BadRowLimit.read(text)
    return text


def contamination(value: Any) -> str | float:
    if value == "auto":
        return "auto"
    fraction: float = _said(number(1e-9, 0.5), "'auto' or a fraction above 0 and at most 0.5")(value)
    return fraction


@dataclass(frozen=True)
class BadRowLimit:
    """How many rows may be quarantined: of the run, or a share of those of each source file.

    Examples
    --------
    >>> BadRowLimit.read("100")
    BadRowLimit(rows=100, share=None)
    >>> BadRowLimit.read("0.5%")
    BadRowLimit(rows=None, share=0.005)
    """

    rows: int | None = None
    share: float | None = None

    @classmethod
    def read(cls, text: str) -> BadRowLimit:
        """Read "N" or "x%".

        Raises
        ------
        ValueError
        """
        what = "a whole number of rows, or a percentage such as 0.5%"
        if text.endswith("%"):
            return cls(share=_said(number(0.0, 100.0), what)(text[:-1]) / 100.0)
        return cls(rows=_said(whole(0), what)(text))
