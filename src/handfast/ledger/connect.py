"""The database behind a ledger's URL."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from handfast.contracts.errors import SettingsError
from handfast.ledger.database import Database
from handfast.ledger.postgres import PostgresDatabase
from handfast.ledger.postgres_url import connect_arguments
from handfast.ledger.sqlite import SqliteDatabase


def connect_database(url: str) -> Database:
    """The database behind a URL: `sqlite:///path`, or `postgresql://user@host/name` with the options of libpq.

    Raises:
        SettingsError: The URL is not one of these, has an option that can't be honoured, or its driver is not installed.
    """
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in {"postgresql", "postgres"}:
        return PostgresDatabase(connect_arguments(url))
    if scheme != "sqlite":
        msg = f"the scheme of HANDFAST_LEDGER_URL is {scheme!r}: write sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise SettingsError(msg)
    try:
        return SqliteDatabase(make_url(url))
    except ArgumentError as error:
        msg = f"HANDFAST_LEDGER_URL {url!r} can't be read: write sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise SettingsError(msg) from error
