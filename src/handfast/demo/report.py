"""What the demo proved, checked against the payment service's own log."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from handfast.client.cli.output import short, table
from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.results import RunResult


@dataclass(frozen=True, kw_only=True)
class Report:
    """What happened, from three independent records: the ledger, the payment service's log, Temporal."""

    tickets: list[tuple[str, str]]
    results: list[RunResult]
    payment_log: list[dict[str, Any]]
    victim: str
    recovered_after: float | None
    approved: list[str]
    faults: list[str]
    entries: int
    links: list[str]
    whole_story: bool
    """The tickets are the demo's own, so that a kill and an approval must have been seen."""

    @property
    def refunds(self) -> Counter[str]:
        """How often the payment service refunded, by idempotency key."""
        return Counter(entry["key"] for entry in self.payment_log if entry["what"] == "refunded")

    def claims(self) -> list[tuple[str, bool]]:
        """Each claim, and whether it was seen."""
        succeeded = {
            operation.operation_id
            for result in self.results
            for operation in result.operations
            if operation.outcome is Outcome.SUCCEEDED and operation.effect is not Effect.READ
        }
        claims = [
            ("every refund that the ledger calls done is in the payment service's log exactly once",
             all(self.refunds[operation_id] == 1 for operation_id in succeeded)),
            ("the payment service's log holds no refund that the ledger does not know",
             set(self.refunds) == succeeded),
            (f"the ledger's hash chains hold ({self.entries} entries)", not self.faults),
        ]  # fmt: skip
        if self.victim or self.whole_story:
            repeated = bool(self.victim) and any(entry["what"] == "answer repeated" for entry in self.payment_log)
            claims.append(
                ("after kill -9 the refund was asked for again under the same key, and not made again", repeated)
            )
            claims.append((f"{self.victim or 'the run'} went on after the kill", self.recovered_after is not None))
        if self.approved or self.whole_story:
            done = bool(self.approved) and all(operation_id in succeeded for operation_id in self.approved)
            claims.append(("the refund above the limit was made only after a person agreed", done))
        return claims


def print_report(console: Console, report: Report) -> bool:
    """Print the tables; whether every claim was seen."""
    texts = dict(report.tickets)
    rows = [
        (
            result.run_id,
            short(texts[result.run_id], 44),
            _done(report, result),
            short(result.text, 60),
            f"{result.cost_usd:.4f}",
        )
        for result in report.results
    ]
    console.print()
    console.print(table(("ticket", "asked", "refunded (payment service's log)", "answer", "USD"), rows))
    console.print()
    log_rows = [
        (entry["key"], entry["what"], entry.get("payment_id", ""), _money(entry.get("amount_minor")))
        for entry in report.payment_log
    ]
    console.print(table(("idempotency key", "payment service's own log", "payment", "amount"), log_rows))
    console.print()
    for claim, seen in report.claims():
        console.print(f"[{'green' if seen else 'bold red'}]{'yes' if seen else 'NO '}[/]  {claim}")
    for fault in report.faults:
        console.print(f"     {fault}", style="red")
    if report.recovered_after is not None:
        console.print(f"     from the kill to the next settled step of {report.victim}: {report.recovered_after:.1f} s")
    console.print(f"     total cost: {sum(result.cost_usd for result in report.results):.4f} USD")
    console.print(f"     in the Temporal UI (while the engine runs; `handfast demo --keep`): {report.links[0]}")
    return all(seen for _, seen in report.claims())


def _done(report: Report, result: RunResult) -> str:
    keys = {operation.operation_id for operation in result.operations}
    made = [entry for entry in report.payment_log if entry["what"] == "refunded" and entry["key"] in keys]
    return ", ".join(f"{_money(entry['amount_minor'])} × {report.refunds[entry['key']]}" for entry in made) or "nothing"


def _money(minor: int | None) -> str:
    return "" if minor is None else f"{minor / 100:.2f}"
