"""`python -m licensing history`: who changed what of a publisher, newest first."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from licensing.catalogue.records import Customer, Product
from licensing.catalogue.rows import AuditEntry
from licensing.catalogue.store import CatalogueStore
from licensing.cli.running import with_services
from licensing.cli.terminal import PublisherId, change_lines, table
from licensing.errors import PublisherNotFound
from licensing.fields import instant, render
from licensing.services import Services

_COLUMNS = ("When", "Change", "Who", "What", "Record", "From what to what")
_UNTOLD = {"id", "createdAt", "updatedAt", "identity"}


def parse_instant(text: str) -> datetime:
    """An instant as RFC 3339 writes it, with its time zone. Raises BadParameter."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(text)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "Write an instant with its time zone, as 2026-11-24T11:30:00Z, or as `history` shows it."
        ) from None


def command(
    publisher: PublisherId,
    record: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of the record of this id.", show_default=False)
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_instant, metavar="TIME", help="From this instant on: 2026-11-24T11:30:00Z.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """Show who changed what, when, from what to what: newest first.

    To undo changes, copy the time of the first one that was wrong, and give
    it to `restore --at`.

    For example:

    python -m licensing history --publisher GUID --since 2026-11-24T00:00:00Z
    """

    async def run(services: Services) -> list[tuple[str, ...]]:
        publisher_id = str(publisher)
        if await services.store.version(publisher_id) is None:
            raise PublisherNotFound("No publisher of this id is known here: check the id.")
        entries = services.store.audit(publisher_id, record_id=record, since=since, limit=limit)
        if as_json:
            async for entry in entries:
                typer.echo(json.dumps(render(entry), ensure_ascii=False))
            return []
        names = await names_of(services.store, publisher_id)
        return [_told(entry, names) async for entry in entries]

    told = with_services(os.environ, run)
    if not as_json:
        Console().print(table(_COLUMNS, told))
        if len(told) == limit:
            typer.echo(f"There may be more: --limit {limit * 10}, or --since TIME.")


async def names_of(store: CatalogueStore, publisher_id: str) -> dict[str, str]:
    """What the products and customers that there are now are called, by id."""
    products, customers = (
        await store.list_records(publisher_id, Product),
        await store.list_records(publisher_id, Customer),
    )
    return {each.id: each.name for each in products} | {each.id: each.name for each in customers}


def _told(entry: AuditEntry, names: Mapping[str, str]) -> tuple[str, ...]:
    before, after = entry.before or {}, entry.after or {}
    what = "changed" if before and after else "made" if after else "deleted"
    called = f"{entry.kind} {label(entry.kind, after or before, names)}\n{entry.record_id}"
    fields = sorted((before.keys() | after.keys()) - _UNTOLD) if what == "changed" else ()
    values = ((name, before.get(name), after.get(name)) for name in fields)
    changes = change_lines((name, old, new) for name, old, new in values if old != new)
    return instant(entry.at), str(entry.number), entry.actor, what, called, changes


def label(kind: str, fields: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a person calls the record of these fields, where products and customers have these names."""
    called = fields.get("name") or fields.get("serialNumber") or fields.get("email") or fields.get("title")
    product = fields.get("productId", "") if kind == "customerProduct" else ""
    owner = fields.get("customerId", "")
    called = str(called or names.get(product, product))
    return f"{called} of {names.get(owner, owner)}" if owner else called
