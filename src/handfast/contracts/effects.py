"""What a call does to the world, how much harm it can do, and what became of it."""

from enum import StrEnum


class Effect(StrEnum):
    """What happens if a call runs twice. Decides what a retry does when an earlier attempt left no settlement."""

    READ = "READ"
    """No effect: run it again."""
    IDEMPOTENT = "IDEMPOTENT"
    """The same call leaves the same state (PUT, DELETE): run it again."""
    KEYED = "KEYED"
    """The downstream honours `Idempotency-Key` (IETF draft-07): run it again with the same key."""
    TRANSACTIONAL = "TRANSACTIONAL"
    """The effect is in the ledger's own database and commits together with its settlement: exactly once."""
    RECONCILED = "RECONCILED"
    """The author's `reconcile` looks whether it happened; it runs again only when surely absent."""
    ONCE = "ONCE"
    """Nothing protects a repeat: it never runs again, its outcome is UNKNOWN and a person resolves it."""

    @property
    def repeatable(self) -> bool:
        """Whether an attempt whose end is not known may simply be run again."""
        return self in {Effect.READ, Effect.IDEMPOTENT, Effect.KEYED, Effect.TRANSACTIONAL}

    @property
    def harmless(self) -> bool:
        """Whether an attempt that was not settled surely left nothing behind."""
        return self in {Effect.READ, Effect.TRANSACTIONAL}


class Tier(StrEnum):
    """The harm a call can do. Decides who must agree before it runs."""

    READ_ONLY = "READ_ONLY"
    REVERSIBLE = "REVERSIBLE"
    IRREVERSIBLE = "IRREVERSIBLE"
    PRIVILEGED = "PRIVILEGED"

    @property
    def asks(self) -> bool:
        """Whether a call of this tier waits for a person unless the agent is set to run it."""
        return self in {Tier.IRREVERSIBLE, Tier.PRIVILEGED}


class Outcome(StrEnum):
    """What became of an operation."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    """It surely did not happen, or it happened and answered with an error that says so."""
    DENIED = "DENIED"
    """It was never attempted: refused by a rule or by a person."""
    UNKNOWN = "UNKNOWN"
    """It may or may not have happened. A person resolves it."""
    COMPENSATED = "COMPENSATED"


class Lane(StrEnum):
    """How a call is scheduled."""

    STANDARD = "standard"
    """A Temporal activity: heartbeats, retries and a line in the Temporal UI."""
    FAST = "fast"
    """A local activity for calls that surely end within 2 s: a third of the cost, no heartbeat."""


class Verdict(StrEnum):
    """What the gate said of a call when its turn was settled."""

    RUN = "run"
    ASK = "ask"
    DENY = "deny"
    KEPT = "kept"
    """An earlier plan has done just this: it is settled with that result."""


class RunStatus(StrEnum):
    """Where a run stands, in the ledger and in the search attribute `HandfastStatus`."""

    REQUESTED = "requested"
    RUNNING = "running"
    COMPLETED = "completed"
    LIMIT_REACHED = "limit_reached"
    REFUSED = "refused"
    """The model declined to answer."""
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def closed(self) -> bool:
        """Whether nothing more will happen in this run."""
        return self not in {RunStatus.REQUESTED, RunStatus.RUNNING}
