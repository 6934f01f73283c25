"""Checks of parameters that many parts share."""

from typing import Any

import numpy as np

from flowdetect.exceptions import ConfigurationError

__all__ = ["check_whole"]


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse a value that is not a whole number, or too small.

    Raises
    ------
    ConfigurationError
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}; got {value!r}.")
