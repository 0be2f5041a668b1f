"""Server-sent events, read from bytes.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

LINE_END = re.compile(rb"\r\n|\n|\r")


class ServerSentEvent(NamedTuple):
    """One event of a stream."""

    name: str
    """What kind of event it is; empty where the stream does not say."""
    data: str


class EventTooLarge(ValueError):
    """The stream is larger than allowed."""


async def server_sent_events(chunks: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[ServerSentEvent]:
    """The events of a stream. One that the stream's end has cut off is left out.

    Args:
        chunks: The body, in whatever pieces it arrives.
        max_bytes: Of all events together.

    Raises:
        EventTooLarge: There are more.
    """
    lines, event, read = _Lines(), _Event(), 0
    async for chunk in chunks:
        read += len(chunk)
        if read > max_bytes:
            msg = f"the event stream has more than {max_bytes:,} bytes"
            raise EventTooLarge(msg)
        for line in lines.feed(chunk):
            if (whole := event.feed(line)) is not None:
                yield whole


class _Lines:
    """Lines out of pieces. A line may end with CR, LF or both, and both may come apart."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        if b"\n" not in chunk and b"\r" not in chunk:
            self._rest.append(chunk)
            return []
        *lines, rest = LINE_END.split(b"".join([*self._rest, chunk]))
        self._rest = [rest]
        return lines


class _Event:
    """Fields gathered until the blank line that ends an event."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._first = True

    def feed(self, raw: bytes) -> ServerSentEvent | None:
        line = raw.decode("utf-8", "replace")
        if self._first:
            line, self._first = line.removeprefix("\ufeff"), False
        if not line:
            whole = ServerSentEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return whole
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        return None
