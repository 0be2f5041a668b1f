"""`approve`, `resolve`, `say`, `pause`, `reset`, `cancel`, `rollback` and so on: a person's word to a run."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from handfast.client.cli.exits import run_async
from handfast.client.cli.given import json_object
from handfast.client.cli.output import Json, RunId, console, print_json
from handfast.client.client import Client
from handfast.client.keyring import login, read_key
from handfast.client.run import Run
from handfast.contracts.authority import CONDITIONS
from handfast.contracts.errors import SettingsError
from handfast.contracts.grants import Verb, read_grant
from handfast.contracts.policy import Condition
from handfast.contracts.policy.approval import Duration

OperationId = Annotated[
    str, typer.Argument(metavar="OPERATION", help="The operation's id; `handfast show RUN` lists them.")
]
By = Annotated[str, typer.Option(help="Who says so; your login name unless given.")]
Key = Annotated[Path | None, typer.Option(help="Your private key; HANDFAST_KEY unless given.")]
Print = Annotated[bool, typer.Option("--print", help="Only print the signed word, for `handfast deliver`.")]
Digest = Annotated[str, typer.Option(help="The digest you looked at; refused if the arguments are others.")]


class UnblockAction(StrEnum):
    """What a person says of a call that could not be undone."""

    retry = "retry"
    skip = "skip"
    done = "done"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (approve, reject, deliver, resolve, redrive, say, pause, resume, reset, cancel, rollback, unblock):
        app.command()(command)


def approve(
    run_id: RunId,
    operation: OperationId,
    by: By = "",
    digest: Digest = "",
    key: Key = None,
    lasts: Annotated[str, typer.Option(help="For how long it counts, such as 15min, 8h or 3d.")] = "1h",
    remember: Annotated[
        str,
        typer.Option(
            help="Later calls of the tool in this run need no approval, as long as this one lasts, if their arguments fit these "
            'conditions as JSON: \'{"amount": {"most": 50}}\', or {} for all.'
        ),
    ] = "",
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            help="Arguments to approve in the place of the model's, as JSON: '{\"amount\": 5}'. The model is told, and asks for that.",
        ),
    ] = "",
    print_: Print = False,
    json: Json = False,
) -> None:
    """Let a call run that waits for approval."""
    verb: Verb = "change" if with_ else "approve"
    word = Saying(word=verb, by=by, digest=digest, key=key, lasts=lasts, remember=remember, changed=with_)
    _decide(run_id, operation, word, only_print=print_, json=json)


def reject(
    run_id: RunId,
    operation: OperationId,
    reason: Annotated[str, typer.Option(help="Recorded, and told to the model.")] = "",
    by: By = "",
    digest: Digest = "",
    key: Key = None,
    print_: Print = False,
    json: Json = False,
) -> None:
    """Refuse a call that waits for approval; the model is told, and goes on."""
    word = Saying(word="reject", by=by, digest=digest, key=key, reason=reason)
    _decide(run_id, operation, word, only_print=print_, json=json)


def deliver(
    grant: Annotated[
        str, typer.Argument(metavar="GRANT", help="What `approve --print` has printed, here or elsewhere.")
    ],
    reason: Annotated[str, typer.Option(help="The reason that was signed with it.")] = "",
    by: By = "",
    json: Json = False,
) -> None:
    """Hand in somebody's signed word on a call. It does not matter who does, and how it got here."""

    async def go() -> None:
        async with await Client.connect() as client:
            await client.deliver(grant, by=by or login(), reason=reason)

    run_async(go())
    _told(read_grant(grant).run, "delivered", json=json)


@dataclass(frozen=True, kw_only=True)
class Saying:
    """What is said of a call on the command line."""

    word: Verb
    by: str
    digest: str
    key: Path | None
    reason: str = ""
    lasts: str = "1h"
    remember: str = ""
    changed: str = ""


def _decide(run_id: str, operation: str, word: Saying, *, only_print: bool, json: bool) -> None:
    async def go() -> str:
        lasts, remember = _lasting(word.lasts), _conditions(word.remember)
        changed = json_object(word.changed, "--with") if word.changed else None
        async with await Client.connect() as client:
            run = client.run(run_id)
            signing = None if word.key is None else read_key(word.key, client.settings.key_password)
            grant = await run.grant(
                operation,
                word.word,
                digest=word.digest,
                reason=word.reason,
                key=signing,
                lasts=lasts,
                remember=remember,
                changed=changed,
            )
            if not only_print:
                await run.deliver(grant, by=word.by or login(), reason=word.reason)
            return grant

    grant = run_async(go())
    if only_print:
        print_json({"grant": grant}) if json else typer.echo(grant)
        return
    said = {"approve": "approved", "change": "approved with other arguments"}.get(word.word, "rejected")
    _told(run_id, said, json=json)


def _lasting(text: str) -> timedelta:
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        msg = f"--lasts {text!r} is no duration: write something like 15min, 8h or 3d"
        raise SettingsError(msg) from error


def _conditions(text: str) -> dict[str, Condition] | None:
    try:
        return CONDITIONS.validate_python(json_object(text, "--remember")) if text else None
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        msg = f"--remember: {told}"
        raise SettingsError(msg) from error


def redrive(run_id: RunId, operation: OperationId, json: Json = False) -> None:
    """Carry a call out again that failed for good, in a new run; said twice, it is the same run."""

    async def go() -> str:
        async with await Client.connect() as client:
            return (await client.redrive(run_id, operation)).id

    new = run_async(go())
    if json:
        print_json({"run_id": new})
    else:
        console.print(f"started {new}; follow it with: handfast watch {new}")


def resolve(
    run_id: RunId,
    operation: OperationId,
    happened: Annotated[
        bool, typer.Option("--happened/--did-not-happen", help="What you found when you looked at the other side.")
    ],
    note: Annotated[str, typer.Option(help="What you found; told to the model.")] = "",
    by: By = "",
    key: Key = None,
    json: Json = False,
) -> None:
    """Say what became of a call whose outcome is UNKNOWN, after looking at the other side."""
    _tell(
        run_id,
        lambda run: run.resolve(operation, happened=happened, by=by or login(), note=note, key=key),
        "resolved",
        json=json,
    )


def say(run_id: RunId, text: Annotated[str, typer.Argument(help="What to say.")], json: Json = False) -> None:
    """Say something to the model before its next turn."""
    _tell(run_id, lambda run: run.say(text), "said", json=json)


def pause(run_id: RunId, json: Json = False) -> None:
    """Start no further turn or call until resumed."""
    _tell(run_id, lambda run: run.pause(), "paused", json=json)


def resume(run_id: RunId, json: Json = False) -> None:
    """Go on after a pause."""
    _tell(run_id, lambda run: run.resume(), "resumed", json=json)


def reset(
    run_id: RunId,
    turn: Annotated[int, typer.Option(min=1, help="The first turn that is thought again.")],
    reason: Annotated[str, typer.Option(help="Recorded.")] = "",
    by: By = "",
    json: Json = False,
) -> None:
    """Go back to a turn and let the model think it again. What was done since is not undone, and not done twice."""
    _tell(run_id, lambda run: run.reset(turn, by=by or login(), reason=reason), f"reset to turn {turn}", json=json)


def cancel(
    run_id: RunId,
    undo: Annotated[
        bool | None,
        typer.Option("--undo/--no-undo", help="Whether what it did is then undone; unless said, as its agent says."),
    ] = None,
    json: Json = False,
) -> None:
    """End a run: no further call is started, those under way are told to stop."""
    _tell(run_id, lambda run: run.cancel(undo=undo), "cancelling", json=json)


def rollback(
    run_id: RunId,
    to: Annotated[str, typer.Option(metavar="OPERATION", help="Only the calls after this one.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be undone, and do nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Recorded.")] = "",
    by: By = "",
    json: Json = False,
) -> None:
    """Undo what a run did, as far as its tools can: cancels it if it goes on, and works after its end, too."""
    if dry_run:
        _tell_owed(run_id, to, json=json)
        return
    _tell(run_id, lambda run: run.rollback(to=to, by=by or login(), reason=reason), "rolling back", json=json)


def _tell_owed(run_id: str, to: str, *, json: bool) -> None:
    async def go() -> list[tuple[str, str, int]]:
        async with await Client.connect() as client:
            await client.run(run_id).summary()
            return await client.ledger.undoing.owed(run_id, to)

    owed = run_async(go())
    if json:
        for operation, tool, turn in owed:
            print_json({"run_id": run_id, "operation": operation, "tool": tool, "turn": turn})
        return
    for operation, tool, turn in owed:
        console.print(f"{operation}  {tool}, turn {turn}")
    if not owed:
        console.print("nothing that can be undone stands", style="dim")


def unblock(
    run_id: RunId,
    operation: OperationId,
    action: Annotated[
        UnblockAction,
        typer.Argument(help="retry: try again; skip: leave what it did as it is; done: it was undone by hand."),
    ],
    reason: Annotated[str, typer.Option(help="Recorded; skip needs one.")] = "",
    by: By = "",
    key: Key = None,
    json: Json = False,
) -> None:
    """Say what becomes of a call that could not be undone."""
    _tell(
        run_id,
        lambda run: run.unblock(operation, action.value, by=by or login(), reason=reason, key=key),
        f"{action.value}: said",
        json=json,
    )


def _tell(run_id: str, word: Callable[[Run], Awaitable[None]], done: str, *, json: bool) -> None:
    async def go() -> None:
        async with await Client.connect() as client:
            await word(client.run(run_id))

    run_async(go())
    _told(run_id, done, json=json)


def _told(run_id: str, done: str, *, json: bool) -> None:
    if json:
        print_json({"run_id": run_id, "done": done})
    else:
        console.print(f"{run_id}: {done}")
