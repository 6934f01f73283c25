import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowdetect.jobs import ScoreSettings, plan_score, run_score
from flowdetect.jobs._manifest import finished_outputs

Make = Callable[..., ScoreSettings]


def test_the_manifest_names_what_is_there(folder: Path, settings: Make) -> None:
    report = run_score(settings(sources=("days",), out="out/", quarantine="q.csv"))
    manifest = json.loads((folder / "out" / "_run.json").read_text())
    assert manifest["run_id"] == report.run_id
    assert manifest["model"]["model_id"] == report.model_id
    assert [entry["output"] for entry in manifest["outputs"]] == ["day1", "day2", "day3"]
    for entry in [*manifest["outputs"], manifest["quarantine"]]:
        content = (folder / entry["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])
    (part,) = manifest["outputs"][0]["partitions"]
    source = (folder / "days" / "day1.csv").read_bytes()
    assert part["sha256"] == hashlib.sha256(source).hexdigest()
    assert (part["n_read"], part["n_scored"], part["n_quarantined"]) == (40, 40, 0)
    assert manifest["settings"]["sources"] == [f"days/day{day}.csv" for day in (1, 2, 3)]
    assert not (folder / "out" / "_run.json.unfinished").exists()


def test_secrets_are_not_in_the_manifest(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_DB", f"sqlite:///{folder}/scores.db?password=xyzzy")
    plan = plan_score(settings(out="env:SCORES_DB#scores", manifest="run.json", run_key="today"))
    assert "xyzzy" not in json.dumps(plan.describe())
    assert "scores.db" in plan.describe()["settings"]["out"]


def test_a_manifest_that_cannot_be_written_is_reported(folder: Path, settings: Make) -> None:
    from flowdetect.jobs._errors import StorageError

    (folder / "m.json").mkdir()
    with pytest.raises(StorageError, match="'m.json' cannot be written: Is a directory"):
        run_score(settings(manifest="m.json"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest.update(run_id="other"),
        lambda manifest: manifest.update(format_version=2),
        lambda manifest: manifest.update(outputs=3),
        lambda manifest: manifest["outputs"][0].update(sha256="0" * 64),
        lambda manifest: manifest["outputs"][0].update(path="out/day2.parquet"),
        lambda manifest: manifest["outputs"][0].pop("partitions"),
        lambda manifest: manifest["outputs"][0].pop("size"),
    ],
)
def test_an_entry_that_does_not_verify_is_not_finished(
    folder: Path, settings: Make, damage: Callable[[dict], None]
) -> None:
    given = settings(sources=("days",), out="out/")
    run_score(given)
    path = folder / "out" / "_run.json"
    assert list(finished_outputs(plan_score(given))) == ["day1", "day2", "day3"]
    manifest = json.loads(path.read_text())
    damage(manifest)
    path.write_text(json.dumps(manifest))
    assert "day1" not in finished_outputs(plan_score(given))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", "[" * 100_000, '{"format": []}', "\xff"])
def test_a_manifest_that_is_none(folder: Path, settings: Make, content: str) -> None:
    given = settings(sources=("days",), out="out/")
    run_score(given)
    (folder / "out" / "_run.json").write_text(content, encoding="latin-1")
    assert finished_outputs(plan_score(given)) == {}
