"""A scripted stand-in for the model, so that the desk works without a key: rules over the ticket and the results so far."""

import json
import re
from typing import Any

from handfast.contracts.messages import Message, ModelRequest
from handfast.llm.script import Step, ask

ORDER_NUMBER = re.compile(r"\b(\d{4,8})\b")
EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+\.\w+")


def answer_ticket(request: ModelRequest) -> Step:
    """The next step for a ticket: look up, refund, answer."""
    ticket = request.messages[0].text
    last = request.messages[-1]
    if not last.results:
        return _first_step(ticket)
    result, asked = last.results[-1], _last_call(request.messages)
    told = _read(result.text)
    if asked == "issue_refund":
        return _after_refund(told, failed=result.failed)
    if result.failed:
        return "I could not find an order under that number. Could you check it on your receipt and send it again?"
    order = told if asked == "lookup_order" else (told[0] if told else None)
    if order is None:
        return "I could not find an order under your e-mail address. Could you send me the order number?"
    if "refund" not in ticket.lower() and "money back" not in ticket.lower():
        return f"Your order {order['order_id']} is with us. What can I do for you about it?"
    return ask("issue_refund", payment_id=order["payment_id"], amount_minor=_amount(ticket, order))


def _first_step(ticket: str) -> Step:
    number = ORDER_NUMBER.search(ticket)
    if number:
        return ask("lookup_order", order_id=number.group(1))
    email = EMAIL.search(ticket)
    if email:
        return ask("find_orders", email=email.group(0).rstrip(".").lower())
    return "I am sorry about the trouble. Could you send me the order number, so that I can look it up?"


def _after_refund(told: Any, *, failed: bool) -> str:
    if not failed:
        return f"I have refunded {told['amount_minor'] / 100:.2f} to your card. It arrives within five days."
    if "already" in str(told):
        return "This payment was already refunded; the money is on its way, and nothing more is due."
    if "rejected" in str(told):
        return "I can't refund this order in full myself; a colleague will write to you today."
    return "The refund did not go through. A colleague will look into it and write to you today."


def _amount(ticket: str, order: dict[str, Any]) -> int:
    """The items that the ticket names, or the whole order."""
    words = ticket.lower()
    named = [item["price_minor"] for item in order["items"] if item["name"].lower() in words]
    part = named and len(named) < len(order["items"]) and "whole order" not in words
    return sum(named) if part else int(order["total_minor"])


def _last_call(messages: tuple[Message, ...]) -> str:
    return next(message.calls[-1].tool for message in reversed(messages) if message.calls)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
