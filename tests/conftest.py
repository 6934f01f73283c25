import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rich.style  # noqa: F401 - draws from the global stream of `random` when it is imported
import torch

# One thread a process: the tests run in several processes, and threads would fight over the cores.
torch.set_num_threads(1)


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture
def imported_by() -> Callable[..., set[str]]:
    """Run a Python process with the given arguments; return the names of all modules that it imported."""

    def run(*arguments: str) -> set[str]:
        command = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}

    return run


def _global_streams() -> dict[str, bytes]:
    name, keys, *rest = np.random.get_state()
    return {
        "random": repr(random.getstate()).encode(),
        "numpy.random": keys.tobytes() + repr((name, rest)).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def global_streams_stay_untouched() -> Iterator[None]:
    """Fail a test that draws from, or seeds, a random stream that belongs to the whole process."""
    before = _global_streams()
    yield
    moved = [name for name, state in _global_streams().items() if state != before[name]]
    if moved:
        pytest.fail(f"the test moved the global random stream of {', '.join(moved)}", pytrace=False)
