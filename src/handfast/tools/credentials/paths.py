"""Names of tenants, scopes and secrets as one step of a path: never more, and never another one's."""

from urllib.parse import quote

from handfast.contracts.credentials import Place

LONGEST = 200


def segment(name: str) -> str | None:
    """The step, with everything escaped that could mean something to a path; None if no step can stand for it."""
    step = quote(name, safe="")
    return None if not step or step in {".", ".."} or len(step) > LONGEST else step


def steps_of(place: Place, *, shared: str = "", name: str = "") -> tuple[str, ...] | None:
    """The path of a place, and of a secret in it: `tenants/acme/scopes/payments.refund/NAME`. None if no path can stand for it.

    Args:
        place: Whose secrets, and for which scope, whose colons are dots here.
        shared: The first step of what is for all tenants, if that has one.
        name: The secret.
    """
    steps: tuple[str, ...] = ("tenants", place.tenant) if place.tenant else (shared,) if shared else ()
    steps += ("scopes", place.scope.replace(":", ".")) if place.scope else ()
    steps += (name,) if name else ()
    found = tuple(escaped for step in steps if (escaped := segment(step)) is not None)
    return found if len(found) == len(steps) else None
