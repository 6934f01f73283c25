"""How functions are compiled by numba. Imported by compiled modules only, as numba may be missing."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["cached", "compiled", "inlined"]

F = TypeVar("F", bound=Callable[..., Any])

# Everything but nnan and ninf: NaN has to pass through.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract", "arcp", "nsz", "reassoc", "afn"},
    "error_model": "numpy",
}


def compiled(function: F) -> F:
    """Compile a function that only compiled code calls."""
    result: F = numba.njit(**_OPTIONS)(function)
    return result


def inlined(function: F) -> F:
    """Compile a function into its callers."""
    result: F = numba.njit(inline="always", **_OPTIONS)(function)
    return result


def cached(function: F) -> F:
    """Compile a function on its first call; keep the result on disk where some folder can be written."""
    try:
        result: F = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder that it may write to
        result = numba.njit(**_OPTIONS)(function)
    return result
