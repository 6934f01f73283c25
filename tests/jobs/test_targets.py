"""What is written is what was there before, or all of it: whatever fails, and wherever."""

import datetime
import errno
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowdetect.jobs._errors import StorageError, UsageError
from flowdetect.jobs._sources import open_sources
from flowdetect.jobs._targets import open_target, output_names

NAMES = ["t.csv", "t.csv.gz", "t.csv.zst", "t.parquet", "t.arrow", "t.feather"]
TEXTS = ["plain", "a, b", 'so "called"', "two\nlines", " é ", ""]


def batch_of(n_rows: int = 40) -> pa.RecordBatch:
    rng = np.random.default_rng(n_rows)
    return pa.RecordBatch.from_pydict(
        {
            "x": pa.array(rng.normal(size=n_rows) * 10.0 ** rng.integers(-12, 12, n_rows)),
            "n": pa.array([None if k % 7 == 0 else 2**60 + k for k in range(n_rows)], pa.int64()),
            "text, of some": pa.array([TEXTS[k % len(TEXTS)] for k in range(n_rows)], pa.string()),
            "truth": pa.array([None if k % 5 == 0 else k % 2 == 0 for k in range(n_rows)], pa.bool_()),
            "day": pa.array([datetime.date(2026, 1, 1 + k % 28) for k in range(n_rows)], pa.date32()),
            "seen": pa.array(
                [datetime.datetime(2026, 1, 1, 8, k % 60) for k in range(n_rows)], pa.timestamp("us")
            ),
        }
    )


BATCH = batch_of()


def write(spec: Path | str, *batches: pa.RecordBatch, **options: Any) -> Any:
    with open_target(str(spec), **options).begin("", batches[0].schema) as writer:
        for batch in batches:
            writer.write(batch)
    return writer


def read(path: Path | str, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of a file, with their types also if the file has none."""
    [partition] = open_sources([str(path)])
    rows = [row for each in partition.batches(1000) for row in each.batch.to_pylist()]
    if "csv" not in str(path):
        return rows
    frame = pd.DataFrame(rows, columns=schema.names).replace("", None)
    frame["truth"] = frame["truth"].map({"True": True, "False": False})
    frame["day"], frame["seen"] = (
        pd.to_datetime(frame["day"]),
        pd.to_datetime(frame["seen"], format="ISO8601"),
    )
    frame["x"] = frame["x"].astype(float)
    frame["n"] = pd.array([None if pd.isna(text) else int(text) for text in frame["n"]], dtype="Int64")
    return pa.RecordBatch.from_pandas(frame, schema, preserve_index=False).to_pylist()


def expected(name: str, *batches: pa.RecordBatch) -> list[dict[str, Any]]:
    rows = [row for batch in batches for row in batch.to_pylist()]
    if "csv" in name:  # an empty text and a missing one are the same there
        rows = [{key: value if value != "" else None for key, value in row.items()} for row in rows]
    return rows


# --- what is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_rows_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    writer = write(path, BATCH, batch_of(0), batch_of(3), BATCH.slice(5, 9))
    assert read(path, BATCH.schema) == expected(name, BATCH, batch_of(3), BATCH.slice(5, 9))
    assert (writer.name, writer.n_rows) == (str(path), 52)
    assert writer.size == path.stat().st_size
    assert writer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    first = write(tmp_path / name, BATCH)
    assert write(tmp_path / name, BATCH).sha256 == first.sha256


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_leave_a_file_with_columns(name: str, tmp_path: Path) -> None:
    assert write(tmp_path / name, batch_of(0)).n_rows == 0
    [partition] = open_sources([str(tmp_path / name)])
    assert partition.schema.names == BATCH.schema.names


def test_csv_is_what_pandas_reads(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", BATCH)
    frame = pd.read_csv(tmp_path / "t.csv")
    np.testing.assert_allclose(frame["x"], BATCH.column("x").to_numpy(), rtol=1e-15)
    assert frame["text, of some"].fillna("").tolist() == BATCH.column("text, of some").to_pylist()
    assert frame["truth"].dropna().tolist() == [k % 2 == 0 for k in range(40) if k % 5]


def test_csv_quotes_only_what_needs_it(tmp_path: Path) -> None:
    columns = {"a": ["x", "1,5", None], "b": [True, None, False], "c": [1e-7, 1.0, np.nan]}
    write(tmp_path / "t.csv", pa.record_batch(columns))
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\nx,True,1e-7\n"1,5",,1\n,False,nan\n'


def test_a_missing_entry_alone_in_its_row_is_a_row(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", pa.record_batch({"a": ["x", None, "", "y"]}))
    assert len(pd.read_csv(tmp_path / "t.csv", skip_blank_lines=True)) == 4
    [partition] = open_sources([str(tmp_path / "t.csv")])
    assert [rows.numbers.tolist() for rows in partition.batches(9)] == [[1, 2, 3, 4]]


def test_a_list_is_refused_by_csv(tmp_path: Path) -> None:
    batch = pa.record_batch({"v": pa.array([[1.0]])})
    with pytest.raises(StorageError, match=r"column 'v' holds list<.*>, which csv cannot hold. Take parquet"):
        write(tmp_path / "t.csv", batch)
    assert not list(tmp_path.iterdir())
    write(tmp_path / "t.parquet", batch)


def test_categories_are_written_as_their_texts(tmp_path: Path) -> None:
    batch = pa.record_batch({"c": pa.array(["x", None, "y"]).dictionary_encode(), "k": [1, 2, 3]})
    write(tmp_path / "t.csv", batch)
    assert (tmp_path / "t.csv").read_text() == "c,k\nx,1\n,2\ny,3\n"


# --- where it is written ---------------------------------------------------------------------------------


def test_a_folder_has_a_file_for_each_source(tmp_path: Path) -> None:
    for name in ("in/a.csv", "in/b/a.csv.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    outputs = output_names(open_sources([str(tmp_path / "in")]))
    assert outputs == ["a", "b/a"]
    target = open_target(f"{tmp_path}/out/")
    for output in outputs:
        with target.begin(output, BATCH.schema) as writer:
            writer.write(BATCH)
        assert writer.name == f"{tmp_path}/out/{output}.parquet"
        assert pq.read_table(writer.name).num_rows == 40
    with open_target(f"{tmp_path}/out", format="csv.gz").begin("a", BATCH.schema) as writer:
        writer.write(BATCH)
    assert len(pd.read_csv(tmp_path / "out" / "a.csv.gz")) == 40


def test_the_name_of_an_output_does_not_depend_on_other_sources(tmp_path: Path) -> None:
    for name in ("in/01/a.csv", "in/02/a.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
        assert output_names(open_sources([str(tmp_path / "in")]))[-1] == name[3:-4]


def test_two_sources_for_one_output_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        pd.DataFrame({"x": [1.5]}).to_csv(tmp_path / name, index=False)
    with pytest.raises(UsageError, match="two sources would be written to the same file of the folder, 'a'"):
        output_names(open_sources([str(tmp_path)]))


def test_targets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not tell its format"):
        open_target(str(tmp_path / "t.txt"))
    with pytest.raises(UsageError, match="a format is one of"):
        open_target(str(tmp_path / "t.txt"), format="excel")
    with pytest.raises(UsageError, match="there is no folder"):
        open_target(str(tmp_path / "absent" / "t.csv"))
    with pytest.raises(UsageError, match="parquet cannot be written to standard output"):
        open_target("-", format="parquet")


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    for path in ("/dev/null", str(tmp_path / "t.csv")):
        with pytest.raises(UsageError, match="is no file that can be replaced"):
            open_target(path, format="csv")


def test_a_link_stays_and_the_mode_as_well(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o640)
    (tmp_path / "t.csv").symlink_to("real.csv")
    write(tmp_path / "t.csv", BATCH)
    assert (tmp_path / "t.csv").is_symlink()
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o640
    assert len(pd.read_csv(tmp_path / "real.csv")) == 40


# --- what fails ------------------------------------------------------------------------------------------


class FailureError(Exception):
    """Not an error of ours."""


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_an_error_inside_leaves_what_was_there(name: str, is_new: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    if not is_new:
        path.write_text("old")
    with pytest.raises(FailureError), open_target(str(path)).begin("", BATCH.schema) as writer:  # noqa: PT012
        writer.write(BATCH)
        raise FailureError
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == ({} if is_new else {name: "old"})


class Faulty(io.FileIO):
    """A file that takes little at a time, whose n-th write fails, and every later one."""

    def __init__(self, handle: int, fails_at: int, number: int) -> None:
        super().__init__(handle, "wb")
        self.n_writes, self._fails_at, self._number = 0, fails_at, number

    def write(self, data: Any) -> int:
        self.n_writes += 1
        if self.n_writes >= self._fails_at:
            raise OSError(self._number, os.strerror(self._number))
        return super().write(memoryview(data)[:400]) or 0


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, fails_at: int, number: int) -> Iterator[list[Faulty]]:
    """Let the n-th write to the disk fail; small buffers make for many of them."""
    files: list[Faulty] = []

    def opened(handle: int, mode: str) -> io.BufferedWriter:
        assert mode == "wb"
        files.append(Faulty(handle, fails_at, number))
        return io.BufferedWriter(files[-1], 64)

    with monkeypatch.context() as patch:
        patch.setattr("flowdetect._utils.files.os.fdopen", opened)
        yield files


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("name", NAMES)
def test_every_write_may_fail(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_text("old")
    batches = [batch_of(60), batch_of(50)]
    for fails_at in range(1, 10_000):
        with failing(monkeypatch, fails_at, number) as files:
            try:
                write(path, *batches)
            except StorageError as error:
                assert str(error) == f"'{path}' cannot be written: {os.strerror(number)}."  # noqa: PT017
            else:
                break
        assert path.read_text() == "old"
        assert [each.name for each in tmp_path.iterdir()] == [name]
    assert fails_at == files[0].n_writes + 1 > 5
    assert read(path, BATCH.schema) == expected(name, *batches)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.fchmod", "tempfile.mkstemp"])
@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_replacement_may_fail(
    name: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(f"flowdetect._utils.files.{call}", fail)
    with pytest.raises(StorageError, match=r"cannot be written: Read-only file system\.$"):
        write(path, BATCH)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {name: "old"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only an administrator can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(name: str, small_disk: Path) -> None:
    path = small_disk / name
    write(path, BATCH)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="No space left on device"):
        write(path, *[batch_of(20_000 + k) for k in range(4)])
    assert [each.name for each in small_disk.iterdir()] == [name]
    assert path.read_bytes() == before
    write(path, batch_of(7))
    assert len(read(path, BATCH.schema)) == 7


def test_a_disk_that_is_read_only(small_disk: Path) -> None:
    write(small_disk / "t.csv", BATCH)
    before = (small_disk / "t.csv").read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=20)
    with pytest.raises(StorageError, match=r"t\.csv' cannot be written: Read-only file system"):
        write(small_disk / "t.csv", batch_of(7))
    with (
        pytest.raises(StorageError, match="Read-only file system"),
        open_target(f"{small_disk}/new/").begin("a", BATCH.schema),
    ):
        pass
    assert (small_disk / "t.csv").read_bytes() == before


def test_a_reader_sees_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write(path, BATCH)
    with open_target(str(path)).begin("", BATCH.schema) as writer:
        for _ in range(5):
            writer.write(batch_of(1000))
            assert pq.read_table(path).num_rows == 40
    assert pq.read_table(path).num_rows == 5000


# --- standard output -------------------------------------------------------------------------------------

PROGRAM = """
import sys
import pyarrow as pa
import numpy as np
from flowdetect.jobs._errors import StorageError
from flowdetect.jobs._targets import open_target

rng = np.random.default_rng(0)
schema = pa.schema([("a", pa.float64()), ("b", pa.string())])
try:
    with open_target("-", format=sys.argv[1]).begin("", schema) as writer:
        for _ in range(int(sys.argv[2])):
            writer.write(pa.record_batch([pa.array(rng.random(1000)), ["text"] * 1000], schema=schema))
except StorageError as error:
    sys.stderr.write(f"refused: {error}")
    sys.exit(error.exit_code)
"""


def program(format_: str, n_batches: int, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, format_, str(n_batches)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, cwd=root, **options)


READERS: dict[str, Callable[[bytes], int]] = {
    "csv": lambda data: len(pd.read_csv(io.BytesIO(data))),
    "csv.gz": lambda data: len(pd.read_csv(io.BytesIO(data), compression="gzip")),
    "csv.zst": lambda data: len(pd.read_csv(pa.CompressedInputStream(pa.BufferReader(data), "zstd"))),
    "arrow": lambda data: pa.ipc.open_stream(data).read_all().num_rows,
}


@pytest.mark.parametrize("format_", READERS)
def test_standard_output(format_: str) -> None:
    process = program(format_, 3, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert READERS[format_](out) == 3000


@pytest.mark.parametrize("format_", READERS)
def test_a_closed_pipe_is_one_sentence(format_: str) -> None:
    process = program(format_, 300, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == StorageError.exit_code
    assert err == b"refused: standard output cannot be written: Broken pipe."


def test_standard_output_on_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        process = program("csv", 100, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == StorageError.exit_code
    assert err == b"refused: standard output cannot be written: No space left on device."
