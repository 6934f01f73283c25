"""Databases as sources and targets: SQLite, DuckDB and a real PostgreSQL."""

import datetime
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flowdetect.jobs._casting import cast
from flowdetect.jobs._errors import InputError, JobError, StorageError, TryAgainError, UsageError
from flowdetect.jobs._sources import open_sources
from flowdetect.jobs._targets import open_target
from flowdetect.preprocessing import TableEncoder

sys.path.insert(0, str(Path(__file__).parent))

import postgres

sa = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
SECRET = "hush-hush"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "postgresql":
        url = request.getfixturevalue("server")
        run(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        yield url
        return
    if request.param == "duckdb":
        pytest.importorskip("duckdb_engine", reason="duckdb_engine is not installed")
    yield f"{request.param}:///{tmp_path}/data.{request.param}"


def run(url: str, *statements: str) -> list[Any]:
    """The rows that the last of some statements gives."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        rows = result.fetchall() if result.returns_rows else []
    engine.dispose()
    return [tuple(row) for row in rows]


def batch_of(run_id: str, values: list[float]) -> pa.RecordBatch:
    n_rows = len(values)
    columns = {
        "id": pa.array(range(n_rows), pa.int64()),
        "score": pa.array(values, pa.float64()),
        "is_anomaly": pa.array([k % 2 == 0 for k in range(n_rows)], pa.bool_()),
        "seen": pa.array([datetime.datetime(2026, 1, 1, 8)] * n_rows, pa.timestamp("us")),
        "a b%(c)": pa.array(["it's é"] * n_rows, pa.string()),
        "run_id": pa.array([run_id] * n_rows, pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


def write(url: str, run_id: str, *batches: pa.RecordBatch, table: str = "scores") -> None:
    with open_target(f"{url}#{table}", run_id=run_id).begin("", batches[0].schema) as writer:
        for batch in batches:
            writer.write(batch)
    assert writer.n_rows == sum(batch.num_rows for batch in batches)
    assert writer.sha256 is None


def scores(url: str, table: str = "scores") -> list[Any]:
    return sorted(run(url, f"SELECT run_id, score FROM {table}"))


# --- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [7, 5000])
def test_a_table_gives_the_scores_of_pandas(database: str, n_rows: int) -> None:
    rng = np.random.default_rng(3)
    size = 2100
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=size),
            "count": rng.integers(0, 9, size),
            "gaps": np.where(rng.random(size) < 0.2, np.nan, rng.normal(size=size)),
            "label": rng.choice(["red", "blue"], size),
            "truth": rng.random(size) < 0.5,
            "day": pd.date_range("2026-01-01", periods=size, freq="h"),
        }
    )
    encoder = TableEncoder().fit(frame)
    engine = sa.create_engine(database)
    frame.to_sql("visits", engine, index=False)
    engine.dispose()
    [partition] = open_sources([f"{database}#visits"])
    batches = list(partition.batches(n_rows))
    assert max(rows.batch.num_rows for rows in batches) <= n_rows
    np.testing.assert_array_equal(np.concatenate([rows.numbers for rows in batches]), np.arange(1, size + 1))
    matrices = []
    for rows in batches:
        given, _, rejected = cast(rows, encoder.schema_)
        assert not rejected
        matrices.append(encoder.encode(given)[0])
    np.testing.assert_allclose(np.vstack(matrices), encoder.encode(frame)[0], rtol=1e-12, atol=1e-12)
    assert partition.fingerprint() is None


def test_a_query_is_read_as_it_stands(database: str) -> None:
    run(database, "CREATE TABLE t (a INTEGER, b VARCHAR(20))", "INSERT INTO t VALUES (1, 'x :y %'), (2, 'z')")
    query = "SELECT a + 1 AS next, b, ' :none' AS c FROM t WHERE b LIKE 'x%' AND '12:30' = '12:30'"
    [partition] = open_sources([database], query=query)
    [rows] = partition.batches(10)
    assert rows.batch.to_pylist() == [{"next": 2, "b": "x :y %", "c": " :none"}]


def test_no_rows_still_have_columns(database: str) -> None:
    run(database, "CREATE TABLE t (a INTEGER, b VARCHAR(20))")
    [partition] = open_sources([f"{database}#t"])
    [rows] = partition.batches(10)
    assert rows.batch.schema.names == ["a", "b"]
    assert rows.batch.num_rows == 0


def test_the_types_do_not_depend_on_the_size_of_a_batch(database: str) -> None:
    run(database, "CREATE TABLE t (a DOUBLE PRECISION)", "INSERT INTO t VALUES (NULL), (NULL), (0.5)")
    [partition] = open_sources([f"{database}#t"])
    assert {str(rows.batch.schema.field("a").type) for rows in partition.batches(1)} == {"double"}


def test_a_column_of_sqlite_that_changes_its_type_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    numbers = ", ".join(f"({k})" for k in range(1200))
    run(url, "CREATE TABLE t (a)", f"INSERT INTO t VALUES {numbers}", "INSERT INTO t VALUES ('late')")
    [partition] = open_sources([f"{url}#t"])
    with pytest.raises(InputError, match=r"has something else than int64 in column 'a' after row 1\d\d\d"):
        list(partition.batches(100))


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_reading_makes_no_database(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    [partition] = open_sources([f"{kind}:///{path}#t"])
    with pytest.raises(InputError, match=r"there is no file for '.*absent\.db#t'"):
        list(partition.batches(10))
    assert not path.exists()


def test_an_absent_table_is_an_input_error(database: str) -> None:
    run(database, "CREATE TABLE t (a INTEGER)")
    [partition] = open_sources([f"{database}#other"])
    with pytest.raises(InputError, match="other"):
        list(partition.batches(10))


def test_a_cursor_of_the_server_keeps_the_rows_there(server: str) -> None:
    query = "SELECT k AS a, repeat('x', 1000) AS b FROM generate_series(1, 100000) AS k"
    [partition] = open_sources([server], query=query)
    batches = partition.batches(500)
    first = next(batches)
    assert first.batch.num_rows == 500
    [(cursors,)] = run(
        server,
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'FETCH FORWARD%' AND state <> 'active'",
    )
    assert cursors == 1
    batches.close()


# --- what may go wrong with the name ---------------------------------------------------------------------


def test_a_table_or_a_query_and_not_both(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(
        UsageError, match="a table, as '#name' at the end of the URL, or a query, and not both"
    ):
        open_sources([url])
    with pytest.raises(UsageError, match="and not both"):
        open_sources([f"{url}#t"], query="SELECT 1")
    with pytest.raises(UsageError, match="wants the table to write"):
        open_target(url, run_id="a")
    with pytest.raises(UsageError, match="only scored rows go into a table"):
        open_target(f"{url}#t")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql+psycopg://me:{SECRET}@host/db#t", "postgresql+psycopg://me:***@host/db#t"),
        (f"postgresql+psycopg://me@host/db?password={SECRET}#t", "password=***"),
        (f"duckdb:///md:db?motherduck_token={SECRET}#t", "motherduck_token=***"),
        (
            f"mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Du%3BPWD%3D{SECRET}#t",
            "mssql+pyodbc:///?odbc_connect=***",
        ),
    ],
)
def test_secrets_are_masked_in_names(url: str, shown: str) -> None:
    [source], target = open_sources([url]), open_target(url, run_id="a")
    for name in (source.name, target.name):
        assert SECRET not in name
        assert shown in name.replace("%2A", "*")


def test_secrets_of_a_misspelt_url_are_masked(tmp_path: Path) -> None:
    spec = f"postgresql:/u:{SECRET}@h/db#t"
    for open_it in (lambda: open_sources([spec]), lambda: open_target(spec, run_id="a")):
        with pytest.raises(JobError, match=r"postgresql:/u:\*\*\*@h/db#t") as caught:
            open_it()
        assert SECRET not in str(caught.value)


def test_a_url_may_stand_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    run(url, "CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (4)")
    monkeypatch.setenv("PLACE", url)
    [rows] = open_sources(["env:PLACE#t"])[0].batches(5)
    assert rows.batch.to_pydict() == {"a": [4]}
    with pytest.raises(UsageError, match="the environment variable NOWHERE holds no URL"):
        open_sources(["env:NOWHERE#t"])


def test_what_is_no_url_or_has_no_driver_is_refused() -> None:
    with pytest.raises(UsageError, match="must be a URL of SQLAlchemy"):
        open_sources(["what is://this#t"])
    for scheme in ("s3", "HTTPS", "file"):
        with pytest.raises(
            UsageError, match=f"'{scheme.lower()}://' is no database: copy or mount the files"
        ):
            open_sources([f"{scheme}://bucket/a.csv"])
    [partition] = open_sources([f"oracle+nothing://me:{SECRET}@host/db#t"])
    with pytest.raises(UsageError, match="has no driver here") as caught:
        list(partition.batches(5))
    assert SECRET not in str(caught.value)


def test_a_server_that_does_not_answer_may_later(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    [partition] = open_sources([f"postgresql+psycopg://me:{SECRET}@/db?host={tmp_path}#t"])
    with pytest.raises(TryAgainError, match="cannot be reached") as caught:
        list(partition.batches(5))
    assert SECRET not in str(caught.value)


def test_a_wrong_password_stays_wrong(server: str) -> None:
    wrong = server.replace("hush-hush", "not-it")
    [partition] = open_sources([f"{wrong}#t"])
    with pytest.raises(InputError, match="password authentication failed") as caught:
        list(partition.batches(5))
    assert "not-it" not in str(caught.value)


# --- writing ---------------------------------------------------------------------------------------------


def test_the_rows_of_a_run_replace_those_of_the_same_run(database: str) -> None:
    write(database, "one", batch_of("one", [1.0, 2.0]), batch_of("one", [3.0]))
    write(database, "two", batch_of("two", [9.0]))
    before = [("one", 1.0), ("one", 2.0), ("one", 3.0), ("two", 9.0)]
    assert scores(database) == before
    write(database, "one", batch_of("one", [1.0, 2.0]), batch_of("one", [3.0]))
    assert scores(database) == before
    write(database, "one", batch_of("one", []))
    assert scores(database) == [("two", 9.0)]
    [row] = run(database, 'SELECT "a b%(c)", seen FROM scores')
    assert row[0] == "it's é"
    assert str(row[1]).startswith("2026-01-01 08:00:00")


def write_key(url: str, run_id: str, key: str, values: list[float]) -> None:
    batch = batch_of(run_id, values)
    with open_target(f"{url}#scores", run_id=run_id, run_key=key).begin("", batch.schema) as writer:
        writer.write(batch)


def test_the_rows_of_a_key_are_replaced_by_another_run(database: str) -> None:
    write_key(database, "old model", "monday", [1.0, 2.0])
    write_key(database, "old model, tuesday", "tuesday", [3.0])
    write_key(database, "new model", "monday", [4.0])
    keys = "SELECT run_key, run_id, score FROM scores ORDER BY score"
    expected = [("tuesday", "old model, tuesday", 3.0), ("monday", "new model", 4.0)]
    assert run(database, keys) == expected
    batch, target = batch_of("x", [5.0]), open_target(f"{database}#scores", run_id="x", run_key="monday")
    with pytest.raises(FailureError), target.begin("", batch.schema) as writer:  # noqa: PT012
        writer.write(batch)
        raise FailureError
    assert run(database, keys) == expected
    write(database, "without", batch_of("without", [6.0]))
    assert run(database, keys)[-1] == (None, "without", 6.0)


def test_a_table_without_keys_is_refused_until_it_has_some(database: str) -> None:
    write(database, "one", batch_of("one", [1.0]))
    with pytest.raises(
        StorageError, match=r"lacks the column 'run_key'.*ALTER TABLE scores ADD COLUMN run_key"
    ):
        write_key(database, "one", "monday", [1.0])
    run(database, "ALTER TABLE scores ADD COLUMN run_key VARCHAR(200)")
    write_key(database, "one", "monday", [2.0])
    assert scores(database) == [("one", 2.0)]


def test_keys_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a run key has at most 200 characters; got 201"):
        open_target(f"sqlite:///{tmp_path}/x.db#t", run_id="one", run_key="x" * 201)


def test_many_rows_arrive(database: str) -> None:
    values = np.random.default_rng(0).normal(size=5001)
    write(database, "one", batch_of("one", values.tolist()))
    assert [score for _, score in scores(database)] == sorted(values.tolist())


def test_what_is_not_finite_or_missing_arrives_as_such(database: str) -> None:
    batch = batch_of("one", [1.0]).set_column(1, "score", pa.array([None], pa.float64()))
    write(database, "one", batch)
    assert scores(database) == [("one", None)]


def test_types_of_every_kind_have_a_place(database: str) -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "run_id": pa.array(["one"]),
            "d": pa.array([datetime.date(2026, 2, 3)], pa.date32()),
            "z": pa.array([0], pa.timestamp("ns", "Europe/Berlin")),
            "n": pa.array([None], pa.null()),
            "c": pa.array(["x"]).dictionary_encode(),
            "l": pa.array(["x"], pa.large_string()),
            "m": pa.array(["1.50"]).cast(pa.decimal128(9, 2)),
            "f": pa.array([0.5], pa.float32()),
            "b": pa.array([b"x"], pa.binary()),
        }
    )
    write(database, "one", batch)
    [row] = run(database, "SELECT d, CAST(z AS VARCHAR(30)), n, c, l, m, f FROM scores")
    assert str(row[0]) == "2026-02-03"
    assert str(row[1]).startswith("1970-01-01")
    assert row[2:] == (None, "x", "x", "1.50", 0.5)


def test_a_list_has_no_place(tmp_path: Path) -> None:
    schema = pa.schema([("run_id", pa.string()), ("v", pa.list_(pa.int64()))])
    target = open_target(f"sqlite:///{tmp_path}/x.db#t", run_id="one")
    with (
        pytest.raises(StorageError, match=r"column 'v' holds list<.*>, which has no place there"),
        target.begin("", schema),
    ):
        pass


class FailureError(Exception):
    """Not an error of ours."""


@pytest.mark.parametrize("is_new", [True, False])
def test_what_fails_half_way_leaves_all_as_it_was(database: str, is_new: bool) -> None:
    if not is_new:
        write(database, "one", batch_of("one", [1.0, 2.0]))
    target = open_target(f"{database}#scores", run_id="one")
    batch = batch_of("one", [7.0])
    with pytest.raises(FailureError), target.begin("", batch.schema) as writer:  # noqa: PT012
        writer.write(batch)
        raise FailureError
    if is_new:
        engine = sa.create_engine(database)
        assert not sa.inspect(engine).has_table("scores")
        engine.dispose()
    else:
        assert scores(database) == [("one", 1.0), ("one", 2.0)]


def test_a_table_without_a_column_is_refused(database: str) -> None:
    run(database, "CREATE TABLE scores (run_id VARCHAR(20), score DOUBLE PRECISION)")
    with pytest.raises(StorageError, match="lacks column 'id'"):
        write(database, "one", batch_of("one", [1.0]))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_that_a_trigger_drops_are_missed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/x.db"
        trigger = (
            "CREATE TRIGGER eat BEFORE INSERT ON eaten WHEN NEW.score > 1 BEGIN SELECT RAISE(IGNORE); END"
        )
    else:
        url = request.getfixturevalue("server")
        trigger = "CREATE RULE eat AS ON INSERT TO eaten WHERE NEW.score > 1 DO INSTEAD NOTHING"
    write(url, "one", batch_of("one", [1.0]), table="eaten")
    run(url, trigger)
    with pytest.raises(StorageError, match="holds 1 rows of this run after 3 were written"):
        write(url, "one", batch_of("one", [0.0, 2.0, 3.0]), table="eaten")
    assert scores(url, "eaten") == [("one", 1.0)]


def test_a_table_in_a_schema(server: str) -> None:
    run(server, "CREATE SCHEMA nightly")
    write(server, "one", batch_of("one", [1.0]), table="nightly.scores")
    assert scores(server, "nightly.scores") == [("one", 1.0)]
    [rows] = open_sources([f"{server}#nightly.scores"])[0].batches(5)
    assert rows.batch.num_rows == 1


# --- faults ----------------------------------------------------------------------------------------------


def stop_others(url: str) -> None:
    """Drop every other connection to the server, as an administrator does."""
    run(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )


@pytest.mark.parametrize("moment", ["write", "commit"])
def test_a_connection_dropped_inside_a_transaction(server: str, moment: str) -> None:
    run(server, "DROP TABLE IF EXISTS scores")
    write(server, "one", batch_of("one", [1.0, 2.0]))
    target = open_target(f"{server}#scores", run_id="one")
    batch = batch_of("one", [7.0])
    with (  # noqa: PT012
        pytest.raises(TryAgainError, match="cannot be reached") as caught,
        target.begin("", batch.schema) as writer,
    ):
        writer.write(batch)
        stop_others(server)
        if moment == "write":
            writer.write(batch)
    assert SECRET not in str(caught.value)
    assert scores(server) == [("one", 1.0), ("one", 2.0)]
    write(server, "one", batch)
    assert scores(server) == [("one", 7.0)]


def test_a_connection_dropped_while_reading(server: str) -> None:
    [partition] = open_sources([server], query="SELECT k FROM generate_series(1, 100000) AS k")
    batches = partition.batches(100)
    next(batches)
    stop_others(server)
    with pytest.raises(TryAgainError, match="cannot be reached"):
        list(batches)


@pytest.mark.parametrize("open_url", ["sqlite", "postgresql"])
def test_two_runs_cannot_write_one_table_at_a_time(
    open_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_sqlite = open_url == "sqlite"
    url = f"sqlite:///{tmp_path}/x.db?timeout=0.1" if is_sqlite else request.getfixturevalue("server")
    batch = batch_of("one", [1.0])
    with open_target(f"{url}#shared", run_id="one").begin("", batch.schema) as first:
        first.write(batch)
        with pytest.raises(TryAgainError, match=r"another run writes to|locked"):
            write(url, "one", batch, table="shared")
    assert scores(url, "shared") == [("one", 1.0)]


def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    url = f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true"
    run(f"sqlite:///{tmp_path}/x.db", "CREATE TABLE t (a INTEGER)")
    with pytest.raises(StorageError, match="readonly"):
        write(url, "one", batch_of("one", [1.0]))


def test_a_full_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    write(url, "one", batch_of("one", [1.0]))
    engine = sa.create_engine(url)
    limit: Callable[[Any, Any], Any] = lambda connection, _: connection.execute("PRAGMA max_page_count = 4")  # noqa: E731
    sa.event.listen(sa.pool.Pool, "connect", limit)
    try:
        with pytest.raises(StorageError, match="full"):
            write(url, "one", batch_of("one", [2.0] * 5000))
    finally:
        sa.event.remove(sa.pool.Pool, "connect", limit)
        engine.dispose()
    assert scores(url) == [("one", 1.0)]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database at all" * 99)
    with pytest.raises(StorageError, match=re.escape("file is not a database")):
        write(f"sqlite:///{path}", "one", batch_of("one", [1.0]))
    assert path.read_bytes() == b"not a database at all" * 99
