"""What the activities of one worker share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.condition_process import ConditionProcess
from handfast.activities.one_attempt import OneAttempt
from handfast.activities.permission import Permission
from handfast.activities.plans import Plans
from handfast.activities.result_cache import ResultCache
from handfast.activities.transcripts import Telling, Transcripts, telling_of
from handfast.contracts.credentials import EnvironmentSecrets, Secrets
from handfast.contracts.effects import Outcome
from handfast.contracts.errors import ErrorCode
from handfast.contracts.names import (
    CARRY_OUT,
    READ_RESULT,
    ROLL_BACK,
    ROLLBACK_PREFIX,
    ROLLBACK_RUN,
    SAVEPOINT,
    SEND_MESSAGE,
    WAIT_FOR_MESSAGE,
)
from handfast.contracts.registry import Registry
from handfast.contracts.texts import PublicText
from handfast.contracts.upstream import Upstream
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallResult
from handfast.ledger import Ledger
from handfast.llm.resolve import Models

if TYPE_CHECKING:
    from handfast.tools.credentials import Credentials
    from handfast.tools.drift import DriftWatch
    from handfast.tools.http import Upstreams
    from handfast.tools.notices import Notices

ENGINES_OWN = frozenset({CARRY_OUT, READ_RESULT, ROLL_BACK, SAVEPOINT, SEND_MESSAGE, WAIT_FOR_MESSAGE})
"""Tools that no registry holds."""
log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The ledger, the agents and tools, the models and the HTTP upstreams of one worker."""

    ledger: Ledger
    registry: Registry
    models: Models
    upstreams: Mapping[str, Upstream]
    heartbeat_seconds: float = 5.0
    """The heartbeat timeout of this deployment's activities."""
    gateway_url: str = ""
    """Where others post callbacks to."""
    secrets: Secrets = EnvironmentSecrets()
    """Where the secrets of calls are."""
    approvers: Path | None = None
    """A file that says who may approve, in the ledger's place."""
    transcripts: Transcripts = field(default_factory=Transcripts)
    plans: Plans = field(default_factory=Plans)
    conditions: ConditionProcess = field(default_factory=ConditionProcess)
    """What decides the conditions of plans."""
    one_attempt: OneAttempt = field(default_factory=OneAttempt)
    waiting_for_budgets: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = field(
        default_factory=WeakValueDictionary[tuple[str, ...], asyncio.Lock]
    )
    """By the budgets that others use up at the moment: the line of those who wait for what is left."""

    @cached_property
    def http(self) -> "Upstreams":
        """The clients of the upstreams, on one pool; made when first asked for."""
        from handfast.tools.http import Upstreams

        return Upstreams(
            self.upstreams, circuits=self.ledger.shared, notices=self.notices, credentials=self.credentials
        )

    @cached_property
    def credentials(self) -> "Credentials":
        """The secrets of calls."""
        from handfast.tools.credentials import Credentials

        return Credentials(self.secrets)

    @cached_property
    def permission(self) -> Permission:
        """The policies that hold, and who may decide."""
        return Permission(self.ledger, self.registry, self.approvers)

    @cached_property
    def notices(self) -> "Notices":
        """Where owners are told what they should know."""
        from handfast.tools.notices import Notices

        return Notices(self.ledger.shared)

    @cached_property
    def drift(self) -> "DriftWatch":
        """What does not fit, counted."""
        from handfast.tools.drift import DriftWatch

        return DriftWatch(self.ledger.shared, self.notices)

    @cached_property
    def results(self) -> ResultCache:
        """The kept results of reads."""
        return ResultCache(self.ledger)

    def telling(self, name: str, version: str) -> Telling:
        """How the results of a tool are told to the model, by the contract of that version."""
        if name in ENGINES_OWN:
            return Telling()
        versions = self.registry.tools.get(name)
        return telling_of(versions.of_major(version_numbers(version)[0]) if versions is not None and version else None)

    async def close(self) -> None:
        """Close what was opened."""
        if "drift" in self.__dict__:
            await self.drift.close()
        if "http" in self.__dict__:
            await self.http.close()
        if "credentials" in self.__dict__:
            await self.credentials.close()
        await self.conditions.close()
        await self.models.close()


def run_id_of_this_activity() -> str:
    """The run an activity works for: its workflow's id, which the server sets and no caller can forge.

    The id of a rollback names the run that it undoes. From here on the activity's log lines carry it.

    Raises:
        ApplicationError: The activity was executed on its own, with no workflow around it; it does nothing.
    """
    info = activity.info()
    if not info.in_workflow or not info.workflow_id:
        message = f"{info.activity_type} does nothing on its own: start a run instead, such as with `handfast run`"
        raise ApplicationError(PublicText(message), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True)
    run_id = info.workflow_id
    if info.workflow_type == ROLLBACK_RUN:
        run_id = run_id.removeprefix(ROLLBACK_PREFIX)
    structlog.contextvars.bind_contextvars(run_id=run_id)
    return run_id


def log_outcome(result: CallResult) -> None:
    """Say in the log what went wrong with a call; never what it was about."""
    if result.outcome is Outcome.UNKNOWN:
        log.warning("outcome unknown, a person must look")
    elif result.outcome is Outcome.FAILED:
        log.info("call failed")
