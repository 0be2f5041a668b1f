"""What the gate has said a moment ago, in the same process, is not worked out again: as long as it is what would be said."""

import time
from dataclasses import replace

from handfast import Agent
from handfast.activities.permission import FRESH_SECONDS, Permission
from handfast.contracts.effects import Verdict
from handfast.contracts.registry import Registry
from handfast.ledger import Ledger, Looked, State

AGENT = Agent(name="desk", tools=[])
HOOKED = Agent(name="desk", tools=[], hooks=[lambda _: None])
LOOKED = Looked(
    state=State.FREE, tool="pay", version="1.0.0", arguments={}, verdict=Verdict.RUN, approved=False, agent="desk", user="",
    tenant="default", attempts=0, lease_until=0, checkpoint=None, sent=0,
)  # fmt: skip


async def permission_of(ledger: Ledger) -> Permission:
    await ledger.installation.set_policy('deny = ["other"]\n', "ada")
    permission = Permission(ledger, Registry([AGENT]), None)
    await permission.policies()
    return permission


async def test_it_stands_for_a_moment_under_the_same_policy(ledger: Ledger) -> None:
    permission = await permission_of(ledger)
    looked = replace(LOOKED, judged_at=time.monotonic(), judged_by=permission.version)
    assert await permission.still_says(AGENT, looked)
    assert not await permission.still_says(HOOKED, looked)
    assert not await permission.still_says(None, looked)
    assert not await permission.still_says(AGENT, LOOKED)
    assert not await permission.still_says(AGENT, replace(looked, judged_at=time.monotonic() - FRESH_SECONDS - 0.1))


async def test_another_policy_that_was_read_since_ends_it(ledger: Ledger) -> None:
    permission = await permission_of(ledger)
    looked = replace(LOOKED, judged_at=time.monotonic(), judged_by=permission.version)
    await ledger.installation.set_policy('deny = ["pay"]\n', "ada")
    await permission.policies(fresh=True)
    assert not await permission.still_says(AGENT, looked)
