"""What `cast` gives a model is what pandas would: the same matrix, row for row."""

import datetime
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowdetect.jobs._casting import cast
from flowdetect.jobs._errors import SchemaError
from flowdetect.jobs._rows import MISSING_TEXTS, Rows
from flowdetect.preprocessing import TableEncoder, TableSchema

RNG = np.random.default_rng(7)
N = 60
DAYS = pd.date_range("2026-01-01", periods=N, freq="D")

COLUMNS: dict[str, Any] = {
    "float": RNG.normal(size=N),
    "float with gaps": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
    "float32": RNG.integers(-999, 999, N).astype(np.float32) / 8,
    "heavy tail": RNG.standard_cauchy(N) * 1e6,
    "integer": RNG.integers(-50, 50, N),
    "int8": RNG.integers(0, 9, N).astype(np.int8),
    "few integers": RNG.integers(0, 3, N),
    "large integers": 2**60 + RNG.integers(0, 100, N),
    "integers with gaps": pd.array([None if k % 7 == 0 else k for k in range(N)], dtype="Int64"),
    "truth": RNG.random(N) < 0.3,
    "truth with gaps": pd.array([None if k % 7 == 0 else k % 2 == 0 for k in range(N)], dtype="boolean"),
    "truth as object": np.array([None if k % 7 == 0 else k % 2 == 0 for k in range(N)], dtype=object),
    "text": RNG.choice(["red", "blue, green", 'a "quote"', "NA-like", "é"], N),
    "text with gaps": pd.Series([None if k % 7 == 0 else "abc"[k % 3] for k in range(N)], dtype=object),
    "texts of numbers": pd.Series([["1", "01", "1.0"][k % 3] for k in range(N)], dtype=object),
    "category": pd.Categorical(RNG.choice(["low", "mid", "high"], N), ["low", "mid", "high", "top"]),
    "category of integers": pd.Categorical(RNG.choice([1, 2, 30], N)),
    "category of floats": pd.Categorical(RNG.choice([0.5, 2.0], N)),
    "date": DAYS,
    "date with gaps": DAYS.where(np.arange(N) % 7 > 0),
    "date and time": pd.date_range("2026-01-01 08:00:00.25", periods=N, freq="17min"),
    "date of a zone": pd.date_range("2026-03-28", periods=N, freq="3h", tz="Europe/Berlin"),
    "duration": pd.to_timedelta(np.arange(N) * 90, unit="s"),
    "constant": np.full(N, 2.5),
    "never there": np.full(N, np.nan),
    "arrow text": pd.Series(RNG.choice(["x", "y"], N), dtype="string[pyarrow]"),
}


def rows_of(batch: pa.RecordBatch, missing: frozenset[str] | None = None) -> Rows:
    return Rows(batch, np.arange(1, batch.num_rows + 1), partition="in", missing_texts=missing)


def rows_of_csv(frame: pd.DataFrame) -> Rows:
    """The rows as text, as a csv file of pandas has them."""
    text = frame.to_csv(index=False)
    texts = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    return rows_of(pa.RecordBatch.from_pandas(texts, preserve_index=False), MISSING_TEXTS)


def rows_of_parquet(frame: pd.DataFrame) -> Rows:
    file = io.BytesIO()
    frame.to_parquet(file)
    [batch] = pq.ParquetFile(file).iter_batches(len(frame))
    return rows_of(batch)


def same_matrix(schema: TableSchema, one: pd.DataFrame, other: pd.DataFrame) -> None:
    encoder = TableEncoder.from_schema(schema)
    for mine, expected in zip(encoder.encode(one), encoder.encode(other), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("source", [rows_of_csv, rows_of_parquet])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_kind_means_what_it_meant_in_training(
    name: str, source: Callable[[pd.DataFrame], Rows]
) -> None:
    frame = pd.DataFrame({"other": RNG.normal(size=N), name: COLUMNS[name]})
    encoder = TableEncoder().fit(frame)
    given, positions, rejected = cast(source(frame), encoder.schema_)
    assert not rejected
    np.testing.assert_array_equal(positions, np.arange(N))
    same_matrix(encoder.schema_, given, frame)


@pytest.mark.parametrize("size", [1, 7, N])
@pytest.mark.parametrize("source", [rows_of_csv, rows_of_parquet])
def test_the_size_of_a_batch_changes_nothing(source: Callable[[pd.DataFrame], Rows], size: int) -> None:
    frame = pd.DataFrame({name: column for name, column in COLUMNS.items() if name != "constant"})
    encoder = TableEncoder().fit(frame)
    rows = source(frame)
    parts = [cast(rows.take(k, min(k + size, N)), encoder.schema_)[0] for k in range(0, N, size)]
    matrices = [encoder.encode(part)[0] for part in parts]
    np.testing.assert_allclose(np.vstack(matrices), encoder.encode(frame)[0], rtol=1e-12, atol=1e-12)


def test_what_pandas_reads_from_csv_is_what_the_job_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [
        f"{k}.5,{k},{'NA' if k % 5 == 0 else k},{'True' if k % 2 else 'False'},{'xyz'[k % 3]},2026-01-{k:02d}"
        for k in range(1, 29)
    ]
    path.write_text("a,b,c,d,e,f\n" + "\n".join(lines) + "\n")
    frame = pd.read_csv(path)
    encoder = TableEncoder().fit(frame)
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = rows_of(pa.RecordBatch.from_pandas(texts, preserve_index=False), MISSING_TEXTS)
    given, _, rejected = cast(rows, encoder.schema_)
    assert not rejected
    same_matrix(encoder.schema_, given, frame)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.float32(), pa.decimal128(9, 2), pa.bool_()])
def test_numbers_of_another_type_are_the_same_numbers(kind: pa.DataType) -> None:
    frame = pd.DataFrame({"a": np.tile([0.0, 1.0], 20)})
    schema = TableEncoder().fit(frame).schema_
    entries = [Decimal(k) for k in (0, 1, 1)] if pa.types.is_decimal(kind) else [0, 1, 1]
    column = pa.array([*entries, None]).cast(kind)
    given, _, rejected = cast(rows_of(pa.record_batch({"a": column})), schema)
    assert [each.rule for each in rejected] == ["missing"]
    same_matrix(schema, given, pd.DataFrame({"a": [0.0, 1.0, 1.0]}))


@pytest.mark.parametrize(
    "make",
    [
        lambda array: array.dictionary_encode(),
        lambda array: array.cast(pa.large_string()),
        lambda array: array.cast(pa.string_view()),
    ],
    ids=["dictionary", "large_string", "string_view"],
)
def test_text_of_another_layout_is_the_same_text(make: Callable[[pa.Array], pa.Array]) -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 20})
    schema = TableEncoder().fit(frame).schema_
    given, _, _ = cast(rows_of(pa.record_batch({"a": make(pa.array(["x", "y", None, "new"]))})), schema)
    same_matrix(schema, given, pd.DataFrame({"a": ["x", "y", None, "new"]}))


BROKEN = [
    (np.arange(40) * 0.37, "1,5", "number"),
    (np.arange(40) * 0.37, "1_000", "number"),
    (np.arange(40) * 0.37, "0x1F", "number"),
    (np.arange(40) * 0.37, "inf", "infinity"),
    (np.arange(40) * 0.37, "1e999", "infinity"),
    (np.arange(40) * 0.37, "", "missing"),
    (np.arange(40) * 0.37, "NaN", "missing"),
    (np.arange(40) % 2 == 0, "yes", "bool"),
    (2**60 + np.arange(40), "1.5", "integer"),
    (2**60 + np.arange(40), str(2**63), "range"),
    (2**60 + np.arange(40), "1e400", "range"),
    (2**60 + np.arange(40), "x", "number"),
    (DAYS[:40], "31.12.2026", "date"),
    (DAYS[:40], "2026-02-30", "date"),
    (DAYS[:40], "2026-01-01T00:00:00+01:00", "date"),
    (DAYS[:40].tz_localize("UTC"), "2026-01-01T00:00:00", "date"),
    (DAYS[:40] - DAYS[0], "soon", "duration"),
    (DAYS[:40] - DAYS[0], "12", "duration"),
]


@pytest.mark.parametrize(("training", "text", "rule"), BROKEN, ids=[f"{b[2]} {b[1]!r}" for b in BROKEN])
def test_each_bad_cell_has_its_rule(training: Any, text: str, rule: str) -> None:
    frame = pd.DataFrame({"first": np.arange(40) * 1.5, "a": training})
    schema = TableEncoder().fit(frame).schema_
    texts = rows_of_csv(frame.iloc[:3]).batch.to_pydict()
    texts["a"][1] = text
    rows = rows_of(pa.record_batch(texts), MISSING_TEXTS)
    given, positions, [rejected] = cast(rows, schema)
    assert (rejected.partition, rejected.row, rejected.column, rejected.rule) == ("in", 2, "a", rule)
    assert rejected.value == text
    np.testing.assert_array_equal(positions, [0, 2])
    same_matrix(schema, given, frame.iloc[[0, 2]])


def test_the_first_broken_rule_in_the_order_of_training_names_the_row() -> None:
    schema = TableEncoder().fit(pd.DataFrame({"a": np.arange(9) * 0.3, "b": np.arange(9) * 0.7})).schema_
    batch = pa.record_batch({"b": ["x", "2", "x"], "more": ["", "", ""], "a": ["y", "1", "0.5"]})
    given, _, rejected = cast(rows_of(batch, MISSING_TEXTS), schema)
    assert [(each.row, each.column, each.value) for each in rejected] == [(1, "a", "y"), (3, "b", "x")]
    assert given.columns.tolist() == ["a", "b"]


def test_a_typed_infinity_and_a_typed_gap_are_set_aside() -> None:
    schema = TableEncoder().fit(pd.DataFrame({"a": np.arange(9) * 0.3})).schema_
    column = pa.array([1.0, np.inf, -np.inf, np.nan, None])
    given, _, rejected = cast(rows_of(pa.record_batch({"a": column})), schema)
    assert [each.rule for each in rejected] == ["infinity", "infinity", "missing", "missing"]
    assert given["a"].tolist() == [1.0]


def test_a_long_value_is_shortened() -> None:
    schema = TableEncoder().fit(pd.DataFrame({"a": np.arange(9) * 0.3})).schema_
    _, _, [rejected] = cast(rows_of(pa.record_batch({"a": ["x" * 9999]}), MISSING_TEXTS), schema)
    assert rejected.value == "x" * 197 + "..."


def test_absent_columns_are_named() -> None:
    schema = TableEncoder().fit(pd.DataFrame({"a": [1.0, 2.5], "b": [1.0, 2.5], "c": [3.0, 1.2]})).schema_
    with pytest.raises(SchemaError, match=r"^'in' lacks columns 'b', 'c', which .* it has columns 'a', 'B'"):
        cast(rows_of(pa.record_batch({"a": [1.0], "B": [1.0]})), schema)


@pytest.mark.parametrize(
    ("training", "given"),
    [
        (np.arange(9) * 0.3, pa.array([datetime.date(2026, 1, 1)])),
        (np.arange(9) * 0.3, pa.array([[1.0]])),
        (DAYS[:9], pa.array([1.5])),
        (DAYS[:9], pa.array([0], pa.timestamp("us", "UTC"))),
        (list("abcabcabc"), pa.array([{"x": 1}])),
    ],
    ids=["date for number", "list for number", "number for date", "zone for none", "struct for text"],
)
def test_a_type_that_says_nothing_about_the_column_is_refused(training: Any, given: pa.Array) -> None:
    schema = TableEncoder().fit(pd.DataFrame({"a": training})).schema_
    with pytest.raises(SchemaError, match=r"in column 'a', which was .* in training"):
        cast(rows_of(pa.record_batch({"a": given})), schema)


def test_a_model_of_an_array_takes_columns_by_their_order() -> None:
    schema = TableEncoder().fit(RNG.normal(size=(20, 2))).schema_
    given, _, _ = cast(rows_of(pa.record_batch({"x": [1.0], "y": [2.0]})), schema)
    assert given.to_numpy().tolist() == [[1.0, 2.0]]
    with pytest.raises(SchemaError, match=r"must have the 2 columns .* it has 3"):
        cast(rows_of(pa.record_batch({"x": [1.0], "y": [2.0], "z": [3.0]})), schema)


def test_no_rows_give_an_empty_frame() -> None:
    frame = pd.DataFrame(COLUMNS)
    schema = TableEncoder().fit(frame).schema_
    for rows in (rows_of_csv(frame.iloc[:0]), rows_of_parquet(frame).take(0, 0)):
        given, positions, rejected = cast(rows, schema)
        assert len(given) == len(positions) == len(rejected) == 0
        assert TableEncoder.from_schema(schema).encode(given)[0].shape[0] == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_any_text_is_either_scored_or_set_aside(texts: list[str]) -> None:
    columns = {"n": np.arange(30) * 0.3, "l": list("ab") * 15, "d": DAYS[:30], "t": [True, False] * 15}
    frame = pd.DataFrame(columns)
    encoder = TableEncoder().fit(frame)
    valid = [text.encode(errors="replace").decode() for text in texts]
    good = {"n": "1.5", "l": "a", "d": "2026-01-05", "t": "True"}
    for name in frame.columns:
        columns = {other: valid if other == name else [good[other]] * len(valid) for other in frame.columns}
        given, positions, rejected = cast(rows_of(pa.record_batch(columns), MISSING_TEXTS), encoder.schema_)
        assert len(given) == len(positions)
        assert sorted([*(positions + 1).tolist(), *(each.row for each in rejected)]) == list(
            range(1, len(valid) + 1)
        )
        matrix, _ = encoder.encode(given)
        assert np.isfinite(matrix).all()
