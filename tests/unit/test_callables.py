"""Functions of the wrong shape are refused when the contract is built."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from handfast import (
    Agent,
    Compensation,
    ContractError,
    Effect,
    HookWord,
    Pending,
    Script,
    Tier,
    Tool,
    ToolContext,
    tool,
)
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.policy import Caller, Hook, Policy, permit, proposed
from handfast.contracts.price import FREE
from tests.parsed import fitting

ONCE: dict[str, Any] = {"version": "1.0.0", "effect": Effect.ONCE, "tier": Tier.REVERSIBLE, "scope": "x:w"}


async def usual(amount: int) -> str:
    """Pay."""
    return "paid"


def plain(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **given: Any) -> Any:
        return function(*args, **given)

    return wrapper


class Holder:
    async def __call__(self, amount: int) -> str:
        """Pay."""
        return "paid"

    async def method(self, amount: int) -> str:
        """Pay."""
        return "paid"

    @staticmethod
    async def still(amount: int) -> str:
        """Pay."""
        return "paid"

    @classmethod
    async def of_class(cls, amount: int) -> str:
        """Pay."""
        return "paid"


async def streams(amount: int) -> AsyncIterator[str]:
    """Pay."""
    yield "paid"


def yields(amount: int) -> Iterator[str]:
    """Pay."""
    yield "paid"


def by_place(amount: int, /) -> str:
    """Pay."""
    return "paid"


def context_by_place(ctx: ToolContext, /) -> str:
    """Pay."""
    return "paid"


def hidden(_amount: int) -> str:
    """Pay."""
    return "paid"


cached: Any = functools.lru_cache(usual)


def made(function: Any, **clauses: Any) -> Tool:
    said: dict[str, Any] = {**ONCE, "name": "pay", "description": "Pay.", **clauses}
    return tool(**said)(function)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (streams, "it is a generator, so that calling it runs nothing"),
        (yields, "it is a generator, so that calling it runs nothing"),
        (functools.partial(usual, amount=1), "it is of type partial, and a tool is a function or a method"),
        (Holder(), "it is of type Holder, and a tool is a function or a method"),
        (Holder, "it is a class, and a tool is a function or a method"),
        (Holder.__dict__["still"], "it is of type staticmethod, and a tool is a function or a method"),
        (Holder.__dict__["of_class"], "it is of type classmethod, and a tool is a function or a method"),
        (Holder.method, "parameter 'self': a method needs its object"),
        (len, "it is of type builtin_function_or_method, and a tool is a function or a method"),
        (cached, "it is of type _lru_cache_wrapper"),
        (by_place, "parameter 'amount': only named parameters"),
        (context_by_place, "parameter 'ctx': only named parameters"),
        (hidden, "parameter '_amount': the name of an argument can't begin with an underscore"),
        ("usual", "it is of type str"),
        (eval("lambda amount: amount"), "parameter 'amount' has no type"),
    ],
)
def test_what_can_do_no_tools_work_is_refused(function: Any, fault: str) -> None:
    with pytest.raises(ContractError, match=fault):
        made(function)


def test_an_object_without_a_name_is_refused_in_words() -> None:
    with pytest.raises(ContractError, match="it is of type partial"):
        tool(**ONCE)(functools.partial(usual, amount=1))


@pytest.mark.parametrize(
    "function", [usual, Holder().method, Holder.still, Holder.of_class, plain(usual), lambda: "paid"]
)
def test_functions_and_methods_are_tools(function: Any) -> None:
    assert made(function).signature.spread


async def one_too_few(args: Any) -> None: ...
async def one_too_many(args: Any, result: Any, ctx: Any, more: Any) -> None: ...
async def by_name_only(*, args: Any, result: Any, ctx: Any) -> None: ...
async def three(args: Any, result: Any, ctx: Any) -> None: ...
async def two(args: Any, ctx: Any) -> None: ...
async def generates(args: Any, result: Any, ctx: Any) -> AsyncIterator[str]:
    yield ""


def not_async(args: Any, result: Any, ctx: Any) -> None: ...


WRONG = [one_too_few, one_too_many, by_name_only, generates, not_async, plain(three), Holder, 5, "three"]


@pytest.mark.parametrize("function", WRONG)
@pytest.mark.parametrize("clause", ["compensate", "compensate.reconcile", "reconcile", "poll"])
def test_what_a_contract_asks_must_be_an_async_function_of_its_parameters(clause: str, function: Any) -> None:
    clauses: dict[str, dict[str, Any]] = {
        "compensate": {"compensate": Compensation(function=function)},
        "compensate.reconcile": {
            "compensate": Compensation(function=three, effect=Effect.RECONCILED, reconcile=function),
            "effect": Effect.KEYED,
        },
        "reconcile": {"reconcile": function, "effect": Effect.RECONCILED},
        "poll": {"poll": function},
    }
    with pytest.raises(ContractError, match=r"must be an async function|must take \d parameters"):
        made(usual, **clauses[clause])


def test_partials_and_methods_of_async_functions_may_be_asked() -> None:
    async def undo(table: str, args: Any, result: Any, ctx: Any) -> None: ...

    async def look(args: Any, reference: str, ctx: Any, timeout: float = 1.0) -> None: ...

    async def job(amount: int) -> str | Pending:
        """Work."""
        return Pending()

    assert made(job, compensate=functools.partial(undo, "orders"), poll=look, effect=Effect.KEYED).poll is look


class Mute:
    id = "mute"
    price = FREE

    def respond(self, request: ModelRequest) -> ModelResponse:
        raise NotImplementedError


class Streaming(Mute):
    async def respond(self, request: ModelRequest) -> AsyncIterator[Any]:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        yield None


class Careless(Mute):
    async def respond(self) -> ModelResponse:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError


class Decorated(Mute):
    @plain
    async def respond(self, request: ModelRequest) -> ModelResponse:
        raise NotImplementedError


async def async_hook(call: Any) -> HookWord | None: ...
def greedy_hook(call: Any, more: Any) -> HookWord | None: ...
def no_request() -> str:
    return "done"


def word_by_word(call: Any) -> Iterator[HookWord]:
    yield HookWord(action="ask")


class AsyncHook:
    async def __call__(self, call: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"model": Mute()}, "model: respond must be an async function"),
        ({"model": Streaming()}, "model: respond must be an async function that returns"),
        ({"model": Careless()}, "model: respond must take 1 parameters: request"),
        ({"model": Script}, "model is Script, a class"),
        ({"model": print}, "model is builtin_function_or_method"),
        ({"hooks": [async_hook]}, "hook async_hook must be a plain function"),
        ({"hooks": [functools.partial(async_hook)]}, "must be a plain function"),
        ({"hooks": [AsyncHook()]}, "hook AsyncHook must be a plain function"),
        ({"hooks": [word_by_word]}, "hook word_by_word must return its word"),
        ({"hooks": [greedy_hook]}, "hook greedy_hook must take 1 parameter: call"),
        ({"hooks": [AsyncHook]}, "is the class AsyncHook: give an object of it"),
        ({"hooks": ["ask"]}, "hook str is 'ask': it must be a function"),
    ],
)
def test_an_agents_model_and_hooks_can_be_asked(options: dict[str, Any], fault: str) -> None:
    said: dict[str, Any] = {"name": "a", "instructions": "Go.", "model": Script(["done"]), **options}
    with pytest.raises(ContractError, match=fault):
        Agent(**said)


@pytest.mark.parametrize("steps", ["done", no_request, greedy_hook])
def test_a_script_is_a_list_or_a_function_of_the_request(steps: Any) -> None:
    with pytest.raises(ContractError, match="give a list of steps, or a function of the request"):
        Script(steps)


def test_a_decorated_model_is_taken() -> None:
    assert Agent(name="a", instructions="Go.", model=Decorated()).model_id == "mute"


def nothing_to_say(call: Any) -> Any:
    return True


def hands_on(call: Any) -> Any:
    return async_hook(call)


def half_a_word(call: Any) -> Any:
    return HookWord(action="allow")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def speechless(call: Any) -> Any:
    return HookWord(action="ask", reason=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def listed(call: Any) -> Any:
    return HookWord(action="change", arguments=[1])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def unspeakable(call: Any) -> Any:
    return HookWord(action="change", arguments={"amount": object()})


def leaves(call: Any) -> Any:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (nothing_to_say, "it returned bool: a hook returns a HookWord or None"),
        (plain(async_hook), "it returned coroutine"),
        (hands_on, "it returned coroutine"),
        (half_a_word, "action='allow': allowed are skip, change, ask, deny"),
        (speechless, "reason=None: it must be a text"),
        (listed, r"arguments=\[1\]: give all arguments by name"),
        (unspeakable, "Unable to serialize"),
        (leaves, "it raised SystemExit"),
    ],
)
def test_a_hook_that_says_what_is_no_word_has_a_person_asked(hook: Hook, why: str) -> None:
    pay = made(usual)
    arguments = fitting(pay, {"amount": 5})
    given = permit([Policy()], [hook], pay, arguments, Caller())
    assert (given.verdict, given.action) == ("ask", "ask")
    assert why.replace("\\", "") in given.reason


def test_a_hook_may_change_arguments_to_python_values() -> None:
    from decimal import Decimal

    def to_five(call: Any) -> HookWord:
        return HookWord(action="change", arguments={"amount": Decimal(5)})

    pay = made(usual)
    arguments = fitting(pay, {"amount": 500})
    given = permit([Policy()], [to_five], pay, arguments, Caller())
    assert given.changed == fitting(pay, {"amount": 5})
    assert proposed(pay, arguments, Caller()).arguments == {"amount": 500}
