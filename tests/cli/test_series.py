from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from flowdetect.cli import app

QUICK = ["--max-steps", "5"]
Detect = Callable[..., Result]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two pumps, hour by hour; one stands still for a while."""
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2024-01-01", periods=240, freq="h")
    parts = []
    for pump in ("east", "west"):
        flow = np.sin(np.arange(240) * 2 * np.pi / 12) + 0.1 * rng.normal(size=240)
        parts.append(pd.DataFrame({"at": stamps, "pump": pump, "flow": flow.round(3), "state": "on"}))
    frame = pd.concat(parts, ignore_index=True)
    frame.loc[100:111, ["flow", "state"]] = [[0.0, "off"]] * 12
    return frame


@pytest.fixture
def detect(table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detect:
    """Run `flowdetect detect` in a folder with the table."""
    table.to_csv(tmp_path / "pumps.csv", index=False)
    table.loc[[0, *range(240)]].to_csv(tmp_path / "repeated.csv", index=False)
    table.head(12).to_csv(tmp_path / "short.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["detect", *map(str, arguments)])


def test_prints_the_odd_stretches_and_writes_the_scores(detect: Detect, table: pd.DataFrame) -> None:
    found = detect(
        *("pumps.csv", "--time", "at", "--entity", "pump", "--label", "state", "--contamination", "0.1"),
        *("--window", "12"),
        *("--out", "scored.csv", "--plot", "pumps.png", *QUICK),
    )
    assert found.exit_code == 0, found.output
    assert "1 odd stretch in 480 rows, by windows of 12 and 24 rows" in found.stderr
    assert "  east: 2024-01-0" in found.stderr
    assert ", by flow" in found.stderr
    scored = pd.read_csv("scored.csv")
    assert list(scored.columns) == [*table.columns, "score", "is_anomaly"]
    assert scored["is_anomaly"].sum() == 48
    assert 90 <= scored["score"].idxmin() <= 121
    assert Path("pumps.png").stat().st_size > 1000


def test_rows_in_order_need_no_time(detect: Detect) -> None:
    found = detect("pumps.csv", "--entity", "pump", "--drop", "at", "--drop", "state", *QUICK)
    assert found.exit_code == 0, found.output
    assert found.stdout.count("\n") == 481


def test_time_between_false_alarms(detect: Detect) -> None:
    found = detect(
        *("pumps.csv", "--time", "at", "--entity", "pump", "--drop", "state"),
        *("--false-alarms-every", "5D", "--quiet", "--out", "scored.csv", *QUICK),
    )
    assert found.exit_code == 0, found.output
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pumps.csv", "--time", "when"], 3, "no column 'when'"),
        (["pumps.csv", "--time", "pump"], 3, "must hold dates or numbers"),
        (["pumps.csv", "--time", "at"], 3, "must occur once; 2024-01-01 00:00:00 occurs more often"),
        (["repeated.csv", "--time", "at", "--entity", "pump"], 3, "must occur once"),
        (["short.csv", "--time", "at", "--entity", "pump"], 3, "at least 16 rows"),
        (["pumps.csv", "--false-alarms-every", "5D"], 2, "are for series; name the --time column"),
        (
            ["pumps.csv", "--time", "at", "--entity", "pump", "--false-alarms-every", "often"],
            2,
            "number of rows",
        ),
    ],
)
def test_refuses_in_one_sentence(detect: Detect, arguments: list[str], code: int, message: str) -> None:
    found = detect(*arguments, *QUICK)
    assert found.exit_code == code, found.output
    (line,) = [line for line in found.stderr.splitlines() if not line.startswith("note:")]
    assert message in line
