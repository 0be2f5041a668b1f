"""Ways in which people are told something. They belong to the workers' settings: a policy only names them."""

from typing import Annotated, Literal

from pydantic import Field

from handfast.contracts.messages import Frozen


class Webhook(Frozen):
    """An HTTP endpoint, told by Standard Webhooks."""

    kind: Literal["webhook"] = "webhook"
    url: str = Field(pattern=r"^https?://")
    secret: str
    """The name of the secret it is signed with, whose value is `whsec_` and base64."""
    seconds: float = Field(default=10.0, gt=0, le=60)


class Mail(Frozen):
    """E-mail over SMTP."""

    kind: Literal["mail"] = "mail"
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""
    """The name of the secret that holds it."""
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$")
    to: tuple[str, ...] = Field(min_length=1)
    seconds: float = Field(default=30.0, gt=0, le=120)


class Command(Frozen):
    """A program, which gets what there is to tell as JSON on its standard input, and ends with 0."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1)
    seconds: float = Field(default=30.0, gt=0, le=300)


Channel = Annotated[Webhook | Mail | Command, Field(discriminator="kind")]
