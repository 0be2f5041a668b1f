"""What commands print: tables for people, JSON lines for programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from handfast.contracts.texts import printable

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one value a line.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]

console = Console(highlight=False, soft_wrap=True)
"""Lines are left to the terminal: what is to be copied stays in one piece."""

COLOURS = {
    "completed": "green", "SUCCEEDED": "green", "running": "cyan", "requested": "cyan", "limit_reached": "yellow",
    "refused": "yellow", "cancelled": "yellow", "waiting": "yellow", "DENIED": "yellow", "failed": "red",
    "FAILED": "red", "UNKNOWN": "bold red",
}  # fmt: skip


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON value on one line."""
    typer.echo(value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value))


def coloured(word: str) -> Text:
    """A status or an outcome in its colour."""
    return Text(word, style=COLOURS.get(word, ""))


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, title: str = "") -> Table:
    """A plain table."""
    made = Table(title=title or None, box=None, pad_edge=False, title_justify="left", header_style="dim")
    for number, column in enumerate(columns):
        # The first column holds the id, which people copy: it is never cut.
        made.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made


def ago(moment: datetime) -> str:
    """How long ago, in one unit."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def short(value: Any, length: int = 80) -> str:
    """A value in one line of at most `length` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(printable(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"
