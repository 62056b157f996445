"""`python -m licensing erase`: all that is kept of a publisher goes; and the proof that it has gone."""

import json
import os
from collections import Counter
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from licensing.catalogue import copies
from licensing.catalogue.rows import ABSENT, FROZEN, VERSION_ROW
from licensing.cli.running import with_services
from licensing.cli.terminal import Apply, AsJson, PublisherId, progress, table
from licensing.errors import Conflict
from licensing.services import Services
from licensing.tables import Table, etag

_NOT_ALL_GONE = 3


def command(
    publisher: PublisherId,
    confirm: Annotated[
        UUID | None,
        typer.Option(metavar="ID", help="The publisher's id once more: needed with --apply.", show_default=False),
    ] = None,
    left_in: Annotated[
        str,
        typer.Option(
            metavar="ACCOUNT",
            show_default=False,
            help="Erase what a publisher that has moved has left in this account, written like LICENSING_STORAGE or "
            "as the name of a variable that holds it. The publisher itself stays.",
        ),
    ] = "",
    apply: Apply = False,
    as_json: AsJson = False,
) -> None:
    """Delete all that is kept of a publisher, for good: records, audit, users, subscribers, messages.

    Without --apply it counts what there is, in every partition: after the
    deed that is the proof that nothing is left. Environments are answered
    with 404 from then on, which denies nothing: their last reply goes on
    counting until it ends. Run again after it was stopped, it goes on. Take
    a backup before.

    For example:

    python -m licensing erase --publisher GUID --confirm GUID --apply
    """
    publisher_id = str(publisher)
    if apply and confirm != publisher:
        raise typer.BadParameter("Say the publisher's id once more: --confirm ID.", param_hint="--confirm")

    async def run(services: Services) -> tuple[Counter[str], Counter[str]]:
        place = await _left(services, publisher_id, left_in) if left_in else services.table(publisher_id)
        before = await _count(services, place, publisher_id, register=not left_in)
        if apply and before.total():
            with progress(before.total()) as advance:
                await copies.erase(place, publisher_id, advance)
                if not left_in:
                    await services.store.unregister(publisher_id)
        after = await _count(services, place, publisher_id, register=not left_in) if apply else before
        if place is not services.table(publisher_id):
            await place.close()
        return before, after

    before, after = with_services(os.environ, run)
    if as_json:
        report = {"publisherId": publisher_id, "applied": apply, "rows": dict(before), "left": dict(after)}
        typer.echo(json.dumps(report | {"leftInAll": after.total()}, indent=2))
    else:
        rows = [(name, f"{count:,}", f"{after[name]:,}") for name, count in before.items()]
        Console().print(table(("Partition", "Rows", "Left"), rows))
        if not after.total():
            typer.echo(f"Nothing of {publisher_id} is left.")
        elif not apply:
            typer.echo(f"Nothing was changed: add --confirm {publisher_id} --apply.")
    if apply and after.total():
        typer.echo("Something has come meanwhile. Run the same again.", err=True)
        raise typer.Exit(_NOT_ALL_GONE)


async def _left(services: Services, publisher_id: str, account: str) -> Table:
    """The table that the publisher has left. Raises Conflict where it may live there."""
    place = Table(os.environ.get(account, account), services.settings.storage_table)
    left, living = await place.find(publisher_id, VERSION_ROW), await services.store.version(publisher_id)
    # Not by name: one account can be named in several ways.
    if living is None or (left is not None and etag(left) == living.etag):
        raise Conflict(f"{publisher_id} has not moved from there: it lives where LICENSING_PUBLISHER_STORAGE says.")
    if left is not None and not left.get(FROZEN) and ABSENT not in left:
        raise Conflict(f"{publisher_id} is not frozen there: somebody may still change what is there.")
    return place


async def _count(services: Services, place: Table, publisher_id: str, *, register: bool) -> Counter[str]:
    """How many rows there are in each partition of the publisher, and how many name it in the register."""
    count = Counter({"records": 0, "subscribers": 0, "outbox": 0})
    async for row in place.partitions(publisher_id, select=["PartitionKey"]):
        count[row["PartitionKey"].partition("|")[2] or "records"] += 1
    if register:
        count["publishers"] = len(await services.store.registrations(publisher_id))
    return count
