"""`handfast ledger migrate|verify|erase`."""

from typing import Annotated

import typer
from temporalio.client import Client as TemporalClient
from temporalio.service import RPCError

from handfast.client.anchors import read_anchors
from handfast.client.cli.exits import Exit, run_async
from handfast.client.cli.output import Json, RunId, console, print_json
from handfast.contracts.errors import EngineUnavailable
from handfast.engine.connect import connect
from handfast.ledger import Ledger, Verification
from handfast.settings import Settings, load_settings

app = typer.Typer(help="The record of all runs: bring it up to date, check it, erase contents.", no_args_is_help=True)


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the ledger's tables to the revision this version needs."""

    async def go() -> tuple[str, str]:
        ledger = Ledger.connect(load_settings().ledger)
        try:
            return await ledger.migrate()
        finally:
            await ledger.close()

    before, after = run_async(go())
    if json:
        print_json({"before": before, "after": after})
    else:
        console.print(f"ledger at revision {after}" + (f", was {before or 'empty'}" if before != after else " already"))


@app.command()
def verify(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="One run; all of them unless given.")] = "",
    json: Json = False,
) -> None:
    """Recompute every hash, compare with Temporal's history where it answers, and name each row that was changed."""

    async def go() -> list[Verification]:
        settings = load_settings()
        ledger = Ledger.connect(settings.ledger)
        try:
            temporal = await _temporal(settings)
            run_ids = [run_id] if run_id else await ledger.run_ids()
            return [await ledger.verify(one, await _anchors(temporal, one)) for one in run_ids]
        finally:
            await ledger.close()

    found = run_async(go())
    for one in found:
        if json:
            print_json(one)
            continue
        state = "ok" if not one.faults else f"{len(one.faults)} FAULTS"
        erased = f", {one.erased} erased" if one.erased else ""
        anchored = f", {one.anchors} compared with Temporal" if one.anchors else ""
        console.print(f"{one.run_id}: {state} ({one.entries} entries{erased}{anchored})")
        for fault in one.faults:
            console.print(f"  {fault}", style="red")
    if any(one.faults for one in found):
        raise typer.Exit(Exit.FAILED)


@app.command()
def erase(run_id: RunId, json: Json = False) -> None:
    """Delete the contents of a closed run. Its chain of hashes stays, and still verifies."""

    async def go() -> int:
        ledger = Ledger.connect(load_settings().ledger)
        try:
            return await ledger.erase(run_id)
        finally:
            await ledger.close()

    count = run_async(go())
    if json:
        print_json({"run_id": run_id, "erased": count})
    else:
        console.print(f"{run_id}: the contents of {count} entries are erased")


async def _temporal(settings: Settings) -> TemporalClient | None:
    try:
        client, _ = await connect(settings)
    except EngineUnavailable:
        return None
    return client


async def _anchors(client: TemporalClient | None, run_id: str) -> list[tuple[int, str]]:
    if client is None:
        return []
    try:
        return await read_anchors(client, run_id)
    except RPCError:
        return []
