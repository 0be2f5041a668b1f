"""Every error Handfast raises, and the one table that says which causes are worth another attempt.

HandfastError
├── ContractError            a tool or an agent is declared wrongly; carries all faults at once
├── SettingsError            a setting, an address or a path does not work
├── EngineUnavailable        no Temporal server could be reached or started
├── LedgerError
│   ├── LedgerUnavailable    the database does not answer; everything waits for it
│   ├── LedgerSchemaError    the database has other tables than this version needs
│   ├── LedgerConflict       what was to be written contradicts what stands there
│   └── LedgerRace           another writer was faster; repeating it finds what the other wrote
├── RunError
│   ├── RunNotFound
│   ├── RunIdTaken           this run id already belongs to another request
│   ├── RunFailed            the run ended with an error
│   └── DecisionRefused      an approval, rejection or resolution does not fit what waits
├── SignatureRefused         a request that came in is not signed as it must be
├── ModelError               a model call failed; `code` says how
└── ToolError                a tool call failed; raised by tool authors and by the engine
"""

from collections.abc import Sequence
from enum import StrEnum


class ErrorCode(StrEnum):
    """The cause of a failed call, as the model, the ledger and the metrics see it."""

    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    DENIED = "denied"
    CHANGED = "changed"
    DUPLICATE_SUSPECTED = "duplicate_suspected"
    LIMIT_REACHED = "limit_reached"
    CANCELLED = "cancelled"
    NOT_EXECUTED = "not_executed"
    TIMEOUT = "timeout"
    TOOL_FAILED = "tool_failed"
    RESULT_NOT_SERIALISABLE = "result_not_serialisable"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    RESPONSE_TOO_LARGE = "response_too_large"
    DESTINATION_REFUSED = "destination_refused"
    AUTHENTICATION_FAILED = "authentication_failed"
    CIRCUIT_OPEN = "circuit_open"
    OUTCOME_UNKNOWN = "outcome_unknown"
    CONTRACT_VERSION_UNSUPPORTED = "contract_version_unsupported"
    NOT_ASKED_FOR = "not_asked_for"
    MODEL_AUTHENTICATION = "model_authentication"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_REQUEST_INVALID = "model_request_invalid"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_STREAM_BROKEN = "model_stream_broken"
    MODEL_ANSWER_INVALID = "model_answer_invalid"
    RUN_ID_REUSED = "run_id_reused"
    AGENT_UNKNOWN = "agent_unknown"
    INTERNAL = "internal"


RETRYABLE: frozenset[ErrorCode] = frozenset(
    {
        ErrorCode.TIMEOUT,
        ErrorCode.TOOL_FAILED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.CONTRACT_VERSION_UNSUPPORTED,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.MODEL_STREAM_BROKEN,
    }
)
"""The causes that another attempt may heal. Everything else fails at once."""


class HandfastError(Exception):
    """The root of all errors raised by Handfast."""


class ContractError(HandfastError):
    """A tool or an agent is declared wrongly.

    Attributes:
        faults: Every fault found, one sentence each.
    """

    def __init__(self, subject: str, faults: Sequence[str]) -> None:
        self.subject = subject
        self.faults = tuple(faults)
        super().__init__(f"{subject} has {len(self.faults)} fault(s):\n" + "\n".join(f"  - {f}" for f in self.faults))


class SettingsError(HandfastError):
    """A setting, an address or a path does not work."""


class EngineUnavailable(HandfastError):
    """No Temporal server could be reached or started."""


class LedgerError(HandfastError):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The database does not answer. Callers inside a run wait for it."""


class LedgerSchemaError(LedgerError):
    """The database has other tables than this version needs."""


class LedgerConflict(LedgerError):
    """What was to be written contradicts what stands in the ledger."""


class LedgerRace(LedgerError):
    """Another writer was faster; repeating the transaction finds what the other wrote."""


class RunError(HandfastError):
    """Something about one run."""


class RunNotFound(RunError):
    """The ledger knows no such run."""


class RunIdTaken(RunError):
    """This run id already belongs to another request."""


class RunFailed(RunError):
    """The run ended with an error."""


class DecisionRefused(RunError):
    """An approval, rejection or resolution does not fit what waits."""


class SignatureRefused(HandfastError):
    """A request is not signed as it must be. Its message is for logs; who sent it learns only that it was refused."""


class ModelError(HandfastError):
    """A model call failed.

    Attributes:
        code: The cause.
        retry_after: Seconds the provider asked to wait, if it did.
        request_id: The provider's id of the request, for its support.
    """

    def __init__(
        self, message: str, code: ErrorCode, *, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether another attempt may heal it."""
        return self.code in RETRYABLE


class ToolError(HandfastError):
    """A tool call failed. Authors raise it to say precisely how.

    Args:
        message: What happened, for the model and for people.
        code: The cause; `tool_failed` unless said.
        hint: What the model can do about it.
        fields: Faults by argument field, where arguments are the cause.
        retryable: Whether the engine should try again by itself. Unless said, the author's word is final: no.
        happened: `"no"` when this attempt surely had no effect, `"unknown"` when it may have had one, `"never"` when the
            other side has answered for the idempotency key: no attempt of a `KEYED` call had one. Unless said it is
            `"no"`, or `"unknown"` once an unsafe request of this attempt was accepted through `ctx.http`.
        retry_after: Seconds to wait before the next attempt.

    Attributes:
        of_request: `ctx.http` raised it: `happened` is about that request, and the attempt's other requests count as well.

    What counts of several errors, or of one that another one holds, says `handfast.contracts.causes`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = ErrorCode.TOOL_FAILED,
        hint: str = "",
        fields: dict[str, str] | None = None,
        retryable: bool = False,
        happened: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if happened not in {"", "no", "unknown", "never"}:
            msg = (
                f"happened={happened!r}: allowed are 'no' (this attempt had surely no effect), 'unknown' (there may be "
                "one) and 'never' (the other side answered for the key: no attempt had one)"
            )
            raise ValueError(msg)
        self.code = code
        self.hint = hint
        self.fields = fields or {}
        self.retryable = retryable
        self.happened = happened
        self.retry_after = retry_after
        self.of_request = False
