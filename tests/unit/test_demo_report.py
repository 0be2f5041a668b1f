"""What the demo claims at its end: nothing is claimed that was not seen."""

from typing import Any

from handfast.demo.report import Report


def report(**seen: Any) -> Report:
    nothing: dict[str, Any] = {
        "tickets": [], "results": [], "payment_log": [], "victim": "", "recovered_after": None, "approved": [],
        "faults": [], "entries": 0, "links": [], "whole_story": True,
    }  # fmt: skip
    return Report(**{**nothing, **seen})


def test_the_demos_own_story_without_a_kill_and_an_approval_proves_nothing() -> None:
    assert [seen for _, seen in report().claims()] == [True, True, True, False, False, False]


def test_somebodys_own_ticket_may_need_neither() -> None:
    assert [seen for _, seen in report(whole_story=False).claims()] == [True, True, True]


def test_a_refund_that_only_one_side_knows_of_is_seen() -> None:
    refund = {"what": "refunded", "key": "op", "amount_minor": 1}
    claims = report(payment_log=[refund, refund], whole_story=False).claims()
    assert dict(claims)["the payment service's log holds no refund that the ledger does not know"] is False
