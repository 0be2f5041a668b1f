"""What a result brings into a run: somebody else's words, or what must not get away."""

from collections.abc import Iterable
from typing import Any

from handfast.contracts.clause_fields import Untrusted
from handfast.contracts.effects import Outcome, Tier
from handfast.contracts.messages import Frozen
from handfast.contracts.provenance.paths import Leaf, Path, covers, leaves
from handfast.contracts.tool import Tool


class Labels(Frozen):
    """What is in a run, each by the first that brought it; empty where nothing did."""

    untrusted: str = ""
    """Somebody else's words: which tool, and which field."""
    sensitive: str = ""
    """What must not get away: which tool."""

    def __or__(self, other: "Labels") -> "Labels":
        """Both together."""
        return Labels(untrusted=self.untrusted or other.untrusted, sensitive=self.sensitive or other.sensitive)

    @classmethod
    def of_all(cls, labels: "Iterable[Labels]") -> "Labels":
        """All together."""
        found = cls()
        for one in labels:
            found |= one
        return found

    def within(self, name: str) -> "Labels":
        """As told by somebody whom they came through, such as a run of another agent."""
        return Labels(
            untrusted=self.untrusted and f"{name}: {self.untrusted}"[:200],
            sensitive=self.sensitive and f"{name}: {self.sensitive}"[:200],
        )

    @property
    def said(self) -> dict[str, str]:
        """As entries have them."""
        return self.model_dump(exclude_defaults=True)


CLEAN = Labels()
UNSIGNED = Labels(untrusted="text that came through Temporal")
"""What nobody who may write to the ledger has said."""
UNVOUCHED = Labels(untrusted="words that no client has signed")
"""What somebody has written to the ledger where that is not enough."""


def labels_of(tool: Tool, outcome: Outcome, content: Any) -> Labels:
    """What the result of a call brings into its run."""
    untrusted = untrusted_of(tool)
    if outcome is Outcome.DENIED or (tool.builtin and tool.child is None):
        # What the engine says itself, or shows again.
        return CLEAN
    sensitive = tool.name if tool.sensitive and content not in (None, "", [], {}) else ""
    if not (untrusted or sensitive):
        return CLEAN
    if not untrusted:
        return Labels(sensitive=sensitive)
    if outcome is not Outcome.SUCCEEDED:
        # What went wrong may be told in the words of the other side.
        return Labels(untrusted=field_name(tool.name, ("error",)), sensitive=sensitive)
    return Labels(untrusted=_first(tool.name, untrusted, content), sensitive=sensitive)


def _first(name: str, untrusted: Untrusted, content: Any) -> str:
    """The first of what is somebody else's words in a result, named as the contract names it: names in a result may be anybody's."""
    if untrusted is True:
        tells = any(_tells(value) for _, value in leaves(content)) or (isinstance(content, dict) and content != {})
        return name if tells else ""
    for pattern in untrusted or ():
        if any(_tells(value) and covers(pattern, path) for path, value in leaves(content)):
            return field_name(name, (pattern,))
    return ""


def marks_of(tool: Tool, outcome: Outcome, content: Any) -> dict[str, Any]:
    """What the ledger keeps of a result besides its content: what it brings into the run, and by which fields."""
    marks: dict[str, Any] = {}
    if (labels := labels_of(tool, outcome, content)) != CLEAN:
        marks["labels"] = labels.said
    if untrusted := untrusted_of(tool):
        marks["untrusted"] = untrusted
    return marks


def untrusted_of(tool: Tool) -> Untrusted:
    """The fields of a tool's results that are somebody else's words. What stands in for it has its fields elsewhere."""
    if tool.fallback is not None and (tool.untrusted or tool.fallback.untrusted):
        return True
    return tool.fields.untrusted


def is_untrusted(untrusted: Untrusted, path: Path) -> bool:
    """Whether a field is somebody else's words."""
    return untrusted if isinstance(untrusted, bool) else any(covers(one, path) for one in untrusted)


def field_name(tool: str, path: Path) -> str:
    """A field of a tool's results, in words."""
    return f"{tool} {'.'.join(path)}".strip()[:200]


def acts(tool: Tool) -> bool:
    """Whether a call changes something or sends something outside."""
    return tool.tier is not Tier.READ_ONLY or tool.egress


def _tells(value: Leaf) -> bool:
    """Whether a value can hold words at all: a number tells a model nothing to do."""
    return isinstance(value, str) and bool(value.strip())
