"""One rule for random streams: resolved once per public call, local, the global ones untouched."""

from typing import Any

import numpy as np

from flowdetect.exceptions import ConfigurationError

__all__ = ["RandomState", "resolve_seed"]

RandomState = int | np.random.RandomState | np.random.Generator | None

_LARGEST = 2**31 - 1


def resolve_seed(random_state: Any) -> int:
    """Return one non-negative whole number from whatever the user gave as ``random_state``.

    None draws fresh entropy from the operating system, not from numpy's global stream; a `RandomState` or
    `Generator` is advanced by one draw.

    Raises
    ------
    ConfigurationError
        If it is none of these.

    Examples
    --------
    >>> resolve_seed(7)
    7
    """
    if random_state is None:
        return int(np.random.default_rng().integers(_LARGEST))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_LARGEST))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(_LARGEST))
    whole = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if whole and random_state >= 0:
        return int(random_state) % _LARGEST
    raise ConfigurationError(
        "random_state must be None, a non-negative whole number, a RandomState or a Generator; "
        f"got {random_state!r}."
    )
