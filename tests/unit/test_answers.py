"""What services say in their answers: problem details (RFC 9457), `Retry-After`, `Deprecation` (RFC 9745) and `Sunset` (RFC 8594)."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from handfast import ToolError
from handfast.contracts.results import Notice
from handfast.contracts.upstream import Upstream
from handfast.tools.answers import MAX_DETAIL
from handfast.tools.http import Upstreams
from handfast.tools.notices import sunset_notice
from handfast.tools.sends import Sends
from tests.loopback import Loopback, body_of


class Refusing(Loopback):
    """Answers with the status, the headers and the body that a test sets."""

    def __init__(self) -> None:
        self.status = 400
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        request.send_response(self.status, "No Luck")
        for name, value in [*self.headers, ("content-length", str(len(self.body)))]:
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(self.body)

    async def error(self) -> ToolError:
        """What a request comes to."""
        upstreams = Upstreams({"s": Upstream(base_url=self.url, circuit=None)})
        with pytest.raises(ToolError) as raised:
            await upstreams.client("s", Sends("op")).post("/pay")
        await upstreams.close()
        return raised.value


@pytest.fixture
def service() -> Iterator[Refusing]:
    with Refusing() as made:
        yield made


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"type": "about:blank", "title": "No money", "detail": "30 is missing"}, "30 is missing"),
        ({"title": "No money"}, "No money"),
        ({"title": "No money", "detail": None}, "No money"),
        ({"title": "No money", "detail": ["30 is missing"], "status": "400"}, "No money"),
        ({"title": "No money", "detail": "  "}, "No money"),
        ({"error": {"message": "card declined", "code": 7}}, "card declined"),
        ({"error": {"code": 7}, "message": "card declined"}, "card declined"),
        ({"error": "invalid_grant", "error_description": "too old"}, "invalid_grant"),
        ({"detail": "x" * 20_000}, "x" * MAX_DETAIL),
        ({"oops": 1}, '{"oops": 1}'),
        (["a", "list"], '["a", "list"]'),
        (None, "null"),
        (b"", "No Luck"),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
        (b"[" * 100_000, "[" * MAX_DETAIL),
        (b"9" * 20_000, "9" * MAX_DETAIL),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_problem_is_told_in_the_services_words(service: Refusing, body: Any, told: str) -> None:
    """RFC 9457, section 3.1: a member of another type than the one it is to have is ignored."""
    service.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    service.headers = [("content-type", "application/problem+json")]
    error = await service.error()
    assert (str(error), error.code) == (f"s answered 400 to POST /pay: {told}", "http_400")


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-16", "hex", "base64", "idna", "rot13", "undefined", "no-such", '"', "unicode_escape"]
)
async def test_a_body_of_any_charset_keeps_its_status(service: Refusing, charset: str) -> None:
    """RFC 9110, section 8.3.2."""
    service.headers = [("content-type", f"text/plain; charset={charset}")]
    service.body = b"no \xff luck"
    error = await service.error()
    assert (error.code, error.happened) == ("http_400", "no")
    assert "luck" in str(error)


@pytest.mark.parametrize(
    ("status", "values", "wait", "happened"),
    [
        (429, ["7"], 7.0, "no"),
        (429, ["Sun Nov  6 08:49:37 1994"], 0.0, "no"),
        (429, ["99999999999999999999"], 3600.0, "no"),
        (429, ["Fri, 31 Dec 99999999999 23:59:59 GMT"], None, "no"),
        (429, ["3", "9"], 9.0, "no"),
        (429, ["soon", "9"], 9.0, "no"),
        (503, ["9"], 9.0, "no"),
        (503, ["Sunday, 06-Nov-94 08:49:37 GMT"], 0.0, "no"),
        (503, ["soon"], None, "unknown"),
        (503, [""], None, "unknown"),
        (500, ["9"], 9.0, "unknown"),
        (504, ["9"], 9.0, "unknown"),
    ],
)
async def test_whatever_is_in_retry_after_the_answer_keeps_its_meaning(
    service: Refusing, status: int, values: list[str], wait: float | None, happened: str
) -> None:
    """RFC 9110, sections 10.2.3 and 15.6.4."""
    service.status = status
    service.headers = [("retry-after", value) for value in values]
    error = await service.error()
    assert (error.retryable, error.retry_after, error.happened) == (True, wait, happened)


def notice(**headers: str) -> Notice | None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    response = httpx.Response(200, headers=fields, request=httpx.Request("GET", "https://pay.example/v1"))
    return sunset_notice("pay", response, "refund", "owner")


@pytest.mark.parametrize(
    ("deprecation", "since"),
    [
        ("@1688169599", " since 2023-06-30"),
        ("@-1", " since 1969-12-31"),
        ('@1688169599;note="x"', " since 2023-06-30"),
        ("Fri, 30 Jun 2023 23:59:59 GMT", " since 2023-06-30"),
        ("Friday, 30-Jun-23 23:59:59 GMT", " since 2023-06-30"),
        ("true", ""),
        ("?1", ""),
    ],
)
def test_a_deprecation_is_told_with_its_day(deprecation: str, since: str) -> None:
    """RFC 9745, section 2.1, and what its drafts had."""
    told = notice(deprecation=deprecation)
    assert told is not None
    assert told.text == f"pay has deprecated what refund uses{since}"


@pytest.mark.parametrize(
    "value",
    ["", "@", "@soon", "@1_000", "@99999999999999999999", "@999999999999999", "@1688169599 junk", "1688169599", "false", "?0",
     "Fri, 31 Dec 99999999999 23:59:59 GMT", "\u0661"],
)  # fmt: skip
def test_what_can_not_be_read_announces_nothing(value: str) -> None:
    """RFC 9651, section 4.2: a field that can't be parsed is ignored. RFC 8594, section 3, has a date."""
    assert notice(deprecation=value) is None
    assert notice(sunset=value) is None


def test_a_sunset_is_told_in_each_form_of_a_date_and_with_where_to_read_of_it() -> None:
    for value in ("Sun, 30 Jun 2030 23:59:59 GMT", "Sunday, 30-Jun-30 23:59:59 GMT", "Sun Jun 30 23:59:59 2030"):
        told = notice(sunset=value, deprecation="@soon", link='</next>; rel="next", </v2>; rel="alternate sunset"')
        assert told is not None
        assert told.text == "pay has deprecated what refund uses and removes it on 2030-06-30; see /v2"
