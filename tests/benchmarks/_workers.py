"""Work that is built and timed here, or in a process of its own for each library."""

import atexit
import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch
from threadpoolctl import threadpool_limits

__all__ = ["Recipe", "Work", "make_timer"]

Work = Callable[[], object]
Recipe = Callable[[], Work]
Timer = Callable[[int], float]

_connections: dict[str, Connection] = {}


def make_timer(name: str, recipe: Recipe, *, apart: bool, threads: int) -> Timer:
    """Build the work; return a function from a number of calls to the seconds of one of them.

    Apart, the work is built and called in the process of the library that ``name`` starts with, which is
    started once and ends with this process.
    """
    if not apart:
        return partial(_time, recipe())
    library = name.partition(" ")[0]
    if library not in _connections:
        _connections[library] = _start(threads)
    _ask(library, name, recipe)
    return partial(_ask, library, name)


def _start(threads: int) -> Connection:
    # Not forked: threads that were started here would be missing there.
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=_serve, args=(there, threads), daemon=True)
    process.start()
    there.close()
    atexit.register(_stop, here, process)
    return here


def _stop(connection: Connection, process: BaseProcess) -> None:
    connection.close()
    process.join(10)


def _ask(library: str, name: str, request: Recipe | int) -> float:
    _connections[library].send((name, request))
    answer = _connections[library].recv()
    if isinstance(answer, str):
        raise RuntimeError(f"{name} failed in its process: {answer}")
    return float(answer)


def _serve(connection: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    works: dict[str, Work] = {}
    with threadpool_limits(threads), suppress(EOFError):  # the other end is closed: the run is over
        while True:
            name, request = connection.recv()
            connection.send(_answer(works, name, request))


def _answer(works: dict[str, Work], name: str, request: Recipe | int) -> float | str:
    try:
        if isinstance(request, int):
            return _time(works[name], request)
        works[name] = request()
    except Exception as error:
        return repr(error)  # raised where the answer is read
    return 0.0


def _time(work: Work, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats
