"""Run Python scripts, each in a process of its own in which the libraries are already imported.

Importing them takes longer than most of what the scripts do. A line of JSON on standard input names a script,
its arguments, a working folder, warnings that are errors and files for what it prints; the answer is its exit
code.
"""

import builtins
import json
import os
import runpy
import signal
import sys
import warnings
from typing import Any

import flowdetect.flows
import flowdetect.inference
import flowdetect.jobs
import flowdetect.plotting
import flowdetect.quality
import flowdetect.timeseries  # noqa: F401

_SECONDS = 300


def run(task: dict[str, Any]) -> None:
    """Become the process of one script."""
    signal.alarm(_SECONDS)
    os.chdir(task["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(task[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    for category in task["errors"]:
        warnings.filterwarnings("error", category=getattr(builtins, category))
    sys.argv = [task["script"], *task["arguments"]]
    sys.path[0] = os.path.dirname(task["script"])
    runpy.run_path(task["script"], run_name="__main__")


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            run(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
