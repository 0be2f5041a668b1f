"""An upstream's OpenAPI document, read as far as a tool depends on it (OpenAPI 3.0 and 3.1)."""

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

from handfast.contracts.effects import Effect
from handfast.contracts.endpoint import Endpoint
from handfast.contracts.schemas import Comparison, Narrowing, Schema, closed
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream

Document = dict[str, Any]
REFERENCE = "#/components/"
NUMBERS = frozenset({"int32", "int64", "float", "double"})
SAID_ONLY = frozenset({"example", "xml", "externalDocs", "readOnly", "writeOnly", "nullable", "allOf", "exclusiveMinimum",
                       "exclusiveMaximum"})  # fmt: skip
"""Keywords that are read otherwise, or say nothing about what is allowed."""
OURS = frozenset(
    {"idempotency-key", "content-type", "accept", "authorization", "traceparent", "tracestate", "user-agent"}
)
"""Headers, in lower case, that `ctx.http` sends or that are not for a tool to send."""


def misfits(tool: Tool, name: str, upstream: Upstream, document: Document) -> Iterator[str]:
    """What a tool asks of an upstream that its document does not offer, or what it expects and is not promised."""
    for endpoint in tool.endpoints:
        if endpoint.upstream == name:
            yield from (f"{endpoint}: {fault}" for fault in _Probe(tool, endpoint, upstream, document).faults())


class _Probe:
    """One endpoint of a tool, held against a document."""

    def __init__(self, tool: Tool, endpoint: Endpoint, upstream: Upstream, document: Document) -> None:
        self._tool = tool
        self._endpoint = endpoint
        self._upstream = upstream
        self._document = document

    def faults(self) -> Iterator[str]:
        """One sentence each."""
        found = self._operation()
        if found is None:
            yield "the document has no such operation"
            return
        path, operation = found
        if operation.get("deprecated"):
            yield "the document calls it deprecated"
        yield from self._parameter_faults([*path.get("parameters", ()), *operation.get("parameters", ())])
        yield from self._body_faults(operation)
        yield from self._answer_faults(operation)

    def _operation(self) -> tuple[Schema, Schema] | None:
        wanted = _shape(self._endpoint.full_path(self._upstream))
        bases = {_base(server) for server in self._document.get("servers", ({"url": "/"},))} | {""}
        own = urlsplit(self._upstream.base_url).path.rstrip("/")
        for path, item in self._document.get("paths", {}).items():
            here = {_shape(base + path) for base in bases} | {_shape(own + path)}
            operation = self._resolved(item).get(self._endpoint.method.lower())
            if wanted in here and operation is not None:
                return self._resolved(item), operation
        return None

    def _parameter_faults(self, parameters: list[Schema]) -> Iterator[str]:
        found = list(map(self._resolved, parameters))
        known = {(p["in"], p["name"].lower() if p["in"] == "header" else p["name"]): p for p in found}
        for (place, name), parameter in known.items():
            if place == "query" and parameter.get("required") and name not in self._endpoint.query:
                yield f"query parameter {name!r} is required, and the tool does not send it"
            if place == "header" and parameter.get("required") and not self._sends_header(name):
                yield f"header {name!r} is required, and neither the tool's settings nor the engine send it"
        for name in self._endpoint.query:
            if ("query", name) not in known:
                yield f"query parameter {name!r} is not in the document"
        named = "idempotency-key" in str(self._document).lower()
        unsafe = self._endpoint.method in {"POST", "PATCH"}
        if self._tool.effect is Effect.KEYED and unsafe and named and ("header", "idempotency-key") not in known:
            yield "the tool is KEYED, and the document names Idempotency-Key for other operations, not for this one"

    def _sends_header(self, name: str) -> bool:
        sent = {header.lower() for header in (*self._upstream.headers, self._upstream.version_header)}
        auth = getattr(self._upstream.auth, "header", "authorization").lower()
        return name.lower() in sent | OURS | {auth}

    def _body_faults(self, operation: Schema) -> Iterator[str]:
        body = self._resolved(operation.get("requestBody", {}))
        accepted = _json_of(body)
        if self._endpoint.body_schema is None:
            if body.get("required"):
                yield "a body is required, and the tool declares none (sends=)"
            return
        if accepted is None:
            yield "the tool sends a JSON body, and the document takes none"
            return
        # A field that they don't name does nothing there, even where they would let it pass.
        theirs = closed(self._schema(accepted))
        for narrowing in Comparison(closed(self._endpoint.body_schema), theirs).narrowings():
            yield f"body {_told(narrowing, ours='sent', theirs='accepted')}"

    def _answer_faults(self, operation: Schema) -> Iterator[str]:
        if self._endpoint.answers is None:
            return
        good = [
            self._resolved(answer) for code, answer in operation.get("responses", {}).items() if str(code)[0] == "2"
        ]
        promised = [schema for schema in map(_json_of, good) if schema is not None]
        if not promised:
            yield "the tool reads a JSON answer, and the document promises none"
        for schema in promised:
            for narrowing in Comparison(closed(self._schema(schema)), self._endpoint.answer_schema).narrowings():
                yield f"answer {_told(narrowing, ours='promised', theirs='read')}"

    def _schema(self, schema: Schema) -> Schema:
        """One of the document's schemas as JSON Schema of its own, with the definitions it refers to."""
        defined: dict[str, Schema] = self._document.get("components", {}).get("schemas", {})
        return {
            **_converted(schema, defined),
            "$defs": {name: _converted(inner, defined) for name, inner in defined.items()},
        }

    def _resolved(self, value: Schema) -> Schema:
        while "$ref" in value and str(value["$ref"]).startswith(REFERENCE):
            kind, _, name = str(value["$ref"]).removeprefix(REFERENCE).partition("/")
            value = self._document.get("components", {}).get(kind, {}).get(name, {})
        return value


def _converted(schema: Schema, defined: dict[str, Schema]) -> Schema:
    """A schema of OpenAPI 3.0 or 3.1 as one that pydantic could have written."""
    made: Schema = {}
    parts: list[Schema] = schema.get("allOf", [])
    for part in parts:
        name = str(part.get("$ref", "")).removeprefix("#/components/schemas/")
        inner = _converted(defined.get(name, part), defined)
        for keyword, value in inner.items():
            if keyword == "properties":
                made[keyword] = {**made.get(keyword, {}), **value}
            elif keyword == "required":
                made[keyword] = [*made.get(keyword, ()), *value]
            else:
                made[keyword] = value
    for keyword, value in schema.items():
        match keyword:
            case "$ref":
                made[keyword] = str(value).replace("#/components/schemas/", "#/$defs/")
            case "properties":
                made[keyword] = {
                    **made.get(keyword, {}),
                    **{name: _converted(inner, defined) for name, inner in value.items()},
                }
            case "required":
                made[keyword] = [*made.get(keyword, ()), *value]
            case "anyOf" | "oneOf":
                made[keyword] = [_converted(inner, defined) for inner in value]
            case "items" | "additionalProperties" if isinstance(value, dict):
                made[keyword] = _converted(cast("Schema", value), defined)
            case "format" if value in NUMBERS:
                pass
            case _ if keyword not in SAID_ONLY and not keyword.startswith("x-"):
                made[keyword] = value
            case _:
                pass
    for keyword, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        bound = schema.get(keyword)
        if bound is True and inclusive in made:
            made[keyword] = made.pop(inclusive)
        elif bound is not None and not isinstance(bound, bool):
            made[keyword] = bound
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def _json_of(holder: Schema) -> Schema | None:
    """The schema of the JSON that a request body or an answer holds."""
    for kind, content in holder.get("content", {}).items():
        if kind.partition(";")[0].strip() in {"application/json", "*/*"} or "+json" in kind:
            return cast("Schema", content.get("schema", {}))
    return None


def _base(server: Schema) -> str:
    return urlsplit(str(server.get("url", ""))).path.rstrip("/")


def _shape(path: str) -> str:
    """A path with its parameters' names taken out."""
    return "/".join("{}" if piece.startswith("{") else piece for piece in path.rstrip("/").split("/"))


def _told(narrowing: Narrowing, *, ours: str, theirs: str) -> str:
    path, keyword, before, after = narrowing
    where = f"field {path!r}" if path else "as a whole"
    match keyword:
        case "properties":
            return f"{where} is {ours}, and not {theirs}"
        case "required":
            return f"{where} is required, and is not always {ours}"
        case _:
            return f"{where}, {keyword}: {ours} {_shown(before)}, {theirs} {_shown(after)}"


def _shown(value: object) -> str:
    return "anything" if value is None else str(value)
