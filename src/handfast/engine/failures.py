"""What of an error reaches Temporal: its type, and what the engine itself says of it.

Messages of exceptions hold whatever their authors put in them: arguments, answers of services, a provider's error body. A history
is kept for months, and nothing in it can be erased. So this stands where every failure is encoded, in workers and in clients.
"""

import re
from typing import get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, CancelledError, FailureError
from typing_extensions import override

from handfast.contracts.errors import ErrorCode
from handfast.contracts.texts import PublicText, clean_text

MAX_CHARACTERS = 2000
"""Of a message."""
CODES = frozenset(ErrorCode)
HTTP_CODE = re.compile(r"http_[1-5]\d\d")
FAULTS = frozenset(get_args(ErrorType))
"""The kinds of faults that pydantic finds by itself; others are an author's own text."""


class ContentFreeFailures(DefaultFailureConverter):
    """Encodes errors without their messages, causes and stack traces, but for a message that is a `PublicText`."""

    @override
    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Encode an error; one that came from Temporal goes back as it came."""
        super().to_failure(content_free(exception), payload_converter, failure)


def content_free(error: BaseException) -> FailureError:
    """The error as Temporal may see it."""
    if isinstance(error, FailureError) and error.failure is not None:
        return error
    if isinstance(error, CancelledError):
        return CancelledError("Cancelled")
    if not isinstance(error, ApplicationError):
        return ApplicationError(told_of(error), type=type(error).__name__)
    public, code = isinstance(error.message, PublicText), code_of(error)
    return ApplicationError(
        clean_text(error.message)[:MAX_CHARACTERS] if public else code,
        *(error.details if public else ()),
        type=code,
        non_retryable=error.non_retryable,
        next_retry_delay=error.next_retry_delay,
        category=error.category,
    )


def code_of(error: BaseException) -> str:
    """The cause of an error: its type, or its code. A code that is an author's own becomes `tool_failed`."""
    if not isinstance(error, ApplicationError):
        return type(error).__name__
    code = error.type or ErrorCode.INTERNAL
    return code if code in CODES or HTTP_CODE.fullmatch(code) else ErrorCode.TOOL_FAILED


def told_of(error: BaseException) -> str:
    """An exception without its message: its type, and of a `ValidationError` what kinds of faults it holds.

    Not where they are: names of fields may be keys of the data.
    """
    name = type(error).__name__
    if not isinstance(error, ValidationError):
        return name
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    kinds = sorted({fault["type"] if fault["type"] in FAULTS else "custom" for fault in faults})
    return f"{name}: {len(faults)} faults ({', '.join(kinds)})"
