"""Grants by themselves: what a signature is worth, and everything that makes it worthless."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast import SettingsError, SigningKey, Tier
from handfast.client.keyring import read_key, write_key
from handfast.contracts.approvers import read_approvers
from handfast.contracts.authority import Asked, Authority, Word
from handfast.contracts.errors import SignatureRefused
from handfast.contracts.grants import PREFIX, SIGNED_AS, Approver, read_grant, signed_by

ADA, BOB, EVE = SigningKey.new(), SigningKey.new(), SigningKey.new()
ASKED = Asked(
    run="r1", operation="op1", digest="d" * 32, tool="pay", tier=Tier.IRREVERSIBLE, scope="payments:pay", user="uma", tenant="acme"
)  # fmt: skip
ROLES = {"money": ("payments:*",), "reader": ("orders:read",)}


def approver(name: str, key: SigningKey, **said: Any) -> Approver:
    return Approver(name=name, public=key.public, **said)


def now() -> int:
    return round(time.time() * 1000)


def word(key: SigningKey = ADA, **said: Any) -> str:
    fields: dict[str, Any] = {"run": "r1", "operation": "op1", "digest": "d" * 32, "word": "approve", **said}
    return key.grant(**fields)


def read(text: str, *approvers: Approver, asked: Asked = ASKED, at: int = 0, **said: Any) -> str:
    authority = Authority(approvers or (approver("ada", ADA),), ROLES)
    word = Word(grant=text, said=said.get("word", "approve"), reason=said.get("reason", ""))
    return authority.read(word, asked, at or now()).name


def refused(text: str, *approvers: Approver, **said: Any) -> str:
    with pytest.raises(SignatureRefused) as caught:
        read(text, *approvers, **said)
    return str(caught.value)


def test_a_grant_says_who_has_approved_what() -> None:
    assert read(word()) == "ada"
    grant = read_grant(word(word="reject", reason="no"))
    assert (grant.run, grant.operation, grant.word, grant.approver) == ("r1", "op1", "reject", ADA.key_id)
    assert read(word(word="reject", reason="no"), word="reject", reason="no") == "ada"


def test_a_word_counts_for_one_thing_only() -> None:
    assert "for operation op2" in refused(word(operation="op2"))
    assert "of run 'r2'" in refused(word(run="r2"))
    assert "for other arguments" in refused(word(digest="e" * 32))
    assert "the grant says 'reject', the word with it 'approve'" in refused(word(word="reject"))
    assert "the reason is not the one that was signed" in refused(
        word(word="reject", reason="a"), word="reject", reason="b"
    )
    assert "not signed" in refused("")


def test_a_word_expires() -> None:
    assert "has expired, 1 s ago" in refused(word(lasts_ms=60_000), at=now() + 61_000)
    assert read(word(lasts_ms=60_000), at=now() + 59_000) == "ada"
    assert "signed in the future" in refused(word(), at=now() - 6 * 60_000)
    assert "at most 30 days" in refused(word(lasts_ms=31 * 86_400_000))


def test_who_has_no_key_here_or_no_right_decides_nothing() -> None:
    assert "nobody here has the key" in refused(word(EVE))
    assert "may not decide for tenant 'acme'" in refused(word(), approver("ada", ADA, tenants=("beta-*",)))
    assert "no role that may decide on payments:pay" in refused(word(), approver("ada", ADA, roles=("reader", "none")))
    assert read(word(), approver("ada", ADA, roles=("money",), tenants=("ac*",))) == "ada"
    # Whoever judges does not know the tool: then only who may decide on everything may.
    unknown = ASKED.model_copy(update={"scope": ""})
    assert "no role" in refused(word(), approver("ada", ADA, roles=("money",)), asked=unknown)


def test_a_key_that_a_command_has_made_counts_until_people_have_their_own() -> None:
    local, person = approver("here", ADA, local=True), approver("bob", BOB)
    assert read(word(), local) == "here"
    assert "nobody here has the key" in refused(word(), local, person)
    privileged = ASKED.model_copy(update={"tier": Tier.PRIVILEGED})
    assert "somebody with a key of their own" in refused(word(), local, asked=privileged)


def test_a_privileged_call_needs_two_where_there_are_two_and_never_whoever_has_asked() -> None:
    def needed(*names: str, user: str = "uma") -> int:
        keys = [approver(name, SigningKey.new()) for name in names]
        asked = ASKED.model_copy(update={"tier": Tier.PRIVILEGED, "user": user})
        return Authority(keys, ROLES).persons_needed(asked)

    assert [needed("ada"), needed("ada", "bob"), needed("ada", "bob", "eve"), needed("ada", "ada")] == [1, 2, 2, 1]
    assert [needed("ada", user="ada"), needed("ada", "bob", user="ada"), needed("ada", "b", "c", user="ada")] == [
        1,
        1,
        2,
    ]
    mine = ASKED.model_copy(update={"tier": Tier.PRIVILEGED, "user": "ada"})
    assert "ada has asked for this" in refused(word(), approver("ada", ADA), approver("bob", BOB), asked=mine)
    assert read(word(), approver("ada", ADA), asked=mine) == "ada"
    assert (
        read(
            word(),
            approver("ada", ADA),
            approver("bob", BOB),
            asked=mine.model_copy(update={"tier": Tier.IRREVERSIBLE}),
        )
        == "ada"
    )


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(**changes: Any) -> str:
    """A word of ada with other contents and her old signature."""
    prefix, payload, signature = word().split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return f"{prefix}.{encoded(json.dumps({**told, **changes}, sort_keys=True, separators=(',', ':')).encode())}.{signature}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(forged(run="r1"), id="nothing changed"),
        pytest.param(forged(expires_at=now() + 10_000_000), id="longer"),
        pytest.param(forged(approver=BOB.key_id), id="somebody else's name"),
        pytest.param(forged(word="reject"), id="the other word"),
        pytest.param(forged(digest="e" * 32), id="other arguments"),
    ],
)
def test_what_was_changed_after_signing_is_forged(text: str, request: pytest.FixtureRequest) -> None:
    known = [approver("ada", ADA), approver("bob", BOB)]
    if "nothing" in request.node.callspec.id:
        assert signed_by(text, known)[1].name == "ada"
        return
    with pytest.raises(SignatureRefused, match="forged or damaged"):
        signed_by(text, known)


def test_a_signature_over_something_else_is_none() -> None:
    """The key may sign other things elsewhere: without our prefix it is not a word on a call."""
    _, payload, _ = word().split(".")
    raw = base64.urlsafe_b64decode(payload + "==")
    private = load_pem_private_key(ADA.to_pem(), None)
    assert isinstance(private, Ed25519PrivateKey)
    for signed in (raw, b"other" + raw, SIGNED_AS):
        bare = f"{PREFIX}.{payload}.{encoded(private.sign(signed))}"
        assert "forged" in refused(bare)


def spaced() -> str:
    """A word of ada that is spelled otherwise."""
    prefix, payload, signature = word().split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return ".".join((prefix, encoded(json.dumps(told).encode()), signature))


@pytest.mark.parametrize(
    "text",
    [
        "hf1", "hf1..", "hf1.e30.x", "hf2." + word().split(".", 1)[1], word() + ".x", word() + "=", word().replace(".", ".\n", 1),
        " " + word(), word() + "A" * 5000, "hf1." + encoded(b"[" * 4000), "\x00", "hf1.\ud800.x",
        "hf1." + encoded(b'{"run":1}') + ".x", "hf1." + encoded(b"\xff\xfe") + ".x",
        spaced(),
    ],
)  # fmt: skip
def test_what_is_no_grant_is_told_so(text: str) -> None:
    assert "this is no grant: a grant begins with hf1." in refused(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bit_of_a_grant_can_be_changed(data: st.DataObject) -> None:
    text = word()
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_.~"))
    if letter != text[place]:
        refused(text[:place] + letter + text[place + 1 :])


def test_private_keys_are_kept_to_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ada.key"
    write_key(path, ADA, "secret")
    assert (path.stat().st_mode & 0o777, b"ENCRYPTED" in path.read_bytes()) == (0o600, True)
    assert read_key(path, "secret").public == ADA.public
    with pytest.raises(SettingsError, match="never overwritten"):
        write_key(path, BOB)
    with pytest.raises(SettingsError, match="HANDFAST_KEY_PASSWORD"):
        read_key(path)
    with pytest.raises(SettingsError, match="no private key that can be read"):
        read_key(path, "wrong")
    with pytest.raises(SettingsError, match="make one with `handfast keys new NAME`"):
        read_key(tmp_path / "none.key")
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ec.key").write_bytes(other)
    with pytest.raises(SettingsError, match="not of the kind Ed25519"):
        read_key(tmp_path / "ec.key")


def test_approvers_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "approvers.toml"
    path.write_text(f'[[approver]]\nname = "ada"\npublic = "{ADA.public}"\nroles = ["money"]\nlocal = true\n')
    [ada] = read_approvers(path)
    assert (ada.key_id, ada.roles, ada.tenants, ada.local) == (ADA.key_id, ("money",), ("*",), False)
    for text, told in (
        ("x", "names no approvers"),
        ('[[approver]]\nname = "a"\npublic = "!"', "names no approvers"),
        ('[[approver]]\nname = "a"\npublic = "AAAA"', "32 bytes"),
        (path.read_text() * 2, "there twice"),
        ('[[approver]]\nname = "a"\npublic = "AAAA"\nrole = ["x"]', "Extra inputs"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(SettingsError, match=told):
            read_approvers(tmp_path / "bad.toml")
