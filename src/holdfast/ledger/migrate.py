"""Bringing a database to the tables this version needs, with Alembic's scripts that ship in the package."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from holdfast.contracts.errors import LedgerSchemaError

SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 0x486F6C64
"""The advisory lock under which only one process migrates a PostgreSQL database at a time."""

ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in globals, so a process migrates one database after the other."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def newest_revision() -> str:
    """The revision this version needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return head or ""


def current_revision(connection: Connection) -> str:
    """The revision the database has, empty if it has none."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def migrate(connection: Connection) -> tuple[str, str]:
    """Bring the database to the newest revision; the revisions before and after."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    before = current_revision(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, newest_revision()


def require_newest(connection: Connection) -> None:
    """Refuse a database that has other tables than this version needs.

    Raises:
        LedgerSchemaError: It does.
    """
    current, newest = current_revision(connection), newest_revision()
    if current != newest:
        have = f"is at revision {current!r}" if current else "has no tables yet"
        raise LedgerSchemaError(f"the ledger {have}, this version needs {newest!r}: run `holdfast ledger migrate`")
