"""Ids and digests: what makes two calls the same call, on every machine and after every crash."""

import hashlib
import json
import uuid
from typing import Any

CALLS = uuid.UUID("6f2b1c1e-6d0c-5a53-9f2e-1f6f0b6f6a11")
"""The namespace of operation ids (RFC 9562, version 5)."""

DIGEST_CHARACTERS = 32
"""128 bits of SHA-256 in hex: enough to bind an approval to its arguments, small enough for every event."""


CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def new_chain_id() -> str:
    """A random id, minted once in the ledger for each run id."""
    return str(uuid.uuid4())


def operation_id(chain_id: str, counter: int) -> str:
    """The id of the counter-th call of a chain, and its idempotency key.

    Made from the chain and a counter, never from the arguments: two intended identical payments are two operations,
    a retry of one is one.
    """
    return str(uuid.uuid5(CALLS, f"{chain_id}/{counter}"))


def compensation_id(operation: str, number: int) -> str:
    """The id of the number-th operation, from 1, that is to undo another one, and its idempotency key."""
    return str(uuid.uuid5(CALLS, f"{operation}/undo/{number}"))


def child_run_id(agent: str, operation: str) -> str:
    """The id of the run of an agent that carries out a call: the same however often it is begun."""
    return f"{agent}-{operation}"


def canonical_json(value: Any) -> str:
    """JSON in ASCII with sorted keys and no spaces: the same text for the same value, storable everywhere."""
    return CANONICAL.encode(value)


def digest(tool: str, major: int, arguments: Any) -> str:
    """What an operation is bound to: the tool, its major version and its canonical arguments."""
    text = canonical_json([tool, major, arguments])
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def shared_key(tenant: str, tool: str, major: int, fields: Any) -> str:
    """The idempotency key of a call whose contract names its key: the same for every call that agrees on these fields."""
    return str(uuid.uuid5(CALLS, canonical_json([tenant, tool, major, fields])))
