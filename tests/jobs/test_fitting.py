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


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"sources": ("none.csv",)}, InputError, "there is no file 'none.csv'"),
        ({"drop": ("ward",)}, UsageError, "the table has no column 'ward' to drop"),
        ({"drop": ("visit", "weight", "height", "sex")}, UsageError, "no column is left to fit"),
        ({"out": "none/m.flow"}, StorageError, "there is no folder '.*none' to write 'm.flow' in"),
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
