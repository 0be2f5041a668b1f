"""What both services share: a database of their own with a log that can only grow."""

import json
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, at REAL NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS log_kept BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER IF NOT EXISTS log_fixed BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
"""


class Store:
    """A SQLite file with a log that only grows."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        with self.transaction() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with sqlite3.connect(path) as connection:
            connection.executescript(SCHEMA + schema)

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A connection whose writes are committed together."""
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()

    def write(self, connection: sqlite3.Connection, what: str, **detail: Any) -> None:
        """Add to the log."""
        connection.execute(
            "INSERT INTO log (at, what, detail) VALUES (?, ?, ?)",
            (time.time(), what, json.dumps(detail, sort_keys=True)),
        )

    def log(self) -> list[dict[str, Any]]:
        """The whole log, oldest first."""
        with self.transaction() as connection:
            rows = connection.execute("SELECT n, at, what, detail FROM log ORDER BY n").fetchall()
        return [{"n": row["n"], "at": row["at"], "what": row["what"], **json.loads(row["detail"])} for row in rows]
