import gzip
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import flowdetect
from flowdetect.cli import app
from flowdetect.exceptions import TrainingError

QUICK = ["--max-steps", "20"]
Detect = Callable[..., Result]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two numbers, a category, an id, and a label with three rare rows far from all others."""
    rng = np.random.default_rng(0)
    weight = rng.normal(70.0, 8.0, size=60)
    frame = pd.DataFrame(
        {
            "id": [f"p{i:03d}" for i in range(60)],
            "weight": weight.round(2),
            "height": (100.0 + weight + rng.normal(size=60)).round(1),
            "sex": rng.choice(["F", "M"], size=60),
            "state": ["well"] * 60,
        }
    )
    frame.loc[[4, 20, 50], ["weight", "state"]] = [[400.0, "ill"]] * 3
    frame.loc[7, "height"] = np.nan
    return frame


@pytest.fixture
def folder(table: pd.DataFrame, tmp_path: Path) -> Path:
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    return tmp_path


@pytest.fixture
def detect(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Detect:
    """Run `flowdetect detect` with the table's folder as the working one."""
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, ["detect", *map(str, arguments)])


def sentence(result: Result) -> str:
    """Return the only line on stderr."""
    (line,) = result.stderr.splitlines()
    return line


def shown(result: Result) -> str:
    """Return stderr as one line, without the frame around it."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


# --- what it does ---------------------------------------------------------------------------------


def test_csv_goes_to_stdout_and_messages_to_stderr(detect: Detect, table: pd.DataFrame) -> None:
    result = detect("table.csv", "--label", "state", "--drop", "id", "--top", 4, *QUICK)
    assert result.exit_code == 0, result.output
    scored = pd.read_csv(io.StringIO(result.stdout))
    pd.testing.assert_frame_equal(scored[table.columns], table)
    assert list(scored.columns[-2:]) == ["score", "is_anomaly"]
    assert np.isfinite(scored["score"]).all()
    assert scored["is_anomaly"].sum() >= 3
    n_anomalies = scored["is_anomaly"].sum()
    assert f"{n_anomalies} of 60 rows are anomalies: the score of their 3 columns" in result.stderr
    assert "state = ill: 3 of its 3 rows are among the 3 most unlikely ones; AUROC 1.000" in result.stderr
    most_unlikely = scored["score"].nsmallest(4).index + 1
    printed = re.findall(r"^\s*(\d+)\s+-[\d.]+\s+(?:weight|height|sex)=", result.stderr, flags=re.MULTILINE)
    assert list(map(int, printed)) == list(most_unlikely)
    assert "weight=400 -" in result.stderr


def test_text_of_a_csv_comes_back_as_it_was(detect: Detect, folder: Path) -> None:
    lines = ["a,b,c"] + [f"{i % 5}.50,{'?' if i == 3 else i % 3},0{i % 2}" for i in range(40)]
    (folder / "text.csv").write_text("\n".join(lines))
    result = detect("text.csv", "--na-value", "?", "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert [line.rsplit(",", 2)[0] for line in result.stdout.splitlines()] == lines


def test_a_fraction_is_the_fraction_of_anomalies(detect: Detect, folder: Path) -> None:
    result = detect("table.csv", "--contamination", "0.1", "--out", "scored.csv.gz", "-q", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    scored = pd.read_csv(folder / "scored.csv.gz")
    assert scored["is_anomaly"].sum() == 6
    assert scored.loc[scored["is_anomaly"], "score"].max() < scored.loc[~scored["is_anomaly"], "score"].min()


def test_parquet_and_picture(detect: Detect, folder: Path, table: pd.DataFrame) -> None:
    arguments = ["--out", "scored.parquet", "--plot", "scores.png", "--label", "state", "--top", 0]
    result = detect("table.parquet", *arguments, *QUICK)
    assert result.exit_code == 0, result.output
    scored = pd.read_parquet(folder / "scored.parquet")
    pd.testing.assert_frame_equal(scored[table.columns], table)
    assert scored["is_anomaly"].dtype == bool
    assert (folder / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert "makes it unlikely" not in result.stderr


def test_a_named_index_of_parquet_is_kept(detect: Detect, folder: Path, table: pd.DataFrame) -> None:
    table.set_index("id").to_parquet(folder / "indexed.parquet")
    result = detect("indexed.parquet", "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    scored = pd.read_csv(io.StringIO(result.stdout))
    assert list(scored["id"]) == list(table["id"])


def test_the_seed_decides_the_scores(detect: Detect) -> None:
    first, again, other = (
        detect("table.csv", "--quiet", "--seed", seed, *QUICK).stdout for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_dates_in_order_are_pointed_out(detect: Detect, folder: Path) -> None:
    days = pd.date_range("2024-01-01", periods=40)
    flow = np.random.default_rng(0).normal(size=40)
    hint = "note: the rows follow each other in time by 'day': --time 'day' looks for odd stretches"
    for order, kind, expected in ((days, str, 1), (days, "datetime64[ns]", 1), (days[::-1], str, 0)):
        path = folder / ("days.csv" if kind is str else "days.parquet")
        frame = pd.DataFrame({"day": order.astype(kind), "flow": flow})
        frame.to_csv(path, index=False) if kind is str else frame.to_parquet(path)
        assert detect(path, *QUICK).stderr.count(hint) == expected
        assert hint not in detect(path, "--time", "day", "--window", 4, *QUICK).stderr


def test_warnings_are_notes_of_one_line(detect: Detect, folder: Path, table: pd.DataFrame) -> None:
    table.assign(constant=1.0, empty=np.nan).to_csv(folder / "table.csv", index=False)
    result = detect("table.csv", *QUICK)
    assert result.exit_code == 0, result.output
    assert "Warning:" not in result.stderr
    assert ".py:" not in result.stderr


def test_a_text_among_numbers_is_pointed_out(detect: Detect, folder: Path) -> None:
    rows = [f"{'?' if i % 7 == 3 else i * i % 17},{'FM?'[i % 3]},{i % 5}" for i in range(40)]
    (folder / "marks.csv").write_text("\n".join(["age,sex,visits", *rows]))
    result = detect("marks.csv", *QUICK)
    assert result.exit_code == 0, result.output
    hint = "note: all entries of 'age' are numbers but '?': if that means missing, say --na-value '?'.\n"
    assert hint in result.stderr
    assert "note: all entries" not in detect("marks.csv", "--na-value", "?", *QUICK).stderr


# --- mistakes of the user -------------------------------------------------------------------------


def test_a_missing_file(detect: Detect) -> None:
    result = detect("nothing.csv")
    assert result.exit_code == 3
    assert sentence(result) == "flowdetect: there is no file 'nothing.csv'."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bytes.csv", b"a,b\n\xff\xfe,1\n"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n"),
        ("shifted.csv", b"a,b\nx,1,2\ny,1,3\nz,2,4\n"),
        ("no_gzip.csv.gz", b"a,b\n1,2\n"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0)[:-10]),
        ("broken.csv.gz", gzip.compress(b"a,b\n1,2\n" * 50, mtime=0)[:15] + b"\x00" * 20),
        ("no_parquet.parquet", b"a,b\n1,2\n"),
        ("nothing.csv", b""),
    ],
)
def test_a_file_that_cannot_be_read(detect: Detect, folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    result = detect(name)
    assert result.exit_code == 3
    assert sentence(result).startswith(f"flowdetect: '{name}' cannot be read as a table: ")


def test_a_table_without_rows(detect: Detect, folder: Path) -> None:
    (folder / "empty.csv").write_text("a,b\n")
    result = detect("empty.csv")
    assert result.exit_code == 3
    assert sentence(result) == "flowdetect: 'empty.csv' has no rows; a density needs some to be fitted to."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table.xlsx"], "TABLE must end in .csv, .csv.gz, .parquet; got 'table.xlsx'."),
        (
            ["table.csv", "--out", "scored.txt"],
            "--out must end in .csv, .csv.gz, .parquet; got 'scored.txt'.",
        ),
        (["table.csv", "--plot", "p.bmp"], "--plot must end in .png, .pdf, .svg; got 'p.bmp'."),
        (
            ["table.csv", "--out", "table.csv"],
            "'table.csv' is the table that is read; name another file to write.",
        ),
        (
            ["table.csv", "--label", "status", "--drop", "idd"],
            "--label and --drop must name columns of the table; it has no 'idd', 'status', "
            "only 'id', 'weight', 'height', 'sex', 'state'.",
        ),
        (
            [
                "table.csv",
                "--drop",
                "id",
                "--drop",
                "weight",
                "--drop",
                "height",
                "--drop",
                "sex",
                "--drop",
                "state",
            ],
            "--label and --drop leave no column to fit.",
        ),
        (
            ["table.parquet", "--na-value", "?"],
            "--na-value is for csv files; parquet marks missing values itself.",
        ),
    ],
)
def test_wrong_usage(detect: Detect, arguments: list[str], message: str) -> None:
    result = detect(*arguments)
    assert result.exit_code == 2
    assert sentence(result) == f"flowdetect: {message}"
    assert result.stdout == ""


@pytest.mark.parametrize("wrong", ["0", "0.6", "-0.1", "nan", "some"])
def test_a_contamination_that_is_no_fraction(detect: Detect, wrong: str) -> None:
    result = detect("table.csv", f"--contamination={wrong}")
    assert result.exit_code == 2
    assert "must be 'auto' or a fraction above 0 and at most 0.5" in shown(result)


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_a_folder_that_does_not_exist(detect: Detect, option: str) -> None:
    name = "scores.png" if option == "--plot" else "scored.csv"
    result = detect("table.csv", option, f"missing/{name}")
    assert result.exit_code == 5
    assert sentence(result) == f"flowdetect: there is no folder 'missing' to write '{name}' in."


def test_a_folder_instead_of_a_file(detect: Detect, folder: Path) -> None:
    (folder / "scored.csv").mkdir()
    result = detect("table.csv", "--out", "scored.csv")
    assert result.exit_code == 5
    assert sentence(result) == "flowdetect: 'scored.csv' is a folder; name a file to write."


@pytest.mark.parametrize("taken", ["score", "is_anomaly"])
def test_a_table_that_has_been_scored_already(
    detect: Detect, folder: Path, table: pd.DataFrame, taken: str
) -> None:
    table.rename(columns={"weight": taken}).to_csv(folder / "table.csv", index=False)
    result = detect("table.csv")
    assert result.exit_code == 3
    assert sentence(result) == f"flowdetect: the table already has a column '{taken}'; rename it first."


def test_a_label_that_is_the_same_everywhere(detect: Detect, folder: Path, table: pd.DataFrame) -> None:
    table.assign(state="well").to_csv(folder / "table.csv", index=False)
    result = detect("table.csv", "--label", "state")
    assert result.exit_code == 3
    assert (
        sentence(result) == "flowdetect: the label 'state' must have at least two different values; it has 1."
    )


def test_a_fit_that_fails(detect: Detect, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, X: object) -> None:
        raise TrainingError("the loss did not stay finite.")

    monkeypatch.setattr(flowdetect.FlowOutlierDetector, "fit", fail)
    result = detect("table.csv", "--quiet")
    assert result.exit_code == 6
    assert sentence(result) == "flowdetect: the loss did not stay finite."


def test_a_defect_is_no_other_exit_code(detect: Detect, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, X: object) -> None:
        raise RuntimeError("postgresql://me:xyzzy@db")

    monkeypatch.setattr(flowdetect.FlowOutlierDetector, "fit", fail)
    result = detect("table.csv", "--quiet")
    assert result.exit_code == 6
    assert "Traceback" in result.stderr
    assert "xyzzy" not in result.stderr


def test_rows_that_the_density_refuses(detect: Detect, folder: Path) -> None:
    (folder / "one.csv").write_text("a,b\n1,2\n")
    result = detect("one.csv")
    assert result.exit_code == 3
    assert sentence(result).startswith("flowdetect: ")


# --- the command itself ---------------------------------------------------------------------------


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"flowdetect {flowdetect.__version__}\n")


def test_help_shows_examples_and_exit_codes() -> None:
    result = CliRunner().invoke(app, ["detect", "--help"])
    assert result.exit_code == 0
    assert "flowdetect detect patients.csv > scored.csv" in result.stdout
    assert "Exit codes: 0 done" in CliRunner().invoke(app, ["--help"]).stdout


def test_no_arguments_show_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Usage: " in result.output


@pytest.mark.parametrize("arguments", [["detect"], ["detect", "a.csv", "--no-such-option"], ["detekt"]])
def test_arguments_that_are_not_understood(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_real_process(folder: Path) -> None:
    command = [sys.executable, "-m", "flowdetect.cli", "detect", "table.csv", "--label", "state", *QUICK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(io.StringIO(done.stdout))) == 60
    assert "rows are anomalies" in done.stderr
    assert "Warning" not in done.stderr


def test_a_mistake_in_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowdetect.cli", "detect", "nothing.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert (done.stdout, done.stderr) == ("", "flowdetect: there is no file 'nothing.csv'.\n")
