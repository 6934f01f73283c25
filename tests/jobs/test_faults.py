"""What is left behind by jobs that were killed, stopped, or in each other's way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ModelFileError
from flowdetect.jobs import ScoreSettings, run_score
from flowdetect.persistence import verify

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

_PATIENCE = 60.0


class Commands:
    """Commands that can be killed, in processes that start at once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, *args: str, stdout: str = os.devnull, stderr: str = os.devnull) -> int:
        """Start a command in the working folder; return its process id."""
        return int(self.ask(args=args, cwd=os.getcwd(), stdout=stdout, stderr=stderr))

    def end(self, pid: int) -> int:
        """Wait for a command; return its exit code, negative after a signal."""
        return int(self.ask(wait=pid))

    def run(self, *args: str, **files: str) -> int:
        """Run a command to its end."""
        return self.end(self.start(*args, **files))

    def ask(self, **request: object) -> str:
        """Send a request, or none to begin with, and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if request:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def commands(models: Path) -> Iterator[Commands]:
    script = Path(__file__).with_name("forking.py")
    arguments = [str(models / name) for name in ("detector.flow", "train.csv", "warm.csv")]
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    found = Commands(process)
    assert found.ask() == "ready"
    yield found
    process.communicate(timeout=_PATIENCE)


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a reader of a folder sees: no hidden files."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*.part")]


def kill_at_random(commands: Commands, args: list[str], n_runs: int, check: Callable[[], None]) -> list[int]:
    """Run a command again and again, kill it at a random moment, and look at what is there."""
    begin = time.monotonic()
    assert commands.run(*args) == 0
    length = time.monotonic() - begin
    rng, codes = np.random.default_rng(0), []
    for _ in range(n_runs):
        pid = commands.start(*args)
        time.sleep(rng.uniform(0.0, 1.1 * length))
        os.kill(pid, signal.SIGKILL)
        codes.append(commands.end(pid))
        check()
    return codes


def score_args(models: Path, source: str, out: str, *more: str) -> list[str]:
    model = str(models / "detector.flow")
    return ["score", model, source, "--out", out, "--batch-rows", "10", "--quiet", *more]


def kill_scores_of_a_file(commands: Commands, folder: Path, models: Path, n_runs: int) -> None:
    new = score_args(models, "all.parquet", "out.csv", "--quarantine", "q.csv")
    assert commands.run(*new) == 0
    complete = contents(folder)
    assert commands.run(*score_args(models, "days/day1.csv", "out.csv", "--quarantine", "q.csv")) == 0
    old = contents(folder)
    assert old["out.csv"] != complete["out.csv"]

    def check() -> None:
        found = contents(folder)
        for name in ("out.csv", "q.csv", "out.csv.run.json"):
            assert found[name] in (old[name], complete[name])
        # The manifest comes last: the new one is there only beside the new rows.
        if found["out.csv.run.json"] == complete["out.csv.run.json"]:
            assert found["out.csv"] == complete["out.csv"]
        (folder / "out.csv").write_bytes(old["out.csv"])
        (folder / "out.csv.run.json").write_bytes(old["out.csv.run.json"])

    codes = kill_at_random(commands, new, n_runs, check)
    assert -signal.SIGKILL in codes
    assert commands.run(*new) == 0
    assert contents(folder) == complete
    assert not leftovers(folder)


def kill_scores_of_a_folder(commands: Commands, folder: Path, models: Path, n_runs: int) -> None:
    args = score_args(models, "days", "out/", "--resume", "--drift", "--quarantine", "q/")
    assert commands.run(*args) == 0
    complete = contents(folder / "out")

    def check() -> None:
        found = contents(folder / "out")
        found.pop("_run.json.unfinished", None)
        assert found.items() <= complete.items()
        if "_run.json" in found:
            assert found == complete
            for path in (folder / "out").iterdir():
                path.unlink()

    codes = kill_at_random(commands, args, n_runs, check)
    assert -signal.SIGKILL in codes
    assert commands.run(*args) == 0
    assert contents(folder / "out") == complete
    assert not leftovers(folder)


def kill_fits(commands: Commands, folder: Path, models: Path, n_runs: int) -> None:
    train = str(models / "train.csv")
    args = ["fit", train, "--out", "m.flow", "--drop", "visit", "--max-steps", "4", "--quiet"]

    def check() -> None:
        try:
            verify("m.flow")
        except ModelFileError as error:
            pytest.fail(f"a model that is half written: {error}")

    codes = kill_at_random(commands, args, n_runs, check)
    assert -signal.SIGKILL in codes
    assert commands.run(*args) == 0
    assert not leftovers(folder)


KILLED = {
    "file": (kill_scores_of_a_file, 8),
    "folder": (kill_scores_of_a_folder, 6),
    "fit": (kill_fits, 6),
}


@pytest.mark.parametrize("what", KILLED)
def test_a_killed_job_leaves_old_or_complete_files(
    commands: Commands, folder: Path, models: Path, what: str
) -> None:
    kill, n_runs = KILLED[what]
    kill(commands, folder, models, n_runs)


@pytest.mark.benchmark
@pytest.mark.parametrize("what", KILLED)
def test_two_hundred_killed_jobs(commands: Commands, folder: Path, models: Path, what: str) -> None:
    kill, n_runs = KILLED[what]
    kill(commands, folder, models, 10 * n_runs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_job_goes_on_where_it_was(
    commands: Commands, folder: Path, models: Path, settings: Callable[..., ScoreSettings], number: int
) -> None:
    large = pd.concat([pd.read_csv("days/day3.csv")] * 40)
    large.to_csv("days/day3.csv", index=False)
    args = score_args(models, "days", "out/")
    pid = commands.start(*args, stderr="errors.txt")
    wait_for(lambda: list((folder / "out").glob(".day3.*.part")))
    os.kill(pid, number)
    assert commands.end(pid) == 75
    name = signal.Signals(number).name
    assert (folder / "errors.txt").read_text() == (
        f"flowdetect: stopped by {name}; nothing is half written. Run it again, a folder with --resume.\n"
    )
    assert sorted(contents(folder / "out")) == ["_run.json.unfinished", "day1.parquet", "day2.parquet"]
    assert not leftovers(folder)
    report = run_score(settings(sources=("days",), out="out/", resume=True))
    assert report.skipped == ["day1", "day2"]
    assert len(pd.read_parquet("out/day3.parquet")) == 1600


def test_the_second_of_two_writers_is_told_to_try_again(
    commands: Commands, folder: Path, models: Path
) -> None:
    pid = commands.start(*score_args(models, "all.parquet", "out.csv"))
    wait_for(lambda: list(folder.glob(".out.csv.*.part")))
    os.kill(pid, signal.SIGSTOP)
    assert commands.run(*score_args(models, "days/day1.csv", "out.csv"), stderr="errors.txt") == 75
    os.kill(pid, signal.SIGCONT)
    assert "another run is writing 'out.csv': it holds the lock" in (folder / "errors.txt").read_text()
    assert commands.end(pid) == 0
    assert len(pd.read_csv("out.csv")) == 120


def test_a_writer_can_wait_for_another(
    commands: Commands, folder: Path, models: Path, settings: Callable[..., ScoreSettings]
) -> None:
    pid = commands.start(*score_args(models, "all.parquet", "out.csv"))
    wait_for(lambda: list(folder.glob(".out.csv.*.part")))
    run_score(settings(sources=("days/day1.csv",), out="out.csv", wait=_PATIENCE))
    assert commands.end(pid) == 0
    assert len(pd.read_csv("out.csv")) == 40


def test_a_closed_pipe_ends_the_job_with_one_sentence(commands: Commands, folder: Path, models: Path) -> None:
    pd.concat([pd.read_parquet("all.parquet")] * 30).to_parquet("all.parquet", index=False)
    os.mkfifo("pipe")
    pid = commands.start(*score_args(models, "all.parquet", "-"), stdout="pipe", stderr="errors.txt")
    with open("pipe", "rb") as pipe:
        assert pipe.readline().startswith(b"visit,weight,height,sex,score,")
    assert commands.end(pid) == 5
    assert (folder / "errors.txt").read_text() == (
        "flowdetect: standard output cannot be written: Broken pipe.\n"
    )
