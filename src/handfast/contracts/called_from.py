"""Where a request came from: the network address and the session of who asked, as the service in front of the engine knows them."""

from ipaddress import IPv6Address, ip_address
from typing import Self

from pydantic import Field, field_validator

from handfast.contracts.messages import Frozen

LONGEST_SESSION = 255


class CalledFrom(Frozen):
    """Of whoever asked for a run, and of every run that one begins. A policy may block either."""

    address: str = ""
    """An IP address, such as `203.0.113.9`; not that of a proxy in between."""
    session: str = Field(default="", max_length=LONGEST_SESSION)
    """The id of the caller's session: what a stolen sign-in is recognised by. No secret: it is written down."""

    @field_validator("address")
    @classmethod
    def _as_one_writes_it(cls, address: str) -> str:
        if not address:
            return ""
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            msg = f"address {address!r} is no IP address: write 203.0.113.9 or 2001:db8::1"
            raise ValueError(msg) from None
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return str(mapped or found)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """As the ledger has it."""
        return cls.model_validate_json(text) if text else cls()

    @property
    def text(self) -> str:
        """For the ledger; empty if nothing is known."""
        return "" if self == NOWHERE else self.model_dump_json(exclude_defaults=True)


NOWHERE = CalledFrom()
"""Nothing is known of where it came from."""
