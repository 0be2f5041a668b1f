"""Calls whose work goes on in the background: the model goes on meanwhile, and hears of their end in a later turn."""

import asyncio
from collections.abc import Coroutine, Sequence

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.wire import Job


class Jobs:
    """The background work of one run. Each job is seen through by a task of its own."""

    def __init__(self, news: Sequence[str]) -> None:
        self._news = list(news)
        self._told: set[str] = set()
        """Jobs whose end the model was told before this execution has noticed it, as after a reset."""
        self._open: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._failure: BaseException | None = None
        self.moving = False
        """The run is about to continue as new: nobody is waited for, and what goes on is taken along."""

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._open

    @property
    def open(self) -> tuple[Job, ...]:
        """What goes on, oldest first."""
        return tuple(self._open.values())

    @property
    def news(self) -> tuple[str, ...]:
        """What has ended and the model does not know yet, oldest first."""
        return tuple(self._news)

    @property
    def stirring(self) -> bool:
        """Whether there is something to act on: news, or a failure."""
        return bool(self._news) or self._failure is not None

    def start(self, job: Job, seen_through: Coroutine[None, None, bool]) -> None:
        """See a job through beside the turns. The coroutine ends with False if it is not over."""
        self._open[job.head.id] = job
        task = asyncio.create_task(seen_through)
        self._tasks[job.head.id] = task
        task.add_done_callback(lambda done: self._ended(job.head.id, done))

    def update(self, job: Job) -> None:
        """A job has been looked at once more."""
        self._open[job.head.id] = job

    def told(self, operation_ids: Sequence[str]) -> None:
        """The model has been told of these."""
        for one in operation_ids:
            if one in self._news:
                self._news.remove(one)
            else:
                self._told.add(one)

    def require_sound(self) -> None:
        """Raise what a job has failed with: a bug must end the run, not vanish in its task."""
        if self._failure is not None:
            raise self._failure

    async def ended(self) -> None:
        """Wait until no task is left: each has come to its end, or to a point where it can be taken along."""
        await workflow.wait_condition(lambda: not self._tasks)

    def _ended(self, operation_id: str, task: "asyncio.Task[bool]") -> None:
        del self._tasks[operation_id]
        if task.cancelled():
            return
        self._failure = self._failure or task.exception()
        if task.exception() is not None or not task.result():
            return
        del self._open[operation_id]
        if operation_id in self._told:
            self._told.remove(operation_id)
        else:
            self._news.append(operation_id)
