"""A run's events as lines that a person reads while they happen."""

from datetime import UTC, datetime

from rich.text import Text

from handfast.client.cli.output import COLOURS, short
from handfast.contracts.effects import Outcome
from handfast.contracts.messages import Message
from handfast.contracts.results import Event
from handfast.contracts.texts import printable


class Story:
    """Turns the events of one run into lines; keeps what it needs to say how long something took."""

    def __init__(self) -> None:
        self._began: datetime | None = None
        self._asked: dict[str, tuple[str, str, datetime]] = {}
        self._cost = 0.0
        self._erased = False
        self._labelled: dict[str, str] = {}

    def lines(self, event: Event) -> list[Text]:
        """The lines of one event."""
        self._began = self._began or event.at
        told = getattr(self, f"_{event.kind}", None)
        return [] if told is None else [self._line(event, text) for text in told(event)]

    def _line(self, event: Event, text: Text) -> Text:
        since = (event.at - self._began).total_seconds() if self._began else 0.0
        return Text.assemble((f"{since:7.2f}s  ", "dim"), text)

    def _requested(self, event: Event) -> list[Text]:
        self._erased = event.content is None
        return [Text.assemble(("asked    ", "bold"), short(_content(event).get("text", "(erased)"), 100))]

    def _opened(self, event: Event) -> list[Text]:
        return [Text.assemble(("opened   ", "bold"), f"model {event.data['model']}")]

    def _said(self, event: Event) -> list[Text]:
        return [Text.assemble(("said     ", "bold"), short(_content(event).get("text", "(erased)"), 100))]

    def _turn(self, event: Event) -> list[Text]:
        result = event.data["result"]
        self._cost += result.get("cost_usd", 0.0)
        heads = result.get("heads", [])
        calls = Message.model_validate(event.content["message"]).calls if event.content else ()
        lines = [
            Text.assemble(
                (f"turn {event.reference:<4}", "bold"),
                f"{len(heads)} calls, {result.get('tokens', 0)} tokens, {self._cost:.4f} USD so far",
            ),
            *self._labels(event.data.get("labels", {})),
        ]
        for index, head in enumerate(heads):
            arguments = short(calls[index].arguments, 70) if index < len(calls) else ""
            self._asked[head["id"]] = (head["tool"], arguments, event.at)
            if head.get("verdict") == "ask":
                why = event.data.get("rules", {}).get(str(index), head["reason"])
                lines.append(
                    Text.assemble(("  waits  ", "yellow"), printable(f"{head['tool']} {arguments} ({why})\n"))
                    + Text(f"           handfast approve {event.run_id} {head['id']}", style="dim")
                )
        return lines

    def _unsettled(self, event: Event) -> list[Text]:
        told = f"the answer of turn {event.data['turn']} could not be settled: {event.data['error']}"
        return [Text.assemble(("  failed ", "red"), printable(told))]

    def _labels(self, labels: dict[str, str]) -> list[Text]:
        """What has come into the run since the last turn."""
        new = {kind: what for kind, what in labels.items() if kind not in self._labelled}
        self._labelled |= new
        told = {"untrusted": "words of others", "sensitive": "what must not get away"}
        return [
            Text.assemble(("  reads  ", "yellow"), printable(f"{told.get(kind, kind)}: {what}"))
            for kind, what in new.items()
        ]

    def _reserved(self, event: Event) -> list[Text]:
        attempt = event.data["attempt"]
        if attempt == 1:
            return []
        tool = self._asked.get(event.reference.split("#")[0], ("?",))[0]
        return [Text.assemble(("  again  ", "yellow"), f"{tool}, attempt {attempt}")]

    def _failed(self, event: Event) -> list[Text]:
        told = f"{event.data['activity']}, attempt {event.data['attempt']}: {_content(event).get('message', event.data['code'])}"
        return [Text.assemble(("  error  ", "red"), short(told, 300))]

    def _pending(self, event: Event) -> list[Text]:
        reference = _content(event).get("reference", "")
        until = datetime.fromtimestamp(event.data["deadline"] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        told = f"{event.data['tool']} goes on elsewhere{f' as {reference}' if reference else ''}, until {until}"
        return [Text.assemble(("  pending ", "cyan"), printable(told))]

    def _child(self, event: Event) -> list[Text]:
        told = f"{event.data['tool']} as run {event.data['run']}"
        return [Text.assemble(("  begins ", "cyan"), printable(told))]

    def _settled(self, event: Event) -> list[Text]:
        tool, arguments, asked = self._asked.get(event.reference, (event.data.get("tool", "?"), "", event.at))
        outcome = event.data["outcome"]
        took = (event.at - asked).total_seconds()
        nothing = "(erased)" if self._erased else "done"
        told = nothing if event.content is None else short(event.content, 70)
        lines = [
            Text.assemble(
                "  ", (f"{outcome:<10}", COLOURS.get(outcome, "")), f"{tool} {arguments} → {told} ({took:.2f}s)"
            )
        ]
        if outcome == "UNKNOWN":
            command = f"handfast resolve {event.run_id} {event.reference} --happened|--did-not-happen"
            lines.append(Text(f"           look whether it happened, then: {command}", style="dim"))
        return lines

    def _held(self, event: Event) -> list[Text]:
        told = f"{event.data['tool']} (held right before it would have run)"
        command = f"handfast approve {event.run_id} {event.reference.partition('#')[0]}"
        return [Text.assemble(("  waits  ", "yellow"), told), Text(f"           {command}", style="dim")]

    def _unsigned(self, event: Event) -> list[Text]:
        told = f"what entry {event.reference} says counts as words of others: {event.data['reason']}"
        return [Text.assemble(("  unsigned ", "yellow"), printable(told))]

    def _unheld(self, event: Event) -> list[Text]:
        return [Text.assemble(("  goes on ", "green"), printable(f"{event.data['tool']}: {event.data['rule']}"))]

    def _withdrawn(self, event: Event) -> list[Text]:
        told = f"{event.data['tool']} again, its approval no longer counts: {event.data['why']}"
        return [Text.assemble(("  waits  ", "yellow"), printable(told))]

    def _granted(self, event: Event) -> list[Text]:
        return [Text.assemble(("  agreed ", "green"), printable(event.data["by"]))]

    def _refused(self, event: Event) -> list[Text]:
        claimed = event.data["claimed"] or "somebody"
        told = f"{event.data['word']!r} by who says to be {claimed}: {event.data['why']}"
        return [Text.assemble(("  refused ", "bold red"), printable(told))]

    def _decided(self, event: Event) -> list[Text]:
        word = "approved" if event.data["approve"] else "rejected"
        return [
            Text.assemble(
                (f"  {word} ", "green" if event.data["approve"] else "red"), printable(f"by {event.data['by'] or '?'}")
            )
        ]

    def _resolved(self, event: Event) -> list[Text]:
        return [Text.assemble(("  resolved ", "bold"), f"as {event.data['outcome']} by {event.data['by'] or '?'}")]

    def _late(self, event: Event) -> list[Text]:
        told = f"attempt given up on reports {event.data['outcome']}: {short(event.content, 60)}"
        return [Text.assemble(("  late   ", "yellow"), told)]

    def _branch(self, event: Event) -> list[Text]:
        reason = _content(event).get("reason", "")
        told = f"to turn {event.data['turn']} by {event.data['by'] or '?'}{f': {reason}' if reason else ''}"
        return [Text.assemble(("reset    ", "bold magenta"), printable(told))]

    def _undo(self, event: Event) -> list[Text]:
        by = f" by {event.data['by']}" if event.data["by"] else ""
        told = f"{event.data['calls']} calls, {event.data['cause']}{by} {_content(event).get('reason', '')}"
        return [Text.assemble(("undo     ", "bold magenta"), printable(told))]

    def _undone(self, event: Event) -> list[Text]:
        tool, arguments, _ = self._asked.get(event.data["operation"], ("?", "", event.at))
        if event.data["outcome"] == Outcome.UNKNOWN:
            return [Text.assemble(("  late     ", "yellow"), f"{tool} {arguments} may stand again")]
        by = f" by hand, says {event.data['by']}" if event.data["by"] else ""
        return [Text.assemble(("  undone   ", "green"), f"{tool} {arguments}{by}")]

    def _blocked(self, event: Event) -> list[Text]:
        operation = event.data["operation"]
        tool, arguments, _ = self._asked.get(operation, ("?", "", event.at))
        return [
            Text.assemble(
                ("  blocked  ", "bold red"), printable(f"{tool} {arguments}: {_content(event).get('reason', '')}")
            ),
            Text(f"           handfast unblock {event.run_id} {operation} retry|skip|done", style="dim"),
        ]

    def _unblocked(self, event: Event) -> list[Text]:
        told = f"{event.data['action']}, says {event.data['by'] or '?'} {_content(event).get('reason', '')}"
        return [Text.assemble(("  unblock  ", "bold"), printable(told))]

    def _closed(self, event: Event) -> list[Text]:
        status = event.data["status"]
        limit = f" ({event.data['limit']})" if event.data.get("limit") else ""
        reason = _content(event).get("reason", "")
        return [Text.assemble((f"{status:<9}", COLOURS.get(status, "bold")), printable(f"{limit} {reason}"))]


def _content(event: Event) -> dict[str, str]:
    return event.content or {}
