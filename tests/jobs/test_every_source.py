"""The same rows from every source, cut anyhow: the scores that the estimator gives in memory."""

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))
import postgres

import flowdetect
from flowdetect import FlowDensity, FlowOutlierDetector
from flowdetect.jobs import ScoreSettings, run_score

N_ROWS = 90


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "row": np.arange(N_ROWS),
            "number": rng.normal(size=N_ROWS),
            "count": rng.poisson(3.0, N_ROWS),
            "label": rng.choice(["a", "b,c", 'd"e'], N_ROWS),
            "flag": rng.random(N_ROWS) > 0.5,
            "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 9999, N_ROWS), unit="min"),
            "holes": np.where(rng.random(N_ROWS) < 0.3, np.nan, rng.exponential(size=N_ROWS)),
        }
    )


@pytest.fixture(scope="module")
def models(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    rows = table.drop(columns="row")
    for kind in (FlowDensity, FlowOutlierDetector):
        estimator = kind(max_steps=4, hidden_features=8, random_state=0).fit(rows)
        flowdetect.save(estimator, folder / f"{kind.__name__}.flow")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres.running() as url:
        yield url


def write_table(url: str, table: pd.DataFrame) -> str:
    engine = sa.create_engine(url)
    table.to_sql("visits", engine, index=False, if_exists="replace")
    engine.dispose()
    return f"{url}#visits"


def compressed(text: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(text)
    return sink.getvalue().to_pybytes()


def hive(table: pd.DataFrame, folder: Path) -> str:
    pq.write_to_dataset(pa.Table.from_pandas(table, preserve_index=False), folder, partition_cols=["label"])
    return str(folder)


def stream(table: pd.DataFrame, path: Path) -> str:
    batch = pa.Table.from_pandas(table, preserve_index=False)
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_table(batch, max_chunksize=13)
    return str(path)


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def saved(path: Path, write: Callable[[Path], object]) -> str:
    write(path)
    return str(path)


SOURCES: dict[str, Callable[[pd.DataFrame, Path], str]] = {
    "csv": lambda t, f: saved(f / "t.csv", lambda path: t.to_csv(path, index=False)),
    "csv.gz": lambda t, f: written(f / "t.csv.gz", gzip.compress(t.to_csv(index=False).encode())),
    "csv.zst": lambda t, f: written(f / "t.csv.zst", compressed(t.to_csv(index=False).encode(), "zstd")),
    "parquet": lambda t, f: saved(f / "t.parquet", lambda path: t.to_parquet(path, row_group_size=17)),
    "feather": lambda t, f: saved(f / "t.feather", t.to_feather),
    "arrow stream": lambda t, f: stream(t, f / "t.arrow"),
    "hive": lambda t, f: hive(t, f / "hive"),
    "sqlite": lambda t, f: write_table(f"sqlite:///{f}/t.db", t),
    "duckdb": lambda t, f: write_table(f"duckdb:///{f}/t.duckdb", t),
}


def check(source: str, model: Path, table: pd.DataFrame, folder: Path, **settings: object) -> None:
    out = folder / "out.parquet"
    run_score(
        ScoreSettings(model=str(model), sources=(source,), out=str(out), id_columns=("row",), **settings)
    )
    scored = pd.read_parquet(out)
    order = scored["row"].astype(int).to_numpy()
    assert sorted(order) == list(range(N_ROWS))
    estimator = flowdetect.load(model)
    expected = estimator.score_samples(table.drop(columns="row"))[order]
    np.testing.assert_allclose(scored["score"], expected, rtol=1e-9, atol=1e-9)
    if model.stem == "FlowOutlierDetector":
        np.testing.assert_array_equal(scored["is_anomaly"], expected < estimator.offset_)


@pytest.mark.parametrize("model", ["FlowDensity", "FlowOutlierDetector"])
@pytest.mark.parametrize("source", list(SOURCES))
def test_scores_are_those_in_memory(
    source: str, model: str, models: dict[str, Path], table: pd.DataFrame, tmp_path: Path
) -> None:
    spec = SOURCES[source](table, tmp_path)
    for settings in ({"batch_rows": 7, "threads": 1}, {"batch_rows": 1000, "threads": 2}):
        check(spec, models[model], table, tmp_path, **settings)


def test_scores_of_a_postgresql_table(
    postgresql: str, models: dict[str, Path], table: pd.DataFrame, tmp_path: Path
) -> None:
    spec = write_table(postgresql, table)
    check(spec, models["FlowOutlierDetector"], table, tmp_path, batch_rows=7)
    target = f"{postgresql}#scored"
    settings = ScoreSettings(
        model=str(models["FlowOutlierDetector"]), sources=(spec,), out=target, run_key="tonight"
    )
    for _ in range(2):
        run_score(settings)
    engine = sa.create_engine(postgresql)
    scored = pd.read_sql("SELECT * FROM scored ORDER BY row", engine)
    engine.dispose()
    assert len(scored) == N_ROWS
    expected = flowdetect.load(models["FlowOutlierDetector"]).score_samples(table.drop(columns="row"))
    np.testing.assert_allclose(scored["score"], expected, rtol=1e-9)
