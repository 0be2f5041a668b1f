"""The database behind a ledger's URL."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from handfast.contracts.errors import SettingsError
from handfast.ledger.database import Database
from handfast.ledger.postgres import PostgresDatabase
from handfast.ledger.sqlite import SqliteDatabase


def connect_database(url: str) -> Database:
    """The database behind a URL: `sqlite:///path` or `postgresql://user@host/name`.

    Raises:
        SettingsError: The URL is not one of these, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        msg = f"ledger URL {url!r} can't be read: write sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise SettingsError(msg) from error
    match parsed.get_backend_name():
        case "sqlite":
            return SqliteDatabase(parsed)
        case "postgresql":
            return PostgresDatabase(parsed)
        case other:
            msg = f"ledger URL scheme {other!r} is not known: allowed are sqlite and postgresql"
            raise SettingsError(msg)
