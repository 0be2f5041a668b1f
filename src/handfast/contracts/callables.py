"""What kind of function an author has given: which ones can be called as a contract needs it."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine, as far as it says so itself: also an object whose `__call__` is async."""
    function = _behind(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - what it is, not whether


def is_generator(function: Any) -> bool:
    """Whether calling it runs nothing yet, and gives a generator."""
    function = _behind(function)
    called = getattr(function, "__call__", None)  # noqa: B004 - what it is, not whether
    return any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (function, called))


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments by position; also where it does not say."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def async_faults(clause: str, function: Any, *parameters: str) -> Iterator[str]:
    """Why it can't be awaited with these arguments by position, one sentence each."""
    if not callable(function):
        yield f"{clause} is {function!r}: it must be an async function"
    elif is_generator(function):
        yield f"{clause} must be an async function that returns what it found, not a generator: take its yield away"
    elif not is_async(function):
        yield f"{clause} must be an async function: write async def, and let decorators be async, too"
    elif not takes(function, len(parameters)):
        yield f"{clause} must take {len(parameters)} parameters: {', '.join(parameters)}"


def sync_faults(clause: str, function: Any, *parameters: str) -> Iterator[str]:
    """Why it can't simply be called with these arguments by position, one sentence each."""
    if not callable(function):
        yield f"{clause} is {function!r}: it must be a function"
    elif inspect.isclass(function):
        yield f"{clause} is the class {function.__name__}: give an object of it"
    elif is_generator(function):
        yield f"{clause} must return its word, not be a generator: take its yield away"
    elif is_async(function):
        yield f"{clause} must be a plain function: it is asked while a call is judged, and nothing awaits it; write def"
    elif not takes(function, len(parameters)):
        yield f"{clause} must take {len(parameters)} parameter{'s' * (len(parameters) > 1)}: {', '.join(parameters)}"


def discard(value: Any) -> None:
    """Close a coroutine that nobody awaits, so that Python does not complain about it later."""
    if inspect.iscoroutine(value):
        value.close()


def _behind(function: Any) -> Any:
    """The function behind partials and static methods."""
    while isinstance(function, (functools.partial, staticmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return function
