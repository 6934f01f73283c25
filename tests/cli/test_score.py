import contextlib
import io
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

import flowdetect
from flowdetect.cli import app
from flowdetect.cli._errors import EXIT_CODES

Score = Callable[..., Result]


@pytest.fixture
def score(ward: Path) -> Score:
    """Run `flowdetect score` in the ward."""
    return lambda *arguments: CliRunner().invoke(app, ["score", *map(str, arguments)])


def sentence(result: Result) -> str:
    """Return the only line on stderr."""
    (line,) = result.stderr.splitlines()
    return line


# --- what it does ---------------------------------------------------------------------------------


def test_scores_to_stdout(score: Score, ward: Path) -> None:
    result = score("beds.flow", "new.csv", "--out", "-")
    assert result.exit_code == 0, result.stderr
    found = pd.read_csv(io.StringIO(result.stdout))
    names = ["score", "p_value", "is_anomaly", "status", "model_id", "run_id", "reasons"]
    assert list(found.columns) == ["bed", "weight", "height", "sex", *names]
    expected = flowdetect.load("beds.flow").score_samples(pd.read_csv("new.csv").drop(columns="bed"))
    assert found["score"].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert found.loc[2, "is_anomaly"]
    assert "finished: target -, rows 50, scored 50, quarantined 0" in result.stderr


def test_json_is_for_machines(score: Score, ward: Path) -> None:
    result = score("beds.flow", "new.csv", "--out", "out.csv", "--json", "--quiet", "--drift")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["n_read"], report["n_scored"], report["n_quarantined"]) == (50, 50, 0)
    assert report["drift"]["verdict"] in ("drift", "no drift seen")
    assert report["outputs"][0]["path"] == "out.csv"


def test_logs_for_machines(score: Score, ward: Path) -> None:
    result = score("beds.flow", "new.csv", "--out", "out.csv", "--log-format", "json")
    events = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert events == ["started", "scored", "finished"]
    result = score("beds.flow", "none.csv", "--out", "out.csv", "--log-format", "json")
    failed = json.loads(sentence(result))
    assert (failed["event"], failed["level"], failed["exit_code"]) == ("failed", "error", 3)
    assert failed["message"] == "there is no file 'none.csv'."


def test_the_file_then_variables_then_flags(
    score: Score, ward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ward / "job.toml").write_text(
        '[score]\nmodel = "beds.flow"\nsources = ["new.csv"]\nout = "file.csv"\nid_columns = ["bed"]\n'
    )
    monkeypatch.setenv("FLOWDETECT_SCORE_CONFIG", "job.toml")
    assert score("-q").exit_code == 0
    assert list(pd.read_csv("file.csv").columns)[:2] == ["bed", "score"]
    monkeypatch.setenv("FLOWDETECT_SCORE_OUT", "variable.csv")
    assert score("-q").exit_code == 0
    assert (ward / "variable.csv").read_bytes() == (ward / "file.csv").read_bytes()
    assert score("--config", "job.toml", "--out", "flag.csv", "-q").exit_code == 0
    assert (ward / "flag.csv").read_bytes() == (ward / "file.csv").read_bytes()


def test_a_plan_writes_nothing(score: Score, ward: Path) -> None:
    before = sorted(ward.iterdir())
    result = score("beds.flow", "new.csv", "--out", "out.parquet", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "output: out.parquet\n" in result.stdout
    assert "columns: bed, weight, height, sex, score, p_value," in result.stdout
    plan = json.loads(score("beds.flow", "new.csv", "--out", "out.parquet", "--dry-run", "--json").stdout)
    assert plan["manifest"] == "out.parquet.run.json"
    assert [source["name"] for source in plan["sources"]] == ["new.csv"]
    assert sorted(ward.iterdir()) == before
    (ward / "new.csv").write_text("bed,weight\n1,2\n")
    result = score("beds.flow", "new.csv", "--out", "out.parquet", "--dry-run")
    assert result.exit_code == 3
    assert "'new.csv' lacks columns 'height', 'sex'" in sentence(result)


def test_passwords_stay_out_of_sight(score: Score, ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC_DB", "postgresql+psycopg://me:xyzzy@localhost:1/clinic")
    shown = [score("beds.flow", "env:CLINIC_DB#beds", "--out", "out.csv", "--log-format", "json")]
    shown += [score("beds.flow", "new.csv", "--out", "env:CLINIC_DB#scores")]
    shown += [score("beds.flow", "new.csv", "--out", "env:CLINIC_DB#scores", "--dry-run")]
    shown += [score("beds.flow", "new.csv", "--out", "out.csv", "--dry-run", "--run-key", "pwd=xyzzy")]
    assert [result.exit_code for result in shown] == [75, 75, 75, 0]
    assert not [result.output for result in shown if "xyzzy" in result.output]
    assert "me:***@localhost" in shown[2].stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "/proc/out.csv"], 5, "'/proc' cannot be written"),
        (["--out", "/proc/a/b/"], 5, "'/proc/a/b' cannot be written"),
        (["--out", "new.csv/b/"], 5, "'new.csv/b' cannot be written: Not a directory"),
        (["--out", "o.csv", "--quarantine", "/proc/q.csv"], 5, "'/proc' cannot be written"),
        (["--out", "o.csv", "--metrics", "/proc/m.prom"], 5, "'/proc' cannot be written"),
        (["--out", "oracle+nothing://h/db#t"], 2, "has no driver here"),
        (["--out", "sqlite:///none/x.db#t"], 5, "cannot be written: '.*none' is read-only or not there"),
        (["--out", "sqlite:///there.db#scores"], 5, "lacks column 'bed'"),
    ],
)
def test_a_dry_run_finds_what_cannot_be_written(
    score: Score, ward: Path, arguments: list[str], code: int, message: str
) -> None:
    with contextlib.closing(sqlite3.connect("there.db")) as connection:
        connection.execute("CREATE TABLE scores (run_id TEXT)")
    before = sorted(ward.iterdir())
    result = score("beds.flow", "new.csv", *arguments, "--dry-run")
    assert result.exit_code == code, result.output
    assert re.search(message, sentence(result))
    assert sorted(ward.iterdir()) == before


def test_a_dry_run_makes_no_database(score: Score, ward: Path) -> None:
    assert score("beds.flow", "new.csv", "--out", "sqlite:///new.db#t", "--dry-run").exit_code == 0
    assert not (ward / "new.db").exists()


# --- exit codes -----------------------------------------------------------------------------------


def test_anomalies_are_data(score: Score) -> None:
    assert score("beds.flow", "new.csv", "--out", "out.csv").exit_code == 0


@pytest.mark.parametrize(("asked", "code"), [("anomalies", 1), ("drift", 0), ("quarantine", 1)])
def test_what_a_job_is_asked_to_fail_on(score: Score, ward: Path, asked: str, code: int) -> None:
    with open(ward / "new.csv", "a") as file:
        file.write("b,heavy,170,F\n")
    result = score("beds.flow", "new.csv", "--out", "out.csv", "--quarantine", "q.csv", "--fail-on", asked)
    assert result.exit_code == code, result.stderr
    assert len(pd.read_csv("out.csv")) == 50
    assert (ward / "out.csv.run.json").exists()


def test_drift_to_fail_on(score: Score, ward: Path, beds: pd.DataFrame) -> None:
    beds.assign(weight=beds["weight"] + 20.0).to_csv("new.csv", index=False)
    result = score(
        "beds.flow", "new.csv", "--out", "out.csv", "--fail-on", "drift", "--fail-on", "quarantine"
    )
    assert result.exit_code == 1
    assert len(pd.read_csv("out.csv")) == 200


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["beds.flow", "new.csv"], 2, "'out' is not set"),
        (["beds.flow", "new.csv", "--out", "out.csv", "--fail-on", "all"], 2, "'fail_on' must be some of"),
        (["beds.flow", "new.csv", "--out", "out.txt"], 2, "the name of 'out.txt' does not tell its format"),
        (["beds.flow", "new.csv", "--out", "-", "--json"], 2, "--json and --out - both write to"),
        (["beds.flow", "new.csv", "--out", "o.csv", "--config", "no.toml"], 2, "'no.toml' cannot be read"),
        (
            ["beds.flow", "new.csv", "--out", "o.csv", "--log-format", "xml"],
            2,
            "--log-format is one of text, json",
        ),
        (["beds.flow", "none.csv", "--out", "out.csv"], 3, "there is no file 'none.csv'"),
        (["beds.flow", "bad.csv", "--out", "out.csv"], 3, "row 1 of 'bad.csv' breaks the rule 'number'"),
        (["new.csv", "new.csv", "--out", "out.csv"], 4, "'new.csv' is not a model that can be loaded"),
        (["beds.flow", "new.csv", "--out", "o.csv", "--sha256", "abc"], 4, "has the id [0-9a-f]*, not abc"),
        (["beds.flow", "new.csv", "--out", "new.csv/out/"], 5, "'new.csv/out' cannot be written"),
    ],
)
def test_what_stops_a_job(score: Score, ward: Path, arguments: list[str], code: int, message: str) -> None:
    (ward / "bad.csv").write_text("bed,weight,height,sex\nx,heavy,170,F\n")
    result = score(*arguments)
    assert result.exit_code == code, result.stderr
    assert re.search(message, result.stderr.splitlines()[-1])
    assert not (ward / "out.csv").exists()


def test_a_target_that_is_locked(score: Score, ward: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import filelock\nlock = filelock.FileLock('.out.csv.lock')\nlock.acquire()\nprint()\ninput()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    result = score("beds.flow", "new.csv", "--out", "out.csv", "-q")
    holder.communicate(b"\n")
    assert result.exit_code == 75
    assert sentence(result) == (
        "flowdetect: another run is writing 'out.csv': it holds the lock '.out.csv.lock'.".replace(
            "'.out", f"'{ward}/.out"
        )
    )
    with FileLock(".out.csv.lock", timeout=0):
        pass
    assert score("beds.flow", "new.csv", "--out", "out.csv", "-q").exit_code == 0


def test_an_error_of_flowdetect_itself(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, X: object) -> None:
        raise ZeroDivisionError("password=xyzzy")

    monkeypatch.setattr(flowdetect.FlowOutlierDetector, "explain", fail)
    result = score("beds.flow", "new.csv", "--out", "out.csv")
    assert result.exit_code == 6
    assert "Traceback" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == "flowdetect: an error of flowdetect itself: ZeroDivisionError: password=***"


def test_every_exit_code_is_in_the_help() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


def test_a_real_process(ward: Path) -> None:
    command = [sys.executable, "-m", "flowdetect.cli", "score", "beds.flow", "-", "--out", "-", "-q"]
    done = subprocess.run(
        command,
        input=(ward / "new.csv").read_text(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(pd.read_csv(io.StringIO(done.stdout))) == 50
