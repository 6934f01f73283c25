from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import flowdetect
from flowdetect.jobs import open_sources, score_batches
from flowdetect.jobs._errors import ModelError, SchemaError
from flowdetect.jobs._reasons import reasons
from flowdetect.jobs._rows import Rows
from flowdetect.jobs._scoring import ADDED, expected_rate
from flowdetect.persistence import Model, open_model


@pytest.fixture(scope="module")
def detector(models: Path) -> Model:
    return open_model(models / "detector.flow")


@pytest.fixture(scope="module")
def density(models: Path) -> Model:
    return open_model(models / "density.flow")


def scored(source: str, model: Model, n_rows: int = 1000, **options: object) -> pa.Table:
    (partition,) = open_sources([source])
    pieces = list(score_batches(partition.batches(n_rows), model, run_id="r1", **options))  # type: ignore[arg-type]
    assert sum(piece.n_read for piece in pieces) == sum(
        piece.batch.num_rows + len(piece.rejected) for piece in pieces
    )
    return pa.Table.from_batches([piece.batch for piece in pieces])


@pytest.mark.parametrize("source", ["all.parquet", "days/day2.csv"])
@pytest.mark.parametrize("n_rows", [1, 7, 1000])
def test_scores_are_those_of_the_estimator(folder: Path, detector: Model, source: str, n_rows: int) -> None:
    read = pd.read_parquet if source.endswith("parquet") else pd.read_csv
    X = read(source).drop(columns="visit")
    found = scored(source, detector, n_rows)
    estimator = detector.estimator
    np.testing.assert_allclose(found["score"], estimator.score_samples(X), rtol=1e-9)
    np.testing.assert_array_equal(found["p_value"], estimator.p_values(X))
    np.testing.assert_array_equal(found["is_anomaly"], estimator.predict(X) < 0)
    assert found["is_anomaly"].to_numpy().any()
    assert set(found["model_id"].to_pylist()) == {detector.model_id}
    assert set(found["run_id"].to_pylist()) == {"r1"}
    assert set(found["status"].to_pylist()) == {"scored"}


def test_scores_of_members_have_the_same_largest(folder: Path, detector: Model) -> None:
    plain = scored("all.parquet", detector)
    (partition,) = open_sources(["all.parquet"])
    (piece,) = score_batches(partition.batches(1000), detector, run_id="r1", members=True)
    assert piece.member_scores is not None
    assert piece.member_scores.shape == (120, 3)
    np.testing.assert_array_equal(piece.batch["score"], plain["score"])


def test_a_density_has_no_alarms(folder: Path, density: Model) -> None:
    found = scored("all.parquet", density)
    assert np.isfinite(found["score"].to_numpy()).all()
    assert {found[name].null_count for name in ("p_value", "is_anomaly", "reasons")} == {120}
    assert expected_rate(density.estimator) is None


def test_anomalies_have_reasons_and_others_none(folder: Path, detector: Model) -> None:
    found = scored("all.parquet", detector).to_pandas()
    assert found.loc[47, "is_anomaly"]
    assert found.loc[47, "reasons"].startswith("weight=400 -")
    assert found["reasons"].notna().tolist() == found["is_anomaly"].tolist()
    assert scored("all.parquet", detector, n_reasons=0)["reasons"].null_count == 120


def test_columns(folder: Path, detector: Model) -> None:
    names = ADDED.names
    assert scored("all.parquet", detector).column_names == ["visit", "weight", "height", "sex", *names]
    found = scored("all.parquet", detector, id_columns=["sex", "visit"])
    assert found.column_names == ["sex", "visit", *names]
    with pytest.raises(SchemaError, match="'all.parquet' has no column 'ward', which the id columns name"):
        scored("all.parquet", detector, id_columns=["ward"])
    pd.read_parquet("all.parquet").assign(score=1.0).to_parquet("again.parquet")
    with pytest.raises(SchemaError, match="'again.parquet' already has a column 'score'"):
        scored("again.parquet", detector)
    assert scored("again.parquet", detector, id_columns=["visit"]).column_names == ["visit", *names]


def test_rows_that_cannot_be_scored_are_set_aside_in_order(folder: Path, detector: Model) -> None:
    lines = ["visit,weight,height,sex", "a,70,170,F", "b,heavy,170,M", "c,70", "d,71,171,F", "e,inf,171,F"]
    (folder / "bad.csv").write_text("\n".join(lines) + "\n")
    (partition,) = open_sources(["bad.csv"])
    (piece,) = score_batches(partition.batches(100), detector, run_id="r1")
    assert piece.batch["visit"].to_pylist() == ["a", "d"]
    assert [(row.row, row.column, row.rule, row.value) for row in piece.rejected] == [
        (2, "weight", "number", "heavy"),
        (3, None, "fields", "c,70"),
        (5, "weight", "infinity", "inf"),
    ]
    assert (piece.n_read, piece.last_row) == (5, 5)


def test_a_score_that_is_not_finite_is_set_aside(
    folder: Path, density: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_missing(self: object, X: pd.DataFrame) -> np.ndarray:
        return np.where(np.arange(len(X)) == 3, np.nan, 1.0)

    monkeypatch.setattr(flowdetect.FlowDensity, "score_samples", one_missing)
    (partition,) = open_sources(["days/day1.csv"])
    (piece,) = score_batches(partition.batches(100), density, run_id="r1")
    assert piece.batch.num_rows == 39
    assert [(row.row, row.rule, row.value) for row in piece.rejected] == [(4, "score", "nan")]


def test_a_source_without_rows(folder: Path, detector: Model) -> None:
    (folder / "none.csv").write_text("visit,weight,height,sex\n")
    assert scored("none.csv", detector).num_rows == 0


def test_columns_that_are_absent(folder: Path, detector: Model) -> None:
    pd.read_parquet("all.parquet").rename(columns={"weight": "mass"}).to_parquet("renamed.parquet")
    with pytest.raises(SchemaError, match="'renamed.parquet' lacks column 'weight'"):
        scored("renamed.parquet", detector)


def test_models_that_do_not_score_rows(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))
    augmenter = flowdetect.FlowAugmenter(max_steps=5, random_state=0).fit(X, np.arange(60) % 2)
    conditional = flowdetect.FlowDensity(max_steps=5, random_state=0).fit(X, context=X)
    nothing = iter([Rows(pa.RecordBatch.from_pylist([]), np.zeros(0, np.int64))])
    for estimator, sentence in (
        (augmenter, "is a FlowAugmenter; a job scores"),
        (conditional, "with context"),
    ):
        flowdetect.save(estimator, tmp_path / "model.flow")
        with pytest.raises(ModelError, match=sentence):
            next(score_batches(nothing, open_model(tmp_path / "model.flow"), run_id="r1"))


def test_the_expected_rate_is_that_of_the_threshold(detector: Model) -> None:
    rate = expected_rate(detector.estimator)
    assert rate is not None
    assert 0.02 - 1 / 301 <= rate <= 0.02


def test_reasons_in_words(visits: Callable[..., pd.DataFrame]) -> None:
    rows = pd.DataFrame({"age": [71, 8], "sex": ["F", None], "TSH": [0.25, 530.0]})
    nats = pd.DataFrame({"age": [-0.4, 0.0], "sex": [0.1, -2.0], "TSH": [-0.2, -12.34]})
    assert reasons(rows, nats) == ["age=71 -0.4, TSH=0.25 -0.2", "TSH=530 -12.3, sex=missing -2.0"]
    assert reasons(rows, nats, 1) == ["age=71 -0.4", "TSH=530 -12.3"]


def test_labels_that_training_never_saw_are_named(folder: Path, detector: Model) -> None:
    table = pd.read_csv("days/day1.csv")
    table.loc[3, "sex"] = "X"
    table.loc[5, "sex"] = None
    table.to_csv("odd.csv", index=False)
    status = scored("odd.csv", detector, 7)["status"].to_pylist()
    assert [k for k, text in enumerate(status) if text == "unseen category"] == [3]
    assert set(status) == {"scored", "unseen category"}
