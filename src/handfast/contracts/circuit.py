"""A circuit breaker as a value: closed, open, or half-open with one probe at a time.

Source: M. Nygard, "Release It!", 2nd ed., 5.2. Pure: whoever keeps it gives the time and stores what comes back.
"""

from dataclasses import dataclass, replace

from pydantic import Field

from handfast.contracts.messages import Frozen


class CircuitPolicy(Frozen):
    """When a service counts as down, and when it counts as back."""

    failures: int = Field(default=5, ge=1)
    """So many failures in a row open it: no answer, or an answer of 500 and above."""
    seconds: float = Field(default=60.0, gt=0)
    """So long it stays open before a probe may pass."""
    successes: int = Field(default=3, ge=1)
    """So many probes must succeed, one after the other, to close it."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Whether a request may pass."""

    allowed: bool = True
    probe: bool = False
    """It is the one probe of a half-open circuit."""
    wait_ms: int = 0
    """When it is worth coming back, if it may not pass."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """The state of one circuit. Times are milliseconds since 1970."""

    failures: int = 0
    """In a row, while closed."""
    successes: int = 0
    """Of probes, while half-open."""
    opened_at: int = 0
    """0 while closed."""
    probe_until: int = 0
    """Until when a probe under way keeps others out; after that it counts as lost."""

    @property
    def closed(self) -> bool:
        """Everything may pass."""
        return self.opened_at == 0

    def admit(self, policy: CircuitPolicy, now: int, probe_ms: int) -> tuple["Circuit", Admission]:
        """Let a request pass, as a probe, or not; a probe may take `probe_ms`."""
        if self.closed:
            return self, Admission()
        opens_at = max(self.opened_at + int(policy.seconds * 1000), self.probe_until)
        if now < opens_at:
            return self, Admission(allowed=False, wait_ms=opens_at - now)
        return replace(self, probe_until=now + probe_ms), Admission(probe=True)

    def succeeded(self, policy: CircuitPolicy, *, probe: bool) -> "Circuit":
        """A request was answered. Late answers to requests from before it opened change nothing."""
        if self.closed:
            return Circuit()
        if not probe:
            return self
        if self.successes + 1 >= policy.successes:
            return Circuit()
        return replace(self, successes=self.successes + 1, probe_until=0)

    def failed(self, policy: CircuitPolicy, now: int, *, probe: bool) -> "Circuit":
        """A request failed as one does when the service is down."""
        if self.closed:
            failures = self.failures + 1
            return Circuit(failures=failures, opened_at=now if failures >= policy.failures else 0)
        return replace(self, successes=0, opened_at=now, probe_until=0) if probe else self

    def withdrawn(self) -> "Circuit":
        """A probe was not sent, for a reason on this side: the next request may be the probe."""
        return self if self.closed else replace(self, probe_until=0)
