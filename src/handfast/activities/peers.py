"""The built-in tools with which runs write to each other: one sends a message, the other waits until one has come."""

from datetime import timedelta

from pydantic import BaseModel, Field
from temporalio import activity
from temporalio.client import RPCTimeoutOrCancelledError, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from handfast.activities.context import EngineContext
from handfast.activities.patience import patiently
from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.names import LONGEST_WAIT_FOR_MESSAGE, SAY, SEND_MESSAGE, WAIT_FOR_MESSAGE
from handfast.contracts.tool import Tool
from handfast.contracts.wire_words import Said
from handfast.ledger.peers import Letter

LONGEST_MESSAGE = 20_000


class Message(BaseModel):
    """What is written to whom."""

    to: str = Field(
        min_length=1,
        max_length=255,
        description="Whom: the name of an agent that works on the same job, or the id of a run.",
    )
    text: str = Field(min_length=1, max_length=LONGEST_MESSAGE, description="What you want to tell, or ask.")


class Wait(BaseModel):
    """How long to wait."""

    seconds: float = Field(
        default=60.0, gt=0, le=LONGEST_WAIT_FOR_MESSAGE, description="How long to wait at most, in seconds."
    )


def _inside(ctx: ToolContext) -> EngineContext:
    if not isinstance(ctx, EngineContext):
        msg = f"it runs inside the engine only, not with a {type(ctx).__name__}"
        raise TypeError(msg)
    return ctx


async def _send(args: Message, ctx: ToolContext) -> str:
    inside = _inside(ctx)
    letter = Letter(id=inside.operation_id, sender=inside.run_id, to=args.to, text=args.text)
    to, ref = await patiently(lambda: inside.ledger.post(letter, inside.peers))
    handle = activity.client().get_workflow_handle(to)
    try:
        # Said again, by a later attempt, it is the same.
        await handle.execute_update(SAY, Said(ref=ref), id=inside.operation_id)
    except WorkflowUpdateFailedError as error:
        msg = f"{args.to!r} is ending, and reads nothing any more"
        raise ToolError(msg, code=ErrorCode.INVALID_ARGUMENTS, happened="no") from error
    except RPCTimeoutOrCancelledError as error:
        msg = f"{args.to!r} did not take the message in time"
        raise ToolError(msg, code=ErrorCode.TIMEOUT, retryable=True) from error
    except RPCError as error:
        msg = f"{args.to!r} is not there: {error.message}"
        # Not there: it was begun in the ledger and not in Temporal yet, or has just ended.
        happened = "no" if error.status is RPCStatusCode.NOT_FOUND else "unknown"
        raise ToolError(msg, code=ErrorCode.UNAVAILABLE, retryable=True, happened=happened) from error
    return f"{args.to} has the message."


async def _wait(args: Wait, ctx: ToolContext) -> str:
    """When this runs, the workflow has waited; what has come is told after the results."""
    _inside(ctx)
    return f"What has come stands below. If nothing does, nobody wrote within {args.seconds:g} s."


send_message = Tool(
    name=SEND_MESSAGE,
    version="1.0.0",
    description="Write to another agent that works on the same job while you do. It reads the message before its next turn. "
    "For an answer, wait for it afterwards.",
    effect=Effect.KEYED,
    tier=Tier.REVERSIBLE,
    scope="handfast:messages",
    timeout=timedelta(seconds=30),
    attempts=6,
    function=_send,
    builtin=True,
)
wait_for_message = Tool(
    name=WAIT_FOR_MESSAGE,
    version="1.0.0",
    description="Wait until another agent, or the user, has written to you, and read it. Nothing else is done meanwhile.",
    effect=Effect.READ,
    tier=Tier.READ_ONLY,
    scope="handfast:messages",
    function=_wait,
    builtin=True,
)
