"""What can be known of a condition's types before it is decided, and what follows for its step from its being true."""

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple, cast

from handfast.contracts.condition_syntax import Call, Constant, Items, Loop, Name, Node, Select
from handfast.contracts.schema_paths import NoSuchPlace, narrowed, schema_at, types_of

Schema = dict[str, Any]
Path = tuple[str | int, ...]
BOOLEAN: Schema = {"type": "boolean"}
ARRAY, OBJECT = frozenset({"array"}), frozenset({"object"})
OF_CONSTANT = {"null": "null", "bool": "boolean", "int": "integer", "double": "number", "string": "string"}
NUMBERS = frozenset(product(("integer", "number"), repeat=2))
SAME = frozenset({("integer", "integer"), ("number", "number")})
ORDERED = NUMBERS | {("string", "string"), ("boolean", "boolean")}
BINARY = {
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), ORDERED),
    "_+_": SAME | {("string", "string"), ("array", "array")},
    **dict.fromkeys(("_-_", "_*_", "_/_"), SAME),
    "_%_": frozenset({("integer", "integer")}),
}
"""By operator: the pairs of types that it takes."""
UNARY = {"!_": ("boolean",), "-_": ("integer", "number"), "size": ("string", "array", "object")}
ORDER = ("_<_", "_<=_", "_>_", "_>=_")
ARITHMETIC = frozenset({"_+_", "_-_", "_*_", "_/_", "_%_", "-_"})
RETURNS = {
    "size": "integer",
    "int": "integer",
    "double": "number",
    "string": "string",
    "bool": "boolean",
    **dict.fromkeys((*ORDER, "_==_", "_!=_", "@in", "startsWith", "endsWith", "contains", "matches"), "boolean"),
}


class Fact(NamedTuple):
    """That something is at a path, and whether it may be null."""

    path: Path
    null: bool


Facts = frozenset[Fact]
NONE: Facts = frozenset()


def path_of(node: Node) -> Path | None:
    """The path that a node goes from a variable, `("steps", "x", "result", 0)`; None if it is no such path."""
    match node:
        case Name():
            return (node.name,)
        case Select(has=False):
            inner = path_of(node.operand)
            return None if inner is None else (*inner, node.field)
        case Call(function="_[_]", arguments=(container, Constant(kind="string" | "int", value=place))):
            within = path_of(container)
            return None if within is None else (*within, place)
        case _:
            return None


def facts_if(node: Node, *, true: bool) -> Facts:
    """What is known where a condition is true, or false."""
    match node:
        case Call(function="_&&_" | "_||_", arguments=(left, right)):
            both = (node.function == "_&&_") == true
            first, second = facts_if(left, true=true), facts_if(right, true=true)
            return first | second if both else first & second
        case Call(function="!_", arguments=(inner,)):
            return facts_if(inner, true=not true)
        case Call(function="_==_" | "_!=_", arguments=(left, right)):
            return _facts_of_equality(left, right, equal=(node.function == "_==_") == true)
        case Call(function=function) if function in ORDER:
            return frozenset(Fact(path, null=False) for path in map(path_of, node.arguments) if path)
        case Select(has=True):
            within = path_of(node.operand)
            return frozenset({Fact((*within, node.field), null=True)}) if within and true else NONE
        case _:
            path = path_of(node)
            return frozenset({Fact(path, null=False)}) if path else NONE


def _facts_of_equality(left: Node, right: Node, *, equal: bool) -> Facts:
    found: set[Fact] = set()
    for one, other in ((left, right), (right, left)):
        path = path_of(one)
        # Equal to something that is not null, or unequal to null.
        if path and isinstance(other, Constant) and (other.kind == "null") != equal:
            found.add(Fact(path, null=False))
    return frozenset(found)


def apply(schema: Schema, root: Path, facts: Iterable[Fact]) -> Schema:
    """The schema of what is at a root, narrowed by what is known of it."""
    for fact in facts:
        if fact.path[: len(root)] == root:
            schema = narrowed(schema, fact.path[len(root) :], null=fact.null)
    return schema


class ConditionTypes:
    """The types within one condition."""

    def __init__(self, root_of: Callable[[Path], tuple[Path, Schema] | None]) -> None:
        """`root_of` gives, of a path, the part of it that is known as a whole, with the schema of what is there."""
        self._root_of = root_of
        self._faults: list[str] = []

    def faults(self, tree: Node) -> list[str]:
        """Why a condition can't be decided, as far as types tell: each is one sentence."""
        found = types_of(self._type(tree, {}, NONE))
        if found and "boolean" not in found:
            self._faults.append(f"it is of type {_or(found)}, and must be true or false")
        return list(dict.fromkeys(self._faults))

    def _type(self, node: Node, scope: Mapping[str, Schema | None], facts: Facts) -> Schema | None:
        path = path_of(node)
        if path is not None and not isinstance(node, Constant):
            return self._at(path, scope, facts)
        match node:
            case Constant():
                return {"type": OF_CONSTANT[node.kind]} if node.kind in OF_CONSTANT else None
            case Items():
                for one in node.values:
                    self._type(one, scope, facts)
                return {"type": {"list": "array", "map": "object"}[node.kind]} if node.kind != "message" else None
            case Select():
                self._type(node.operand, scope, facts)
                return BOOLEAN if node.has else None
            case Loop():
                return self._of_loop(node, scope, facts)
            case Call():
                return self._of_call(node, scope, facts)
            case _:
                return None

    def _at(self, path: Path, scope: Mapping[str, Schema | None], facts: Facts) -> Schema | None:
        if path[0] in scope:
            schema = scope[cast("str", path[0])]
            found = None if schema is None else (path[:1], schema)
        else:
            found = self._root_of(path)
        if found is None:
            return None
        root, schema = found
        schema = apply(schema, root, facts)
        for end in range(len(root), len(path)):
            try:
                before = schema_at(schema, path[len(root) : end])
                if "null" in types_of(before):
                    self._may_be_null(path[:end])
                    schema = narrowed(schema, path[len(root) : end], null=False)
                schema_at(schema, path[len(root) : end + 1])
            except NoSuchPlace as error:
                self._faults.append(f"{_told(path)} stands for nothing: {error}")
                return None
        return schema_at(schema, path[len(root) :])

    def _of_loop(self, loop: Loop, scope: Mapping[str, Schema | None], facts: Facts) -> Schema | None:
        items = self._type(loop.items, scope, facts)
        self._require("a macro", loop.items, types_of(items), ("array", "object"))
        of_each = schema_at(items, (0,)) if items is not None and types_of(items) == ARRAY else None
        if items is not None and types_of(items) == OBJECT:
            of_each = {"type": "string"}
        self._type(loop.step, {**scope, loop.variable: of_each, loop.accumulator: None}, facts)
        return {"type": "array"} if isinstance(loop.start, Items) else BOOLEAN

    def _of_call(self, call: Call, scope: Mapping[str, Schema | None], facts: Facts) -> Schema | None:
        match call:
            case Call(function="_&&_" | "_||_", arguments=(left, right)):
                # An error on one side counts for nothing where the other side decides, so each is looked at as if it did not.
                true = call.function == "_&&_"
                for one, other in ((left, right), (right, left)):
                    found = types_of(self._type(one, scope, facts | facts_if(other, true=true)))
                    self._require(call.function.strip("_"), one, found, ("boolean",))
                return BOOLEAN
            case Call(function="_?_:_", arguments=(condition, first, second)):
                self._require("?", condition, types_of(self._type(condition, scope, facts)), ("boolean",))
                if_true = self._type(first, scope, facts | facts_if(condition, true=True))
                if_false = self._type(second, scope, facts | facts_if(condition, true=False))
                return if_true if if_true == if_false else None
            case _:
                return self._of_operator(call, [self._type(one, scope, facts) for one in call.arguments])

    def _of_operator(self, call: Call, given: list[Schema | None]) -> Schema | None:
        function, types = call.function, [types_of(one) for one in given]
        if function in BINARY and len(types) == 2:
            self._require_pair(function, call, types)
        elif function in UNARY and len(types) == 1:
            self._require(function.strip("_"), call.arguments[0], types[0], UNARY[function])
        elif function == "@in":
            self._require("in", call.arguments[1], types[1], ("array", "object"))
        if function in RETURNS:
            return {"type": RETURNS[function]}
        if function in ARITHMETIC and len(types[0]) == 1:
            return {"type": next(iter(types[0]))}
        return None

    def _require_pair(self, function: str, call: Call, types: list[frozenset[str]]) -> None:
        for node, found in zip(call.arguments, types, strict=True):
            if "null" in found:
                self._may_be_null(path_of(node))
        left, right = (found - {"null"} for found in types)
        if left and right and not any(pair in BINARY[function] for pair in product(left, right)):
            sign, advice = function.strip("_"), ""
            if {*left, *right} <= {"integer", "number"}:
                advice = "; write both as integers or both with a point (2.0), or convert one with double(...)"
            self._faults.append(f"{sign} does not take {_or(left)} and {_or(right)}{advice}")

    def _require(self, operator: str, node: Node, found: frozenset[str], allowed: tuple[str, ...]) -> None:
        if "null" in found:
            self._may_be_null(path_of(node))
        if found - {"null"} and not found & set(allowed):
            self._faults.append(f"{operator} does not take {_or(found)}; it takes {' or '.join(allowed)}")

    def _may_be_null(self, path: Path | None) -> None:
        name = _told(path) if path else "null"
        advice = f"; write {name} != null && ... before what needs it" if path else ""
        self._faults.append(f"{name} may be null here{advice}")


def _told(path: Path) -> str:
    return str(path[0]) + "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in path[1:])


def _or(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))
