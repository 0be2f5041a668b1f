"""Registered names. They stand in histories, so they never change; the functions behind them may."""

from typing import Final

AGENT_RUN: Final = "AgentRun"
ROLLBACK_RUN = "RollbackRun"
PLAN_RUN: Final = "PlanRun"
ROLLBACK_PREFIX = "rollback:"
"""Of the workflow id of a `RollbackRun`, before the id of the run that it undoes. No run may have such an id."""

OPEN_RUN = "open_run"
OPEN_PLAN = "open_plan"
PLAN_TURN = "plan_turn"
MODEL_TURN = "model_turn"
RECORD_DECISION = "record_decision"
REVIEW_CALL = "review_call"
FENCE = "fence"
BEGIN_UNDO = "begin_undo"
COMPENSATE = "compensate"
CLOSE_RUN = "close_run"
BEGIN_CHILD = "begin_child"
END_CHILD = "end_child"
READ_RESULT = "read_result"
SAVEPOINT = "savepoint"
ROLL_BACK = "roll_back"
CARRY_OUT = "carry_out"
SEND_MESSAGE = "send_message"
WAIT_FOR_MESSAGE = "wait_for_message"
LONGEST_WAIT_FOR_MESSAGE = 86_400.0
"""Seconds."""
PARENT = "parent"
"""Why a run is undone whose parent is."""
RACE = "race"
"""Why the ways of a plan's step are undone that another one has won."""
START = "start"
"""The savepoint that every run has."""

RESERVED_TOOL_NAMES = frozenset(
    {
        OPEN_RUN,
        OPEN_PLAN,
        PLAN_TURN,
        MODEL_TURN,
        RECORD_DECISION,
        REVIEW_CALL,
        FENCE,
        BEGIN_UNDO,
        COMPENSATE,
        CLOSE_RUN,
        BEGIN_CHILD,
        END_CHILD,
        READ_RESULT,
        SAVEPOINT,
        ROLL_BACK,
        CARRY_OUT,
        SEND_MESSAGE,
        WAIT_FOR_MESSAGE,
    }
)
"""Activity types of the engine, which no tool may take."""

SAY = "say"
DECIDE = "decide"
RESOLVE = "resolve"
UNBLOCK = "unblock"
UNDO = "undo"
PAUSE = "pause"
RESUME = "resume"
STATE = "state"
WAKE = "wake"
REVIEW = "review"
HOLD = "hold"

SEARCH_AGENT = "HandfastAgent"
SEARCH_STATUS = "HandfastStatus"
SEARCH_TENANT = "HandfastTenant"
SEARCH_COST = "HandfastCostUsd"

DEFAULT_TASK_QUEUE = "handfast"
