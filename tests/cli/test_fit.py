import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import flowdetect
from flowdetect.cli import app
from flowdetect.exceptions import TrainingError
from flowdetect.persistence import read_manifest

Fit = Callable[..., Result]


@pytest.fixture
def fit(ward: Path) -> Fit:
    """Run `flowdetect fit` in the ward."""
    return lambda *arguments: CliRunner().invoke(app, ["fit", *map(str, arguments)])


def test_a_table_to_a_model_that_scores(fit: Fit, ward: Path) -> None:
    result = fit("new.csv", "--out", "m.flow", "--drop", "bed", "--max-steps", 5, "--json", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["path"], report["n_rows"], report["n_columns"]) == ("m.flow", 50, 3)
    scored = CliRunner().invoke(app, ["score", "m.flow", "new.csv", "--out", "out.csv", "-q"])
    assert scored.exit_code == 0, scored.stderr
    assert set(pd.read_csv("out.csv")["model_id"]) == {report["model_id"]}


def test_a_file_of_settings(fit: Fit, ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ward / "job.toml").write_text(
        '[fit]\nsources = "new.csv"\nout = "file.flow"\ndrop = ["bed"]\nestimator = "density"\n'
        "max_steps = 5\n"
        '[fit.parameters]\nn_layers = 1\n[fit.metadata]\nowner = "ward 3"\n[score]\nout = "scored.csv"\n'
    )
    assert fit("job.toml", "-q").exit_code == 0
    manifest = read_manifest("file.flow")
    assert (manifest["class"], manifest["metadata"]["owner"]) == ("FlowDensity", "ward 3")
    monkeypatch.setenv("FLOWDETECT_FIT_OUT", "variable.flow")
    assert fit("job.toml", "-q", "--seed", "1").exit_code == 0
    assert flowdetect.load("variable.flow").random_state == 1
    assert flowdetect.load("variable.flow").n_layers == 1


def test_a_plan_of_a_fit_writes_nothing(fit: Fit, ward: Path) -> None:
    with open("new.csv", "a") as file:
        file.write("b,n.v.,170,F\n")
    before = sorted(ward.iterdir())
    asked = ["new.csv", "--out", "m.flow", "--drop", "bed", "--quarantine", "q.csv", "--dry-run"]
    plan = json.loads(fit(*asked, "--json").stdout)
    assert (plan["n_rows"], plan["n_quarantined"], plan["output"]) == (50, 1, "m.flow")
    assert list(plan["columns"]) == ["weight", "height", "sex"]
    assert plan["columns"]["weight"] == "float64"
    assert "columns weight: float64\n" in fit(*asked).stdout
    for place in (["--out", "/proc/m.flow"], ["--quarantine", "/proc/q.csv"]):
        result = fit(*asked, *place)
        assert result.exit_code == 5
        assert "'/proc' cannot be written" in result.stderr
    assert sorted(ward.iterdir()) == before


def test_thresholds(fit: Fit, ward: Path) -> None:
    quick = ["--drop", "bed", "--max-steps", 2, "-q", "--out", "m.flow"]
    assert fit("new.csv", "--false-alarm-rate", 0.1, *quick).exit_code == 0
    assert flowdetect.load("m.flow").false_alarm_rate == 0.1
    assert fit("new.csv", "--contamination", 0.1, *quick).exit_code == 0
    assert flowdetect.load("m.flow").contamination == 0.1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["new.csv"], 2, "'out' is not set"),
        (["--out", "m.flow"], 2, "'sources' is not set"),
        (["a.toml", "b.toml", "--out", "m.flow"], 2, "name one TOML file"),
        (["none.toml", "--out", "m.flow"], 2, "'none.toml' cannot be read"),
        (["new.csv", "--out", "m.flow", "--estimator", "forest"], 2, "'estimator' must be one of detector"),
        (["new.csv", "--out", "m.flow", "--contamination", "0.7"], 2, "'contamination' must be 'auto' or a"),
        (
            ["new.csv", "--out", "m.flow", "--drop", "bed", "--false-alarm-rate", "0.001"],
            2,
            "50 rows support",
        ),
        (["none.csv", "--out", "m.flow"], 3, "there is no file 'none.csv'"),
        (["empty.csv", "--out", "m.flow"], 3, "'empty.csv' has no rows"),
        (
            ["ragged.csv", "--out", "m.flow"],
            3,
            "row 2 of 'ragged.csv' breaks the rule 'fields'.*--quarantine",
        ),
        (["new.csv", "--out", "none/m.flow"], 5, "there is no folder"),
    ],
)
def test_what_stops_a_fit(fit: Fit, ward: Path, arguments: list[str], code: int, message: str) -> None:
    (ward / "empty.csv").write_text("a,b\n")
    (ward / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    result = fit(*arguments, "--max-steps", 2, "-q")
    assert result.exit_code == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert re.search(message, line)
    assert not (ward / "m.flow").exists()


def test_a_fit_that_fails_leaves_the_old_model(fit: Fit, ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, X: object) -> None:
        raise TrainingError("the loss did not stay finite.")

    monkeypatch.setattr(flowdetect.FlowOutlierDetector, "fit", fail)
    before = (ward / "beds.flow").read_bytes()
    result = fit("new.csv", "--out", "beds.flow", "-q")
    assert result.exit_code == 6
    assert result.stderr == "flowdetect: the loss did not stay finite.\n"
    assert (ward / "beds.flow").read_bytes() == before
