"""The body of an answer, capped while it arrives: as it is sent, and as it is once unpacked."""

import zlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.tools.answers import transport_error

ENCODINGS = "gzip, deflate"
"""What is asked for. Anything else can't be unpacked piece by piece within a cap."""
PIECE = 65_536


class CappedBody(httpx.AsyncByteStream):
    """An answer's bytes, unpacked, up to a limit."""

    def __init__(self, name: str, most_bytes: int, response: httpx.Response) -> None:
        self._name = name
        self._most = most_bytes
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._size = 0
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        self._packed = encoding in {"gzip", "x-gzip", "deflate"}
        self._refused = "" if self._packed or encoding in {"", "identity"} else encoding
        if self._packed:
            # What the client sees is unpacked already.
            del response.headers["content-encoding"]
            response.headers.pop("content-length", None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive.

        Raises:
            ToolError: There are more, or it breaks off. Whether anything happened is known by the requests so far.
        """
        if self._refused:
            message = f"{self._name} answered in encoding {self._refused!r}; understood are {ENCODINGS}"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE)
        unpack = _Unpacker() if self._packed else None
        try:
            async for part in self._stream:
                for piece in unpack.pieces(part) if unpack else (part,):
                    yield self._counted(piece)
        except httpx.TransportError as error:
            broken_off = transport_error(self._name, error)
            broken_off.happened = ""
            raise broken_off from error
        except zlib.error as error:
            message = f"{self._name} answered with a body that can't be unpacked ({error})"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True) from error

    def _counted(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._most:
            message = f"{self._name} answered with more than {self._most} bytes"
            raise ToolError(message, code=ErrorCode.RESPONSE_TOO_LARGE, hint="ask for less, such as one page of it")
        return piece

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._stream.aclose()


class _Unpacker:
    """Unpacks gzip and deflate, with or without zlib's header, in pieces of bounded size."""

    def __init__(self) -> None:
        self._inner: Any = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._first = True

    def pieces(self, part: bytes) -> Any:
        try:
            piece = self._inner.decompress(part, PIECE)
        except zlib.error:
            if not self._first:
                raise
            self._inner = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            piece = self._inner.decompress(part, PIECE)
        self._first = False
        yield piece
        while self._inner.unconsumed_tail:
            yield self._inner.decompress(self._inner.unconsumed_tail, PIECE)
