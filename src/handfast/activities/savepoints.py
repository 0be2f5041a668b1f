"""The built-in tools with which a model takes back what it did: it sets a savepoint, and goes back to it."""

from typing import Any

from pydantic import BaseModel, Field

from handfast.activities.context import EngineContext
from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.names import ROLL_BACK, SAVEPOINT, START
from handfast.contracts.tool import Tool

NAME = Field(min_length=1, max_length=64, description="What the savepoint is called. Example: before_booking")


class SavepointArgs(BaseModel):
    """Which savepoint is set."""

    name: str = NAME


class RollBackArgs(BaseModel):
    """Which savepoint to go back to."""

    to: str = Field(
        default=START, max_length=64, description=f"The savepoint to go back to; {START!r} undoes everything."
    )


async def _set(args: SavepointArgs, ctx: ToolContext) -> str:
    if args.name == START:
        msg = f"{START!r} is the beginning of the run: choose another name"
        raise ToolError(msg, code=ErrorCode.INVALID_ARGUMENTS, happened="no")
    return f"Savepoint {args.name!r} is set: {ROLL_BACK} undoes what is done after it."


async def _tell(args: RollBackArgs, ctx: ToolContext) -> dict[str, Any]:
    """What became of it: when this runs, the workflow has undone what was owed."""
    if not isinstance(ctx, EngineContext):
        msg = f"{ROLL_BACK} runs inside the engine only, not with a {type(ctx).__name__}"
        raise TypeError(msg)
    found = await ctx.ledger.undoing.rolled_back(ctx.run_id, ctx.operation_id)
    if found is None:
        msg = f"no savepoint {args.to!r} was set in this run: nothing was undone"
        hint = f"name one that {SAVEPOINT} has set, or {START!r} to undo everything"
        raise ToolError(msg, code=ErrorCode.INVALID_ARGUMENTS, hint=hint, happened="no")
    stands = [{"tool": one.tool, "operation": one.operation, "reason": one.reason} for one in found if not one.undone]
    return {
        "undone": [{"tool": one.tool, "operation": one.operation} for one in found if one.undone],
        **({"not_undone": stands} if stands else {}),
    }


savepoint = Tool(
    name=SAVEPOINT,
    version="1.0.0",
    description="Remember this point of your work, so that you can come back to it. Set one before you try what may not work out.",
    effect=Effect.READ,
    tier=Tier.READ_ONLY,
    scope="handfast:undo",
    function=_set,
    builtin=True,
)
roll_back = Tool(
    name=ROLL_BACK,
    version="1.0.0",
    description="Undo what your calls did since a savepoint, the last one first, and go on from there. "
    "Use it when the way you have taken does not lead to the goal. The result says what was undone and what stands.",
    effect=Effect.READ,
    tier=Tier.READ_ONLY,
    scope="handfast:undo",
    function=_tell,
    result_limit=8000,
    builtin=True,
)
