"""How soon Temporal notices that a worker is gone in the middle of a workflow's step."""

from datetime import timedelta

TASK_TIME = timedelta(seconds=5)
"""Of every workflow. What dies inside a short ledger transaction, at the opening, the undoing and the close of a run, is noticed by
this alone; Temporal's own 10 s would be most of the time to recover. While a transaction waits for a ledger that is away, its worker
says every 4 s that it lives, at three events each."""
