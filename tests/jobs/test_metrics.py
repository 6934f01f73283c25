import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowdetect.jobs import ScoreSettings, run_score
from flowdetect.jobs._errors import InputError
from flowdetect.jobs._metrics import metrics_text

Make = Callable[..., ScoreSettings]


def parsed(path: Path) -> dict[tuple[str, str], float]:
    """Return values by name and what tells samples of a name apart."""
    return {
        (
            sample.name.removeprefix("flowdetect_"),
            sample.labels.get("status") or sample.labels.get("verdict", ""),
        ): (sample.value)
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_what_to_watch_a_job_by(folder: Path, settings: Make) -> None:
    with open(folder / "days" / "day1.csv", "a") as file:
        file.write("x,heavy,170,F\n")
    begin = time.time()
    report = run_score(settings(sources=("days",), out="out.csv", quarantine="q.csv", metrics="job.prom"))
    found = parsed(folder / "job.prom")
    scored = pd.read_csv("out.csv")
    assert found["rows", "scored"] == 120
    assert found["rows", "quarantined"] == 1
    assert found["anomalies", ""] == scored["is_anomaly"].sum() == report.n_anomalies
    assert 0.0 < found["expected_false_alarms", ""] <= 0.02 * 120
    assert begin <= found["last_success_timestamp_seconds", ""] <= time.time()
    assert 0.0 < found["duration_seconds", ""] <= time.time() - begin
    assert found["model_age_seconds", ""] > 0.0
    assert [value for (name, _), value in found.items() if name == "drift"].count(1.0) == 1


def test_drift_is_told(folder: Path, settings: Make) -> None:
    for shift, verdict in ((0.0, "no drift seen"), (30.0, "drift")):
        table = pd.read_parquet("all.parquet")
        table.assign(weight=table["weight"] + shift).to_parquet("shifted.parquet")
        report = run_score(settings(sources=("shifted.parquet",), metrics="job.prom", fail_on=("drift",)))
        found = parsed(folder / "job.prom")
        assert found["drift", verdict] == 1.0
        assert (found["drift_p_value", ""] <= 0.01) == (verdict == "drift")
        assert report.reasons_to_fail(("drift",)) == (["drift"] if shift else [])


def test_too_few_rows_are_no_verdict(folder: Path, settings: Make) -> None:
    run_score(settings(sources=("days/day1.csv",), metrics="job.prom"))
    found = parsed(folder / "job.prom")
    assert found["drift", "too few rows"] == 1.0
    assert ("drift_p_value", "") not in found


def test_a_model_without_p_values(folder: Path, settings: Make, models: Path) -> None:
    run_score(settings(model=str(models / "density.flow"), metrics="job.prom"))
    names = {name for name, _ in parsed(folder / "job.prom")}
    assert {"rows", "model_age_seconds", "drift"} <= names
    assert not {"anomalies", "expected_false_alarms"} & names


def test_a_job_that_fails_leaves_the_last_success(folder: Path, settings: Make) -> None:
    run_score(settings(metrics="job.prom"))
    before = (folder / "job.prom").read_bytes()
    (folder / "all.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError):
        run_score(settings(metrics="job.prom"))
    assert (folder / "job.prom").read_bytes() == before


def test_names_of_targets_are_quoted(folder: Path, settings: Make) -> None:
    report = run_score(settings(out='a"b\\c.csv'))
    text = metrics_text(report, "2026-01-01T00:00:00+00:00", 1.8e9)
    (family, *_) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"target": 'a"b\\c.csv'}
