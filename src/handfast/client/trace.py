"""Where the arguments of a call came from, for the people who decide on it."""

from handfast.contracts.provenance import Sources
from handfast.contracts.provenance.paths import leaves
from handfast.contracts.results import Origin, WaitingCall
from handfast.ledger import Ledger


async def trace(ledger: Ledger, call: WaitingCall) -> list[Origin]:
    """Look every single argument up in what was said in the run, and in what its calls have returned.

    By the labels that the ledger keeps with each result: no tool contract is needed here.
    """
    material = await ledger.read_material(call.run_id)
    sources = Sources(keeps_foreign=True)
    material.said_into(sources)
    for one in material.returned:
        sources.learn(one.tool, one.content, untrusted=one.untrusted, family="")
    found: list[Origin] = []
    for path, value in leaves(call.arguments):
        where, trusted = sources.whereabouts(value)
        found.append(Origin(path=".".join(path), value=value, where=where, trusted=trusted))
    return found
