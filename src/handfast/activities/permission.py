"""What this worker knows of permission: the policies that hold now, and who may decide."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from handfast.activities.patience import patiently
from handfast.contracts.agent import Agent
from handfast.contracts.approvers import read_approvers
from handfast.contracts.arguments import load_arguments
from handfast.contracts.authority import Asked, Authority, Word
from handfast.contracts.effects import Tier, Verdict
from handfast.contracts.errors import ContractError, SettingsError, SignatureRefused
from handfast.contracts.grants import Approver
from handfast.contracts.policy import Caller, Permit, Policy, parse_policy, permit
from handfast.contracts.policy.permit import verdict_on_held
from handfast.contracts.policy.quotas import Quota, quotas_for
from handfast.contracts.policy.ruling import STRICTNESS
from handfast.contracts.provenance import UNTRUSTED
from handfast.contracts.registry import Registry
from handfast.contracts.tool import Tool
from handfast.contracts.words import Words, words_fault
from handfast.ledger import Judge, Judged, Ledger, Looked
from handfast.ledger.entries import now_ms
from handfast.ledger.policies import PolicyVersion
from handfast.ledger.words import WordsJudge

FRESH_SECONDS = 1.0
"""For how long what was read of the installation's policy is gone by."""
NO_POLICY = Policy()
"""What holds where the installation says nothing."""
ASKS_FOR_ALL = Policy(gates=dict.fromkeys(Tier, Verdict.ASK))
"""What holds where this worker can't read the policy."""
log = structlog.get_logger()


class Permission:
    """The gate's other half: the installation's policy and its approvers, as this worker knows them."""

    def __init__(self, ledger: Ledger, registry: Registry, approvers_file: Path | None) -> None:
        self._ledger = ledger
        self._registry = registry
        self._approvers_file = approvers_file
        self._installed: tuple[Policy, ...] = ()
        self._number = -1
        self._read_at = 0.0

    async def policies(self, *, fresh: bool = False) -> tuple[Policy, ...]:
        """What the installation says, beside what each agent says of itself. At most a second old, or read now if it must be."""
        if fresh or time.monotonic() - self._read_at > FRESH_SECONDS:
            number = await patiently(self._ledger.installation.policy_number)
            if number != self._number:
                self._take(await patiently(self._ledger.installation.policy))
            self._read_at = time.monotonic()
        return self._installed

    @property
    def version(self) -> int:
        """The number of the installation's policy that was read last; 0 if there is none."""
        return max(self._number, 0)

    async def installed(self) -> Policy:
        """The installation's policy; an empty one if there is none."""
        return next(iter(await self.policies()), NO_POLICY)

    def _take(self, version: PolicyVersion) -> None:
        self._number = version.number
        try:
            self._installed = (parse_policy(version.text),) if version.text else ()
        except (ContractError, SettingsError) as error:
            log.exception(
                "the policy can't be read: every call asks a person", number=version.number, reason=str(error)
            )
            self._installed = (ASKS_FOR_ALL,)
        else:
            if version.number:
                log.info("policy holds", number=version.number)

    async def still_says(self, agent: Agent | None, looked: Looked) -> bool:
        """Whether this process has let the call run just now, by the policy that holds: then that is not worked out once more."""
        await self.policies()
        fresh = bool(looked.judged_at) and time.monotonic() - looked.judged_at <= FRESH_SECONDS
        return fresh and looked.judged_by == self.version and agent is not None and not agent.hooks

    async def now(self, agent: Agent | None, tool: Tool, looked: Looked, run_id: str, *, fresh: bool = False) -> Permit:
        """What is said of a call right now, before its effect.

        A worker without the agent (one that serves a tool's own queue) goes by the installation's policy, and by what the gate has
        said when the turn was settled.
        """
        policies, version = await self.policies(fresh=fresh), self.version
        arguments = load_arguments(tool, looked.arguments, looked.defaulted)
        if isinstance(arguments, dict):
            # What does not fit is not carried out, whatever a policy says.
            return Permit(verdict=looked.verdict, rule="contract")
        caller = Caller(
            agent=looked.agent,
            user=looked.user,
            tenant=looked.tenant,
            run=run_id,
            called_from=looked.called_from,
            untrusted=looked.untrusted,
        )
        if agent is None:
            said = permit(policies, (), tool, arguments, caller, settled=looked.verdict)
        else:
            policies = (*policies, agent.policy)
            said = permit(policies, agent.hooks, tool, arguments, caller, may_change=False)
        return replace(_still_held(policies, looked, said), policy=version)

    async def quotas(self, agent: Agent | None, tool: Tool, looked: Looked, run_id: str) -> list[Quota]:
        """The limits that a call counts for. Where a person has agreed, those that would ask one don't hold it."""
        if looked.attempts or looked.undoes:
            return []
        policies = (*await self.policies(), *(() if agent is None else (agent.policy,)))
        if not any(policy.limits for policy in policies):
            return []
        caller = Caller(agent=looked.agent, user=looked.user, tenant=looked.tenant, run=run_id)
        return [one for one in quotas_for(policies, tool, caller) if not (looked.approved and one.then == "ask")]

    async def words_judge(self, agent: Agent) -> WordsJudge | None:
        """How the user's words are told from others'; None where being in the ledger is enough."""
        policies = (*await self.policies(), agent.policy)
        if not any(policy.signed_words for policy in policies):
            return None
        of_file = None if self._approvers_file is None else read_approvers(self._approvers_file)

        def judge(signature: str, words: Words, tenant: str, known: Sequence[Approver]) -> str:
            return words_fault(signature, words, tenant, known if of_file is None else of_file)

        return judge

    async def judge(self) -> Judge:
        """How words of people are judged now."""
        installed = await self.policies()
        of_file = None if self._approvers_file is None else read_approvers(self._approvers_file)

        def judge(asked: Asked, word: Word, known: Sequence[Approver]) -> Judged:
            asked = asked.model_copy(update={"scope": self._scope_of(asked.tool)})
            policies = (*self._own(asked.tool), *installed)
            roles = {role: globs for policy in policies for role, globs in policy.scopes_of_role.items()}
            authority = Authority(known if of_file is None else of_file, roles)
            try:
                approver = authority.read(word, asked, now_ms())
            except SignatureRefused as error:
                return Judged(fault=str(error))
            # Before people have keys, whoever has the local one says who they are.
            by = word.by if approver.local and word.by else approver.name
            return Judged(by=by, key=approver.key_id, needed=authority.persons_needed(asked))

        return judge

    def _scope_of(self, name: str) -> str:
        versions = self._registry.tools.get(name)
        return "" if versions is None else versions.newest.scope

    def _own(self, name: str) -> list[Policy]:
        """The policies of the agents that have a tool."""
        return [agent.policy for agent in self._registry.agents.values() if agent.tool(name) is not None]


def _still_held(policies: Sequence[Policy], looked: Looked, said: Permit) -> Permit:
    """What is said of a call that was held when it was asked for, because nobody trusted had aimed it: that stays so."""
    if not looked.reason.startswith(UNTRUSTED):
        return said
    held = Permit(verdict=verdict_on_held(policies), rule=UNTRUSTED, reason=looked.reason.partition(": ")[2])
    return held if STRICTNESS[held.verdict] > STRICTNESS[said.verdict] else said
