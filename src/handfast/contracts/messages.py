"""The conversation with a model, free of any provider: parts, messages, requests, responses, usage."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from handfast.contracts.texts import clean_value


class Frozen(BaseModel):
    """An immutable value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(Frozen):
    """Words, said by either side."""

    kind: Literal["text"] = "text"
    text: str


class Thinking(Frozen):
    """A provider's reasoning block, kept intact because it must be sent back as it came."""

    kind: Literal["thinking"] = "thinking"
    raw: dict[str, Any]


class ToolCall(Frozen):
    """A tool call the model asks for. `id` is the model's own name for it."""

    kind: Literal["tool_call"] = "tool_call"
    id: str
    tool: str
    arguments: dict[str, Any]
    fault: str = ""
    """Why the call can't be executed, such as arguments that are not JSON. It is denied, and the model reads this."""
    raw: str = ""
    """Of a call with a fault: the beginning of its arguments as the model wrote them, for the record."""


class ToolResult(Frozen):
    """What the model is told about one of its calls."""

    kind: Literal["tool_result"] = "tool_result"
    id: str
    text: str
    failed: bool = False


Part = Annotated[Text | Thinking | ToolCall | ToolResult, Field(discriminator="kind")]


class Message(Frozen):
    """One message of the transcript."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """Its words, without calls, results and reasoning."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls it asks for, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The tool results it carries, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolResult))

    @property
    def clean(self) -> "Message":
        """The same with every text in it clean, arguments and reasoning included; see `texts.clean_text`."""
        return Message.model_validate(clean_value(self.model_dump()))


class Usage(Frozen):
    """Tokens of one model call. `input_tokens` are the uncached ones; cache reads and writes are counted beside them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})

    @property
    def total(self) -> int:
        """All tokens, cached or not."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


class ToolSchema(Frozen):
    """What a model is told about a tool."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    examples: tuple[dict[str, Any], ...] = ()


class ModelRequest(Frozen):
    """One call of a model."""

    model: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    may_call_tools: bool = True
    output_schema: dict[str, Any] | None = None
    max_tokens: int = 4096


class ModelResponse(Frozen):
    """An answer of a model. A stream that broke off never becomes one."""

    message: Message
    stop_reason: str | None
    """Why the model stopped, such as `end_turn` or `tool_use`. What each reason means is in
    `handfast.contracts.stop_reasons`: an answer that ended for any other reason is not complete, and none of its calls is executed."""
    usage: Usage | None = None
    """None where the provider did not say: it is estimated."""
    model: str = ""
    """The exact model that answered, as the provider names it."""
    request_id: str | None = None
