"""Work time: the time in which at least one activity of the run is under way. Waiting for people does not count."""

from collections.abc import Generator
from contextlib import contextmanager

from temporalio import workflow


class WorkClock:
    """Counts seconds of work by workflow time, which replays the same."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._elsewhere = 0.0
        self._busy = 0
        self._since = 0.0

    @contextmanager
    def working(self) -> Generator[None]:
        """Count the body's time; bodies that overlap count once."""
        if self._busy == 0:
            self._since = workflow.time()
        self._busy += 1
        try:
            yield
        except GeneratorExit:
            # The run is evicted from the cache: there is no workflow time any more, and nothing to count.
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()

    def add(self, seconds: float) -> None:
        """Count work that was done elsewhere."""
        self._seconds += seconds
        self._elsewhere += seconds

    def _leave(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._seconds += workflow.time() - self._since

    @property
    def own(self) -> float:
        """The part of it that was done here."""
        return self.seconds - self._elsewhere

    @property
    def seconds(self) -> float:
        """Work time so far."""
        running = workflow.time() - self._since if self._busy else 0.0
        return round(self._seconds + running, 3)
