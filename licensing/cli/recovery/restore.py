"""`python -m licensing restore`: a publisher's records as they were, from its audit or from a backup."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from licensing.bulk.undo import TYPES, Step, apply_steps, plan_undo
from licensing.catalogue import publisher_copy
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Publisher
from licensing.catalogue.rows import FROZEN, OFFLINE, VERSION_ROW, to_fields
from licensing.catalogue.store import CatalogueStore
from licensing.cli.recovery.backup_file import Backup
from licensing.cli.recovery.history import label, names_of, parse_instant
from licensing.cli.running import with_services
from licensing.cli.terminal import Apply, AsJson, PublisherId, change_lines, operator, progress, table
from licensing.errors import Conflict, LicensingError, PublisherNotFound
from licensing.services import Services
from licensing.storage.batches import Row
from licensing.storage.table import Table

_NOT_ALL = 3
_SHOWN = 50
_KINDS = tuple(kind.kind for kind in (Product, Customer, CustomerProduct, Environment))
_UNDO, _PUT_BACK = "From the audit", "From a backup"


def command(  # noqa: PLR0913, PLR0917 - two ways back, and what may be said of each
    publisher: PublisherId,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A backup of the publisher, or else --at.", show_default=False),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_instant,
            metavar="TIME",
            show_default=False,
            rich_help_panel=_UNDO,
            help="Undo what was changed at this instant or later: 2026-11-24T11:30:00Z, or as `history` shows it.",
        ),
    ] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", rich_help_panel=_UNDO, help="Only bring back what was deleted.")
    ] = False,
    record: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            show_default=False,
            rich_help_panel=_UNDO,
            help="Only the record of this id, of any kind, and what belongs to it. May be said several times.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            show_default=False,
            rich_help_panel=_UNDO,
            help=f"Only records of this kind: {', '.join(TYPES)}. May be said several times. Without it and --record: "
            f"{', '.join(_KINDS)}. To undo changes of the others may give access back that was taken away.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            rich_help_panel=_PUT_BACK,
            help="Even where there are rows of the publisher: they go. And where there are none, though it is "
            "registered: it moves here, or its rows were lost.",
        ),
    ] = False,
    apply: Apply = False,
    as_json: AsJson = False,
) -> None:
    """Make records what they were: at an instant (--at), or in a backup (FILE).

    With --at, records get back what they had just before that instant, by
    the rules of the records and with an audit of their own; deleted ones
    come back with the same id. What a rule refuses is named, and the rest
    is done. Notices and license files stay: what was told was told.

    With a FILE, all rows of the publisher are put back, into the account
    that the settings name, if it is not known yet. The file is checked as a
    whole before. While it goes on, the publisher is unknown: environments
    get 404, which denies nothing.

    Both may be run again after they were stopped: they go on. Ends with 3
    where not all could be done.

    For example:

    python -m licensing restore --publisher GUID --at 2026-11-24T11:30:00Z --deleted

    python -m licensing restore contoso.backup --publisher GUID --apply
    """
    if (file is None) == (at is None):
        raise typer.BadParameter("Say where from: a FILE, or --at TIME.", param_hint="FILE")
    if file is not None and (deleted or record or kind):
        raise typer.BadParameter("A backup is put back whole: --deleted, --record and --kind go with --at.")
    if at is not None and replace:
        raise typer.BadParameter("--replace goes with a FILE.")
    if unknown := set(kind or ()) - TYPES.keys():
        raise typer.BadParameter(f"There is no kind {', '.join(unknown)}: choose of {', '.join(TYPES)}.")
    publisher_id = str(publisher)
    if file is not None:
        _put_back(Backup.open(file, publisher_id), replace=replace, apply=apply, as_json=as_json)
        return
    if at is not None:
        kinds = kind or (TYPES if record else _KINDS)
        _undo(publisher_id, at, kinds, record or (), only_deleted=deleted, apply=apply, as_json=as_json)


# From the audit.


def _undo(  # noqa: PLR0913 - all that was said
    publisher_id: str,
    at: datetime,
    kinds: Sequence[str] | Mapping[str, Any],
    record_ids: Sequence[str],
    *,
    only_deleted: bool,
    apply: bool,
    as_json: bool,
) -> None:
    async def run(services: Services) -> tuple[list[Step], list[tuple[Step, LicensingError]], dict[str, str]]:
        store = services.store
        if await store.version(publisher_id) is None:
            raise PublisherNotFound("No publisher of this id is known here: check the id.")
        entries = store.audit(publisher_id)
        steps = await plan_undo(
            entries,
            at,
            kinds=kinds,
            record_ids=record_ids,
            only_deleted=only_deleted,
            warn=partial(typer.echo, err=True),
        )
        refused: list[tuple[Step, LicensingError]] = []
        if apply:
            with progress(len(steps)) as advance:
                refused = await apply_steps(store, publisher_id, operator("restore"), steps, advance)
        return steps, refused, await names_of(store, publisher_id)

    steps, refused, names = with_services(os.environ, run)
    names |= {step.then.id: step.then.name for step in steps if isinstance(step.then, Product | Customer)}
    errors = {id(step): error for step, error in refused}
    if as_json:
        changes = [_as_json(step, names, errors.get(id(step))) for step in steps]
        typer.echo(json.dumps({"applied": apply, "changes": changes}, indent=2, ensure_ascii=False))
    else:
        _show(steps if not apply else [step for step, _ in refused], names, errors)
        count = Counter(_does(step) for step in steps if id(step) not in errors)
        would = "" if apply else " would be"
        told = ", ".join(f"{count[each]}{would} {each}" for each in ("made again", "changed back", "deleted"))
        typer.echo(f"{told}, {len(refused)} refused." if apply else f"{told}. Nothing was changed: add --apply.")
    if refused:
        raise typer.Exit(_NOT_ALL)


def _does(step: Step) -> str:
    return "deleted" if step.then is None else "made again" if step.now is None else "changed back"


def _differences(step: Step) -> dict[str, tuple[Any, Any]]:
    now, then = (to_fields(each) if each is not None else {} for each in (step.now, step.then))
    if not now or not then:
        return {}
    return {name: (now.get(name), then.get(name)) for name in now | then if now.get(name) != then.get(name)}


def _called(step: Step, names: Mapping[str, str]) -> str:
    return f"{step.record.kind} {label(step.record.kind, to_fields(step.record), names)}"


def _as_json(step: Step, names: Mapping[str, str], error: LicensingError | None) -> dict[str, Any]:
    fields = {name: {"from": now, "to": then} for name, (now, then) in _differences(step).items()}
    return {
        "kind": step.record.kind,
        "id": step.record.id,
        "record": _called(step, names),
        "does": _does(step),
        "fields": fields,
        "refused": error.detail if error else None,
    }


def _show(steps: Sequence[Step], names: Mapping[str, str], errors: Mapping[int, LicensingError]) -> None:
    if not steps:
        return
    lines = []
    for step in steps[:_SHOWN]:
        changes = change_lines((name, now, then) for name, (now, then) in _differences(step).items())
        error = errors.get(id(step))
        lines.append((_called(step, names), error.detail if error else f"{_does(step)}\n{changes}".rstrip()))
    heading = "Why it was refused" if errors else "What would be done"
    Console().print(table(("Record", heading), lines))
    if len(steps) > _SHOWN:
        typer.echo(f"... and {len(steps) - _SHOWN} more; --json shows them all.\n")


# From a backup.


def _put_back(backup: Backup, *, replace: bool, apply: bool, as_json: bool) -> None:
    started = time.monotonic()

    async def run(services: Services) -> dict[str, Any]:
        return await _put_back_rows(services, backup, replace=replace, apply=apply)

    report = with_services(os.environ, run) | {"applied": apply, "seconds": round(time.monotonic() - started, 1)}
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    what = f"{backup.path}, of {backup.name}, {backup.at}"
    counts = f"{report['put']} rows to put, {report['deleted']} to delete, {report['unchanged']} as they are"
    where = f"in the table {report['table']} at {report['account']}"
    if report["whole"]:
        typer.echo(f"{what}: all of it is there already, {where}. {_told_of_register(report)}")
    elif not apply:
        typer.echo(f"{what}: {counts}, {where}. Nothing was changed: add --apply.")
    else:
        typer.echo(f"{what}: {counts}, {where}, done in {report['seconds']} s.")
        typer.echo(f"The publisher is at change {report['version']}.")
        if backup.version.get(FROZEN):
            typer.echo("Nobody can change its records, as in the backup: `thaw` ends that.")


def _told_of_register(report: Mapping[str, Any]) -> str:
    if report["wasRegistered"]:
        return "Nothing was changed."
    return "It is registered again." if report["applied"] else "But it is not registered: add --apply."


async def _put_back_rows(services: Services, backup: Backup, *, replace: bool, apply: bool) -> dict[str, Any]:
    publisher_id, store, copy_id = backup.publisher_id, services.store, _records_digest(backup)
    place, register, why = services.table(publisher_id), services.table(""), f"restoring {copy_id}"
    if apply:
        await place.create()
        await register.create()
    registered = await register.exists() and publisher_id in await store.register.publisher_ids()
    report = {"account": place.host, "table": place.name, "wasRegistered": registered, "whole": False}
    report |= {"rows": backup.rows, "version": backup.version["number"]}
    if not await place.exists():
        if registered and not replace:
            raise _lives_elsewhere(place, publisher_id)
        return report | {"put": backup.rows, "deleted": 0, "unchanged": 0}
    held = await place.find(publisher_id, VERSION_ROW)
    found = Counter[str]()
    records_differ, others_differ = held is None or dict(held) != dict(backup.version), False
    async for partition, operation in _differences_of(place, backup):
        found[operation.verb if operation else "unchanged"] += 1
        records_differ |= operation is not None and partition == publisher_id
        others_differ |= operation is not None and partition != publisher_id
    report |= {name: found[verb] for name, verb in (("put", "put"), ("deleted", "delete"), ("unchanged", "unchanged"))}
    if not others_differ and (not records_differ or await publisher_copy.is_newest(store, publisher_id, copy_id)):
        if apply:
            await _register(store, publisher_id)
        return report | {"whole": True}
    if not replace and (held is None or held.get(OFFLINE) != why):
        await _refuse_rows(place, publisher_id, held, found, registered=registered)
    if not apply:
        return report
    if not records_differ:
        with progress(found.total()) as advance:
            await publisher_copy.apply_changes(
                _differences_of(place, backup), partial(publisher_copy.commit_beside, place), advance
            )
        await _register(store, publisher_id)
        return report
    wait_seconds = 2 * services.settings.storage_timeout_seconds
    run = await publisher_copy.ExclusiveRun.begin(place, publisher_id, held, why, wait_seconds=wait_seconds)
    with progress(found.total()) as advance:
        await publisher_copy.apply_changes(_differences_of(place, backup), run.commit, advance)
    number = await publisher_copy.reinstate(store, run, backup.version, operator("restore"), copy_id)
    return report | {"version": number}


def _records_digest(backup: Backup) -> str:
    """What tells the records apart from all others: two backups of them that were made at other times have the same."""
    digest = hashlib.sha256()
    for row in backup.read():
        if row["PartitionKey"] == backup.publisher_id:
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


async def _register(store: CatalogueStore, publisher_id: str) -> None:
    """Name the publisher in the register, which may be lost while its own records are there."""
    publisher = await store.find(publisher_id, Publisher, publisher_id)
    if publisher is not None:
        await store.register.add(None, publisher)


async def _refuse_rows(
    place: Table, publisher_id: str, held: Row | None, found: Counter[str], *, registered: bool
) -> None:
    """Raise Conflict where the publisher is there, or may live elsewhere."""
    if held is not None and OFFLINE in held:
        raise Conflict(
            f"An unfinished restore or erase of {publisher_id} lies at {place.host}. Nothing was changed. --replace "
            "goes on, with this backup."
        )
    if not await publisher_copy.is_empty(place, publisher_id):
        raise Conflict(
            f"There are rows of {publisher_id} at {place.host} already: {found['put']} would be put, {found['delete']} "
            "deleted. Nothing was changed. If that is meant, take a backup of them, and add --replace."
        )
    if registered:
        raise _lives_elsewhere(place, publisher_id)


def _lives_elsewhere(place: Table, publisher_id: str) -> Conflict:
    return Conflict(
        f"{publisher_id} is registered, but no row of it is at {place.host}: it lives elsewhere, or its rows are lost. "
        "Nothing was changed. Check LICENSING_PUBLISHER_STORAGE. If it is to be put there, add --replace."
    )


def _differences_of(place: Table, backup: Backup) -> AsyncIterator[tuple[str, Any]]:
    async def wanted() -> AsyncIterator[Row]:
        for row in backup.read():
            yield row

    return publisher_copy.differences(wanted(), place.partitions(backup.publisher_id), backup.publisher_id)
