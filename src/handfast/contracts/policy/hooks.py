"""Hooks: rules in Python, where data is not enough."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from handfast.contracts.policy.proposed import ProposedCall

Action = Literal["skip", "change", "ask", "deny"]


@dataclass(frozen=True, kw_only=True)
class HookWord:
    """What a hook says of a call. A hook that has nothing to say returns None, and the call proceeds as the policy has it."""

    action: Action
    """Leave it out and tell the model so; carry it out with other arguments; let a person decide; refuse it."""
    reason: str = ""
    """For the record, for the person who is asked, and for the model."""
    arguments: Mapping[str, Any] | None = None
    """With `change`: all arguments, as they are to be."""

    def __post_init__(self) -> None:
        """Refuse a word that is none, or says half of what it means."""
        if self.action not in get_args(Action):
            msg = f"action={self.action!r}: allowed are {', '.join(get_args(Action))}"
            raise ValueError(msg)
        if not isinstance(self.reason, str):  # pyright: ignore[reportUnnecessaryIsInstance] - nothing checks it but this
            msg = f"reason={self.reason!r}: it must be a text"
            raise TypeError(msg)
        if self.arguments is not None and not isinstance(self.arguments, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"arguments={self.arguments!r}: give all arguments by name"
            raise TypeError(msg)
        if (self.action == "change") is (self.arguments is None):
            msg = "arguments= goes with action='change', and only with it"
            raise ValueError(msg)


Hook = Callable[[ProposedCall], HookWord | None]
"""A pure, plain function of a call: it is asked when the turn is settled and again right before the effect. Not asked to change a call
again then: what it was changed to is what is judged. One that raises, or returns anything else, has a person asked."""
