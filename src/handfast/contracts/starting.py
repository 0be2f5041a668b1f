"""What a run may be started with."""

from handfast.contracts.names import ROLLBACK_PREFIX

MAX_RUN_ID = 255
MAX_AGENT = 64
MAX_NAME = 255
"""Characters of a user and of a tenant."""
MAX_TEXT = 10_000_000
"""Characters of a request, and of what is said to a run."""


def start_fault(run_id: str, *, agent: str, text: str, user: str, tenant: str) -> str:
    """Why a run can't be started like this; empty if it can. No word of the text is repeated."""
    if len(run_id) > MAX_RUN_ID or not run_id.isprintable():
        return f"run id of {len(run_id)} characters: allowed are up to {MAX_RUN_ID} printable ones"
    if run_id.startswith(ROLLBACK_PREFIX):
        return f"run id {run_id!r}: ids that begin with {ROLLBACK_PREFIX!r} are the engine's own"
    for role, name, most in (("agent", agent, MAX_AGENT), ("user", user, MAX_NAME), ("tenant", tenant, MAX_NAME)):
        if len(name) > most:
            return f"{role} of {len(name)} characters: allowed are {most}"
    if not text.strip():
        return "the request is empty: say what the agent should do"
    if len(text) > MAX_TEXT:
        return f"the request has {len(text)} characters, allowed are {MAX_TEXT}: give large documents to a tool instead"
    return ""
