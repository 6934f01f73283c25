"""Airflow: score each night's partition, try again only where that helps, and learn anew once a month."""

import subprocess
from datetime import datetime, timedelta

from airflow.decorators import dag, task
from airflow.exceptions import AirflowException, AirflowFailException

TRY_AGAIN = 75
RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=10), "retry_exponential_backoff": True}


def run(*arguments: str) -> None:
    """Run the command; only what may work later is left to Airflow's retries."""
    done = subprocess.run(["flowdetect", *arguments, "--log-format", "json"], check=False)
    if done.returncode == TRY_AGAIN:
        raise AirflowException("flowdetect ended with 75: try again")
    if done.returncode != 0:
        raise AirflowFailException(f"flowdetect ended with {done.returncode}")


@dag(schedule="30 2 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1)
def flowdetect_visits():
    @task(execution_timeout=timedelta(hours=6), **RETRIES)
    def score(ds: str) -> None:
        """Score the partition of a date; running an old date again replaces that date and no other."""
        run(
            *("score", "/models/visits.flow", f"/data/visits/{ds}/", "--out", f"/data/visits/scored/{ds}/"),
            *("--quarantine", f"/data/visits/refused/{ds}/", "--max-bad-rows", "1%", "--resume"),
            *("--metrics", "/var/lib/node_exporter/flowdetect_visits.prom"),
        )

    score("{{ ds }}")


@dag(schedule="0 12 1 * *", start_date=datetime(2026, 1, 1), catchup=False)
def flowdetect_visits_retrain():
    @task(**RETRIES)
    def fit_challenger() -> None:
        run("fit", "/etc/flowdetect/nightly.toml", "--out", "/models/challenger.flow")

    fit_challenger()


flowdetect_visits()
flowdetect_visits_retrain()
