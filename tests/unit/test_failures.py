"""Of an error Temporal gets its type and what the engine itself says; the log gets where it was raised, too."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError, CancelledError, FailureError

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.texts import PublicText
from handfast.engine.converter import DATA_CONVERTER
from handfast.logs import trace_of
from tests.histories import PRIVATE


def encoded(error: BaseException) -> Failure:
    failure = Failure()
    DATA_CONVERTER.failure_converter.to_failure(error, DATA_CONVERTER.payload_converter, failure)
    return failure


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as found:  # noqa: BLE001 - also what is no Exception
        return found


class Numbers(BaseModel):
    by: dict[str, int]


def misread() -> ValidationError:
    with pytest.raises(ValidationError) as found:
        Numbers.model_validate({"by": {f"{PRIVATE}key": f"{PRIVATE}value"}})
    return found.value


SECRET = f"{PRIVATE}words"
ERRORS: list[tuple[BaseException, str, str]] = [
    (ValueError(SECRET), "ValueError", "ValueError"),
    (ToolError(SECRET, code=SECRET, fields={SECRET: SECRET}), "ToolError", "ToolError"),
    (ExceptionGroup(SECRET, [ValueError(SECRET)]), "ExceptionGroup", "ExceptionGroup"),
    (KeyboardInterrupt(SECRET), "KeyboardInterrupt", "KeyboardInterrupt"),
    (misread(), "ValidationError", "ValidationError: 1 faults (int_parsing)"),
    (ApplicationError(SECRET, SECRET, {"a": SECRET}, type="denied"), "denied", "denied"),
    (ApplicationError(SECRET, type=SECRET), "tool_failed", "tool_failed"),
    (ApplicationError(SECRET, type="http_404"), "http_404", "http_404"),
    (ApplicationError(SECRET), "internal", "internal"),
    (ApplicationError(PublicText("run 'r' is over"), 7, type="denied"), "denied", "run 'r' is over"),
    (ApplicationError(PublicText("half \ud83d"), type="denied"), "denied", "half �"),
]


@pytest.mark.parametrize(("error", "type_", "message"), ERRORS)
def test_an_error_is_cut_to_its_type_unless_its_message_is_the_engines_own(
    error: BaseException, type_: str, message: str
) -> None:
    failure = encoded(caught(error, ValueError(f"{PRIVATE}cause")))
    assert PRIVATE.encode() not in failure.SerializeToString()
    assert (failure.application_failure_info.type, failure.message, failure.stack_trace) == (type_, message, "")
    assert not failure.HasField("cause")


def test_how_often_and_when_it_is_tried_again_is_kept() -> None:
    wait = timedelta(seconds=7)
    failure = encoded(ApplicationError(SECRET, type=ErrorCode.TIMEOUT, non_retryable=True, next_retry_delay=wait))
    told = failure.application_failure_info
    assert (told.non_retryable, told.next_retry_delay.ToTimedelta()) == (True, wait)


def test_the_number_of_an_entry_goes_with_a_message_of_the_engine() -> None:
    failure = encoded(ApplicationError(PublicText("see entry 7"), 7, type=ErrorCode.INTERNAL))
    found: Any = DATA_CONVERTER.failure_converter.from_failure(failure, DATA_CONVERTER.payload_converter)
    assert list(found.details) == [7]


def test_a_cancellation_stays_one_and_says_nothing() -> None:
    failure = encoded(CancelledError(SECRET, SECRET))
    assert failure.HasField("canceled_failure_info")
    assert PRIVATE.encode() not in failure.SerializeToString()


def test_what_came_from_temporal_goes_back_as_it_came() -> None:
    first = encoded(ApplicationError(PublicText("it is over"), type="denied"))
    error = DATA_CONVERTER.failure_converter.from_failure(first, DATA_CONVERTER.payload_converter)
    assert isinstance(error, FailureError)
    assert encoded(error) == first


def test_the_log_says_where_an_error_was_raised_and_not_what_it_said() -> None:
    told = trace_of(caught(KeyError(SECRET), caught(ValueError(SECRET))))
    assert PRIVATE not in told
    assert told.count("in caught") == 2
    assert told.endswith("builtins.KeyError")
