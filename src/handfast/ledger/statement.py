"""Statements of the hot path: made once at import, and on SQLite run by its driver without SQLAlchemy's machinery.

A call with an effect runs some fifteen statements; through SQLAlchemy each costs 50 µs of CPU on SQLite, of which the
database takes 10. PostgreSQL, where the network dominates, runs the same statements through SQLAlchemy.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from sqlalchemy import Connection, Executable, Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import NoResultFound
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Row = Any
"""A row with a field for each column: a named tuple, or SQLAlchemy's."""
Values = Mapping[str, Any]
DIALECT = sqlite.dialect(paramstyle="named")


class Statement:
    """One statement with named parameters.

    Args:
        clause: A SQLAlchemy statement with a `bindparam` for each parameter.
        columns: For an insert without values: the columns that its rows give.
    """

    def __init__(self, clause: Executable, *, columns: Sequence[str] | None = None) -> None:
        if not isinstance(clause, ClauseElement):
            msg = f"{clause!r} is no statement"
            raise TypeError(msg)
        self._clause = clause
        self._columns = columns

    def all(self, connection: Connection, values: Values) -> list[Row]:
        """Every row."""
        if connection.dialect.driver != "pysqlite":
            return list(connection.execute(self._clause, values))
        sql, fixed, make = self._compiled
        return [make(row) for row in raw(connection).execute(sql, {**fixed, **values})]

    def first(self, connection: Connection, values: Values) -> Row | None:
        """The row of a look-up by key, None if there is none."""
        rows = self.all(connection, values)
        return rows[0] if rows else None

    def one(self, connection: Connection, values: Values) -> Row:
        """The row of a look-up by a key that is there.

        Raises:
            NoResultFound: It is not.
        """
        row = self.first(connection, values)
        if row is None:
            msg = f"no row for {dict(values)!r}"
            raise NoResultFound(msg)
        return row

    def run(self, connection: Connection, values: Values) -> None:
        """Change something."""
        if connection.dialect.driver != "pysqlite":
            connection.execute(self._clause, values)
            return
        sql, fixed, _ = self._compiled
        raw(connection).execute(sql, {**fixed, **values})

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Change something once for each of the rows."""
        if connection.dialect.driver != "pysqlite":
            connection.execute(self._clause, rows)
            return
        sql, fixed, _ = self._compiled
        raw(connection).executemany(sql, [{**fixed, **values} for values in rows])

    @cached_property
    def _compiled(self) -> tuple[str, dict[str, Any], Callable[[Sequence[Any]], Row]]:
        """The SQL, the parameters that are part of it, and how a row is made."""
        compiled = cast("SQLCompiler", self._clause.compile(dialect=DIALECT, column_keys=self._columns))
        fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        return str(compiled), fixed, _row_maker(self._clause)


@dataclass(frozen=True, kw_only=True)
class DriverCall:
    """A statement that is a transaction of its own, as PostgreSQL's driver takes it."""

    sql: str
    values: tuple[Any, ...]


def _row_maker(clause: object) -> Callable[[Sequence[Any]], Row]:
    columns: list[Any] = list(clause.selected_columns) if isinstance(clause, Select) else []
    row: Any = collections.namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]
    return cast("Callable[[Sequence[Any]], Row]", row._make)


def raw(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.dbapi_connection
