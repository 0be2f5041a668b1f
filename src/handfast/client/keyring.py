"""The private key that somebody decides with, from a file."""

import contextlib
import getpass
import os
from pathlib import Path

from handfast.contracts.errors import DecisionRefused, SettingsError, SignatureRefused
from handfast.contracts.grants import Approver, SigningKey
from handfast.contracts.words import Words, sign_words
from handfast.ledger import Ledger
from handfast.settings import Settings


def read_key(path: Path, password: str = "") -> SigningKey:
    """The private key in a file.

    Raises:
        SettingsError: There is no such file, or no key in it that can be read.
    """
    try:
        return SigningKey.from_pem(path.read_bytes(), password.encode() or None)
    except OSError as error:
        msg = f"the key {str(path)!r} can't be read: {error.strerror}; make one with `handfast keys new NAME`"
        raise SettingsError(msg) from error
    except SignatureRefused as error:
        hint = "" if password else "; if it is encrypted, set HANDFAST_KEY_PASSWORD"
        msg = f"the key {str(path)!r}: {error}{hint}"
        raise SettingsError(msg) from error


def write_key(path: Path, key: SigningKey, password: str = "") -> None:
    """Keep a private key in a new file that only its owner can read.

    Raises:
        SettingsError: There is such a file already, or it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(key.to_pem(password.encode() or None))
    except FileExistsError as error:
        msg = f"{str(path)!r} is there already: a key is never overwritten; say another place with --out"
        raise SettingsError(msg) from error
    except OSError as error:
        msg = f"the key can't be written to {str(path)!r}: {error.strerror}"
        raise SettingsError(msg) from error


class KeyRing:
    """Finds the key that this process decides with."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._local: SigningKey | None = None
        self._client: SigningKey | None = None

    async def key(self) -> SigningKey:
        """The key of the settings; where nobody has a key of their own yet, one that is made for whoever sits here.

        Raises:
            DecisionRefused: People decide with keys here, and none was given.
            SettingsError: The key can't be read.
        """
        if self._settings.key is not None:
            return read_key(self._settings.key, self._settings.key_password)
        known = await self._ledger.installation.approvers()
        if self._settings.approvers is not None or any(one.decides and not one.local for one in known):
            msg = (
                "people decide with their own keys here: give yours with --key or HANDFAST_KEY; "
                "`handfast keys list` shows whose count"
            )
            raise DecisionRefused(msg)
        if self._local is None:
            self._local = await self._of_this_place(known)
        return self._local

    def sign(self, words: Words) -> str:
        """The signature of what a user says, by the key of this client; empty if it has none.

        Raises:
            SettingsError: The key can't be read.
        """
        if self._settings.client_key is None:
            return ""
        if self._client is None:
            self._client = read_key(self._settings.client_key, self._settings.key_password)
        return sign_words(self._client, words)

    async def _of_this_place(self, known: list[Approver]) -> SigningKey:
        path = self._settings.home / "keys" / "local.key"
        if not path.exists():
            # Somebody else may make it at this very moment: then theirs is read.
            with contextlib.suppress(SettingsError):
                write_key(path, SigningKey.new())
        key = read_key(path)
        if all(one.key_id != key.key_id for one in known):
            name = login()
            await self._ledger.installation.add_key(Approver(name=name, public=key.public, local=True), name)
        return key


def login() -> str:
    """Who sits here, as far as the operating system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
