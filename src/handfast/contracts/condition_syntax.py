"""The syntax tree of a condition, read from the protobuf message `cel.expr.ParsedExpr` that the CEL library writes.

Source: `proto/cel/expr/syntax.proto` of the CEL specification. Only the fields that a check needs are read, so that no generated
protobuf code, which is bound to one version of the protobuf runtime, is needed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
CONSTANTS = {1: "null", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes"}
"""By field number of `cel.expr.Constant`: its kind."""


@dataclass(frozen=True)
class Constant:
    """A literal."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Select:
    """`operand.field`, or `has(operand.field)`."""

    operand: "Node"
    field: str
    has: bool = False


@dataclass(frozen=True)
class Call:
    """A function or an operator, such as `_&&_`; the target of a method is its first argument."""

    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True)
class Items:
    """A literal list, map or message: what it holds."""

    kind: str
    values: tuple["Node", ...]


@dataclass(frozen=True)
class Loop:
    """What a macro such as `all` or `map` stands for."""

    variable: str
    items: "Node"
    accumulator: str
    start: "Node"
    goes_on: "Node"
    step: "Node"
    result: "Node"


Node = Constant | Name | Select | Call | Items | Loop


def read_tree(serialized: bytes) -> Node:
    """The tree of an expression, as `Expression.serialize()` of the library gives it: an `Any` that holds a `ParsedExpr`."""
    parsed = _one(serialized, 2)
    return _node(_one(parsed, 2))


def nodes(tree: Node) -> Iterator[Node]:
    """The tree and everything in it."""
    yield tree
    for child in children(tree):
        yield from nodes(child)


def children(node: Node) -> tuple[Node, ...]:
    """What a node directly consists of."""
    match node:
        case Select():
            return (node.operand,)
        case Call():
            return node.arguments
        case Items():
            return node.values
        case Loop():
            return (node.items, node.start, node.goes_on, node.step, node.result)
        case _:
            return ()


def _node(data: bytes) -> Node:
    for number, value in _fields(data):
        match number:
            case 3:
                return _constant(cast("bytes", value))
            case 4:
                return Name(_text(cast("bytes", value), 1))
            case 5:
                inner = cast("bytes", value)
                has = any(number == 3 and value for number, value in _fields(inner))
                return Select(_node(_one(inner, 1)), _text(inner, 2), has)
            case 6:
                inner = cast("bytes", value)
                target = [one for number, one in _fields(inner) if number == 1]
                rest = [one for number, one in _fields(inner) if number == 3]
                return Call(_text(inner, 2), tuple(_node(cast("bytes", one)) for one in (*target, *rest)))
            case 7:
                elements = (one for number, one in _fields(cast("bytes", value)) if number == 1)
                return Items("list", tuple(_node(cast("bytes", one)) for one in elements))
            case 8:
                return _struct(cast("bytes", value))
            case 9:
                return _loop(cast("bytes", value))
            case _:
                continue
    return Constant("null")


def _constant(data: bytes) -> Constant:
    for number, value in _fields(data):
        kind = CONSTANTS.get(number, "")
        if kind == "string":
            return Constant(kind, cast("bytes", value).decode())
        if kind:
            signed = isinstance(value, int) and kind == "int" and value >= 1 << 63
            return Constant(kind, cast("int", value) - (1 << 64) if signed else value)
    return Constant("null")


def _struct(data: bytes) -> Items:
    entries = [cast("bytes", one) for number, one in _fields(data) if number == 2]
    inner = [one for entry in entries for number, one in _fields(entry) if number in {3, 4}]
    kind = "message" if _text(data, 1) else "map"
    return Items(kind, tuple(_node(cast("bytes", one)) for one in inner))


def _loop(data: bytes) -> Loop:
    return Loop(
        variable=_text(data, 1),
        items=_node(_one(data, 2)),
        accumulator=_text(data, 3),
        start=_node(_one(data, 4)),
        goes_on=_node(_one(data, 5)),
        step=_node(_one(data, 6)),
        result=_node(_one(data, 7)),
    )


def _one(data: bytes, number: int) -> bytes:
    return next((cast("bytes", value) for found, value in _fields(data) if found == number), b"")


def _text(data: bytes, number: int) -> str:
    return _one(data, number).decode()


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a message: (number, value) by the protobuf wire format."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
        elif kind == FIXED64:
            yield tag >> 3, struct.unpack_from("<d", data, place)[0]
            place += 8
        elif kind == LENGTH:
            length, place = _varint(data, place)
            yield tag >> 3, data[place : place + length]
            place += length
        elif kind == FIXED32:
            place += 4
        else:
            msg = f"no protobuf message: wire type {kind}"
            raise ValueError(msg)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
