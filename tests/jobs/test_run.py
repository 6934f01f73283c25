import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import flowdetect
from flowdetect.jobs import ScoreSettings, plan_score, run_score
from flowdetect.jobs._errors import InputError, ModelError, SchemaError, StorageError, UsageError

Make = Callable[..., ScoreSettings]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder but locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["out.parquet", "out.csv", "out.csv.gz", "out.arrow"])
def test_a_second_run_of_the_same_rows_changes_nothing(folder: Path, settings: Make, out: str) -> None:
    first = run_score(settings(out=out, quarantine="q.csv", drift=True))
    before = contents(folder)
    assert {out, "q.csv", f"{out}.run.json"} <= before.keys()
    second = run_score(settings(out=out, quarantine="q.csv", drift=True))
    assert contents(folder) == before
    assert first.run_id == second.run_id
    assert (first.n_read, first.n_scored, first.n_quarantined) == (120, 120, 0)


def test_neither_batches_nor_threads_change_the_bytes(folder: Path, settings: Make) -> None:
    n_threads = torch.get_num_threads()
    for name, changes in {"a": {}, "b": {"batch_rows": 1000, "threads": 2}}.items():
        run_score(settings(out=f"{name}.csv", manifest=f"{name}.json", **changes))
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    assert torch.get_num_threads() == n_threads
    run_score(settings(out="c.csv", batch_rows=7))
    texts, whole = pd.read_csv("c.csv"), pd.read_csv("a.csv")
    np.testing.assert_allclose(texts.pop("score"), whole.pop("score"), rtol=1e-9)
    pd.testing.assert_frame_equal(texts.drop(columns="p_value"), whole.drop(columns="p_value"))


def test_several_files_into_one_keep_their_order(folder: Path, settings: Make) -> None:
    run_score(settings(sources=("days/*.csv",), out="one.csv", id_columns=("visit",)))
    visits = pd.concat([pd.read_csv(f"days/day{day}.csv") for day in (1, 2, 3)])
    assert pd.read_csv("one.csv")["visit"].tolist() == visits["visit"].tolist()


def test_a_folder_has_a_file_for_each_source(folder: Path, settings: Make) -> None:
    report = run_score(settings(sources=("days",), out="scored/", out_format="csv"))
    assert sorted(contents(folder / "scored")) == ["_run.json", "day1.csv", "day2.csv", "day3.csv"]
    assert [len(pd.read_csv(f"scored/day{day}.csv")) for day in (1, 2, 3)] == [40, 40, 40]
    assert report.n_scored == 120
    assert report.n_anomalies is not None
    assert report.n_anomalies >= 1


def test_a_model_without_threshold(folder: Path, settings: Make, models: Path) -> None:
    report = run_score(settings(model=str(models / "density.flow"), metrics="m.prom"))
    assert (report.n_anomalies, report.expected_false_alarms) == (None, None)
    assert pd.read_parquet("out.parquet")["p_value"].isna().all()


def test_the_run_is_named_after_what_decides_the_values(folder: Path, settings: Make, models: Path) -> None:
    plain = plan_score(settings())
    same = [{"out": "other.csv"}, {"batch_rows": 10, "threads": 1}, {"quarantine": "q.csv"}]
    other = [{"reasons": 1}, {"id_columns": ("sex",)}, {"model": str(models / "density.flow")}]
    other += [{"run_key": "monday"}, {"sources": ("days",)}]
    assert {plan_score(settings(**changes)).run_id for changes in same} == {plain.run_id}
    names = [plan_score(settings(**changes)).run_id for changes in other]
    assert len({*names, plain.run_id}) == len(other) + 1
    pd.read_parquet("all.parquet")[::-1].to_parquet("all.parquet")
    assert plan_score(settings()).run_id != plain.run_id
    assert list(contents(folder)) == ["all.parquet", *(f"days/day{day}.csv" for day in (1, 2, 3))]


def test_a_reader_sees_the_old_rows_or_the_new_ones(folder: Path, settings: Make) -> None:
    known = []
    for day in (1, 2):
        run_score(settings(sources=(f"days/day{day}.csv",), out="out.csv"))
        known.append((folder / "out.csv").read_bytes())
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add((folder / "out.csv").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for day in (1, 2, 1, 2):
        run_score(settings(sources=(f"days/day{day}.csv",), out="out.csv", batch_rows=5))
    done.set()
    reader.join()
    # Batches of five rows may differ in the last digit of a score.
    assert {len(text.splitlines()) for text in seen} == {41}
    assert {text.split(b",", 1)[0] for text in seen} == {b"visit"}
    assert (folder / "out.csv").read_bytes().count(b"\n") == known[0].count(b"\n")


@pytest.mark.parametrize("out", ["typed.parquet", "typed.arrow", "typed/", "sqlite:///typed.db#t"])
def test_what_csv_gives_has_the_types_of_the_model(
    folder: Path, settings: Make, models: Path, out: str
) -> None:
    table = pd.read_csv("days/day1.csv", dtype=str)
    table["note"] = ["007", "NA", *["x"] * 38]
    table.loc[2, "sex"] = None
    table.to_csv("notes.csv", index=False)
    first = run_score(settings(sources=("notes.csv",), out=out))
    again = {"typed/": "typed/notes.parquet"}.get(out, out)
    changes = {"id_columns": ("visit", "weight", "note", "sex"), "run_key": "a", "out": "again.parquet"}
    second = run_score(settings(sources=(again,), quarantine="q.csv", **changes))
    assert (second.n_scored, second.n_quarantined) == (first.n_scored, 0) == (40, 0)
    found = pd.read_parquet("again.parquet")
    assert found["weight"].dtype == np.float64
    np.testing.assert_array_equal(found["weight"], table["weight"].astype(float))
    assert found["note"].tolist()[0] == "007"
    assert found["note"].isna().tolist()[:3] == [False, True, False]
    assert found["sex"].isna().sum() == 1


def test_csv_to_csv_stays_as_it_stands(folder: Path, settings: Make) -> None:
    lines = (folder / "days" / "day1.csv").read_text().splitlines()
    lines[1] = "NA,070.50,170,F"
    (folder / "plain.csv").write_text("\n".join(lines) + "\n")
    run_score(settings(sources=("plain.csv",), out="plain_out.csv"))
    assert (folder / "plain_out.csv").read_text().splitlines()[1].startswith("NA,070.50,170,F,")


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("*.parquet", {}),
        ("a*.parquet", {"out": "again.parquet"}),
        ("**/*.csv", {"out": "made/one.csv"}),
        ("days/*.csv", {"out": "one.parquet", "quarantine": "days/refused.csv"}),
        ("days/*", {"out": "one.parquet", "manifest": "days/run.json"}),
        ("**/*.csv", {"out": "made/", "out_format": "csv"}),
    ],
)
def test_a_glob_that_would_catch_what_is_written_is_refused(
    folder: Path, settings: Make, source: str, changes: dict[str, object]
) -> None:
    (folder / "made").mkdir()
    before = contents(folder)
    with pytest.raises(UsageError, match=r"lies in the source '.*', and is read next time"):
        run_score(settings(sources=(source,), **changes))
    assert contents(folder) == before


def test_a_glob_beside_what_is_written_is_none(folder: Path, settings: Make) -> None:
    for out in ("one.csv", "days/.hidden.csv", "days/below/one.csv"):
        (folder / out).parent.mkdir(exist_ok=True)
        assert plan_score(settings(sources=("days/*.csv",), out=out))


# --- rows that cannot be scored -------------------------------------------------------------------


@pytest.fixture
def bad(folder: Path) -> Path:
    """day2.csv with three bad rows of 43."""
    with open(folder / "days" / "day2.csv", "a") as file:
        file.write("x1,heavy,170,F\nx2,70\nx3,70,inf,F\n")
    return folder


def test_without_a_quarantine_the_first_bad_row_stops_the_job(bad: Path, settings: Make) -> None:
    sentence = (
        "row 41 of 'days/day2.csv' breaks the rule 'number' in column 'weight' .'heavy'.: name a quarantine"
    )
    with pytest.raises(InputError, match=sentence):
        run_score(settings(sources=("days",), out="out.csv"))
    assert not [path.name for path in bad.iterdir() if path.name.startswith("out")]


def test_rows_in_are_rows_scored_and_rows_set_aside(bad: Path, settings: Make) -> None:
    report = run_score(
        settings(sources=("days",), out="out.csv", quarantine="q.csv", fail_on=("quarantine",))
    )
    assert (report.n_read, report.n_scored, report.n_quarantined) == (123, 120, 3)
    assert report.reasons_to_fail(("quarantine", "drift")) == ["quarantine"]
    aside = pd.read_csv("q.csv", keep_default_na=False)
    assert aside.to_numpy().tolist() == [
        ["days/day2.csv", 41, "weight", "number", "heavy"],
        ["days/day2.csv", 42, "", "fields", "x2,70"],
        ["days/day2.csv", 43, "height", "infinity", "inf"],
    ]
    assert len(pd.read_csv("out.csv")) == 120


@pytest.mark.parametrize(("out", "quarantine"), [("out/", "q/"), ("out/", "q.csv")])
def test_a_quarantine_of_a_folder(bad: Path, settings: Make, out: str, quarantine: str) -> None:
    run_score(settings(sources=("days",), out=out, quarantine=quarantine))
    if quarantine == "q/":
        assert sorted(contents(bad / "q")) == ["day1.parquet", "day2.parquet", "day3.parquet"]
        assert len(pd.read_parquet("q/day2.parquet")) == 3
    else:
        assert len(pd.read_csv("q.csv")) == 3


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("2", "more than 2 rows cannot be used; one of them: row 41 of 'days/day2.csv'"),
        ("6.9%", "3 of the 43 rows of 'days/day2.csv' cannot be used, more than 6.9 %"),
        ("3", None),
        ("7%", None),
    ],
)
def test_too_many_bad_rows_stop_the_job(bad: Path, settings: Make, limit: str, sentence: str | None) -> None:
    given = settings(sources=("days",), out="out.csv", quarantine="q.csv", max_bad_rows=limit)
    with contextlib.nullcontext() if sentence is None else pytest.raises(InputError, match=sentence):
        run_score(given)
    assert (bad / "out.csv").exists() == (bad / "q.csv").exists() == (sentence is None)


# --- going on after an interruption ---------------------------------------------------------------


def interrupt(settings: ScoreSettings, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run a job that is lost after so many files."""
    from flowdetect.jobs import _run

    real, calls = _run.score_batches, []

    def score_batches(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) > after:
            raise InputError("the power went.")
        return real(*args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(_run, "score_batches", score_batches)
        with pytest.raises(InputError, match="the power went"):
            run_score(settings)


def test_resume_leaves_finished_files_alone(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(sources=("days",), out="out/", drift=True)
    whole = run_score(given)
    expected = contents(folder / "out")
    for path in (folder / "out").iterdir():
        path.unlink()
    interrupt(given, monkeypatch, after=2)
    assert sorted(contents(folder / "out")) == ["_run.json.unfinished", "day1.parquet", "day2.parquet"]
    (folder / "out" / "day2.parquet").write_bytes(b"changed by someone")
    resumed = run_score(settings(sources=("days",), out="out/", drift=True, resume=True))
    assert resumed.skipped == ["day1"]
    assert contents(folder / "out") == expected
    assert resumed.drift == whole.drift
    assert run_score(settings(sources=("days",), out="out/", drift=True, resume=True)).skipped == [
        "day1",
        "day2",
        "day3",
    ]
    assert contents(folder / "out") == expected


def test_resume_of_other_inputs_starts_again(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(settings(sources=("days",), out="out/"), monkeypatch, after=2)
    with open(folder / "days" / "day3.csv", "a") as file:
        file.write("v9,70,170,F\n")
    assert run_score(settings(sources=("days",), out="out/", resume=True)).skipped == []


def test_resume_loses_no_quarantined_row(bad: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for quarantine, skipped in (("q.csv", ["day1"]), ("q/", ["day1", "day2"])):
        given = {"sources": ("days",), "out": f"out-{quarantine[:2]}/", "quarantine": quarantine}
        interrupt(settings(**given), monkeypatch, after=2)
        report = run_score(settings(**given, resume=True))
        assert (report.skipped, report.n_quarantined) == (skipped, 3)
    assert len(pd.read_csv("q.csv")) == 3


@pytest.mark.parametrize("prune", [False, True])
def test_files_of_sources_that_are_gone(
    folder: Path, settings: Make, prune: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"sources": ("days/*.csv",), "out": "scored/", "quarantine": "refused/"}
    run_score(settings(**given))
    for day in (2, 3):
        (folder / f"days/day{day}.csv").rename(folder / f"gone{day}.csv")
    (folder / "scored/day3.parquet").write_bytes(b"of somebody else")
    (folder / "scored/mine.txt").write_text("mine")
    with caplog.at_level("INFO", logger="flowdetect.jobs"):
        run_score(settings(**given, prune=prune))
    left = {"scored/day1.parquet", "scored/day3.parquet", "scored/mine.txt", "scored/_run.json"}
    left |= {"refused/day1.parquet"}
    kept = {"scored/day2.parquet", "refused/day2.parquet", "refused/day3.parquet"}
    found = {name for name in contents(folder) if name.startswith(("scored/", "refused/"))}
    assert found == (left if prune else left | kept)
    said = "removed, as their sources are gone" if prune else "not of this run, and left as they are"
    assert said in caplog.messages
    outputs = json.loads((folder / "scored/_run.json").read_text())["outputs"]
    assert [entry["output"] for entry in outputs] == ["day1"]


def test_a_record_that_names_files_elsewhere_removes_none(folder: Path, settings: Make) -> None:
    run_score(settings(sources=("days/day1.csv",), out="scored/"))
    record = folder / "scored/_run.json"
    content = json.loads(record.read_text())
    (folder / "precious.parquet").write_bytes((folder / "scored/day1.parquet").read_bytes())
    content["outputs"][0] |= {"output": "../precious", "path": "scored/../precious.parquet"}
    content["outputs"].append({"output": 3})
    record.write_text(json.dumps(content))
    run_score(settings(sources=("days/day2.csv",), out="scored/", prune=True))
    assert (folder / "precious.parquet").exists()


def test_what_stops_a_folder_leaves_the_finished_files(bad: Path, settings: Make) -> None:
    run_score(settings(sources=("days/day1.csv", "days/day3.csv"), out="scored/"))
    before = (bad / "scored/_run.json").read_bytes()
    (bad / "scored/day1.parquet").write_bytes(b"old")
    with pytest.raises(InputError, match="name a quarantine"):
        run_score(settings(sources=("days",), out="scored/"))
    assert len(pd.read_parquet("scored/day1.parquet")) == 40
    assert not (bad / "scored/day2.parquet").exists()
    assert (bad / "scored/_run.json").read_bytes() == before


def test_what_a_killed_run_has_left_is_removed(folder: Path, settings: Make) -> None:
    for name in (".out.parquet.abc.part", ".q.csv.abc.part", ".other.csv.abc.part"):
        (folder / name).write_text("half")
    run_score(settings(quarantine="q.csv"))
    assert [path.name for path in folder.glob(".*.part")] == [".other.csv.abc.part"]


# --- what stops a job -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"model": "none.flow"}, ModelError, "the model 'none.flow' cannot be read: No such file"),
        ({"model": "all.parquet"}, ModelError, "'all.parquet' is not a model that can be loaded"),
        ({"sha256": "0" * 64}, ModelError, "has the id [0-9a-f]{64}, not 0{64}"),
        ({"sources": ("none.csv",)}, InputError, "there is no file 'none.csv'"),
        ({"out": "all.parquet"}, UsageError, "all.parquet' is read by this job"),
        ({"sources": ("days",), "out": "days/out.csv"}, UsageError, "lies in .*days"),
        ({"quarantine": "out.parquet"}, UsageError, "must be different files"),
        ({"quarantine": "-"}, UsageError, "the quarantine must be a file"),
        ({"quarantine": "sqlite:///q.db#q"}, UsageError, "only scored rows go into a table"),
        ({"id_columns": ("ward",)}, SchemaError, "'all.parquet' has no column 'ward'"),
        (
            {"ignore": ("ward",), "metrics": "m.prom"},
            UsageError,
            "the model has no column 'ward' for the drift",
        ),
        ({"max_bad_rows": "1%"}, UsageError, "a limit for bad rows needs a quarantine"),
        ({"sources": ("-",), "out": "sqlite:///s.db#s"}, UsageError, "nothing tells one run over '-' from"),
        ({"sources": ("-",), "resume": True}, UsageError, "'-' cannot be resumed"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    folder: Path,
    settings: Make,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    kind: type[Exception],
    sentence: str,
) -> None:
    monkeypatch.setattr("sys.stdin", open(folder / "days" / "day1.csv"))  # noqa: SIM115
    with pytest.raises(kind, match=sentence):
        run_score(settings(**changes))
    assert not (folder / "out.parquet").exists()


def test_what_could_never_be_found_is_not_waited_for(folder: Path, settings: Make, models: Path) -> None:
    density = str(models / "density.flow")
    with pytest.raises(
        UsageError, match="a FlowDensity has no threshold, so no row is an anomaly to fail on"
    ):
        run_score(settings(model=density, fail_on=("anomalies",)))
    X = pd.read_csv(models / "train.csv").drop(columns="visit")
    estimator = flowdetect.FlowDensity(max_steps=2, random_state=0).fit(X)
    flowdetect.save(estimator, folder / "bare.flow")
    with pytest.raises(ModelError, match="drift cannot be looked for: There is nothing to compare new rows"):
        run_score(settings(model="bare.flow", fail_on=("drift",)))
    assert run_score(settings(model="bare.flow", metrics="m.prom")).drift is None


def test_the_way_back_replaces_the_rows_of_the_night(folder: Path, settings: Make, models: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    given = {"out": "sqlite:///out.db#scores", "run_key": "monday"}
    run_score(settings(**given, model=str(models / "density.flow")))
    back = run_score(settings(**given, id_columns=("visit",)))
    engine = sqlalchemy.create_engine("sqlite:///out.db", poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        found = pd.read_sql("select model_id, run_key from scores", connection)
    assert (len(found), set(found["run_key"])) == (120, {"monday"})
    assert set(found["model_id"]) == {back.model_id}


def test_a_column_that_is_called_as_the_key_is_refused(folder: Path, settings: Make) -> None:
    pd.read_parquet("all.parquet").assign(run_key="x").to_parquet("keys.parquet")
    given = {"sources": ("keys.parquet",), "out": "sqlite:///out.db#scores"}
    with pytest.raises(SchemaError, match="'keys.parquet' already has a column 'run_key'"):
        plan_score(settings(**given, run_key="monday"))
    assert plan_score(settings(**given))


@pytest.mark.parametrize("run_key", ["monday", "tuesday"])
def test_a_table_of_a_database(folder: Path, settings: Make, run_key: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite:///ward.db", poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        pd.read_parquet("all.parquet").to_sql("visits", connection, index=False)
    expected = run_score(settings(out="out.csv"))
    for key in ("sunday", run_key, run_key):
        given = settings(sources=("sqlite:///ward.db#visits",), out="sqlite:///out.db#scores", run_key=key)
        report = run_score(given)
    assert (report.n_scored, report.n_anomalies) == (120, expected.n_anomalies)
    engine = sqlalchemy.create_engine("sqlite:///out.db", poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        found = pd.read_sql("select * from scores", connection)
    assert len(found) == 240
    rows = found[found["run_id"] == report.run_id]
    np.testing.assert_allclose(rows["score"], pd.read_csv("out.csv")["score"], rtol=1e-9)


def test_a_column_that_changes_between_files(folder: Path, settings: Make) -> None:
    table = pd.read_csv("days/day2.csv")
    table.rename(columns={"height": "size"}).to_csv("days/day2.csv", index=False)
    for out in ("out.csv", "out/"):
        with pytest.raises(SchemaError, match="'days/day2.csv' lacks column 'height'"):
            run_score(settings(sources=("days",), out=out))
    table[["sex", "height", "visit", "weight"]].to_csv("days/day2.csv", index=False)
    run_score(settings(sources=("days",), out="out.csv"))
    assert pd.read_csv("out.csv")["sex"].isin(["F", "M"]).all()


def test_a_source_that_changes_while_it_is_read(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowdetect.jobs import _run

    def and_change(*args: object) -> None:
        pd.read_parquet("all.parquet")[:50].to_parquet("all.parquet")

    monkeypatch.setattr(_run, "check_stop", and_change)
    with pytest.raises(InputError, match="'all.parquet' was changed while it was read"):
        run_score(settings())
    assert not (folder / "out.parquet").exists()


def test_a_failing_writer_leaves_the_old_rows(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_score(settings(sources=("days/day1.csv",), out="out.csv"))
    before = contents(folder)
    real = os.fsync

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="'out.csv' cannot be written: No space left on device"):
        run_score(settings(out="out.csv"))
    monkeypatch.setattr(os, "fsync", real)
    assert contents(folder) == before


@pytest.mark.parametrize("out", ["out.csv", "out.csv.gz"])
def test_an_error_at_any_write_leaves_the_old_rows(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    from flowdetect.jobs import _targets

    given = settings(sources=("days/day1.csv",), out=out, quarantine="q.csv", batch_rows=10)
    run_score(given)
    complete = contents(folder)
    run_score(settings(sources=("days/day2.csv",), out=out, quarantine="q.csv", batch_rows=10))
    old, real, countdown = contents(folder), _targets._Hashed.write, [0]

    def write(self: object, data: object) -> int:
        countdown[0] -= 1
        if countdown[0] < 0:
            raise OSError(5, "Input/output error")
        return real(self, data)  # type: ignore[arg-type]

    monkeypatch.setattr(_targets._Hashed, "write", write)
    for n in range(1000):
        countdown[0] = n
        try:
            run_score(given)
        except StorageError:
            found = contents(folder)
            assert found[out] == old[out]
            assert not [name for name in found if name.endswith(".part")]
        else:
            break
    assert n > 3
    assert contents(folder) == complete


def test_the_manifest_is_json_without_times(folder: Path, settings: Make) -> None:
    run_score(settings())
    manifest = json.loads((folder / "out.parquet.run.json").read_text())
    assert "seconds" not in json.dumps(manifest)
    assert manifest["outputs"][0]["partitions"][0]["n_read"] == 120


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_folder_that_takes_no_lock_is_storage(folder: Path, models: Path) -> None:
    with pytest.raises(StorageError, match=r"'/proc/out\.csv' cannot be written"):
        run_score(
            ScoreSettings(model=str(models / "detector.flow"), sources=("all.parquet",), out="/proc/out.csv")
        )
