"""Where values come from, and what may be done with them once somebody else's words are in a run."""

from handfast.contracts.clause_fields import Untrusted
from handfast.contracts.provenance.labels import (
    CLEAN,
    UNSIGNED,
    UNVOUCHED,
    Labels,
    acts,
    labels_of,
    marks_of,
    untrusted_of,
)
from handfast.contracts.provenance.sources import AUTHOR, USER, Sources, family_of
from handfast.contracts.provenance.tracing import UNTRUSTED, Held, echoes_of, hold, is_held

__all__ = [
    "AUTHOR",
    "CLEAN",
    "UNSIGNED",
    "UNTRUSTED",
    "UNVOUCHED",
    "USER",
    "Held",
    "Labels",
    "Sources",
    "Untrusted",
    "acts",
    "echoes_of",
    "family_of",
    "hold",
    "is_held",
    "labels_of",
    "marks_of",
    "untrusted_of",
]
