"""Files, folders, globs and standard input as partitions; what is damaged is refused, never half read."""

import csv
import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowdetect import FlowDensity
from flowdetect.jobs._casting import cast
from flowdetect.jobs._csv import CsvPartition
from flowdetect.jobs._errors import InputError, SchemaError, UsageError
from flowdetect.jobs._rows import Partition, Rejected, Rows
from flowdetect.jobs._sources import check_same_columns, open_sources
from flowdetect.preprocessing import TableEncoder

RNG = np.random.default_rng(11)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=300),
        "n": RNG.integers(0, 5, 300),
        "label": RNG.choice(["red", "blue, or green", 'so "called"'], 300),
        "gaps": np.where(RNG.random(300) < 0.2, np.nan, RNG.normal(size=300)),
    }
)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def write_zstd(frame: pd.DataFrame, path: Path) -> None:
    path.write_bytes(pa.compress(frame.to_csv(index=False).encode(), "zstd", asbytes=True))


def write_stream(frame: pd.DataFrame, path: Path) -> None:
    path.write_bytes(stream_of(frame))


def stream_of(frame: pd.DataFrame) -> bytes:
    table, file = pa.Table.from_pandas(frame, preserve_index=False), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return file.getvalue()


FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "t.csv": write_csv,
    "t.csv.gz": write_csv,
    "t.csv.zst": write_zstd,
    "t.parquet": lambda frame, path: frame.to_parquet(path, row_group_size=70),
    "t.arrow": write_stream,
    "t.feather": lambda frame, path: frame.to_feather(path),
}


@pytest.fixture(scope="module")
def model() -> FlowDensity:
    return FlowDensity(max_steps=5, random_state=0).fit(FRAME)


def read(*specs: Path | str, n_rows: int = 64, **options: Any) -> list[Rows]:
    """All batches of some sources."""
    partitions = open_sources([str(spec) for spec in specs], **options)
    return [rows for partition in partitions for rows in partition.batches(n_rows)]


def entries(batches: list[Rows]) -> list[dict[str, Any]]:
    return [row for rows in batches for row in rows.batch.to_pylist()]


def rejected(batches: list[Rows]) -> list[tuple[int, str | None, str, str | None]]:
    found: list[Rejected] = [each for rows in batches for each in rows.rejected]
    return [(each.row, each.column, each.rule, each.value) for each in found]


# --- every format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 33, 1000])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_scores_of_the_frame(
    name: str, n_rows: int, tmp_path: Path, model: FlowDensity
) -> None:
    FORMATS[name](FRAME, tmp_path / name)
    batches = read(tmp_path / name, n_rows=n_rows)
    assert max(rows.batch.num_rows for rows in batches) <= n_rows
    np.testing.assert_array_equal(np.concatenate([rows.numbers for rows in batches]), np.arange(1, 301))
    frames = [cast(rows, model.encoder_.schema_)[0] for rows in batches]
    given = pd.concat(frames, ignore_index=True)
    np.testing.assert_allclose(model.score_samples(given), model.score_samples(FRAME), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_rows_still_has_columns(name: str, tmp_path: Path) -> None:
    FORMATS[name](FRAME.iloc[:0], tmp_path / name)
    [rows] = read(tmp_path / name)
    assert rows.batch.schema.names == FRAME.columns.tolist()
    assert rows.batch.num_rows == len(rows.numbers) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_fingerprint_is_that_of_the_bytes(name: str, tmp_path: Path) -> None:
    FORMATS[name](FRAME, tmp_path / name)
    [partition] = open_sources([str(tmp_path / name)])
    assert partition.fingerprint() == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FORMATS)
def test_a_repeated_name_is_refused(name: str, tmp_path: Path) -> None:
    if "csv" in name:
        text = b"a,b,a\n1,2,3\n"
        data = {
            "t.csv": text,
            "t.csv.gz": gzip.compress(text),
            "t.csv.zst": pa.compress(text, "zstd", asbytes=True),
        }
        (tmp_path / name).write_bytes(data[name])
    else:
        table = pa.table([[1], [2], [3]], names=["a", "b", "a"])
        if name == "t.parquet":
            pq.write_table(table, tmp_path / name)
        else:
            with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
                writer.write_table(table)
    with pytest.raises(InputError, match="names of columns must be unique; repeated: 'a'"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "t.csv"])
def test_a_file_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    FORMATS[name](FRAME, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    n_rows = sum(rows.batch.num_rows for rows in read(tmp_path / name))
    assert n_rows == len(FRAME)
    for length in [*range(0, len(whole), max(1, len(whole) // 40)), *range(len(whole) - 20, len(whole))]:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read|is empty"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_a_damaged_byte_loses_no_row(name: str, tmp_path: Path) -> None:
    FORMATS[name](FRAME, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            batches = read(tmp_path / name)
        except InputError:
            continue
        n_rows = sum(rows.batch.num_rows + len(rows.rejected) for rows in batches)
        assert n_rows == len(FRAME), place


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.parquet", "t.arrow", "t.feather"])
def test_another_format_under_the_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FRAME.to_csv(index=False).encode())
    with pytest.raises(InputError, match=f"{name}' cannot be read"):
        read(tmp_path / name)


def test_gzip_files_put_together_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert [row["a"] for row in entries(read(tmp_path / "t.csv.gz"))] == ["1", "3"]


def test_streams_put_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.arrow").write_bytes(stream_of(FRAME) * 2)
    with pytest.raises(InputError, match="something follows the end of the stream"):
        read(tmp_path / "t.arrow")


# --- csv -------------------------------------------------------------------------------------------------


def read_csv(data: bytes, tmp_path: Path, n_rows: int = 2) -> list[Rows]:
    (tmp_path / "t.csv").write_bytes(data)
    return read(tmp_path / "t.csv", n_rows=n_rows)


@pytest.mark.parametrize("n_rows", [1, 2, 100])
def test_ragged_lines_are_set_aside_with_their_numbers(n_rows: int, tmp_path: Path) -> None:
    data = b'a,b\n1,2\n3\n4,5\n6,7,8\n9,"x\ny"\n10\n\n11,12\n13'
    batches = read_csv(data, tmp_path, n_rows)
    assert rejected(batches) == [
        (2, None, "fields", "3"),
        (4, None, "fields", "6,7,8"),
        (6, None, "fields", "10"),
        (8, None, "fields", "13"),
    ]
    assert [row["a"] for row in entries(batches)] == ["1", "4", "9", "11"]
    np.testing.assert_array_equal(np.concatenate([rows.numbers for rows in batches]), [1, 3, 5, 7])


def test_bytes_that_are_not_utf8_are_set_aside(tmp_path: Path) -> None:
    data = b'a,b\r\n1,2\r\n2,caf\xe9\r\n\xff3,4\r\n5,"x\xe9",1\r\n6,\xc3\xa9\r\n7,\xc3\r\n'
    batches = read_csv(data, tmp_path)
    assert rejected(batches) == [
        (2, "b", "utf-8", "caf\\xe9"),
        (3, "a", "utf-8", "\\xff3"),
        (4, None, "fields", '5,"x\\xe9",1'),
        (6, "b", "utf-8", "\\xc3"),
    ]
    assert entries(batches) == [{"a": "1", "b": "2"}, {"a": "6", "b": "é"}]


@pytest.mark.parametrize("shift", range(7))
def test_the_border_of_a_block_changes_nothing(shift: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("flowdetect.jobs._csv.BLOCK", 4096)
    lines = [f'{k},"{"é" * (k % 5)}\n""{k}"""' + (",more" if k % 97 == 5 else "") for k in range(2000)]
    data = ("a,b" + " " * shift + "\n" + "\n".join(lines)).encode()
    batches = read_csv(data, tmp_path, 300)
    assert [row for row, *_ in rejected(batches)] == [k + 1 for k in range(2000) if k % 97 == 5]
    good = [k for k in range(2000) if k % 97 != 5]
    np.testing.assert_array_equal(np.concatenate([rows.numbers for rows in batches]) - 1, good)
    texts = [row["b" + " " * shift] for row in entries(batches)]
    assert texts == ["é" * (k % 5) + f'\n"{k}"' for k in good]


@pytest.mark.parametrize(
    "data",
    [b'a,b\n1,"2\n3\n4,5\n', b'a,b\n1,2\n1,"2\n', b'a,b\n1,2\n1,"2""\n', b'a,b\n1,2\n"1\n2,3'],
    ids=["first row", "last row", "doubled", "no field after it"],
)
def test_a_quote_that_is_never_closed_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a quote that is opened near its end is never closed"):
        read_csv(data, tmp_path)


def test_a_quote_that_swallows_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="after row 1 comes one of more than 2097152 bytes; a quote may be"):
        read_csv(b'a,b\n1,2\n1,"' + b"xxx,1\n" * 1_000_000, tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty: a csv file starts with the names of its columns"),
        (b"\n\n", "is empty"),
        (b"\xff\xfea\x00", "its header is not UTF-8 text"),
        (b"x" * 70_000, "its header is longer than 65536 bytes"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        read_csv(data, tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"1", b",", b",", b'"', b"\n", b"\n", b"\r\n", b"\xff", b"\xc3\xa9", b" "])
    )
)
def test_any_bytes_are_refused_or_give_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    data = b"".join([b"x,y\n", *pieces])
    path.write_bytes(data)
    try:
        batches = read(path, n_rows=2)
    except InputError:
        return
    numbers = [number for rows in batches for number in rows.numbers.tolist()]
    assert sorted([*numbers, *(row for row, *_ in rejected(batches))]) == list(
        range(1, len(numbers) + len(rejected(batches)) + 1)
    )
    lines = list(csv.reader(io.StringIO(data.decode(errors="surrogateescape"), newline="")))[1:]
    if b'"' not in data:
        assert len(numbers) + len(rejected(batches)) == len([line for line in lines if line])
        assert [list(row.values()) for row in entries(batches)] == [
            line for line in lines if len(line) == 2 and not any("\udcff" in text for text in line)
        ]


def test_a_byte_order_mark_and_empty_lines_go(tmp_path: Path) -> None:
    batches = read_csv(b"\xef\xbb\xbf\r\na,b\r\n\r\n1,2\r\n\r\n\r\n3,4", tmp_path)
    assert entries(batches) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_marks_of_missing_entries_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"x\n-\nNA\n1.5\n")
    schema = TableEncoder().fit(pd.DataFrame({"x": [0.5, np.nan, 2.25, 1.0]})).schema_
    [rows] = read(tmp_path / "t.csv", missing_texts=["-"])
    assert cast(rows, schema)[0]["x"].isna().tolist() == [True, True, False]
    [rows] = read(tmp_path / "t.csv")
    assert [each.value for each in cast(rows, schema)[2]] == ["-"]


def test_a_file_that_changes_its_header_meanwhile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    [partition] = open_sources([str(tmp_path / "t.csv")])
    assert partition.schema.names == ["a", "b"]
    (tmp_path / "t.csv").write_text("a,c\n1,2\n")
    with pytest.raises(InputError, match="has changed since its header was read"):
        list(partition.batches(5))


# --- what is read ----------------------------------------------------------------------------------------


def names(*specs: Path | str, **options: Any) -> list[str]:
    return [partition.name for partition in open_sources([str(spec) for spec in specs], **options)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files for readers, and three that writers hide."""
    for name in ("b/2.csv", "b/1.csv", "a.csv", "_run.json", ".x.csv.part", "_tmp/3.csv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n1\n")
    return tmp_path / "in"


def test_folders_and_globs_come_in_a_fixed_order(folder: Path) -> None:
    expected = [str(folder / name) for name in ("a.csv", "b/1.csv", "b/2.csv")]
    assert names(folder) == expected
    assert names(f"{folder}/b/*.csv", folder) == [*expected[1:], expected[0]]
    assert sorted(names(f"{folder}/**/[0-9a].csv")) == [str(folder / "_tmp/3.csv"), *expected]
    assert names(folder / "b/1.csv", folder / "b" / ".." / "b" / "1.csv") == expected[1:2]


def test_partitions_know_where_they_lie_below_what_was_named(folder: Path) -> None:
    def inside(spec: str) -> list[str]:
        return [partition.inside for partition in open_sources([spec])]

    assert inside(str(folder)) == ["a.csv", "b/1.csv", "b/2.csv"]
    assert inside(f"{folder}/b/*.csv") == ["1.csv", "2.csv"]
    assert inside(f"{folder}/*/1.csv") == ["b/1.csv"]
    assert inside(f"{folder}/a.csv") == ["a.csv"]
    assert inside("-") == ["rows"]


def test_a_name_with_magic_characters_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "t[1].csv").write_text("a\n1\n")
    assert names(tmp_path / "t[1].csv") == [str(tmp_path / "t[1].csv")]


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file '.*absent\.csv'"):
        names(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"no file matches '.*\*\.csv'"):
        names(tmp_path / "*.csv")
    with pytest.raises(InputError, match="there is no file in the folder"):
        names(tmp_path)
    with pytest.raises(UsageError, match="name at least one source"):
        names()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\n1\n")
    with pytest.raises(UsageError, match="does not tell its format"):
        names(tmp_path / "t.txt")
    assert names(tmp_path / "t.txt", format="csv") == [str(tmp_path / "t.txt")]
    with pytest.raises(UsageError, match="a format is one of csv, csv.gz, .*; got 'excel'"):
        names(tmp_path / "t.txt", format="excel")
    with pytest.raises(UsageError, match="a query needs a database"):
        names(tmp_path / "t.txt", query="SELECT 1")
    with pytest.raises(UsageError, match="parquet cannot be read from standard input"):
        names("-", format="parquet")


def test_a_file_that_is_gone_meanwhile_is_refused(tmp_path: Path) -> None:
    for name, write in FORMATS.items():
        write(FRAME, tmp_path / name)
        [partition] = open_sources([str(tmp_path / name)])
        (tmp_path / name).unlink()
        for use in (partition.fingerprint, lambda: partition.schema, lambda: list(partition.batches(5))):  # noqa: B023
            with pytest.raises(InputError, match=f"there is no file '.*{name}'"):
                use()


# --- partitioned folders ---------------------------------------------------------------------------------


def test_a_partitioned_folder_gives_the_scores_of_pandas(tmp_path: Path) -> None:
    frame = FRAME.assign(
        year=np.where(np.arange(300) % 3 == 0, 2025, 2026),
        site=np.where(np.arange(300) % 2 == 0, "north/east", "süd"),
    )
    frame.to_parquet(tmp_path / "t", partition_cols=["year", "site"])
    together = pd.read_parquet(tmp_path / "t")
    encoder = TableEncoder().fit(together)
    frames = [cast(rows, encoder.schema_) for rows in read(tmp_path / "t", n_rows=40)]
    assert not [each for _, _, bad in frames for each in bad]
    given = pd.concat([part for part, _, _ in frames], ignore_index=True)
    np.testing.assert_allclose(encoder.encode(given)[0], encoder.encode(together)[0], rtol=1e-12)
    numeric = TableEncoder().fit(together.astype({"year": int}))
    parts = [cast(rows, numeric.schema_)[0] for rows in read(tmp_path / "t")]
    expected = numeric.encode(together.astype({"year": int}))[0]
    np.testing.assert_allclose(numeric.encode(pd.concat(parts))[0], expected, rtol=1e-12)
    [only] = names(f"{tmp_path}/t/year=2025/site=s*/*.parquet")
    assert {(row["year"], row["site"]) for row in entries(read(only.replace("site=s", "site=[s]")))} == {
        ("2025", "süd")
    }


def test_a_folder_of_no_value_is_a_missing_entry(tmp_path: Path) -> None:
    (tmp_path / "t" / "site=__HIVE_DEFAULT_PARTITION__").mkdir(parents=True)
    FRAME.to_parquet(tmp_path / "t" / "site=__HIVE_DEFAULT_PARTITION__" / "0.parquet")
    assert {row["site"] for row in entries(read(tmp_path / "t"))} == {None}


def test_a_column_of_the_file_goes_before_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "t" / "n=99").mkdir(parents=True)
    FRAME.to_parquet(tmp_path / "t" / "n=99" / "0.parquet")
    [rows] = read(tmp_path / "t", n_rows=500)
    assert rows.batch.column("n").to_pylist() == FRAME["n"].tolist()


# --- columns that change between files -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"a": [1.0]}, "two.parquet' lacks column 'b', which '.*one.parquet' has"),
        ({"a": [1.0], "b": ["x"], "c": [1]}, "has column 'c', which '.*one.parquet' has not"),
        ({"a": ["1.0"], "b": ["x"]}, "has string in column 'a', where '.*one.parquet' has double"),
    ],
)
def test_columns_that_change_between_files_are_refused(
    second: dict[str, list[Any]], reason: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"a": [1.0], "b": ["x"]}), tmp_path / "one.parquet")
    pq.write_table(pa.table(second), tmp_path / "two.parquet")
    checked = check_same_columns(open_sources([str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet")]))
    assert next(checked).name.endswith("one.parquet")
    with pytest.raises(SchemaError, match=reason):
        next(checked)


def test_another_order_and_a_column_with_nothing_in_it_are_no_change(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], "b": ["x"]}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"b": pa.nulls(1), "a": [1.0]}), tmp_path / "two.parquet")
    checked = check_same_columns(open_sources([str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet")]))
    assert len(list(checked)) == 2


# --- standard input --------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and cannot be read twice."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[: min(len(buffer), 100)]
        self._data = self._data[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, format_: str | None = None) -> Partition:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Pipe(data), 128)))
    [partition] = open_sources(["-"], format=format_)
    return partition


@pytest.mark.parametrize("format_", [None, "csv", "csv.gz", "csv.zst", "arrow"])
def test_standard_input_is_read_once(format_: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FRAME.to_csv(index=False).encode()
    data = {
        None: text,
        "csv": text,
        "csv.gz": gzip.compress(text),
        "csv.zst": pa.compress(text, "zstd", asbytes=True),
        "arrow": stream_of(FRAME),
    }
    partition = standard_input(monkeypatch, data[format_], format_)
    assert (partition.name, partition.fingerprint()) == ("-", None)
    assert partition.schema.names == FRAME.columns.tolist()
    batches = list(partition.batches(77))
    np.testing.assert_array_equal(np.concatenate([rows.numbers for rows in batches]), np.arange(1, 301))


@pytest.mark.parametrize("format_", ["csv.gz", "csv.zst", "arrow"])
def test_standard_input_that_ends_early_is_refused(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FRAME.to_csv(index=False).encode()
    data = {
        "csv.gz": gzip.compress(text),
        "csv.zst": pa.compress(text, "zstd", asbytes=True),
        "arrow": stream_of(FRAME),
    }
    partition = standard_input(monkeypatch, data[format_][:-8], format_)
    with pytest.raises(InputError, match="'-' cannot be read"):
        list(partition.batches(77))


# --- faults below ----------------------------------------------------------------------------------------


def test_an_error_of_the_disk_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 4_000_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    data = b"a,b\n" + b"1,2\n" * 3_000_000
    monkeypatch.setattr("flowdetect.jobs._csv.open_stream", lambda path, codec: Broken(data))
    with pytest.raises(InputError, match=r"'t\.csv' cannot be read: Input/output error\."):
        for _ in CsvPartition(Path("t.csv")).batches(100_000):
            pass
