"""The built-in tool that reads on in a result too long for the context."""

from pydantic import BaseModel, Field

from handfast.activities.context import EngineContext
from handfast.activities.transcripts import marked, seen_text
from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.errors import ErrorCode, RunNotFound, ToolError
from handfast.contracts.names import READ_RESULT
from handfast.contracts.tool import Tool
from handfast.tools.hiding import shown

LONGEST_PIECE = 8000


class ReadResultArgs(BaseModel):
    """Which part of which result."""

    operation: str = Field(description="The operation id that the marker in the shortened result names.")
    offset: int = Field(default=0, ge=0, description="The character to start at, from 0.")
    length: int = Field(default=4000, ge=1, le=LONGEST_PIECE, description="How many characters to read.")


async def _read(args: ReadResultArgs, ctx: ToolContext) -> str:
    if not isinstance(ctx, EngineContext):
        msg = f"{READ_RESULT} runs inside the engine only, not with a {type(ctx).__name__}"
        raise TypeError(msg)
    try:
        read = await ctx.ledger.read_labelled(ctx.run_id, args.operation)
    except RunNotFound as error:
        hint = "use the operation id that the marker names"
        raise ToolError(str(error), code=ErrorCode.INVALID_ARGUMENTS, hint=hint) from error
    text = seen_text(read.content, foreign=bool(read.labels.untrusted))
    end = min(args.offset + args.length, len(text))
    piece = shown(text, ctx.hides_of(read.tool, read.version), args.offset, end)
    told = f"[characters {args.offset} to {end} of {len(text)}]\n{piece}"
    return marked(told, args.operation) if read.labels.untrusted else told


read_result = Tool(
    name=READ_RESULT,
    version="1.0.0",
    description="Read on in the result of an earlier call that was shortened because it was too long.",
    effect=Effect.READ,
    tier=Tier.READ_ONLY,
    scope="handfast:results:read",
    function=_read,
    result_limit=LONGEST_PIECE + 200,
    builtin=True,
)
