"""A clean stop on request: what was begun is undone, what was finished stays, and the job can go on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowdetect.jobs._errors import TryAgainError

__all__ = ["check_stop", "stoppable"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: list[int] = []


class _Stop(KeyboardInterrupt):
    """Not an Exception: no library may take it for an error of its own."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an error that ends the job; in the main thread only.

    Raises
    ------
    TryAgainError
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        yield
        check_stop()
    except KeyboardInterrupt as error:
        name = signal.Signals(_received[0] if _received else signal.SIGINT).name
        raise TryAgainError(
            f"stopped by {name}; nothing is half written. Run it again, a folder with --resume."
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def check_stop() -> None:
    """Stop here if a signal came whose exception was lost in code that cannot pass it on."""
    if _received:
        raise _Stop


def _stop(number: int, frame: Any) -> None:
    del frame
    first = not _received
    _received.append(number)
    if first:  # what follows the first one must not interrupt the clearing up
        raise _Stop
