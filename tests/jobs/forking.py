"""Runs commands in processes of their own that need not import anything, so that many can be killed.

Reads requests, one JSON object a line. ``args`` of a command, ``cwd``, ``stdout``, ``stderr`` start it; the
answer is its process id. ``wait`` with a process id waits for its end; the answer is its exit status.
"""

import json
import os
import sys

import torch

import flowdetect.jobs
from flowdetect.cli import app


def run(request: dict) -> None:
    """Become the command."""
    os.chdir(request["cwd"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT, 0o644), number)
    code = 0
    try:
        app(request["args"])
    except SystemExit as error:
        code = error.code or 0
    sys.stdout.flush()
    os._exit(code)


def answer(value: object) -> None:
    """Say one line."""
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until there are no more requests."""
    torch.set_num_threads(1)
    for name in flowdetect.jobs.__all__:
        getattr(flowdetect.jobs, name)
    flowdetect.jobs.run_score(
        flowdetect.jobs.ScoreSettings(model=sys.argv[1], sources=(sys.argv[2],), out=sys.argv[3], drift=True)
    )
    answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
            continue
        pid = os.fork()
        if not pid:
            run(request)
        answer(pid)


if __name__ == "__main__":
    main()
