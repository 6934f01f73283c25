"""A table of a database as a target: a run replaces the rows of the same run key, in one transaction."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import types

from flowdetect.jobs._errors import StorageError, TryAgainError, UsageError
from flowdetect.jobs._sql import connect, database_file, split_url, sql_errors
from flowdetect.jobs._targets import RUN_KEY, Writer

__all__ = ["SqlTarget"]

_RUN = "run_id"
_LONGEST = 200
_ROWS_AT_A_TIME = 2_000


class SqlTarget:
    """A table, made if it is not there.

    Parameters
    ----------
    spec : str
        URL of SQLAlchemy, or ``env:NAME`` for the variable that holds one, with ``#table``.
    run_id : str
        Rows that have it in their column ``run_id`` are deleted first.
    run_key : str, optional
        Goes into a column ``run_key``; rows that have it there are deleted first, whatever their ``run_id``.

    Raises
    ------
    UsageError
        If no table is named, or no run, or the key is too long.
    """

    has_types = True

    def __init__(self, spec: str, run_id: str | None, run_key: str | None = None) -> None:
        self._url, table, self.name = split_url(spec)
        if table is None:
            raise UsageError(f"'{self.name}' wants the table to write, as '#name' at the end of the URL.")
        if run_id is None:
            raise UsageError(f"only scored rows go into a table, as they have a run_id; got '{self.name}'.")
        if run_key is not None and len(run_key) > _LONGEST:
            raise UsageError(f"a run key has at most {_LONGEST} characters; got {len(run_key)}.")
        schema, _, self._table = table.rpartition(".")
        self._schema = schema or None
        self._run_id, self._run_key = run_id, run_key

    @contextmanager
    def begin(self, output: str, schema: pa.Schema) -> Iterator[Writer]:
        """Delete and insert in one transaction, which ends with the block.

        Raises
        ------
        StorageError
            If the database refuses, or does not hold the rows that were written.
        TryAgainError
            If the connection is lost or another run writes to the table.
        """
        import sqlalchemy as sa

        del output
        if self._run_key is not None:
            schema = schema.append(pa.field(RUN_KEY, pa.string()))
        columns = [sa.Column(field.name, _sql_type(field, self.name)) for field in schema]
        with (
            sql_errors(self.name, StorageError),
            connect(self._url, self.name) as engine,
            engine.begin() as connection,
        ):
            self._claim(connection)
            table = sa.Table(self._table, sa.MetaData(), *columns, schema=self._schema)
            self._make(connection, table)
            own = table.c[_RUN] == self._run_id
            if self._run_key is None:
                connection.execute(table.delete().where(own))
            else:
                of_key = table.c[RUN_KEY] == self._run_key
                # Also those of this run from before the table had a column for keys.
                connection.execute(table.delete().where(own | of_key))
                own = of_key
            writer = Writer(self.name, lambda batch: self._insert(connection, table, batch))
            yield writer
            count = sa.select(sa.func.count()).select_from(table).where(own)
            found = connection.execute(count).scalar_one()
            if found != writer.n_rows:
                raise StorageError(
                    f"'{self.name}' holds {found} rows of this run after {writer.n_rows} were written."
                )

    def check(self, schema: pa.Schema) -> None:
        """Reach the database and look whether the table, if it is there, has the columns; nothing is changed.

        Raises
        ------
        StorageError
            If a column is absent, or the file of the database cannot be written.
        TryAgainError
            If the database cannot be reached.
        UsageError
            If there is no driver for it.
        """
        import sqlalchemy as sa

        names = [*schema.names, *([] if self._run_key is None else [RUN_KEY])]
        for field in schema:
            _sql_type(field, self.name)
        path = database_file(sa.make_url(self._url))
        with sql_errors(self.name, StorageError), connect(self._url, self.name) as engine:
            if path is not None and not os.path.exists(path):
                path = os.path.dirname(os.path.abspath(path))
            elif sa.inspect(engine).has_table(self._table, schema=self._schema):
                with engine.connect() as connection:
                    self._check_columns(connection, names)
        if path is not None and not os.access(path, os.W_OK):
            raise StorageError(f"'{self.name}' cannot be written: '{path}' is read-only or not there.")

    def _claim(self, connection: Any) -> None:
        """Keep a second run from writing what this one is about to look for."""
        if connection.dialect.name == "sqlite":
            # The driver would begin the transaction with the first change only.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if connection.dialect.name == "postgresql":
            digest = hashlib.sha256(f"flowdetect {self._schema} {self._table}".encode()).digest()
            key = int.from_bytes(digest[:8], signed=True)
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({key})").scalar_one():
                raise TryAgainError(f"another run writes to '{self.name}'.")

    def _make(self, connection: Any, table: Any) -> None:
        """Make the table, or look whether it has the columns."""
        import sqlalchemy as sa

        if not sa.inspect(connection).has_table(self._table, schema=self._schema):
            table.create(connection)
            return
        self._check_columns(connection, [column.name for column in table.c])

    def _check_columns(self, connection: Any, names: Sequence[str]) -> None:
        import sqlalchemy as sa

        # Without asking for types: not every database can tell them.
        nothing = sa.select(sa.text("*")).select_from(sa.table(self._table, schema=self._schema))
        there = set(connection.execute(nothing.where(sa.false())).keys())
        absent = [name for name in names if name not in there]
        if RUN_KEY in absent:
            raise StorageError(
                f"'{self.name}' lacks the column '{RUN_KEY}', by which the rows of a run are replaced: ALTER "
                f"TABLE {self._table} ADD COLUMN {RUN_KEY} VARCHAR({_LONGEST}), and write the key of each "
                "former run there."
            )
        if absent:
            raise StorageError(f"'{self.name}' lacks column '{absent[0]}'.")

    def _insert(self, connection: Any, table: Any, batch: pa.RecordBatch) -> None:
        plain = pa.table([_plain(column) for column in batch.columns], names=batch.schema.names)
        if self._run_key is not None:
            plain = plain.append_column(RUN_KEY, pa.repeat(pa.scalar(self._run_key), plain.num_rows))
        with sql_errors(self.name, StorageError):
            if connection.dialect.name == "duckdb":
                _insert_whole(connection, table, plain)
                return
            for start in range(0, plain.num_rows, _ROWS_AT_A_TIME):
                connection.execute(table.insert(), plain.slice(start, _ROWS_AT_A_TIME).to_pylist())


def _insert_whole(connection: Any, table: Any, rows: pa.Table) -> None:
    """Insert into DuckDB, which reads arrow but is slow row by row."""
    quoting = connection.dialect.identifier_preparer
    names = ", ".join(quoting.quote_identifier(name) for name in rows.column_names)
    driver = connection.connection.driver_connection
    driver.register("flowdetect_rows", rows)
    try:
        target = quoting.format_table(table)
        connection.exec_driver_sql(f"INSERT INTO {target} ({names}) SELECT {names} FROM flowdetect_rows")
    finally:
        driver.unregister("flowdetect_rows")


def _plain(column: pa.Array) -> pa.Array:
    """Return entries that drivers know: decimals as exact text, times in microseconds, and in UTC."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_decimal(column.type):
        return column.cast(pa.string())
    if types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz and "UTC"), safe=False)
    if types.is_duration(column.type):
        return column.cast(pa.duration("us"), safe=False)
    return column


def _sql_type(field: pa.Field, name: str) -> Any:
    import sqlalchemy as sa

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if field.name in (_RUN, RUN_KEY):
        return sa.String(_LONGEST)
    if types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    known = (
        (types.is_boolean, sa.Boolean),
        (types.is_integer, sa.BigInteger),
        (types.is_floating, sa.Double),
        (types.is_date, sa.Date),
        (types.is_time, sa.Time),
        (types.is_duration, sa.Interval),
        (types.is_null, sa.Text),
        (types.is_string, sa.Text),
        (types.is_large_string, sa.Text),
        (types.is_decimal, sa.Text),
        (types.is_binary, sa.LargeBinary),
    )
    for fits, sql_type in known:
        if fits(kind):
            return sql_type()
    raise StorageError(
        f"'{name}' cannot be written: column '{field.name}' holds {kind}, which has no place there."
    )
