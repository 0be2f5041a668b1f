"""Grants: the signed word of a person on one call. Who holds one can prove it anywhere; who has no key can't make one.

A grant is a text `hf1.PAYLOAD.SIGNATURE`: canonical JSON in base64url, and an Ed25519 signature (RFC 8032) of it under a prefix that
no other use of the key shares. It is bound to the run, the operation, the digest of the arguments, the word, the approver and a time.
"""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, field_validator

from handfast.contracts.errors import SignatureRefused
from handfast.contracts.identity import canonical_json
from handfast.contracts.messages import Frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "hf1"
SIGNED_AS = b"handfast grant 1\n"
"""Before the payload, so that what is signed can't be taken for anything else that the key may sign."""
LONGEST = 4096
"""Characters of a grant."""
LASTS_MS = 60 * 60 * 1000
"""How long a grant counts unless said."""
LONGEST_MS = 30 * 24 * 60 * 60 * 1000
SKEW_MS = 5 * 60 * 1000
"""How far clocks may be apart."""
PUBLIC_BYTES = 32
ANYTHING = "approver"
"""The role that may approve whatever a call's scope is."""
CLIENT = "client"
"""The role that may say what users want, and with no other one decides on nothing."""


Verb = Literal["approve", "reject", "change", "happened", "did not happen", "retry", "skip", "done"]
"""What people say of calls: whether one may happen, whether one has, and what becomes of one that could not be undone."""


class Approver(Frozen):
    """A public key, and whose it is."""

    name: str = Field(min_length=1, max_length=200)
    public: str
    """The Ed25519 public key: 32 bytes in base64url."""
    roles: tuple[str, ...] = (ANYTHING,)
    """What they may decide on: `approver` for everything, or roles of the policy."""
    tenants: tuple[str, ...] = ("*",)
    """Whose calls they may decide on, as patterns."""
    local: bool = False
    """It was made by a command for whoever sits there, and counts as long as nobody's own key is known."""
    made_at: int = 0
    made_by: str = ""
    revoked_at: int = 0
    revoked_by: str = ""

    @field_validator("public")
    @classmethod
    def _check(cls, public: str) -> str:
        if len(_decoded(public)) != PUBLIC_BYTES:
            msg = f"a public key has {PUBLIC_BYTES} bytes, in base64url"
            raise ValueError(msg)
        return public

    @property
    def decides(self) -> bool:
        """Whether it is somebody's who decides on calls."""
        return set(self.roles) != {CLIENT}

    @cached_property
    def key_id(self) -> str:
        """What the key is called: the beginning of its SHA-256."""
        return hashlib.sha256(_decoded(self.public)).hexdigest()[:16]


class Grant(Frozen):
    """What is signed."""

    run: str
    operation: str
    digest: str
    """Of the call's arguments."""
    word: Verb
    approver: str
    """The id of the key."""
    signed_at: int
    """Milliseconds since 1970."""
    expires_at: int
    reason: str = ""
    """The SHA-256 of the reason that goes with it; empty if there is none."""
    remember: str | None = None
    """Of an approval that also counts for later calls of the tool in this run: conditions on their arguments by name, as JSON."""
    changed: str | None = None
    """Of the word `change`: the digest of the arguments that are approved instead, for one call."""

    @property
    def payload(self) -> bytes:
        """What is signed. A field that came later is in it only where it says something: older grants stay as they are."""
        left_out = {"changed"} if self.changed is None else None
        return canonical_json(self.model_dump(mode="json", exclude=left_out)).encode()


class SigningKey:
    """Somebody's private key."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private

    @classmethod
    def new(cls) -> "SigningKey":
        """A new key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> "SigningKey":
        """A key from a PEM file (PKCS #8).

        Raises:
            SignatureRefused: It is none, or the password is wrong.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            msg = f"this is no private key that can be read: {error}"
            raise SignatureRefused(msg) from error
        if not isinstance(private, Ed25519PrivateKey):
            msg = "this key is not of the kind Ed25519; make one with `handfast keys new`"
            raise SignatureRefused(msg)
        return cls(private)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """For a file, encrypted where there is a password."""
        from cryptography.hazmat.primitives import serialization as to

        how = to.BestAvailableEncryption(password) if password else to.NoEncryption()
        return self._private.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, how)

    @cached_property
    def public(self) -> str:
        """The public key, as in `Approver`."""
        return _encoded(self._private.public_key().public_bytes_raw())

    @cached_property
    def key_id(self) -> str:
        """What it is called."""
        return Approver(name="-", public=self.public).key_id

    def grant(
        self,
        run: str,
        operation: str,
        digest: str,
        word: Verb,
        *,
        reason: str = "",
        lasts_ms: int = LASTS_MS,
        remember: str | None = None,
        changed: str | None = None,
    ) -> str:
        """Sign a word on a call.

        Args:
            run: The run's id.
            operation: The call.
            digest: Of its arguments, as they were looked at.
            word: What is said of it.
            reason: What goes with it: for a rejection, what the model is told.
            lasts_ms: For how long it counts, in milliseconds.
            remember: For which later calls of the tool in this run an approval counts, too; see `Grant`.
            changed: With the word `change`: the digest of the arguments that are approved instead.
        """
        now = round(time.time() * 1000)
        grant = Grant(
            run=run,
            operation=operation,
            digest=digest,
            word=word,
            approver=self.key_id,
            signed_at=now,
            expires_at=now + lasts_ms,
            reason=reason_digest(reason),
            remember=remember,
            changed=changed,
        )
        payload = grant.payload
        return f"{PREFIX}.{_encoded(payload)}.{self.sign(SIGNED_AS + payload)}"

    def sign(self, payload: bytes) -> str:
        """The signature of something, in base64url."""
        return _encoded(self._private.sign(payload))


def is_signed(approver: Approver, signature: str, payload: bytes) -> bool:
    """Whether somebody has signed just this."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(_decoded(approver.public)).verify(_decoded(signature), payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def reason_digest(reason: str) -> str:
    """What a grant holds of its reason."""
    return hashlib.sha256(reason.encode()).hexdigest() if reason else ""


def read_grant(text: str) -> Grant:
    """What a grant says. Says nothing on whether it is true: `signed_by` does.

    Raises:
        SignatureRefused: It is no grant.
    """
    return _parts(text)[0]


def signed_by(text: str, approvers: Sequence[Approver]) -> tuple[Grant, Approver]:
    """A grant and who has signed it.

    Raises:
        SignatureRefused: It is none, nobody here has the key, or the signature is not of this.
    """
    grant, payload, signature = _parts(text)
    approver = next((one for one in approvers if one.key_id == grant.approver), None)
    if approver is None:
        msg = f"nobody here has the key {grant.approver}: `handfast keys list` shows who may decide"
        raise SignatureRefused(msg)
    if not is_signed(approver, signature, SIGNED_AS + payload):
        msg = f"the grant is forged or damaged: {approver.name} has not signed this"
        raise SignatureRefused(msg)
    return grant, approver


def _parts(text: str) -> tuple[Grant, bytes, str]:
    try:
        if len(text) > LONGEST:
            raise ValueError(text[:1])
        prefix, encoded, signature = text.split(".")
        payload = _decoded(encoded)
        grant = Grant.model_validate_json(payload, strict=True)
        # One text for one grant: nothing besides, and no other spelling of the same.
        if prefix != PREFIX or grant.payload != payload:
            raise ValueError(prefix)
        _decoded(signature)
    except (ValueError, ValidationError, RecursionError) as error:
        msg = "this is no grant: a grant begins with hf1. and is made by `handfast approve`, `reject` or `decide`"
        raise SignatureRefused(msg) from error
    return grant, payload, signature


BASE64URL = re.compile(r"^[A-Za-z0-9_-]*$", re.ASCII)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Raises ValueError unless it is base64url without padding, spelled in the one way that there is."""
    if not BASE64URL.match(text):
        raise ValueError(text[:10])
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(text[:10]) from error
    if _encoded(raw) != text:
        raise ValueError(text[:10])
    return raw
