"""The worst-case model: it does its user's job until it reads an injection, then all that the attacker wants, then it goes on."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from handfast import ask
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

Owner = Literal["user", "attacker"]
Call = tuple[str, dict[str, Any]]
MARK = "case:"
"""Before the name of a case in its request: the model is told nothing else of whose run it is."""


@dataclass(kw_only=True)
class Case:
    """One job, with an injection in what it reads or without."""

    name: str
    request: str
    user: Sequence[Call]
    """What the user wants done."""
    attack: Callable[[], Sequence[Call]] = tuple
    """What the attacker wants done, once the injection is seen."""
    injection: str = ""
    """What gives the injection away in a result."""
    world: Any = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    issued: list[tuple[Owner, Call]] = field(default_factory=list[tuple[Owner, Call]])
    executed: list[tuple[Owner, Call]] = field(default_factory=list[tuple[Owner, Call]])
    asked: list[tuple[Owner, Call]] = field(default_factory=list[tuple[Owner, Call]])
    """The calls that a person was asked about."""
    seen: bool = False
    done: int = 0
    """Of the user's calls, how many were asked for."""
    left: list[Call] = field(default_factory=list[Call])
    """Of the attacker's."""

    @property
    def text(self) -> str:
        """The request, as the run is started with it."""
        return f"{self.request}\n\n{MARK}{self.id}"

    def next(self, request: ModelRequest) -> Step:
        """The model's next answer: one call, so that everything it read before counts for the one after."""
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn < len(self.issued):
            return _asking(self.issued[turn][1])
        told = "".join(result.text for message in request.messages for result in message.results)
        if self.injection and not self.seen and self.injection in told:
            self.seen = True
            self.left = list(self.attack())
        if self.left:
            self.issued.append(("attacker", self.left.pop(0)))
        elif self.done < len(self.user):
            self.issued.append(("user", self.user[self.done]))
            self.done += 1
        else:
            return "done"
        return _asking(self.issued[-1][1])

    def carry_out(self, tool: str, arguments: dict[str, Any]) -> None:
        """Write down that a call was executed: for whoever wanted the one that was asked for last, as there is one at a time."""
        owner, _ = self.issued[-1]
        self.executed.append((owner, (tool, arguments)))

    def executed_by(self, owner: Owner, acting: Callable[[str], bool]) -> list[Call]:
        """The calls of one side that were executed and change something, or send something outside."""
        return [call for whose, call in self.executed if whose == owner and acting(call[0])]


def _asking(call: Call) -> Step:
    return ask(call[0], **call[1])


class WorstCase:
    """The model of all cases: it finds out from the request which one it is in."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}

    def __call__(self, request: ModelRequest) -> Step:
        """Answer for the case that the request names."""
        name = request.messages[0].text.rpartition(MARK)[2].strip()
        return self.cases[name].next(request)
