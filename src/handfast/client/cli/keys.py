"""`handfast keys`: who may approve."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from handfast.client.cli.exits import Exit, fail, run_async
from handfast.client.cli.output import Json, ago, console, print_json, table
from handfast.client.client import Client
from handfast.client.keyring import login, write_key
from handfast.contracts.grants import ANYTHING, Approver, SigningKey
from handfast.contracts.texts import printable
from handfast.settings import load_settings

app = typer.Typer(help="Keys of the people who approve: new, list, revoke.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="What they may decide on: a role of the policy, `client` to sign what users say; everything unless said."
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Whose calls, as a pattern; everybody's unless said.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the private key goes; NAME.key in the home's keys unless said.")
    ] = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the lines for a file of approvers, and tell the ledger nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a key for somebody who approves. From the first one on, only words that are signed with such keys count."""

    async def go() -> tuple[Approver, Path]:
        settings = load_settings()
        path = out or settings.home / "keys" / f"{''.join(c if c.isalnum() else '-' for c in name)}.key"
        key = SigningKey.new()
        approver = Approver(
            name=name, public=key.public, roles=tuple(role or (ANYTHING,)), tenants=tuple(tenant or ("*",))
        )
        if print_:
            write_key(path, key, settings.key_password)
            return approver, path
        async with await Client.connect() as client:
            write_key(path, key, settings.key_password)
            return await client.ledger.installation.add_key(approver, login()), path

    approver, path = run_async(go())
    if json:
        print_json({"key": approver.key_id, "file": str(path), **approver.model_dump(mode="json")})
    elif print_:
        typer.echo(_lines(approver), nl=False)
    else:
        console.print(f"key {approver.key_id} of {printable(approver.name)}", style="green")
        decides = "decide with it: handfast approve RUN OPERATION --key "
        use = decides if approver.decides else "sign what users say with it: HANDFAST_CLIENT_KEY="
        console.print(f"{use}{path}", style="dim")
        console.print("keep the file where only its owner can read it", style="dim")


@app.command(name="list")
def list_(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that no longer count.")] = False,
    json: Json = False,
) -> None:
    """List whose keys count, and for what."""

    async def go() -> list[Approver]:
        async with await Client.connect() as client:
            return await client.ledger.installation.approvers(revoked=revoked)

    found = run_async(go())
    if json:
        for one in found:
            print_json({"key": one.key_id, **one.model_dump(mode="json")})
        return
    people = any(one.decides and not one.local for one in found)
    rows = [
        (
            one.key_id, one.name, ", ".join(one.roles), ", ".join(one.tenants), _standing(one, people=people),
            ago(datetime.fromtimestamp(one.made_at / 1000, UTC)),
        )
        for one in found
    ]  # fmt: skip
    console.print(table(("key", "name", "roles", "tenants", "counts", "age"), rows))
    if not people:
        console.print("nobody has a key of their own yet: handfast keys new NAME", style="dim")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id; `handfast keys list` shows it.")],
    json: Json = False,
) -> None:
    """Let a key count no more, from now on. What it has signed and nobody has acted on yet does not count either."""

    async def go() -> bool:
        async with await Client.connect() as client:
            return await client.ledger.installation.revoke_key(key, login())

    if not run_async(go()):
        fail(f"no key {key!r} counts: `handfast keys list` shows those that do", Exit.REFUSED)
    print_json({"revoked": key}) if json else console.print(f"key {key} counts no more", style="green")


def _standing(one: Approver, *, people: bool) -> str | Text:
    if one.revoked_at:
        return Text("revoked", style="red")
    if one.local and people:
        return Text("no: people have keys", style="dim")
    return "until people have keys" if one.local else "yes"


def _lines(one: Approver) -> str:
    def listed(values: tuple[str, ...]) -> str:
        return ", ".join(_quoted(value) for value in values)

    return (
        f"[[approver]]\nname = {_quoted(one.name)}\npublic = {_quoted(one.public)}\n"
        f"roles = [{listed(one.roles)}]\ntenants = [{listed(one.tenants)}]\n"
    )


def _quoted(text: str) -> str:
    """A TOML string: what JSON escapes, TOML does in the same way."""
    import json

    return json.dumps(text)
