"""What to watch a job by: a file for the textfile collector of Prometheus."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from flowdetect._utils.files import atomic_file
from flowdetect.jobs._targets import storing

__all__ = ["metrics_text", "write_metrics"]

_VERDICTS = ("drift", "no drift seen", "too few rows")


def write_metrics(path: str | Path, text: str) -> None:
    """Replace the file in one step.

    Raises
    ------
    StorageError
    """
    with storing(str(path)), atomic_file(path) as file:
        file.write(text.encode())


def metrics_text(report: Any, created: str, now: float) -> str:
    """Return the metrics of a run that has succeeded.

    Parameters
    ----------
    report : ScoreReport
    created : str
        When the model was saved, in ISO 8601.
    now : float
        Seconds since 1970.
    """
    target = {"target": report.target}
    age = now - datetime.datetime.fromisoformat(created).timestamp()
    rows = [({"status": "scored"}, report.n_scored), ({"status": "quarantined"}, report.n_quarantined)]
    families: list[tuple[str, str, list[tuple[dict[str, str], float | None]]]] = [
        ("last_success_timestamp_seconds", "When the job last succeeded.", [({}, now)]),
        ("duration_seconds", "How long it took.", [({}, report.seconds)]),
        ("rows", "Rows by status.", [*rows]),
        ("anomalies", "Rows below the threshold of the model.", [({}, report.n_anomalies)]),
        (
            "expected_false_alarms",
            "Rows below the threshold if all were normal, at most.",
            [({}, report.expected_false_alarms)],
        ),
        ("model_age_seconds", "Time since the model was saved.", [({}, age)]),
        ("model_info", "Which model it was.", [({"model_id": report.model_id}, 1)]),
    ]
    if report.drift is not None:
        verdicts = [({"verdict": name}, float(report.drift["verdict"] == name)) for name in _VERDICTS]
        families.append(("drift", "The verdict on drift: 1 for the one that holds.", [*verdicts]))
        text = "How often drift would seem as large where there is none."
        families.append(("drift_p_value", text, [({}, report.drift["p_value"])]))
    lines = []
    for name, text, samples in families:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            full = f"flowdetect_{name}"
            lines += [f"# HELP {full} {text}", f"# TYPE {full} gauge"]
            lines += [f"{full}{_labels(target | labels)} {float(value)!r}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    shown = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(shown) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
