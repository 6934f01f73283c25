import json
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import flowdetect
from flowdetect import FlowAugmenter, FlowDensity, FlowOutlierDetector
from flowdetect.exceptions import ModelFileError
from flowdetect.persistence import open_model, read_manifest, verify
from flowdetect.persistence._specs import ESTIMATORS
from flowdetect.timeseries import SeriesAugmenter, SeriesOutlierDetector

FILES = sorted(golden.FOLDER.glob("*.flow"))


# --- files of every format --------------------------------------------------------------------------------


def test_every_class_has_a_golden_file() -> None:
    assert {path.stem.split("_")[1] for path in FILES} == ESTIMATORS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_files_load_for_ever(path: Path) -> None:
    name = path.stem.split("_")[1]
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(golden.answers(name, flowdetect.load(path)), expected, rtol=1e-6, atol=1e-6)


# --- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_loaded_model_answers_as_the_saved_one(models: dict[str, Any], name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    model_id = flowdetect.save(models[name], path)
    loaded = open_model(path)
    assert loaded.model_id == model_id == verify(path)
    assert type(loaded.estimator) is type(models[name])
    assert loaded.estimator.get_params() == models[name].get_params()
    np.testing.assert_array_equal(golden.answers(name, loaded.estimator), golden.answers(name, models[name]))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_saving_a_loaded_model_keeps_everything(models: dict[str, Any], name: str, tmp_path: Path) -> None:
    flowdetect.save(models[name], tmp_path / "one.flow")
    flowdetect.save(flowdetect.load(tmp_path / "one.flow"), tmp_path / "two.flow")
    one, two = (read_manifest(tmp_path / f"{number}.flow") for number in ("one", "two"))
    assert {**one, "created": "", "card": ""} == {**two, "created": "", "card": ""}


def test_public_attributes_come_back(models: dict[str, Any], tmp_path: Path) -> None:
    for name, model in models.items():
        flowdetect.save(model, tmp_path / "model.flow")
        loaded = flowdetect.load(tmp_path / "model.flow")
        public = {key for key in vars(model) if key.endswith("_")}
        assert public == {key for key in vars(loaded) if key.endswith("_")}, name
        assert vars(model).keys() == vars(loaded).keys(), name


def test_methods_besides_scores_work(models: dict[str, Any], tmp_path: Path) -> None:
    flowdetect.save(models["FlowOutlierDetector"], tmp_path / "model.flow")
    loaded, saved = flowdetect.load(tmp_path / "model.flow"), models["FlowOutlierDetector"]
    rows = golden.table(5)
    pd.testing.assert_frame_equal(loaded.explain(rows), saved.explain(rows))
    flowdetect.save(models["SeriesOutlierDetector"], tmp_path / "series.flow")
    watcher = flowdetect.load(tmp_path / "series.flow")
    series = golden.series()
    pd.testing.assert_frame_equal(watcher.events(series), models["SeriesOutlierDetector"].events(series))
    assert len(watcher.score_next(series.groupby("pump").head(30), restart=True)) == 60


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
@pytest.mark.parametrize("n_models", [1, 2])
def test_kinds_of_detectors(kind: str, n_models: int, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.r_[-np.ones(6), np.zeros(54)]
    detector = FlowOutlierDetector(kind=kind, n_models=n_models, max_steps=3, random_state=0)
    detector.fit(X, labels=labels, sample_weight=np.arange(60) % 3)
    flowdetect.save(detector, tmp_path / "model.flow")
    np.testing.assert_array_equal(
        flowdetect.load(tmp_path / "model.flow").score_samples(X), detector.score_samples(X)
    )


@pytest.mark.parametrize(
    "columns",
    [
        pd.DataFrame({"d": [pd.Timestamp("2024-01-01").date(), None] * 20, "x": [np.inf, 1.0] * 20}).assign(
            x=1.0
        ),
        pd.DataFrame({0: pd.Series([True, None] * 20, dtype="boolean"), 1: range(40)}),
        pd.DataFrame({"ü": pd.to_timedelta(range(40), unit="min"), "empty": [np.nan] * 40}),
        pd.DataFrame(
            {"period": pd.period_range("2020-01", periods=40, freq="M").astype(str), "n": range(40)}
        ),
        np.arange(80.0).reshape(40, 2).astype(np.float32),
    ],
    ids=["dates", "nullable", "times", "text", "float32"],
)
def test_tables_of_many_kinds(columns: Any, tmp_path: Path) -> None:
    density = FlowDensity(max_steps=2, random_state=0).fit(columns)
    flowdetect.save(density, tmp_path / "model.flow")
    loaded = flowdetect.load(tmp_path / "model.flow")
    np.testing.assert_array_equal(loaded.score_samples(columns), density.score_samples(columns))
    drawn, again = density.sample(3, random_state=0), loaded.sample(3, random_state=0)
    assert type(drawn) is type(again)
    pd.testing.assert_frame_equal(pd.DataFrame(drawn), pd.DataFrame(again))


@pytest.mark.parametrize(
    "classes", [np.array([3, 5]), np.array([True, False]), np.array(["a", "b"], dtype=object)]
)
def test_classes_of_many_kinds(classes: np.ndarray, tmp_path: Path) -> None:
    y = classes[np.arange(40) % 2]
    augmenter = FlowAugmenter(max_steps=2, random_state=0).fit(
        np.random.default_rng(0).normal(size=(40, 2)), y
    )
    flowdetect.save(augmenter, tmp_path / "model.flow")
    loaded = flowdetect.load(tmp_path / "model.flow")
    assert loaded.classes_.dtype == augmenter.classes_.dtype
    assert loaded.classes_.tolist() == augmenter.classes_.tolist()


def test_collections_and_contexts(tmp_path: Path) -> None:
    series = np.random.default_rng(0).normal(size=(12, 10))
    augmenter = SeriesAugmenter(max_steps=2, random_state=0).fit(series, np.arange(12) % 2)
    flowdetect.save(augmenter, tmp_path / "model.flow")
    drawn = flowdetect.load(tmp_path / "model.flow").sample(3, y=1, random_state=0)
    np.testing.assert_array_equal(drawn, augmenter.sample(3, y=1, random_state=0))
    values, holiday = np.sin(np.arange(80.0)), pd.DataFrame({"holiday": np.arange(80) % 7 == 0})
    detector = SeriesOutlierDetector(window=5, max_steps=2, random_state=0).fit(values, context=holiday)
    flowdetect.save(detector, tmp_path / "series.flow")
    np.testing.assert_array_equal(
        flowdetect.load(tmp_path / "series.flow").score_samples(values, context=holiday),
        detector.score_samples(values, context=holiday),
    )
    told = SeriesAugmenter(max_steps=2, random_state=0).fit(values, context=holiday)
    flowdetect.save(told, tmp_path / "told.flow")
    ahead = holiday.head(4)
    pd.testing.assert_frame_equal(
        flowdetect.load(tmp_path / "told.flow").forecast(steps=4, n_paths=2, context=ahead, random_state=0),
        told.forecast(steps=4, n_paths=2, context=ahead, random_state=0),
    )


def test_pickle_keeps_working(models: dict[str, Any]) -> None:
    for name, model in models.items():
        copy = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(golden.answers(name, copy), golden.answers(name, model))


# --- what the file is -------------------------------------------------------------------------------------


def test_the_file_is_a_plain_archive_of_two_members(models: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    flowdetect.save(models["FlowDensity"], path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "arrays.safetensors"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest == read_manifest(path)


def test_the_manifest_says_what_a_person_wants_to_know(models: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    flowdetect.save(models["FlowOutlierDetector"], path, metadata={"owner": "fraud team", "ticket": 7})
    manifest = read_manifest(path)
    assert manifest["metadata"] == {"owner": "fraud team", "ticket": 7}
    assert manifest["libraries"].keys() >= {"python", "flowdetect", "torch", "scikit-learn"}
    assert manifest["summary"]["training_rows"] == 60
    card = manifest["card"]
    for fact in ("FlowOutlierDetector", "number: continuous, float64", "max_steps=4", "owner: fraud team"):
        assert fact in card


def test_saving_replaces_in_one_step_and_leaves_nothing(models: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    path.write_bytes(b"old")
    path.chmod(0o640)
    flowdetect.save(models["SlidingWindow"], path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.flow"]
    link = tmp_path / "link.flow"
    link.symlink_to(path)
    flowdetect.save(models["SlidingWindow"], link)
    assert link.is_symlink()
    assert verify(link) == verify(path)


def test_a_failed_save_leaves_the_old_file(models: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "model.flow"
    flowdetect.save(models["SlidingWindow"], path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        flowdetect.save(models["FlowDensity"], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.flow"]


# --- refusals ---------------------------------------------------------------------------------------------


class Sub(FlowDensity):
    pass


def test_refuses_what_a_file_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ModelFileError, match="can hold FlowDensity, .* got Sub"):
        flowdetect.save(Sub(max_steps=1).fit(X), path)
    with pytest.raises(NotFittedError):
        flowdetect.save(FlowDensity(), path)
    with pytest.raises(ModelFileError, match="constraints is .* a model file cannot hold"):
        flowdetect.save(FlowAugmenter(max_steps=1, constraints=[lambda rows: rows]).fit(X), path)
    with pytest.raises(ModelFileError, match="JSON"):
        flowdetect.save(FlowDensity(max_steps=1).fit(X), path, metadata={"when": object()})
    assert not list(tmp_path.iterdir())


def test_a_generator_is_saved_as_none(tmp_path: Path) -> None:
    density = FlowDensity(max_steps=1, random_state=np.random.default_rng(0))
    flowdetect.save(density.fit(np.arange(20.0).reshape(10, 2)), tmp_path / "model.flow")
    assert flowdetect.load(tmp_path / "model.flow").random_state is None


def test_verify_compares_with_a_known_id(models: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    model_id = flowdetect.save(models["SlidingWindow"], path)
    assert verify(path, sha256=model_id.upper()) == model_id
    with pytest.raises(ModelFileError, match=f"has the id {model_id}, not 00"):
        verify(path, sha256="00" * 32)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        flowdetect.load(tmp_path / "none.flow")
    with pytest.raises(IsADirectoryError):
        flowdetect.load(tmp_path)


def test_a_card_holds_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    X = pd.DataFrame({"red\x1b[31m": np.arange(30.0), "two\nlines": np.arange(30.0) ** 2})
    path = tmp_path / "model.flow"
    flowdetect.save(FlowDensity(max_steps=2, random_state=0).fit(X), path, metadata={"bell": "\x07"})
    card = read_manifest(path)["card"]
    assert "red\\x1b[31m: " in card
    assert "two\\nlines: " in card
    assert "bell: \\x07" in card
