"""A security report over a period: what was asked for on whose behalf, what was decided by what and by whom, and what was refused."""

from datetime import datetime

from handfast.contracts.messages import Frozen


class RunsOf(Frozen):
    """How much was run on somebody's behalf."""

    tenant: str
    user: str
    agent: str
    runs: int
    calls: int
    """Tool calls that their models asked for, in turns of the period."""


class Decided(Frozen):
    """How often a rule, or the tier of a tool, has decided on calls, and how."""

    rule: str
    """The name of the rule or the part of the policy; `tier` with its name where no policy said anything."""
    tool: str
    verdict: str
    """`run`, `ask` or `deny`."""
    times: int
    policy: int = 0
    """The version of the installation's policy that held; 0 where there was none."""


class Word(Frozen):
    """What somebody has said of calls, by a grant that counted."""

    by: str
    word: str
    """`approved`, `rejected`, `agreed` where another one must, too, or `resolved`."""
    tool: str
    times: int


class Refused(Frozen):
    """A word that did not count: forged, expired, replayed, or of somebody who may not."""

    run_id: str
    operation_id: str
    at: datetime
    word: str
    claimed: str
    """Who it claimed to be of."""
    why: str


class UntrustedRun(Frozen):
    """A run in which somebody else's words are."""

    run_id: str
    agent: str
    tenant: str
    untrusted: str
    """The first that brought them."""
    sensitive: str
    held: int
    """Calls that were held because nobody trusted had aimed them."""


class Changed(Frozen):
    """A change of what holds: a policy that was set, a key that was added or revoked."""

    at: datetime
    what: str
    by: str


class Audit(Frozen):
    """The report. It holds no contents: no texts, no arguments, no results."""

    since: datetime
    until: datetime
    tenant: str
    """Of one tenant only, if it is named."""
    runs: tuple[RunsOf, ...]
    decisions: tuple[Decided, ...]
    words: tuple[Word, ...]
    refused: tuple[Refused, ...]
    untrusted: tuple[UntrustedRun, ...]
    limits: tuple[tuple[str, int], ...]
    """The limits and budgets that have ended runs, and how many."""
    changes: tuple[Changed, ...]
    """Of the installation; only in a report on all tenants."""
    verified: int
    """Runs whose chain was recomputed."""
    faults: tuple[str, ...]
    """What is wrong with chains."""
