"""Print the most memory, in megabytes, that one piece of work of one library takes beyond what it found.

    python tests/benchmarks/_memory.py LIBRARY {train,score,score64} N_FEATURES N_CONTEXT N_ROWS [--threads 2]

Run as a process of its own, by ``speed.py``. What was found is the process with everything imported, the flow
built and the rows drawn, after the same work on 8 rows, which loads or compiles what is loaded once. "train"
is a step on N_ROWS rows; "score" one call of log_prob without gradients, in float32 or ("score64") float64.

On Linux the peak is VmHWM, set back before the work. ``ru_maxrss`` takes its place elsewhere: the peak since
the process began, so that work smaller than importing shows as 0. Work that would take more than half of the
machine's memory is stopped.
"""

import argparse
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _peers import LIBRARIES, Case, Library
from torch import Tensor, nn

__all__ = ["make_work"]

Work = Callable[[Tensor, Tensor | None], None]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def make_work(library: Library, work: str, case: Case) -> Work:
    """Return the work as a function of rows and context."""
    torch.manual_seed(0)
    flow = library.build(case)
    if work == "score64":
        flow = flow.double()
    if work != "train":
        return partial(_score, library, flow)
    return partial(_step, library, flow, torch.optim.AdamW(flow.parameters(), lr=1e-3, fused=True))


def _score(library: Library, flow: nn.Module, rows: Tensor, context: Tensor | None) -> None:
    with torch.inference_mode():
        library.log_prob(flow, rows, context)


def _step(
    library: Library,
    flow: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Tensor,
    context: Tensor | None,
) -> None:
    optimizer.zero_grad()
    (-library.log_prob(flow, rows, context).mean()).backward()
    optimizer.step()


def _draw(case: Case, work: str, n_rows: int) -> tuple[Tensor, Tensor | None]:
    rows, context = case.rows(n_rows)
    dtype = torch.float64 if work == "score64" else torch.float32
    return rows.to(dtype), None if context is None else context.to(dtype)


def _read(field: str) -> float:
    """Return a line of the process's status in megabytes; the peak of all time where there is none."""
    if not _STATUS.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) * 1024 / 1e6


def _settle() -> float:
    """Give back what is free, set the peak back to what is in use, and return that."""
    gc.collect()
    if _RESET.exists():
        # Pages that are free but kept would otherwise be used again without showing.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _RESET.write_text("5")
    return _read("VmRSS")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", choices=list(LIBRARIES))
    parser.add_argument("work", choices=["train", "score", "score64"])
    parser.add_argument("n_features", type=int)
    parser.add_argument("n_context", type=int)
    parser.add_argument("n_rows", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    case = Case(args.n_features, args.n_context)
    work = make_work(LIBRARIES[args.library], args.work, case)
    work(*_draw(case, args.work, 8))
    rows = _draw(case, args.work, args.n_rows)
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    resource.setrlimit(resource.RLIMIT_DATA, (half, half))
    before = _settle()
    work(*rows)
    print(_read("VmHWM") - before)


if __name__ == "__main__":
    main()
