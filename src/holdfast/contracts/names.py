"""Registered names. They stand in histories, so they never change; the functions behind them may."""

AGENT_RUN = "AgentRun"

OPEN_RUN = "open_run"
MODEL_TURN = "model_turn"
RECORD_DECISION = "record_decision"
FENCE = "fence"
CLOSE_RUN = "close_run"
READ_RESULT = "read_result"

RESERVED_TOOL_NAMES = frozenset({OPEN_RUN, MODEL_TURN, RECORD_DECISION, FENCE, CLOSE_RUN, READ_RESULT})
"""Activity types of the engine, which no tool may take."""

SAY = "say"
DECIDE = "decide"
RESOLVE = "resolve"
PAUSE = "pause"
RESUME = "resume"
STATE = "state"
WAKE = "wake"

SEARCH_AGENT = "HoldfastAgent"
SEARCH_STATUS = "HoldfastStatus"
SEARCH_TENANT = "HoldfastTenant"
SEARCH_COST = "HoldfastCostUsd"

DEFAULT_TASK_QUEUE = "holdfast"
