"""What Temporal can search runs by."""

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.effects import RunStatus

AGENT = SearchAttributeKey.for_keyword(names.SEARCH_AGENT)
STATUS = SearchAttributeKey.for_keyword(names.SEARCH_STATUS)
TENANT = SearchAttributeKey.for_keyword(names.SEARCH_TENANT)
COST = SearchAttributeKey.for_float(names.SEARCH_COST)
WAITING = "waiting"
"""The value of `HandfastStatus` while a run waits for a person."""
BLOCKED = "compensation_blocked"
"""The same, while something it did can't be undone."""
COMPENSATING = "compensating"
"""The same, while it is undone after its end."""
STALLED = "stalled"
"""The same, while a transaction of the engine fails on every worker that tries it: Temporal shows it as a pending activity."""


def begun(agent: str, tenant: str) -> TypedSearchAttributes:
    """What a run is found by from its start."""
    pairs = ((AGENT, agent), (STATUS, str(RunStatus.RUNNING)), (TENANT, tenant))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs])


def show_begun(agent: str, tenant: str) -> None:
    """Make a run findable by its agent and tenant, unless whoever started it has done so."""
    if workflow.info().typed_search_attributes.get(AGENT) is None:
        workflow.upsert_search_attributes(
            [AGENT.value_set(agent), STATUS.value_set(RunStatus.RUNNING), TENANT.value_set(tenant)]
        )


def show_status(status: str) -> None:
    """Make a run findable by where it stands."""
    workflow.upsert_search_attributes([STATUS.value_set(status)])


def show_waiting(waiting: int) -> None:
    """Make runs that wait for a person findable."""
    show_status(WAITING if waiting else RunStatus.RUNNING)


def show_blocked(blocked: int) -> None:
    """Make runs that can't be undone findable."""
    show_status(BLOCKED if blocked else COMPENSATING)
