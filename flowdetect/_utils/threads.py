"""Work shared out between threads, as many as torch is set to use."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

__all__ = ["run_parts", "serial_torch", "thread_count"]

_pools: dict[int, ThreadPoolExecutor] = {}
_own = threading.local()


@contextmanager
def serial_torch() -> Iterator[None]:
    """Let torch's operations use one thread when called from this one; `run_parts` as many as before.

    OpenMP's threads stay awake for a while after an operation, on the cores that `run_parts` could use. For
    the small operations between compiled passes they are not worth that.
    """
    before, torch_before = getattr(_own, "n_threads", None), torch.get_num_threads()
    _own.n_threads = thread_count()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        _own.n_threads = before


def thread_count() -> int:
    """Return how many threads `run_parts` may use."""
    return getattr(_own, "n_threads", None) or torch.get_num_threads()


def run_parts(work: Callable[[int, int, int], None], n_units: int, *, most: int) -> int:
    """Call ``work(part, first, last)`` for consecutive parts of ``range(n_units)``, each in its own thread.

    Parameters
    ----------
    work : callable
        Compiled code that releases the interpreter's lock. It must not call torch: each thread that does
        keeps threads of torch's own, which slow down every later operation. Parts are numbered from 0.
    n_units : int
        Units of work.
    most : int
        Number of parts that the work is worth, as waking a thread takes time.

    Returns
    -------
    int
        Number of parts: at most `thread_count`.
    """
    n_parts = max(1, min(thread_count(), n_units, most))
    if n_parts == 1:
        work(0, 0, n_units)
        return 1
    bounds = [n_units * part // n_parts for part in range(n_parts + 1)]

    others = [_pool().submit(work, part, bounds[part], bounds[part + 1]) for part in range(1, n_parts)]
    try:
        work(0, bounds[0], bounds[1])
    finally:
        # Also after an error: the threads write into the caller's arrays.
        errors = [error for other in others if (error := other.exception()) is not None]
    if errors:
        raise errors[0]
    return n_parts


def _pool() -> ThreadPoolExecutor:
    """Return this process's threads: one pool for all callers, so that they cannot be more than the cores."""
    pool = _pools.get(os.getpid())
    if pool is None:
        _pools.clear()  # the threads of a parent process do not live here
        n_threads = max(1, (os.cpu_count() or 1) - 1)
        pool = _pools[os.getpid()] = ThreadPoolExecutor(n_threads, thread_name_prefix="flowdetect")
    return pool
