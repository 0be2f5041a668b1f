"""Bringing a database to the tables this version needs, with Alembic's scripts that ship in the package."""

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from handfast.contracts.errors import LedgerSchemaError

SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 0x486F6C64
"""The advisory lock under which only one process migrates a PostgreSQL database at a time."""

NEWEST = "0009"
"""The revision this version needs: the last script's."""
ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in globals, so a process migrates one database after the other."""


def current_revision(connection: Connection) -> str:
    """The revision the database has, empty if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def migrate(connection: Connection) -> tuple[str, str]:
    """Bring the database to the newest revision; the revisions before and after."""
    # 13 MB and a tenth of a second that only whoever migrates pays.
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    before = current_revision(connection)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, NEWEST


def require_newest(connection: Connection) -> None:
    """Refuse a database that has other tables than this version needs.

    Raises:
        LedgerSchemaError: It does.
    """
    current = current_revision(connection)
    if current != NEWEST:
        have = f"is at revision {current!r}" if current else "has no tables yet"
        raise LedgerSchemaError(f"the ledger {have}, this version needs {NEWEST!r}: run `handfast ledger migrate`")
