"""The user's own words, signed by the client that sends them: where a policy wants that, no others count as the user's.

A signature is a text `hw1.KEY.SIGNATURE`: the id of a key, and its Ed25519 signature (RFC 8032) over what was said, and to which run,
under a prefix that no other use of the key shares. It is bound to the run and the message, so it can't be used for another one.
"""

from collections.abc import Mapping, Sequence

from handfast.contracts.grants import CLIENT, Approver, SigningKey, is_signed
from handfast.contracts.identity import canonical_json
from handfast.contracts.messages import Frozen
from handfast.contracts.policy.globs import matches

PREFIX = "hw1"
SIGNED_AS = b"handfast words 1\n"
LONGEST = 200
"""Characters of a signature."""


class Words(Frozen):
    """What was said to a run: its request, or a message."""

    run: str
    message: str = ""
    """The message's id; empty for the request."""
    told: Mapping[str, str]
    """What was said, and for whom."""

    @property
    def payload(self) -> bytes:
        """What is signed."""
        return canonical_json(self.model_dump(mode="json")).encode()


def sign_words(key: SigningKey, words: Words) -> str:
    """The signature of a client's key."""
    return f"{PREFIX}.{key.key_id}.{key.sign(SIGNED_AS + words.payload)}"


def words_fault(signature: str, words: Words, tenant: str, keys: Sequence[Approver]) -> str:
    """Why words don't count as those of a user of that tenant; empty if they do."""
    if not signature:
        return "they are not signed"
    prefix, _, rest = signature[:LONGEST].partition(".")
    key_id, _, signed = rest.partition(".")
    key = next((one for one in keys if one.key_id == key_id and CLIENT in one.roles), None)
    if prefix != PREFIX or key is None:
        return "nobody here who may say what users want has signed them: `handfast keys list` shows whose keys count"
    if not matches(key.tenants, tenant):
        return f"{key.name} may not say what users of tenant {tenant!r} want"
    if not is_signed(key, signed, SIGNED_AS + words.payload):
        return f"the signature is forged or damaged: {key.name} has not signed this"
    return ""
