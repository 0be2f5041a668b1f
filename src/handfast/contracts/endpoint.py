"""What a tool asks of an upstream, declared: drift is watched against it, and the upstream's own document is probed with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter

from handfast.contracts.suggestions import instead_of
from handfast.contracts.upstream import Upstream

UPSTREAM = re.compile(r"[^\s\x00-\x1f\x7f]{1,128}")
PATH = re.compile(r"(?:[^{}]|\{[A-Za-z_][A-Za-z0-9_-]*\})*")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One request that a tool sends: where to, with what, and what it reads in the answer."""

    upstream: str
    """The upstream's name, as for `ctx.http`."""
    method: str
    path: str
    """Behind the upstream's base URL, such as `/refunds/{id}`."""
    sends: type[BaseModel] | None = None
    """The JSON body."""
    query: tuple[str, ...] = ()
    """The names of the query parameters."""
    answers: Any = None
    """The type that the tool reads the JSON answer as; None if it does not read it."""

    def __post_init__(self) -> None:
        """Check it as a whole.

        Raises:
            ValueError: With every fault.
        """
        if faults := [*self._faults()]:
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not UPSTREAM.fullmatch(self.upstream):
            yield f"upstream {self.upstream!r}: name one in printable characters without spaces, as for ctx.http"
        if self.method not in METHODS:
            yield f"method {self.method!r}: allowed are {instead_of(self.method, METHODS)}"
        if not self.path.startswith("/"):
            yield f"path {self.path!r}: write it from the upstream's base URL on, such as '/refunds/{{id}}'"
        if not PATH.fullmatch(self.path):
            yield f"path {self.path!r}: each part that changes is one name in braces, such as '/refunds/{{id}}'"
        if isinstance(self.query, str):
            yield f"query is the text {self.query!r}: it must be a tuple of names, query=({self.query!r},)"

    def __str__(self) -> str:
        """As people write it: `POST payments/refunds`."""
        return f"{self.method} {self.upstream}{self.path}"

    @cached_property
    def answer_adapter(self) -> TypeAdapter[Any]:
        """Reads the answer."""
        return TypeAdapter(self.answers)

    @cached_property
    def answer_schema(self) -> dict[str, Any]:
        """JSON Schema of what the tool reads."""
        return self.answer_adapter.json_schema(mode="validation")

    @cached_property
    def body_schema(self) -> dict[str, Any] | None:
        """JSON Schema of what the tool sends."""
        return None if self.sends is None else self.sends.model_json_schema(mode="serialization")

    def full_path(self, upstream: Upstream) -> str:
        """The path with that of the base URL."""
        return urlsplit(upstream.base_url).path.rstrip("/") + self.path

    def fits(self, method: str, path: str, upstream: Upstream) -> bool:
        """Whether a request is one of these."""
        pattern = "".join(
            "[^/]+" if piece.startswith("{") else re.escape(piece)
            for piece in re.split(r"(\{[^}]*\})", self.full_path(upstream))
        )
        return method == self.method and re.fullmatch(pattern, path) is not None
