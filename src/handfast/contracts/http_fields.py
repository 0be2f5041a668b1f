"""Names and values of HTTP fields (RFC 9110, sections 5.1, 5.5 and 5.6.2): what can be sent, told before it is sent."""

import re

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a field, or a method."""
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def name_fault(name: str) -> str:
    """Why a text can't be the name of a field; empty if it can."""
    return (
        "" if TOKEN.fullmatch(name) else f"{name!r} is not the name of an HTTP field: use letters, digits and hyphens"
    )


def control_fault(value: str) -> str:
    """Why no connection takes a value (section 5.5), without any of it, as it may be a secret; empty if it does."""
    if "\n" in value or "\r" in value:
        return "it holds a line break"
    if CONTROL.search(value):
        return "it holds a control character"
    return "it begins or ends with a space" if value != value.strip(" \t") else ""


def value_fault(value: str) -> str:
    """Why a text can't be a value: section 5.5 wants senders to keep to US-ASCII; empty if it can."""
    return control_fault(value) or ("" if value.isascii() else "it holds a character outside ASCII")
