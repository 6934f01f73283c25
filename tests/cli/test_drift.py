import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import flowdetect
from flowdetect import FlowDensity
from flowdetect.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(ward: Path, beds: pd.DataFrame) -> Run:
    """Run the command in a folder with rows as in training, changed ones, and few."""
    same = beds.sample(120, random_state=0)
    same.to_csv("same.csv", index=False)
    same.assign(weight=same["weight"] + 40.0).to_parquet("heavy.parquet")
    same[:20].to_csv("few.csv", index=False)
    return lambda *arguments: CliRunner().invoke(app, ["drift", *arguments])


def test_rows_as_in_training(run: Run) -> None:
    result = run("beds.flow", "same.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("no drift seen: 120 rows, p = ")
    assert "weight" in result.stdout


def test_changed_rows(run: Run) -> None:
    result = run("beds.flow", "heavy.parquet", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["verdict"] == "drift"
    assert report["columns"][0]["column"] == "weight"
    assert report["n_read"] == report["n_rows"] == 120
    text = run("beds.flow", "heavy.parquet", "--fail-on", "drift")
    assert text.exit_code == 1
    assert text.stdout.startswith("drift: 120 rows")
    assert "(drift)" in text.stdout


def test_a_column_that_always_changes_is_left_out(run: Run) -> None:
    report = json.loads(run("beds.flow", "heavy.parquet", "--ignore", "weight", "--json").stdout)
    assert "weight" not in {column["column"] for column in report["columns"]}
    result = run("beds.flow", "same.csv", "--ignore", "colour")
    assert result.exit_code == 2
    assert "no 'colour'" in result.stderr


def test_few_rows_are_said_to_be_few(run: Run, ward: Path) -> None:
    result = run("beds.flow", "few.csv", "--fail-on", "drift", "--plot", "few.png")
    assert result.exit_code == 0
    assert result.stdout == "too few rows: 20 rows, and a verdict takes 50.\n"
    assert "too few rows for a picture" in result.stderr
    assert not (ward / "few.png").exists()


def test_a_picture(run: Run, ward: Path) -> None:
    assert run("beds.flow", "heavy.parquet", "--plot", "drift.png").exit_code == 0
    assert (ward / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert run("beds.flow", "same.csv", "--plot", "drift.doc").exit_code == 2


def test_rows_that_cannot_be_scored_are_counted(run: Run, beds: pd.DataFrame) -> None:
    bad = beds.astype({"weight": object})
    bad.loc[3, "weight"] = "heavy"
    bad.to_csv("bad.csv", index=False)
    report = json.loads(run("beds.flow", "bad.csv", "--json").stdout)
    assert (report["n_read"], report["n_left_out"], report["n_rows"]) == (200, 1, 199)


def test_a_model_without_counts_of_its_rows(run: Run, beds: pd.DataFrame) -> None:
    density = FlowDensity(max_steps=2, random_state=0).fit(beds[["weight", "height"]])
    flowdetect.save(density, "bare.flow")
    result = run("bare.flow", "same.csv")
    assert result.exit_code == 4
    assert "nothing to compare" in result.stderr


def test_a_report_says_that_no_column_was_compared(run: Run, beds: pd.DataFrame) -> None:
    detector = flowdetect.FlowOutlierDetector(max_steps=2, random_state=0).fit(beds[["weight", "height"]])
    flowdetect.save(detector, "bare.flow")
    for source in ("same.csv", "few.csv"):
        assert "no column was compared" in run("bare.flow", source).stdout
    assert "no column was compared" in json.loads(run("bare.flow", "same.csv", "--json").stdout)["note"]
    assert "no column was compared" not in run("beds.flow", "same.csv").stdout
    assert json.loads(run("beds.flow", "same.csv", "--json").stdout)["note"] is None


def test_a_plan_compares_nothing(run: Run, ward: Path) -> None:
    before = sorted(ward.iterdir())
    plan = json.loads(run("beds.flow", "heavy.parquet", "--dry-run", "--json", "--fail-on", "drift").stdout)
    assert (plan["sources"], plan["note"]) == (["heavy.parquet"], None)
    assert "model path: beds.flow\n" in run("beds.flow", "same.csv", "--dry-run").stdout
    assert run("beds.flow", "same.csv", "--dry-run", "--plot", "/proc/a.png").exit_code == 5
    Path("other.csv").write_text("weight\n1\n")
    assert run("beds.flow", "other.csv", "--dry-run").exit_code == 3
    Path("other.csv").unlink()
    assert sorted(ward.iterdir()) == before


def test_settings_from_a_file_and_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("job.toml").write_text('[drift]\nmodel = "beds.flow"\nsources = ["heavy.parquet"]\nalpha = 0.2\n')
    assert json.loads(run("--config", "job.toml", "--json").stdout)["alpha"] == 0.2
    monkeypatch.setenv("FLOWDETECT_DRIFT_ALPHA", "0.1")
    assert json.loads(run("--config", "job.toml", "--json").stdout)["alpha"] == 0.1
    assert json.loads(run("--config", "job.toml", "--json", "--alpha", "0.05").stdout)["alpha"] == 0.05


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("beds.flow",), 2),
        (("beds.flow", "none.csv"), 3),
        (("none.flow", "same.csv"), 4),
        (("beds.flow", "same.csv", "--alpha", "0.7"), 2),
        (("beds.flow", "same.csv", "--sha256", "0" * 64), 4),
    ],
)
def test_mistakes(run: Run, arguments: tuple[str, ...], code: int) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.count("\n") == 1
    assert np.char.startswith(result.stderr, "flowdetect: ")
