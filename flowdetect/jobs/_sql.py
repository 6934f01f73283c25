"""Tables of databases through SQLAlchemy: read with a cursor of the server, written in one transaction."""

from __future__ import annotations

import datetime
import decimal
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from flowdetect.jobs._arrow import check_names, numbered
from flowdetect.jobs._errors import InputError, JobError, TryAgainError, UsageError
from flowdetect.jobs._rows import Rows

__all__ = ["SqlPartition", "connect", "database_file", "split_url", "sql_errors", "table_named"]

_SECRETS = re.compile(r"(?i)pass|pwd|secret|token|key|credential")
# What drivers call operational though it will be the same tomorrow.
_LASTING = (
    *("no such table", "no such column", "has no column", "syntax error", "unable to open", "not a database"),
    *("readonly", "read-only", "authentication failed", "no password", "does not exist"),
    *("disk is full", "no space left", "disk i/o error", "malformed"),
)
# Where files lie that a job cannot reach by itself.
_REMOTE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "ftp", "sftp", "hdfs", "file")
_COLON = re.compile(r"(?<![:\w\\]):(?=\w)")
_FIRST_ROWS = 1000  # decide the types of the columns of a query


class SqlPartition:
    """A table, or the rows of a query.

    Parameters
    ----------
    spec : str
        URL of SQLAlchemy, or ``env:NAME`` for the variable that holds one, with ``#table`` if no `query`.
    query : str, optional
    """

    def __init__(self, spec: str, *, query: str | None = None) -> None:
        self._url, self.table, self.name = split_url(spec)
        if (query is None) == (self.table is None):
            raise UsageError(
                f"'{self.name}' wants a table, as '#name' at the end of the URL, or a query, and not both."
            )
        self.path: Path | None = None
        self.inside = "rows" if self.table is None else self.table
        self._query = query
        self._schema: pa.Schema | None = None

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch, from the first rows.

        Raises
        ------
        InputError, TryAgainError
        """
        if self._schema is None:
            next(self.batches(_FIRST_ROWS))
        if self._schema is None:
            raise InputError(f"'{self.name}' gave no columns.")
        return self._schema

    def fingerprint(self) -> str | None:
        """Return None: rows of a database have no bytes to compare."""
        return None

    def batches(self, n_rows: int) -> Iterator[Rows]:
        """Yield the rows as the database orders them, at most `n_rows` at a time, with a cursor of its own.

        Raises
        ------
        InputError
            If the query fails, or a column changes its type.
        TryAgainError
            If the connection is lost.
        """
        with (
            sql_errors(self.name, InputError),
            connect(self._url, self.name, must_exist=True) as engine,
            engine.connect().execution_options(stream_results=True, max_row_buffer=n_rows) as connection,
        ):
            result = connection.execute(self._statement())
            names = [str(name) for name in result.keys()]  # noqa: SIM118 - not a mapping
            check_names(names, self.name)
            # As many whatever the size of a batch: the types must not depend on it.
            first = result.fetchmany(_FIRST_ROWS)
            schema = self._schema = self._schema or _schema_of(names, first)
            chunks = chain([first], result.partitions(n_rows))
            yield from numbered(self._typed(chunks, schema), schema, self.name, n_rows)

    def _statement(self) -> Any:
        import sqlalchemy as sa

        if self._query is not None:
            # A colon in the query is no parameter of ours.
            return sa.text(_COLON.sub(r"\\:", self._query))
        return sa.select(sa.text("*")).select_from(table_named(str(self.table)))

    def _typed(self, chunks: Iterable[Sequence[Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        seen = 0
        for chunk in chunks:
            columns = list(zip(*chunk, strict=True)) or [()] * len(schema)
            arrays = [self._array(values, field, seen) for values, field in zip(columns, schema, strict=True)]
            seen += len(chunk)
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _array(self, values: Sequence[Any], field: pa.Field, seen: int) -> pa.Array:
        try:
            plain = [_plain(value) for value in values]
            if pa.types.is_string(field.type):
                plain = [None if value is None else str(value) for value in plain]
            return pa.array(plain, field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"'{self.name}' has something else than {field.type} in column '{field.name}' after row "
                f"{seen}: cast it in the query."
            ) from error


def split_url(spec: str) -> tuple[str, str | None, str]:
    """Return the URL, the table and a name without secrets."""
    given, _, table = spec.partition("#")
    url = given
    if given.startswith("env:"):
        variable = given.removeprefix("env:")
        url = os.environ.get(variable, "")
        if not url:
            raise UsageError(f"the environment variable {variable} holds no URL of a database.")
        url, _, inside = url.partition("#")
        table = table or inside
    return url, table or None, _masked(url) + (f"#{table}" if table else "")


def _masked(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    if scheme in _REMOTE:
        raise UsageError(
            f"'{scheme}://' is no database: copy or mount the files and name their path, or pipe them to '-'."
        )
    try:
        import sqlalchemy as sa

        parsed = sa.make_url(url)
    except ImportError as error:
        raise UsageError("databases need SQLAlchemy: pip install '.[sql]' in flowdetect's folder.") from error
    except Exception as error:
        raise UsageError(
            "a source or target with '://' must be a URL of SQLAlchemy, such as sqlite:///file.db."
        ) from error
    # A value may hold names of its own: odbc_connect=DRIVER=...;UID=...;PWD=...
    shown = {k: "***" if _SECRETS.search(f"{k} {v}") else v for k, v in parsed.query.items()}
    return parsed.set(query=shown).render_as_string(hide_password=True)


def table_named(name: str) -> Any:
    """Return a table by its name, with or without that of its schema before a dot."""
    import sqlalchemy as sa

    schema, _, table = name.rpartition(".")
    return sa.table(table, schema=schema or None)


@contextmanager
def connect(url: str, name: str, *, must_exist: bool = False) -> Iterator[Any]:
    """Open a database, and close all connections to it in the end.

    Raises
    ------
    InputError
        If it is a file that is not there, and must be.
    UsageError
        If there is no driver for it.
    """
    import sqlalchemy as sa

    path = database_file(sa.make_url(url))
    # Opening it would make an empty one.
    if must_exist and path is not None and not os.path.exists(path):
        raise InputError(f"there is no file for '{name}'.")
    try:
        # Values of rows are no text for messages.
        engine = sa.create_engine(url, hide_parameters=True, poolclass=sa.pool.NullPool)
    except (ImportError, sa.exc.ArgumentError) as error:
        raise UsageError(
            f"'{name}' has no driver here: pip install '.[sql]' in flowdetect's folder, or the driver itself."
        ) from error
    try:
        yield engine
    finally:
        engine.dispose()


def database_file(url: Any) -> str | None:
    """Return the file that a database is; None for a server and for one in memory."""
    path: str = url.database or ":memory:"
    is_file = url.get_backend_name() in ("sqlite", "duckdb") and not path.startswith((":", "file:", "md:"))
    return path if is_file else None


@contextmanager
def sql_errors(name: str, kind: type[JobError]) -> Iterator[None]:
    """Turn what a database raises into one sentence without secrets.

    Raises
    ------
    TryAgainError
        If the connection was lost, or something was locked.
    InputError or StorageError
        Of the type given, for everything else.
    """
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.DBAPIError as error:
        text = _reason(error.orig)
        lost = error.connection_invalidated or isinstance(error, sa.exc.OperationalError)
        if lost and not _stays(text):
            raise TryAgainError(f"'{name}' cannot be reached: {text}") from error
        raise kind(f"'{name}' refused: {text}") from error
    except sa.exc.SQLAlchemyError as error:
        raise kind(f"'{name}' cannot be used: {_reason(error)}") from error


def _stays(text: str) -> bool:
    """Return whether an error will be the same tomorrow, though drivers call it operational."""
    return any(sign in text.lower() for sign in _LASTING)


def _reason(error: Any) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = re.sub(r"://([^:/@\s]+):[^@\s]*@", r"://\1:***@", lines[0] if lines else type(error).__name__)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _schema_of(names: list[str], rows: Sequence[Any]) -> pa.Schema:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    fields = [pa.field(name, _type_of(values)) for name, values in zip(names, columns, strict=True)]
    return pa.schema(fields)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    plain = [_plain(value) for value in values]
    try:
        kind = pa.array(plain).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.string()
    if pa.types.is_null(kind):
        return pa.string()  # read as the model knows the column, like the text of a csv file
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return kind


def _plain(value: Any) -> Any:
    """Return a value of a driver as one that arrow has a type for."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC)
    known = (type(None), bool, int, float, str, datetime.date, datetime.timedelta)
    return value if isinstance(value, known) else str(value)
