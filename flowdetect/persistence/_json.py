"""JSON from strangers: bounded in size and depth, without repeated keys, NaN and endless numbers."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from flowdetect.exceptions import ModelFileError

__all__ = ["read_json", "write_json"]

_MOST_DEPTH = 64
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def write_json(value: Any) -> bytes:
    """Return JSON, a line for each entry, for a person to read.

    Raises
    ------
    ModelFileError
        If the value is not JSON-able.
    """
    try:
        return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise ModelFileError(f"It cannot be written as JSON: {error}.") from error


def read_json(content: bytes) -> dict[str, Any]:
    """Return the object that JSON describes.

    Raises
    ------
    ModelFileError
    """
    if _depth(content) > _MOST_DEPTH:
        raise ModelFileError(f"the manifest is nested more than {_MOST_DEPTH} deep.")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the manifest is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ModelFileError("the manifest is no JSON object.")
    return value


def _depth(content: bytes) -> int:
    brackets = np.frombuffer(_STRINGS.sub(b"", content).translate(None, _NO_BRACKETS), dtype=np.uint8)
    steps = np.where(np.isin(brackets, (0x5B, 0x7B)), 1, -1).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
