"""Who may decide on a call: by their key, their tenants and roles, and whether another person is needed."""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter

from handfast.contracts.effects import Tier
from handfast.contracts.errors import SignatureRefused
from handfast.contracts.grants import ANYTHING, LONGEST_MS, SKEW_MS, Approver, Grant, Verb, reason_digest, signed_by
from handfast.contracts.identity import canonical_json
from handfast.contracts.messages import Frozen
from handfast.contracts.policy.arguments import Condition
from handfast.contracts.policy.globs import matches
from handfast.contracts.wire_words import Decision, Resolution, UndoWord


class Asked(Frozen):
    """A call that a person is to decide on."""

    run: str
    operation: str
    digest: str
    tool: str
    tier: Tier
    scope: str = ""
    """Empty where whoever judges doesn't know the tool: then only who may decide on everything may."""
    user: str = ""
    """For whom the run works."""
    tenant: str = "default"


CONDITIONS = TypeAdapter(dict[str, Condition])


class Word(Frozen):
    """What somebody says of a call, with the grant that is to prove it."""

    grant: str
    said: Verb
    reason: str = ""
    by: str = ""
    """Who it is said to be. The grant says who it is."""
    changed: str = ""
    """The digest of the arguments that are approved instead."""


def word_of(told: Decision | Resolution | UndoWord) -> Word:
    """What travels over Temporal as a word."""
    match told:
        case Decision():
            wanted: Verb = "change" if told.changed else "approve" if told.approve else "reject"
            return Word(grant=told.grant, said=wanted, reason=told.reason, by=told.by, changed=told.changed)
        case Resolution():
            said: Verb = "happened" if told.happened else "did not happen"
            return Word(grant=told.grant, said=said, reason=told.note, by=told.by)
        case UndoWord():
            return Word(grant=told.grant, said=told.action, reason=told.reason, by=told.by)


class Authority:
    """Who may decide in this installation.

    Somebody's own key counts before one that a command has made for whoever sits there: once there is one, only these count.
    """

    def __init__(self, approvers: Sequence[Approver], scopes_of_role: Mapping[str, Sequence[str]]) -> None:
        deciding = [one for one in approvers if one.decides]
        people = [one for one in deciding if not one.local]
        self.approvers = people or deciding
        self._scopes_of_role = scopes_of_role

    def persons_needed(self, asked: Asked) -> int:
        """How many must agree: to a PRIVILEGED call two, where there are two besides whoever has asked for it."""
        return 1 if asked.tier is not Tier.PRIVILEGED else min(len(self._others(asked)), 2) or 1

    def read(self, word: Word, asked: Asked, now_ms: int) -> Approver:
        """Who has said a word on a call.

        Args:
            word: What is said.
            asked: The call.
            now_ms: When, in milliseconds since 1970.

        Raises:
            SignatureRefused: It does not count, and why.
        """
        if not word.grant:
            msg = "it is not signed: say it with a key, by a `handfast` command or a `Run`"
            raise SignatureRefused(msg)
        grant, approver = signed_by(word.grant, self.approvers)
        if fault := _misfit(grant, word, asked, now_ms) or self._unfit(approver, asked):
            raise SignatureRefused(fault)
        return approver

    def _unfit(self, approver: Approver, asked: Asked) -> str:
        if not matches(approver.tenants, asked.tenant):
            return f"{approver.name} may not decide for tenant {asked.tenant!r}"
        if not self._permits(approver, asked):
            return f"{approver.name} has no role that may decide on {asked.scope or asked.tool}"
        if asked.tier is Tier.PRIVILEGED and approver.local:
            return "a PRIVILEGED call needs somebody with a key of their own: `handfast keys new NAME`"
        if asked.tier is Tier.PRIVILEGED and approver.name == asked.user and self._others(asked):
            return f"{approver.name} has asked for this: somebody else must agree to a PRIVILEGED call"
        return ""

    def _others(self, asked: Asked) -> set[str]:
        """Who may agree besides whoever has asked."""
        may = (one for one in self.approvers if matches(one.tenants, asked.tenant) and self._permits(one, asked))
        return {one.name for one in may if not one.local} - {asked.user}

    def _permits(self, approver: Approver, asked: Asked) -> bool:
        if ANYTHING in approver.roles:
            return True
        globs = [glob for role in approver.roles for glob in self._scopes_of_role.get(role, ())]
        return bool(asked.scope) and matches(globs, asked.scope)


def remembered(text: str) -> dict[str, Condition]:
    """The conditions of a remembered approval.

    Raises:
        ValueError: They are none.
    """
    return CONDITIONS.validate_json(text)


def remembered_text(conditions: Mapping[str, Condition]) -> str:
    """The conditions of a remembered approval, as a grant has them."""
    told = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in conditions.items()}
    return canonical_json(told)


def _unrememberable(grant: Grant, asked: Asked) -> str:
    if asked.tier is Tier.PRIVILEGED:
        return "a PRIVILEGED call is decided each time: such a decision is not remembered"
    if grant.word != "approve":
        return "only an approval is remembered"
    try:
        remembered(grant.remember or "")
    except ValueError:
        return "what is to be remembered are no conditions on arguments"
    return ""


def _misfit(grant: Grant, word: Word, asked: Asked, now_ms: int) -> str:
    """Why a grant is not of this word."""
    if (grant.run, grant.operation) != (asked.run, asked.operation):
        return f"the grant is for operation {grant.operation} of run {grant.run!r}, not for this one"
    if grant.digest != asked.digest:
        return f"the grant is for other arguments: digest {grant.digest}, the call has {asked.digest}"
    if grant.word != word.said:
        return f"the grant says {grant.word!r}, the word with it {word.said!r}"
    if (grant.changed or "") != word.changed:
        return "the grant approves other arguments than the word with it"
    if grant.word == "change" and asked.tier is Tier.PRIVILEGED:
        return "a PRIVILEGED call is approved as it is asked for: reject it with a reason, and it is asked for anew"
    if grant.remember is not None and (fault := _unrememberable(grant, asked)):
        return fault
    if grant.reason != reason_digest(word.reason):
        return "the reason is not the one that was signed"
    if now_ms > grant.expires_at:
        return f"the grant has expired, {(now_ms - grant.expires_at) / 1000:.0f} s ago: decide again"
    if grant.signed_at > now_ms + SKEW_MS:
        return "the grant was signed in the future: look at the clocks"
    if grant.expires_at - grant.signed_at > LONGEST_MS:
        return f"a grant may count for at most {LONGEST_MS // 86_400_000} days"
    return ""
