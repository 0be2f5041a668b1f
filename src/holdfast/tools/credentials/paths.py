"""Names of tenants, scopes and secrets as one step of a path: never more, and never another one's."""

from urllib.parse import quote

LONGEST = 200


def segment(name: str) -> str | None:
    """The step, with everything escaped that could mean something to a path; None if no step can stand for it."""
    step = quote(name, safe="")
    return None if not step or step in {".", ".."} or len(step) > LONGEST else step
