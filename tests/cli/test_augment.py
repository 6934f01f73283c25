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

from flowdetect.cli import app
from flowdetect.cli._tables import Table, joined, keep_columns, like_source

QUICK = ["--max-steps", "20"]
Augment = Callable[..., Result]
ORIGINAL = ["id", "weight", "visits", "sex", "smokes", "state"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Numbers, whole numbers with missing entries, text, booleans and an id; 12 of 60 rows are ill."""
    rng = np.random.default_rng(0)
    ill = np.arange(60) % 5 == 0
    visits = pd.Series(rng.poisson(3.0, size=60) + 4 * ill, dtype="Int64")
    visits[::9] = pd.NA
    sex = pd.Series(rng.choice(["F", "M"], size=60))
    sex[::11] = None
    return pd.DataFrame(
        {
            "id": [f"p{i:03d}" for i in range(60)],
            "weight": (rng.normal(70.0, 8.0, size=60) + 10.0 * ill).round(2),
            "visits": visits,
            "sex": sex,
            "smokes": rng.random(60) < 0.3,
            "state": np.where(ill, "ill", "well"),
        }
    )


@pytest.fixture
def folder(table: pd.DataFrame, tmp_path: Path) -> Path:
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    return tmp_path


@pytest.fixture
def augment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Augment:
    """Run `flowdetect augment` with the table's folder as the working one."""
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, ["augment", *map(str, arguments)])


def sentence(result: Result) -> str:
    """Return the only line on stderr."""
    (line,) = result.stderr.splitlines()
    return line


# --- classes balanced -----------------------------------------------------------------------------


def test_classes_are_balanced_on_stdout_with_messages_on_stderr(
    augment: Augment, folder: Path, table: pd.DataFrame
) -> None:
    result = augment("table.csv", "--target", "state", "--drop", "id", *QUICK)
    assert result.exit_code == 0, result.output
    balanced = pd.read_csv(io.StringIO(result.stdout))
    assert list(balanced.columns) == [*ORIGINAL[1:], "is_drawn"]
    assert list(balanced["is_drawn"]) == [False] * 60 + [True] * 36
    assert balanced["state"].value_counts().to_dict() == {"well": 48, "ill": 48}
    assert set(balanced.loc[balanced["is_drawn"], "state"]) == {"ill"}
    given = [line.partition(",")[2] for line in (folder / "table.csv").read_text().splitlines()]
    assert [line.rpartition(",")[0] for line in result.stdout.splitlines()[:61]] == given
    assert "note: 'id' left out of the fit, and of what is written." in result.stderr
    assert "36 rows drawn\n  state = ill: 36, beside 12 real ones\n" in result.stderr
    assert re.search(r"^C2ST AUROC +[\d.]+ +0\.500$", result.stderr, flags=re.MULTILINE)
    assert "closest record" not in result.stderr
    assert "baseline" not in result.stderr


def test_drawn_entries_are_written_as_the_file_writes_them(augment: Augment, folder: Path) -> None:
    rows = [
        f"{'?' if i % 7 == 3 else i % 12},{i % 4}.50,{'yes' if i % 3 else 'no'},"
        f"{'NA' if i % 5 == 2 else 'a'},{'TRUE' if i % 2 else 'FALSE'},{1 + (i % 4 == 0)}"
        for i in range(48)
    ]
    (folder / "marks.csv").write_text("\n".join(["visits,dose,seen,mark,flag,class", *rows]))
    result = augment("marks.csv", "--target", "class", "--na-value", "?", "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    _, *lines = result.stdout.splitlines()
    assert [line.rpartition(",")[0] for line in lines[:48]] == rows
    drawn = [line.split(",") for line in lines[48:]]
    assert len(drawn) == 24
    visits, dose, seen, mark, flag, _, is_drawn = (set(entries) for entries in zip(*drawn, strict=True))
    assert visits <= {"?", *map(str, range(12))}
    assert dose <= {"0.50", "1.50", "2.50", "3.50"}
    assert seen <= {"yes", "no"}
    assert mark <= {"NA", "a"}
    assert flag <= {"TRUE", "FALSE"}
    assert is_drawn == {"True"}


def test_parquet_keeps_dtypes(augment: Augment, folder: Path, table: pd.DataFrame) -> None:
    typed = table.astype({"state": "category", "sex": "category"}).drop(columns="id")
    typed["since"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(60) % 17, unit="D")
    typed.to_parquet(folder / "typed.parquet")
    arguments = ["--target", "state", "--out", "balanced.parquet", "--plot", "rows.png", "--no-quality"]
    result = augment("typed.parquet", *arguments, *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "C2ST" not in result.stderr
    balanced = pd.read_parquet(folder / "balanced.parquet")
    written = pd.read_parquet(folder / "typed.parquet")
    pd.testing.assert_series_equal(balanced.dtypes.drop("is_drawn"), written.dtypes)
    pd.testing.assert_frame_equal(balanced[:60].drop(columns="is_drawn"), written)
    assert balanced["is_drawn"].dtype == bool
    assert balanced["is_drawn"].sum() == 36
    assert (folder / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_rows_without_class_are_written_but_not_learnt_from(
    augment: Augment, folder: Path, table: pd.DataFrame
) -> None:
    table.assign(state=table["state"].where(table.index != 3)).to_csv(folder / "table.csv", index=False)
    result = augment("table.csv", "--target", "state", "--drop", "id", *QUICK)
    assert result.exit_code == 0, result.output
    assert "note: 1 row(s) without 'state' are not learnt from." in result.stderr
    balanced = pd.read_csv(io.StringIO(result.stdout))
    assert balanced["state"].isna().sum() == 1
    assert balanced["is_drawn"].sum() == 47 - 12


def test_whole_numbers_may_be_classes_with_missing_ones(augment: Augment, folder: Path) -> None:
    rows = [f"{i * i % 13},{'' if i == 5 else 1 + (i % 5 == 0)}" for i in range(40)]
    (folder / "numbers.csv").write_text("\n".join(["a,class", *rows]))
    result = augment("numbers.csv", "--target", "class", "--rows", 3, "--class", 2, "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    assert [line.split(",")[1] for line in result.stdout.splitlines()] == ["class", "2", "2", "2"]


# --- rows drawn -----------------------------------------------------------------------------------


def test_rows_of_a_class(augment: Augment, folder: Path) -> None:
    arguments = ["--target", "state", "--rows", 25, "--class", "ill", "--drop", "id", "--out", "ill.csv.gz"]
    result = augment("table.csv", *arguments, *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    drawn = pd.read_csv(folder / "ill.csv.gz")
    assert list(drawn.columns) == ORIGINAL[1:]
    assert list(drawn["state"]) == ["ill"] * 25
    assert "25 rows drawn\n  state = ill: 25\n" in result.stderr


def test_rows_of_all_classes_are_as_frequent_as_in_the_table(augment: Augment) -> None:
    result = augment("table.csv", "--target", "state", "--rows", 400, "--drop", "id", *QUICK)
    assert result.exit_code == 0, result.output
    drawn = pd.read_csv(io.StringIO(result.stdout))
    assert len(drawn) == 400
    assert 0.1 < (drawn["state"] == "ill").mean() < 0.3  # five standard errors around 0.2


def test_a_copy_of_a_table_without_target(augment: Augment) -> None:
    result = augment("table.csv", "--rows", 30, "--drop", "id", "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    drawn = pd.read_csv(io.StringIO(result.stdout))
    assert list(drawn.columns) == ORIGINAL[1:]
    assert len(drawn) == 30
    assert set(drawn["state"]) <= {"ill", "well"}


def test_a_check_adds_baselines(augment: Augment, folder: Path, table: pd.DataFrame) -> None:
    arguments = ["--target", "state", "--rows", 60, "--drop", "id", "--check"]
    result = augment("table.csv", *arguments, *QUICK)
    assert result.exit_code == 0, result.output
    number = r"-?[\d.]+"
    for measure in ("marginal fidelity", "C2ST AUROC"):
        assert re.search(f"^{measure} +{number} +{number} +{number}$", result.stderr, flags=re.MULTILINE)
    for measure in ("closest record, median", "exact copies", "TSTR AUROC"):
        assert re.search(f"^{measure} +{number} +{number} +the baseline$", result.stderr, flags=re.MULTILINE)
    assert "--check adds" not in result.stderr


def test_a_check_of_balanced_classes_fills_them_all_the_same(augment: Augment) -> None:
    result = augment("table.csv", "--target", "state", "--drop", "id", "--check", *QUICK)
    assert result.exit_code == 0, result.output
    balanced = pd.read_csv(io.StringIO(result.stdout))
    assert len(balanced) == 96
    assert balanced["state"].value_counts().to_dict() == {"well": 48, "ill": 48}
    assert "note: fewer than 10 rows to compare: their quality is not measured." in result.stderr


def test_an_index_of_parquet_is_left_out(augment: Augment, folder: Path, table: pd.DataFrame) -> None:
    table.set_index("id").to_parquet(folder / "indexed.parquet")
    result = augment("indexed.parquet", "--target", "state", *QUICK)
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(io.StringIO(result.stdout)).columns) == [*ORIGINAL[1:], "is_drawn"]
    assert "note: 'id' left out of the fit, and of what is written." in result.stderr


def test_identifiers_are_pointed_out(augment: Augment) -> None:
    hint = "note: each row has another text in 'id': if that only names the row, say --drop 'id'.\n"
    arguments = ["table.csv", "--target", "state", "--no-quality", *QUICK]
    result = augment(*arguments)
    assert result.exit_code == 0, result.output
    assert hint in result.stderr
    assert hint not in augment(*arguments, "--drop", "id").stderr


def test_the_seed_decides_the_rows(augment: Augment) -> None:
    first, again, other = (
        augment("table.csv", "--rows", 20, "--drop", "id", "-q", "--seed", seed, *QUICK).stdout
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_drawn_mark_of_before_may_be_dropped(augment: Augment, folder: Path, table: pd.DataFrame) -> None:
    table.assign(is_drawn=False).to_csv(folder / "table.csv", index=False)
    arguments = ["--target", "state", "--drop", "id", "--drop", "is_drawn", "-q"]
    result = augment("table.csv", *arguments, *QUICK)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(io.StringIO(result.stdout))["is_drawn"].sum() == 36


# --- mistakes of the user -------------------------------------------------------------------------

TARGET = ["--target", "state"]
ALL_DROPPED = [part for name in ORIGINAL[:-1] for part in ("--drop", name)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say --target COLUMN to balance its classes, or --rows N to draw rows of the whole table."),
        (
            [*TARGET, "--class", "ill"],
            "--class goes with --target, which names its column, and with --rows.",
        ),
        (
            ["--rows", "5", "--class", "ill"],
            "--class goes with --target, which names its column, and with --rows.",
        ),
        (
            [*TARGET, "--rows", "5", "--class", "sick"],
            "--class must be one of 'ill', 'well', the values of 'state'; got 'sick'.",
        ),
        (
            [*TARGET, "--check", "--quiet"],
            "--check is for the table that --quiet and --no-quality leave out.",
        ),
        (
            [*TARGET, "--check", "--no-quality"],
            "--check is for the table that --quiet and --no-quality leave out.",
        ),
        (
            ["--target", "status", "--drop", "idd"],
            "--target and --drop must name columns of the table; it has no 'idd', 'status', "
            "only 'id', 'weight', 'visits', 'sex', 'smokes', 'state'.",
        ),
        ([*TARGET, "--drop", "state"], "--drop leaves out the target 'state'."),
        ([*TARGET, *ALL_DROPPED], "--target and --drop leave no column to fit."),
        ([*TARGET, "--out", "rows.txt"], "--out must end in .csv, .csv.gz, .parquet; got 'rows.txt'."),
        ([*TARGET, "--plot", "p.bmp"], "--plot must end in .png, .pdf, .svg; got 'p.bmp'."),
        (
            [*TARGET, "--out", "table.csv"],
            "'table.csv' is the table that is read; name another file to write.",
        ),
    ],
)
def test_wrong_usage(augment: Augment, arguments: list[str], message: str) -> None:
    result = augment("table.csv", *arguments)
    assert result.exit_code == 2
    assert sentence(result) == f"flowdetect: {message}"
    assert result.stdout == ""


def test_rows_are_at_least_one(augment: Augment) -> None:
    assert augment("table.csv", "--rows", 0).exit_code == 2


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "id",
            "the target 'id' must hold classes, of two rows each on average; it has 60 different "
            "values in 60 rows.",
        ),
        (
            "empty",
            "the target 'empty' must hold classes, of two rows each on average; it has 0 different "
            "values in 0 rows.",
        ),
        (
            "even",
            "there is nothing to balance: each class of 'even' has 30 rows. Say --rows N to draw rows.",
        ),
        (
            "same",
            "there is nothing to balance: each class of 'same' has 60 rows. Say --rows N to draw rows.",
        ),
    ],
)
def test_a_target_that_cannot_be_balanced(
    augment: Augment, folder: Path, table: pd.DataFrame, column: str, message: str
) -> None:
    wide = table.assign(empty=np.nan, even=np.arange(60) % 2, same="x")
    wide.to_csv(folder / "table.csv", index=False)
    result = augment("table.csv", "--target", column)
    assert result.exit_code == 3
    assert sentence(result) == f"flowdetect: {message}"


def test_a_table_that_has_been_balanced_already(augment: Augment, folder: Path, table: pd.DataFrame) -> None:
    table.assign(is_drawn=False).to_csv(folder / "table.csv", index=False)
    result = augment("table.csv", "--target", "state")
    assert result.exit_code == 3
    assert (
        sentence(result) == "flowdetect: the table already has a column 'is_drawn'; rename it, or --drop it."
    )


def test_a_missing_file(augment: Augment) -> None:
    result = augment("nothing.csv", "--rows", 5)
    assert result.exit_code == 3
    assert sentence(result) == "flowdetect: there is no file 'nothing.csv'."


# --- tables ---------------------------------------------------------------------------------------


def test_entries_take_the_text_of_the_file() -> None:
    values = pd.DataFrame({"a": [1.5, 2.0, None], "b": [1.0, None, None], "c": [True, False, True]})
    source = pd.DataFrame({"a": ["1.50", "2", "?"], "b": ["01", "NA", "NA"], "c": ["true", "False", "true"]})
    rows = pd.DataFrame({"a": [1.5, 2.25, None], "b": [7.0, 1.0, None], "c": [True, False, True]})
    found = like_source(Table(values, source), rows)
    assert found.values is rows
    assert found.source["a"].tolist() == ["1.50", "2.25", "?"]
    assert found.source["b"].tolist() == ["7", "01", "NA"]
    assert found.source["c"].tolist() == ["true", "False", "true"]


def test_a_table_whose_source_are_its_values_stays_one() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=["p", "q"])
    kept = keep_columns(Table(frame, frame), ["b"])
    assert kept.source is kept.values
    assert kept.values.index.tolist() == [0, 1]
    both = joined(kept, like_source(kept, pd.DataFrame({"b": ["z"]})))
    assert both.source is both.values
    assert both.values["b"].tolist() == ["x", "y", "z"]


# --- the command itself ---------------------------------------------------------------------------


def test_help_shows_examples_and_when_rows_are_held_out() -> None:
    result = CliRunner().invoke(app, ["augment", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert (
        "flowdetect augment patients.csv --target state --rows 200 --class ill > more_ill.csv"
        in result.stdout
    )
    assert "Learn from four fifths of the rows only" in result.stdout


def test_a_real_process(folder: Path) -> None:
    arguments = ["augment", "table.csv", "--target", "state", "--drop", "id", *QUICK]
    command = [sys.executable, "-m", "flowdetect.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(io.StringIO(done.stdout))) == 96
    assert "36 rows drawn" in done.stderr
    assert "Warning" not in done.stderr
