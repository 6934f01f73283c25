"""Prefect: score each night, with another try only where the exit code says that it helps."""

import subprocess
from datetime import date

from prefect import flow, get_run_logger, task

TRY_AGAIN = 75


class TryAgainError(RuntimeError):
    """The command ended with 75: a lock, a lost connection, a stop."""


def is_worth_another_try(task, task_run, state):
    """Return whether a task failed for a reason that passes."""
    try:
        state.result()
    except TryAgainError:
        return True
    except Exception:
        return False
    return False


@task(retries=3, retry_delay_seconds=600, retry_condition_fn=is_worth_another_try)
def score(day: str) -> None:
    """Score the partition of a day; running it again replaces that day and nothing else."""
    command = [
        *("flowdetect", "score", "/models/visits.flow", f"/data/visits/{day}/"),
        *("--out", f"/data/visits/scored/{day}/"),
        *("--quarantine", f"/data/visits/refused/{day}/"),
        *("--max-bad-rows", "1%", "--resume", "--log-format", "json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    get_run_logger().info(done.stderr)
    if done.returncode == TRY_AGAIN:
        raise TryAgainError(done.stderr)
    if done.returncode != 0:
        raise RuntimeError(f"flowdetect ended with {done.returncode}: {done.stderr}")


@flow(name="flowdetect-visits")
def nightly(day: str | None = None) -> None:
    """Score a day, today without one."""
    score(day or date.today().isoformat())


if __name__ == "__main__":
    nightly.serve(name="nightly", cron="30 2 * * *")
