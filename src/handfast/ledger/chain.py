"""The hash chain: what makes an edit, a removal or a reordering of the ledger visible.

An entry's content is hashed with a random salt, and the entry with its predecessor's hash. Erasing deletes content and
salt together; the hashes stay, the chain still verifies, and without the salt the content can't be guessed from it.
"""

import hashlib
import secrets

from handfast.contracts.identity import canonical_json

ANCHOR_CHARACTERS = 8


def new_salt() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def content_hash(salt: str, body: str) -> str:
    """SHA-256 over the salt and the content, in hex."""
    return hashlib.sha256(f"{salt}{body}".encode()).hexdigest()


def entry_frame(run_id: str, kind: str, ref: str, at: int, meta: str, content: str) -> tuple[str, str]:
    """What of the text that an entry is hashed over stands before its number, and after; its predecessor's hash comes first.

    The text is the canonical JSON of `[previous, run_id, seq, kind, ref, at, meta, content]`.
    """
    return f'",{canonical_json(run_id)},', f",{canonical_json([kind, ref, at, meta, content])[1:]}"


def entry_hash(previous: str, run_id: str, seq: int, kind: str, ref: str, at: int, meta: str, content: str) -> str:
    """SHA-256 over the predecessor's hash and everything of this entry but the content itself, in hex."""
    before, after = entry_frame(run_id, kind, ref, at, meta, content)
    return hashlib.sha256(f'["{previous}{before}{seq}{after}'.encode()).hexdigest()
