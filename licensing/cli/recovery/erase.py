"""`python -m licensing erase`: all that is kept of a publisher goes; and the proof that it has gone."""

import json
import os
from collections import Counter
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from licensing.catalogue import publisher_copy
from licensing.catalogue.rows import FROZEN, OFFLINE, VERSION_ROW
from licensing.cli.running import with_services
from licensing.cli.terminal import Apply, AsJson, PublisherId, progress, table
from licensing.errors import Conflict, NotFound
from licensing.services import Services
from licensing.storage.batches import Row
from licensing.storage.table import Table, etag

_NOT_ALL_GONE = 3
_REGISTERED = "publishers"


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
    counting until it ends. The publisher has to be frozen. Run again after
    it was stopped, it goes on. Take a backup before.

    For example:

    python -m licensing erase --publisher GUID --confirm GUID --apply
    """
    publisher_id = str(publisher)
    if apply and confirm != publisher:
        raise typer.BadParameter("Say the publisher's id once more: --confirm ID.", param_hint="--confirm")

    async def run(services: Services) -> dict[str, Any]:
        account = os.environ.get(left_in, left_in)
        place = services.table_at(account) if left_in else services.table(publisher_id)
        return await _erase(services, place, publisher_id, has_moved=bool(left_in), apply=apply)

    report = with_services(os.environ, run)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(f"In the table {report['table']} at {report['account']}:")
        rows = [(name, f"{count:,}", f"{report['left'][name]:,}") for name, count in report["rows"].items()]
        Console().print(table(("Partition", "Rows", "Left"), rows))
        if not report["leftInAll"]:
            typer.echo(f"Nothing of {publisher_id} is left.")
        elif not apply:
            typer.echo(f"Nothing was changed: add --confirm {publisher_id} --apply.")
    if apply and report["leftInAll"]:
        typer.echo("Something has come meanwhile. Run the same again.", err=True)
        raise typer.Exit(_NOT_ALL_GONE)


async def _erase(
    services: Services, place: Table, publisher_id: str, *, has_moved: bool, apply: bool
) -> dict[str, Any]:
    """Where it was, how many rows there were in each partition, and how many are left.

    One that has moved stays in the register.
    """
    held = await place.find(publisher_id, VERSION_ROW)
    if has_moved:
        await _refuse_living(services, held, publisher_id)
    before = after = await _count(services, place, publisher_id, register=not has_moved)
    await _refuse_nothing(services, place, publisher_id, before, has_moved=has_moved)
    if apply and before.total():
        if held is not None and not held.get(FROZEN) and OFFLINE not in held:
            raise Conflict(
                f"{publisher_id} is not frozen at {place.host}. Freeze it first: what somebody changes meanwhile would "
                "be lost with it."
            )

        async def unregister() -> None:
            if not has_moved:
                await services.store.register.remove(publisher_id)

        wait_seconds = 2 * services.settings.storage_timeout_seconds
        with progress(before.total()) as advance:
            await publisher_copy.erase(place, publisher_id, held, unregister, advance, wait_seconds=wait_seconds)
        after = await _count(services, place, publisher_id, register=not has_moved)
    where = {"publisherId": publisher_id, "account": place.host, "table": place.name}
    return where | {"applied": apply, "rows": dict(before), "left": dict(after), "leftInAll": after.total()}


async def _refuse_living(services: Services, there: Row | None, publisher_id: str) -> None:
    """Raise Conflict where the publisher may live in the place that it is said to have left, with that version row."""
    living = await services.store.version(publisher_id)
    # Not by name: one account can be named in several ways.
    if living is None or (there is not None and etag(there) == living.etag):
        raise Conflict(f"{publisher_id} has not moved from there: it lives where LICENSING_PUBLISHER_STORAGE says.")


async def _refuse_nothing(
    services: Services, place: Table, publisher_id: str, count: Counter[str], *, has_moved: bool
) -> None:
    """Raise where no row may mean that somebody looks at the wrong place, which proves nothing."""
    if count.total() > count[_REGISTERED]:
        return
    if has_moved:
        raise NotFound(
            f"Of {publisher_id} no row is at {place.host}: it has been erased there already, or --left-in is wrong."
        )
    if publisher_id in await services.store.register.publisher_ids():
        raise Conflict(
            f"{publisher_id} is registered, but no row of it is at {place.host}: it lives elsewhere, or was never "
            "made. Check LICENSING_PUBLISHER_STORAGE. If it is nowhere, make it anew, then erase it."
        )


async def _count(services: Services, place: Table, publisher_id: str, *, register: bool) -> Counter[str]:
    """How many rows there are in each partition of the publisher, and how many name it in the register."""
    count = Counter({"records": 0, "subscribers": 0, "outbox": 0})
    async for row in place.partitions(publisher_id, select=["PartitionKey"]):
        count[row["PartitionKey"].partition("|")[2] or "records"] += 1
    if register:
        count[_REGISTERED] = len(await services.store.register.keys_of(publisher_id))
    return count
