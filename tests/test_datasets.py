import hashlib
import re
from pathlib import Path

import pandas as pd
import pytest


def described_files(readme: str) -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^\| `([\w.]+)` \| (\d+) \| (\d+) \|", readme, flags=re.MULTILINE)
    return {name: (int(n_rows), int(n_columns)) for name, n_rows, n_columns in rows}


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / "datasets"


def test_checksums_in_the_readme_match_the_files(folder: Path) -> None:
    written = re.findall(r"^([0-9a-f]{64})  (\S+)$", (folder / "README.md").read_text(), flags=re.MULTILINE)
    found = {(hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in folder.glob("*.gz")}
    assert found == set(written)


def test_rows_and_columns_in_the_readme_match_the_files(folder: Path) -> None:
    described = described_files((folder / "README.md").read_text())
    assert described == {path.name: pd.read_csv(path).shape for path in folder.glob("*.gz")}


def test_every_column_has_a_meaning_in_the_readme(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    for name in described_files(readme):
        section = readme.split(f"## {name}")[1].split("\n## ")[0]
        columns = pd.read_csv(folder / name, nrows=1).columns
        if name == "shuttle.csv.gz":  # f1 to f9 are described together
            columns = columns.drop([f"f{i}" for i in range(1, 10)])
        assert not [column for column in columns if f"`{column}`" not in section]


def test_rare_rows_in_the_readme_match_the_labels(folder: Path) -> None:
    hypothyroid = pd.read_csv(folder / "hypothyroid.csv.gz")
    shuttle = pd.read_csv(folder / "shuttle.csv.gz")
    readme = (folder / "README.md").read_text()
    assert f"{(hypothyroid['class'] == 'hypothyroid').sum()} (4.8 %)" in readme
    assert f"{shuttle['anomaly'].sum()} (7.2 %)" in readme


def test_question_marks_are_the_missing_values_of_hypothyroid(folder: Path) -> None:
    table = pd.read_csv(folder / "hypothyroid.csv.gz", na_values="?")
    for name in ["TSH", "T3", "TT4", "T4U", "FTI", "TBG"]:
        assert table[name].dtype == float
        assert (table[name].notna() == (table[f"{name}_measured"] == "y")).all()
