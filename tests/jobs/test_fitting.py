from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flowdetect
from flowdetect.jobs import FitSettings, run_fit
from flowdetect.jobs._errors import InputError, StorageError, UsageError
from flowdetect.persistence import open_model, read_manifest


def test_a_fit_is_that_of_the_estimator(models: Path) -> None:
    model = open_model(models / "detector.flow")
    X = pd.read_csv(models / "train.csv").drop(columns="visit")
    detector = flowdetect.FlowOutlierDetector(
        false_alarm_rate=0.02, max_steps=15, hidden_features=16, random_state=0
    ).fit(X)
    np.testing.assert_array_equal(model.estimator.score_samples(X), detector.score_samples(X))
    assert model.estimator.offset_ == detector.offset_


def test_a_model_says_what_it_was_fitted_on(models: Path) -> None:
    metadata = read_manifest(models / "detector.flow")["metadata"]
    assert metadata["owner"] == "ward 3"
    (source,) = metadata["trained_on"]
    assert source["name"].endswith("train.csv")
    assert len(source["sha256"]) == 64
    assert metadata["drift_reference"]["n_rows"] == 300


def test_fit_reads_what_score_reads(folder: Path, models: Path) -> None:
    train = pd.read_csv(models / "train.csv")
    train.to_csv("train.csv.gz", index=False)
    train[:200].to_parquet("part1.parquet")
    train[200:].to_parquet("part2.parquet")
    expected = flowdetect.load(models / "density.flow").score_samples(train.drop(columns="visit"))
    for number, sources in enumerate([("train.csv.gz",), ("part*.parquet",)]):
        settings = FitSettings(
            sources=sources,
            out=f"m{number}.flow",
            estimator="density",
            drop=("visit",),
            max_steps=15,
            parameters={"hidden_features": 16},
        )
        assert run_fit(settings).n_rows == 300
        found = flowdetect.load(f"m{number}.flow").score_samples(train.drop(columns="visit"))
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("kept", [False, True])
def test_columns_of_folders_are_learnt_where_that_is_asked_for(
    folder: Path, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for day in (1, 2):
        (folder / f"parts/date=2026-11-0{day}").mkdir(parents=True)
        pd.read_csv(f"days/day{day}.csv").to_parquet(f"parts/date=2026-11-0{day}/a.parquet")
    given = {"out": "m.flow", "max_steps": 2, "sources": ("parts",), "folder_columns": kept}
    with caplog.at_level("INFO", logger="flowdetect.jobs"):
        run_fit(FitSettings(**given, drop=("visit",)))  # type: ignore[arg-type]
    assert flowdetect.load("m.flow").encoder_.schema_.names == ["weight", "height", "sex"] + ["date"] * kept
    assert ("left out, as only the names of folders hold them" in caplog.messages) is not kept
    run_fit(FitSettings(**given, drop=("visit", "date")))  # type: ignore[arg-type]
    assert flowdetect.load("m.flow").encoder_.schema_.names == ["weight", "height", "sex"]


# --- rows that cannot be used ---------------------------------------------------------------------


Make = Callable[..., FitSettings]


@pytest.fixture
def quick(folder: Path) -> Make:
    """Settings of a fit to bad.csv: 40 rows with a text among the weights, and two with other fields."""
    lines = (folder / "days" / "day1.csv").read_text().splitlines()
    lines[5] = "v,n.v.,170.0,F"
    (folder / "text.csv").write_text("\n".join(lines) + "\n")
    (folder / "short.csv").write_text("\n".join([*lines[:5], "v,70.0,170.0"]) + "\n")
    (folder / "bad.csv").write_text("\n".join([*lines, "v,70.0,170.0", "v,70.0,170.0,F,x"]) + "\n")

    def make(**changes: object) -> FitSettings:
        given = {"sources": ("bad.csv",), "out": "m.flow", "drop": ("visit",), "max_steps": 2, **changes}
        return FitSettings(**given)  # type: ignore[arg-type]

    return make


def kind_of_weight() -> str:
    columns = flowdetect.load("m.flow").encoder_.schema_.columns
    return str({column.name: column.kind for column in columns}["weight"])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "text.csv",
            "row 5 of 'text.csv' has 'n.v.' in column 'weight', where nearly all .* --na-value 'n.v",
        ),
        ("short.csv", r"row 5 of 'short.csv' breaks the rule 'fields' \('v,70.0,170.0'\): .* --quarantine"),
    ],
)
def test_a_row_that_cannot_be_used_stops_a_fit(quick: Make, folder: Path, source: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run_fit(quick(sources=(source,)))
    assert not (folder / "m.flow").exists()


def test_rows_that_cannot_be_used_are_set_aside(quick: Make, folder: Path) -> None:
    report = run_fit(quick(quarantine="q.csv", max_bad_rows="3"))
    assert (report.n_rows, report.n_quarantined) == (39, 3)
    aside = pd.read_csv("q.csv")
    assert aside["row"].tolist() == [5, 41, 42]
    assert aside["rule"].tolist() == ["number", "fields", "fields"]
    assert aside["value"].tolist()[0] == "n.v."
    assert kind_of_weight() == "continuous"
    before = (folder / "m.flow").read_bytes()
    for most in ("2", "6.9%"):
        with pytest.raises(InputError, match="cannot be used"):
            run_fit(quick(quarantine="q.csv", max_bad_rows=most))
    assert (folder / "m.flow").read_bytes() == before


def test_a_text_among_numbers_may_be_missing_or_a_label(quick: Make) -> None:
    run_fit(quick(sources=("text.csv",), na_values=("n.v.",)))
    assert kind_of_weight() == "continuous"
    run_fit(quick(sources=("text.csv",), text_columns=("weight",)))
    assert kind_of_weight() == "categories"


def test_many_texts_are_labels(quick: Make) -> None:
    table = pd.read_csv("days/day1.csv").astype({"weight": str})
    table.loc[:4, "weight"] = "heavy"
    table.to_csv("mixed.csv", index=False)
    run_fit(quick(sources=("mixed.csv",)))
    assert kind_of_weight() == "categories"


def test_a_fit_says_what_each_column_became(quick: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="flowdetect.jobs"):
        run_fit(quick(sources=("all.parquet",)))
    (said,) = [vars(record)["values"] for record in caplog.records if record.getMessage() == "columns"]
    assert said == {"continuous": ["weight", "height"], "categories": ["sex"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_columns": ("ward",)}, "'bad.csv' has no column 'ward' to be read as text"),
        ({"sources": ("all.parquet",), "text_columns": ("sex",)}, "column 'sex' has a type already"),
        ({"max_bad_rows": "3"}, "a limit for bad rows needs a quarantine"),
        ({"quarantine": "aside/"}, "the quarantine of a fit must be a file"),
        ({"quarantine": "bad.csv"}, "'bad.csv' is read by this job"),
    ],
)
def test_settings_of_bad_rows_that_do_not_fit(quick: Make, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        run_fit(quick(**changes))


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"sources": ("none.csv",)}, InputError, "there is no file 'none.csv'"),
        ({"drop": ("ward",)}, UsageError, "the table has no column 'ward' to drop"),
        ({"drop": ("visit", "weight", "height", "sex")}, UsageError, "no column is left to fit"),
        ({"out": "none/m.flow"}, StorageError, "there is no folder '.*none' to write 'm.flow' in"),
        ({"out": "-"}, UsageError, "a model is not written to standard output"),
        ({"out": "days"}, UsageError, "'days' is a folder"),
        ({"out": "all.parquet"}, UsageError, "'all.parquet' is read by this job"),
        ({"parameters": {"layers": 3}}, UsageError, "has no such parameters: Invalid parameter 'layers'"),
        ({"sources": ("one.csv",), "drop": ()}, InputError, "1 sample.* a minimum of 2"),
    ],
)
def test_fits_that_cannot_be_done(
    folder: Path, changes: dict[str, object], kind: type[Exception], sentence: str
) -> None:
    (folder / "one.csv").write_text("a,b\n1,2\n")
    given: dict[str, object] = {
        "sources": ("all.parquet",),
        "out": "m.flow",
        "drop": ("visit",),
        "max_steps": 2,
    }
    with pytest.raises(kind, match=sentence):
        run_fit(FitSettings(**{**given, **changes}))  # type: ignore[arg-type]
    assert not (folder / "m.flow").exists()
