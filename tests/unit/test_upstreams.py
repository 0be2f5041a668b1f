"""`ctx.http`: the key on unsafe requests, and each failure of a real HTTP service as the right `ToolError`."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from handfast import ToolError
from handfast.contracts.upstream import Upstream
from handfast.engine.embedded import free_port
from handfast.tools.http import Upstreams
from handfast.tools.lease import Lease
from handfast.tools.sends import Sends
from tests.conftest import until
from tests.loopback import Loopback, body_of


class Service(Loopback):
    """Answers `/STATUS` with that status, and remembers keys."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.paths: list[str] = []
        self.go_on = threading.Event()
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append((request.command, request.headers.get("Idempotency-Key")))
        self.paths.append(request.path)
        body_of(request)
        if request.path == "/wait":
            self.go_on.wait(10)
            request.connection.close()
            return
        if request.path == "/drop":
            request.connection.close()
            return
        body = b'{"title": "t", "detail": "why"}'
        size = len(body)
        if "/long" in request.path:
            body, size = b"x" * 5000, 5000
        if "/torn" in request.path:
            size += 1000
        request.send_response(int(request.path.split("/")[1]))
        if "/key" in request.path:
            request.send_header("idempotent-replayed", "false")
        request.send_header("content-length", str(size))
        if request.path.endswith("/later"):
            request.send_header("retry-after", "3")
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


async def test_unsafe_requests_carry_the_key_and_safe_ones_do_not(service: Service) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    client = upstreams.client("s", Sends("op"))
    await client.get("/200")
    await client.post("/200")
    await client.put("/200")
    await client.post("/200", headers={"Idempotency-Key": "own"})
    assert service.seen == [("GET", None), ("POST", "op"), ("PUT", "op-2"), ("POST", "own")]
    await upstreams.close()


@pytest.mark.parametrize(
    ("path", "code", "retryable", "happened", "wait"),
    [
        ("/400", "http_400", False, "no", None),
        ("/400/key", "http_400", False, "no", None),
        ("/401", "http_401", False, "no", None),
        ("/403", "http_403", False, "no", None),
        ("/404", "http_404", False, "no", None),
        ("/404/key", "http_404", False, "never", None),
        ("/409", "http_409", False, "no", None),
        ("/409/key", "http_409", False, "never", None),
        ("/409/later", "unavailable", True, "unknown", 3.0),
        ("/422", "http_422", False, "no", None),
        ("/422/key", "http_422", False, "no", None),
        ("/429/later", "rate_limited", True, "no", 3.0),
        ("/500", "unavailable", True, "unknown", None),
        ("/501", "unavailable", False, "unknown", None),
        ("/502", "unavailable", True, "unknown", None),
        ("/503", "unavailable", True, "unknown", None),
        ("/503/later", "unavailable", True, "no", 3.0),
        ("/504", "unavailable", True, "unknown", None),
        ("/drop", "unavailable", True, "unknown", None),
    ],
)
async def test_each_failure_says_whether_it_may_have_happened(
    service: Service, path: str, code: str, retryable: bool, happened: str, wait: float | None
) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    with pytest.raises(ToolError) as error:
        await upstreams.client("s", Sends("op")).post(path)
    raised = error.value
    assert (raised.code, raised.retryable, raised.happened, raised.retry_after) == (code, retryable, happened, wait)
    if path != "/drop":
        assert str(raised).endswith(": why")
    await upstreams.close()


async def test_a_request_that_failed_and_is_sent_again_keeps_its_key(service: Service) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    client = upstreams.client("s", Sends("op"))
    for path in ("/503", "/503", "/200", "/200", "/drop", "/drop"):
        with contextlib.suppress(ToolError):
            await client.post(path, json={"n": 1})
    with contextlib.suppress(ToolError):
        await client.post("/drop", json={"n": 2})
    assert [key for _, key in service.seen] == ["op", "op", "op-2", "op-3", "op-4", "op-4", "op-5"]
    await upstreams.close()


@pytest.mark.parametrize(
    ("requests", "happened"),
    [
        (["GET /404"], "no"),
        (["GET /500"], "no"),
        (["GET /drop"], "no"),
        (["POST /200", "GET /404"], "unknown"),
        (["POST /200", "POST /422"], "unknown"),
        (["POST /drop", "GET /503"], "unknown"),
        (["POST /drop", "POST /422"], "unknown"),
        (["POST /503", "POST /404/key"], "unknown"),
        (["POST /503/later", "POST /404/key"], "never"),
        (["POST /422", "GET /500"], "no"),
    ],
    ids=", ".join,
)
async def test_after_a_request_that_may_have_acted_no_failure_says_that_nothing_happened(
    service: Service, requests: list[str], happened: str
) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    client = upstreams.client("s", Sends("op"))
    said = ""
    for method, path in (request.split() for request in requests):
        try:
            await client.request(method, path)
        except ToolError as error:
            said = error.happened
    assert said == happened
    await upstreams.close()


@pytest.mark.parametrize(
    ("method", "path", "code", "happened"),
    [
        ("GET", "/200/long", "response_too_large", "no"),
        ("POST", "/200/long", "response_too_large", "unknown"),
        ("GET", "/200/torn", "unavailable", "no"),
        ("POST", "/200/torn", "unavailable", "unknown"),
        ("POST", "/404/long", "http_404", "no"),
        ("POST", "/500/torn", "unavailable", "unknown"),
    ],
)
async def test_an_answer_that_is_too_long_or_breaks_off_is_no_answer(
    service: Service, method: str, path: str, code: str, happened: str
) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url, most_bytes=4000)})
    sends = Sends("op")
    with pytest.raises(ToolError) as error:
        await upstreams.client("s", sends).request(method, path)
    assert (error.value.code, error.value.happened or ("unknown" if sends.acted else "no")) == (code, happened)
    assert (await upstreams.client("s", sends).get("/200")).json()["detail"] == "why"
    await upstreams.close()


async def test_an_attempt_that_goes_on_from_a_checkpoint_goes_on_with_the_keys(service: Service) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    with pytest.raises(ToolError) as error:
        await upstreams.client("s", Sends("op", 2)).post("/422")
    assert (service.seen, error.value.happened) == ([("POST", "op-3")], "unknown")
    await upstreams.close()


async def test_a_service_that_is_not_there_was_surely_not_reached() -> None:
    upstreams = Upstreams({"s": Upstream(base_url=f"http://127.0.0.1:{free_port()}")})
    with pytest.raises(ToolError, match="could not be reached") as error:
        await upstreams.client("s", Sends("op")).post("/")
    assert (error.value.happened, error.value.retryable) == ("no", True)
    with pytest.raises(ToolError, match="no upstream is named 'x'; known: s"), contextlib.nullcontext():
        upstreams.client("x", Sends("op"))
    await upstreams.close()


async def test_an_attempt_whose_lease_is_over_sends_nothing_that_could_act(service: Service) -> None:
    """Looked at when the connection stands and the bytes are about to go out: it was frozen until then."""
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    over = Sends("op", lease=Lease(-1))
    with pytest.raises(ToolError, match="held up until another one may have taken over") as refused:
        await upstreams.client("s", over).post("/200")
    assert (refused.value.happened, refused.value.retryable, over.acted) == ("no", True, False)
    await upstreams.client("s", over).get("/200")
    await upstreams.client("s", Sends("op", lease=Lease(30))).post("/200")
    assert service.seen == [("GET", None), ("POST", "op")]
    await upstreams.close()


async def test_a_request_that_is_cut_off_before_it_is_written_surely_did_not_happen(service: Service) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url)})
    for before, acted in ((True, False), (False, True)):
        sends = Sends("op", lease=Lease(30))
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(upstreams.client("s", sends).post("/wait"))
            if not before:
                await until(lambda: seen(service, "/wait"))
            else:
                await asyncio.sleep(0)
            sending.cancel()
        assert (before, sends.acted) == (before, acted)
    service.go_on.set()
    await upstreams.close()


async def seen(service: Service, path: str) -> bool:
    return path in service.paths
