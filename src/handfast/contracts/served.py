"""A call that a tool backend carries out for somebody else, and what stands about it."""

from enum import Enum, auto

from handfast.contracts.messages import Frozen


class ServedCall(Frozen):
    """One intended call: the same tool, namespace and key is the same call."""

    tool: str
    ns: str
    key: str
    digest: str
    """Of its arguments: a key is never used for others."""
    request_id: str = ""


class Stand(Enum):
    """What is known of a call that comes in."""

    NEW = auto()
    """Nobody has begun it; it is the asker's now."""
    UNDER_WAY = auto()
    """Somebody is at it."""
    ABANDONED = auto()
    """Somebody began it long ago and never ended."""
    DONE = auto()
    """It has an answer."""
    OTHER = auto()
    """Its key was used with other arguments."""


class Standing(Frozen):
    """What stands about a call, and its answer if it has one."""

    stand: Stand
    status: int = 0
    body: str = ""
    request_id: str = ""
    """Of the request that was answered first."""
