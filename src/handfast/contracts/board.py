"""Which steps of a plan can be asked for now: a pure account of what has begun and ended."""

from collections.abc import Iterable, Sequence

from handfast.contracts.plan_steps import PlanProgress, PlanStep, StepAsk, StepAsked

MOST_CALLS = 500
"""Calls that are asked for at once: their heads travel in one payload."""


class _Progress:
    """How far one step has come."""

    def __init__(self, taken: PlanProgress) -> None:
        self.state = taken.state
        """Empty before it begins, then `running`, then `done`, `skipped` or `failed`."""
        self.next = taken.next
        """The first item that was not asked for."""
        self.total = taken.total
        self.failed = taken.failed
        self.under_way = 0
        self.retried: set[tuple[int, int]] = set()
        """(item, number) of every call that was asked for again."""


class Board:
    """The steps of one plan."""

    def __init__(
        self, steps: Sequence[PlanStep], taken: Sequence[PlanProgress] = (), again: Iterable[StepAsk] = ()
    ) -> None:
        self._steps = {step.id: step for step in steps}
        before = {one.id: one for one in taken}
        self._progress = {step.id: _Progress(before.get(step.id, PlanProgress(id=step.id))) for step in steps}
        self._again = list(again)

    def __getitem__(self, step_id: str) -> PlanStep:
        return self._steps[step_id]

    @property
    def progress(self) -> tuple[PlanProgress, ...]:
        """How far every step has come that has begun."""
        return tuple(
            PlanProgress(id=step_id, state=one.state, next=one.next, total=one.total, failed=one.failed)
            for step_id, one in self._progress.items()
            if one.state
        )

    @property
    def again(self) -> tuple[StepAsk, ...]:
        """Calls that are to be asked for again."""
        return tuple(self._again)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._again and all(
            self._has_ended(step.id) or self._is_spare(step) for step in self._steps.values()
        )

    def told(self) -> str:
        """Where the plan stands, for people."""
        states = [one.state for one in self._progress.values()]
        return ", ".join(
            f"{states.count(state)} {state}" for state in ("running", "done", "skipped", "failed") if state in states
        )

    def ready(self) -> tuple[StepAsk, ...]:
        """The calls that can be asked for now."""
        asks: list[StepAsk] = [*self._again[:MOST_CALLS]]
        room = MOST_CALLS - len(asks)
        for step in self._steps.values():
            ask = self._next(step)
            if ask is not None and ask.count * step.ways <= room:
                room -= ask.count * step.ways
                asks.append(ask)
        return tuple(asks)

    def foresee(self, step_ids: Sequence[str]) -> tuple[StepAsk, ...] | None:
        """What would be ready if every call of these steps succeeded, and nothing else is under way; empty if the plan was over then.

        None if neither, or if something is ready before the last of them has ended.
        """
        if len(step_ids) > 1 and self._frees_early(set(step_ids)):
            return None
        stands = [(one, one.state, one.under_way) for one in map(self._progress.__getitem__, step_ids)]
        try:
            for step_id in step_ids:
                self._progress[step_id].under_way = 0
                self._may_end(step_id)
            if any(self._progress[step_id].state == "running" for step_id in step_ids):
                return None
            asks = self.ready()
            return asks if asks or self.over else None
        finally:
            for progress, state, under_way in stands:
                progress.state, progress.under_way = state, under_way

    def _frees_early(self, step_ids: set[str]) -> bool:
        """Whether a step may begin once some of these have ended, and not all."""
        for step in self._steps.values():
            if self._progress[step.id].state or (step.owner and self._progress[step.owner].state != "failed"):
                continue
            waits_for = {other for other in step.after if not self._has_ended(other)}
            one_is_enough = not step_ids.isdisjoint(step.any_of)
            if waits_for <= step_ids and (one_is_enough or (waits_for and waits_for != step_ids)):
                return True
        return False

    def claim(self, told: StepAsked) -> None:
        """A turn has asked for calls of a step: so many are under way, or the step is skipped, or can't be asked for.

        They need not be among those that were ready: a turn that was settled before a crash or a reset stands as it is.
        """
        step, progress = self._steps[told.step], self._progress[told.step]
        if told.retry:
            progress.retried.add((told.first, told.retry))
            self._again = [
                ask for ask in self._again if (ask.step, ask.first, ask.retry) != (told.step, told.first, told.retry)
            ]
            progress.under_way += 1
        elif told.skipped:
            progress.state = "skipped"
        elif told.fault:
            progress.state = "running"
            progress.failed += 1
            self._may_end(told.step)
        else:
            calls = told.heads // step.ways
            progress.state = "running"
            progress.under_way += calls
            progress.next, progress.total = told.first + calls, told.total
            self._may_end(told.step)

    def retry(self, ask: StepAsk) -> None:
        """A call that was under way is to be asked for again, unless a turn has done so already."""
        progress = self._progress[ask.step]
        progress.under_way -= 1
        if (ask.first, ask.retry) in progress.retried:
            self._may_end(ask.step)
        else:
            self._again.append(ask)

    def call_ended(self, step_id: str, *, succeeded: bool) -> None:
        """A call of a step has come to its end."""
        progress = self._progress[step_id]
        progress.under_way -= 1
        progress.failed += not succeeded
        self._may_end(step_id)

    def has_failed(self, step_id: str) -> bool:
        """Whether a step has failed and nothing makes up for it: the plan can't go on."""
        step = self._steps[step_id]
        return self._progress[step_id].failed > 0 and not step.go_on and not step.instead

    def _may_end(self, step_id: str) -> None:
        step, progress = self._steps[step_id], self._progress[step_id]
        gives_up = progress.failed > 0 and not (step.each and step.go_on)
        waits_again = any(ask.step == step_id for ask in self._again)
        if progress.under_way or waits_again or (progress.next < progress.total and not gives_up):
            return
        progress.state = "failed" if gives_up else "done"

    def _next(self, step: PlanStep) -> StepAsk | None:
        progress = self._progress[step.id]
        if not progress.state:
            return self._first(step)
        if not step.each or progress.state != "running" or progress.next >= progress.total:
            return None
        if (progress.failed and not step.go_on) or progress.under_way > step.parallel // 2:
            return None
        count = min(step.parallel - progress.under_way, progress.total - progress.next)
        return StepAsk(step=step.id, first=progress.next, count=count)

    def _first(self, step: PlanStep) -> StepAsk | None:
        if step.owner and self._progress[step.owner].state != "failed":
            return None
        if not all(self._has_ended(other) for other in step.after):
            return None
        if step.any_of and not any(self._is_done(other) for other in step.any_of):
            return None
        return StepAsk(step=step.id, count=step.parallel if step.each else 1)

    def _has_ended(self, step_id: str) -> bool:
        step, state = self._steps[step_id], self._progress[step_id].state
        if state == "failed" and step.instead:
            return self._has_ended(step.instead)
        return state in {"done", "skipped", "failed"} or self._is_passed_over(step)

    def _is_passed_over(self, step: PlanStep) -> bool:
        """Whether nothing that it waits for has succeeded, and nothing will."""
        waits = bool(step.any_of) and not self._progress[step.id].state
        return waits and all(map(self._has_ended, step.any_of)) and not any(map(self._is_done, step.any_of))

    def _is_done(self, step_id: str) -> bool:
        step, state = self._steps[step_id], self._progress[step_id].state
        return state == "done" or (state == "failed" and bool(step.instead) and self._is_done(step.instead))

    def _is_spare(self, step: PlanStep) -> bool:
        """Whether it is an alternative that is not needed."""
        return bool(step.owner) and not self._progress[step.id].state and self._has_ended(step.owner)
