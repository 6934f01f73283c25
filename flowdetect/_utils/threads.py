"""Work shared out between threads, as many as torch is set to use."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["count_parts", "run_parts"]

_pools: dict[int, ThreadPoolExecutor] = {}


def count_parts(n_units: int, units_per_thread: int) -> int:
    """Return into how many parts `run_parts` divides the work."""
    return max(1, min(torch.get_num_threads(), n_units // units_per_thread))


def run_parts(work: Callable[[int, int, int], None], n_units: int, *, units_per_thread: int) -> int:
    """Call ``work(part, first, last)`` for consecutive parts of ``range(n_units)``, each in its own thread.

    Parameters
    ----------
    work : callable
        Compiled code that releases the interpreter's lock. It must not call torch: each thread that does
        keeps threads of torch's own, which slow down every later operation. Parts are numbered from 0.
    n_units : int
        Units of work.
    units_per_thread : int
        A thread is not worth waking for less than this.

    Returns
    -------
    int
        Number of parts: at most ``torch.get_num_threads()``.
    """
    n_parts = count_parts(n_units, units_per_thread)
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
