"""`python -m licensing import` and `export`: a publisher's records in bulk, as CSV."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from licensing.bulk.apply import apply_plan
from licensing.bulk.csv_records import FileRefused, Kind, read, write
from licensing.bulk.export import entries_by_kind, read_publisher
from licensing.bulk.plan import Plan, PublisherData, Step, plan
from licensing.catalogue.records import CustomerProduct, record_warnings
from licensing.catalogue.store import CatalogueStore
from licensing.cli.running import with_services
from licensing.cli.terminal import Apply, AsJson, PublisherId, change_lines, operator, progress, table
from licensing.errors import LicensingError
from licensing.fields import described, render
from licensing.services import Services

_BAD_LINES = 3
_SHOWN = 20


class NotExported(LicensingError):
    """The folder cannot be made."""

    code, title = "notExported", "The records cannot be written there"


def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file.", show_default=False)],
    publisher: PublisherId,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="What the file holds. Without it, the file's name says that: products.csv.", show_default=False
        ),
    ] = None,
    apply: Apply = False,
    as_json: AsJson = False,
) -> None:
    """Make and change records as a CSV file says: all its lines or, where one is bad, none.

    The first line names the columns, in any order, as the API names the
    fields: `export` shows them all. A column that is left out stays as it
    is, an empty cell means the default. Yes or no; dates as 2026-11-24;
    UTF-8, with commas or semicolons.

    A line is about the record of its id. Without one, a product is known by
    its name, a customer by its number or else its name, an environment by
    its serialNumber (and by its tenant where there are several), a license
    by its customer and its product (and by its startDate where there are
    several). What is not known yet is made.
    Licenses and environments name their customer by customerName,
    customerNumber or customerId, licenses their product by productName or
    productId.

    It may be run again at any time, also after it was stopped: a line that
    says what is kept changes nothing. Nothing is ever deleted. Ends with 3
    where lines are bad, or nothing could be done.

    For example:

    python -m licensing import products.csv --publisher GUID --apply
    """
    started = time.monotonic()
    kind = kind or _kind_of(file)
    lines, faults = read(_content(file), kind)
    publisher_id = str(publisher)

    async def run(services: Services) -> Plan:
        kept = await read_publisher(services.store, publisher_id)
        found = await plan(services.store, kept, kind, lines, services.clock())
        found.faults[:] = sorted([*faults, *found.faults], key=lambda fault: fault.line)
        if apply and not found.faults:
            await _apply(services.store, publisher_id, [step for step in found.steps if step.changes])
        return found

    planned = with_services(os.environ, run)
    applied = apply and not planned.faults
    report = _report(planned) | {"applied": applied, "seconds": round(time.monotonic() - started, 1)}
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(file.name, planned, report)
    if planned.faults:
        raise typer.Exit(_BAD_LINES)


def export_command(
    publisher: PublisherId,
    output: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="The folder for the files. It must not be there yet.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Write all records to CSV files that `import` reads: products, customers, licenses, environments.

    Cells are written as they are, so that what is imported again is the
    same. Mind that a spreadsheet takes what begins with = for a formula, and
    may write dates and long numbers in its own way: let it take all columns
    for text.

    For example:

    python -m licensing export --publisher GUID --output records
    """

    async def run(services: Services) -> PublisherData:
        return await read_publisher(services.store, str(publisher))

    files = entries_by_kind(with_services(os.environ, run))
    _write_folder(output, {kind: write(kind, records) for kind, records in files.items()})
    counts = {str(kind): len(records) for kind, records in files.items()}
    if as_json:
        typer.echo(json.dumps({"folder": str(output), **counts}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{output} holds {', '.join(f'{count} {kind}' for kind, count in counts.items())}.")


# Import.


def _kind_of(file: Path) -> Kind:
    for kind in Kind:
        if file.name.lower() == kind.file_name:
            return kind
    names = ", ".join(kind.file_name for kind in Kind)
    raise typer.BadParameter(f"{file.name} does not say what it holds: add --kind, or call it one of {names}.")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileRefused(f"{file} cannot be read: {error.strerror}.") from None


async def _apply(store: CatalogueStore, publisher_id: str, steps: Sequence[Step]) -> None:
    applied = 0
    try:
        with progress(len(steps)) as advance:
            async with aclosing(apply_plan(store, publisher_id, operator("import"), steps)) as counts:
                async for count in counts:
                    applied += count
                    advance(count)
    except LicensingError:
        typer.echo(f"{applied} of {len(steps)} changes are stored. Run the same again: it makes the others.", err=True)
        raise


def _report(planned: Plan) -> dict[str, Any]:
    changes = [step for step in planned.steps if step.changes]
    made = sum(step.before is None for step in changes)
    return {
        "made": made,
        "changed": len(changes) - made,
        "unchanged": len(planned.steps) - len(changes),
        "badLines": [asdict(fault) for fault in planned.faults],
        "warnings": [
            {"line": step.line, **render(warning)}
            for step in planned.steps
            if isinstance(step.after, CustomerProduct)
            for warning in record_warnings(step.after)
        ],
        "changes": [
            {
                "line": step.line,
                "id": step.after.id,
                "record": step.called,
                "made": step.before is None,
                "fields": {name: {"from": old, "to": new} for name, old, new in _differences(step)},
            }
            for step in changes
        ],
    }


def _differences(step: Step) -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new of each field that the step changes, and of those that it fills in."""
    old = render(step.before) if step.before else {}
    new = render(step.after)
    for field in described(type(step.after)):
        if field.settable and (old.get(field.name) or "") != (new[field.name] or ""):
            yield field.name, old.get(field.name), new[field.name]


def _show(name: str, planned: Plan, report: Mapping[str, Any]) -> None:
    console = Console()
    if planned.faults:
        faults = [(str(fault.line), fault.field, fault.message) for fault in planned.faults]
        console.print(table(("Line", "Column", "What is wrong"), faults))
        bad = len({fault.line for fault in planned.faults})
        typer.echo(f"{name}: {bad} bad line{'s' * (bad > 1)}. Nothing was changed: fix the file, then run this again.")
        return
    if warnings := report["warnings"]:
        rows = [(str(each["line"]), each["field"], each["message"]) for each in warnings[:_SHOWN]]
        console.print(table(("Line", "Column", "Warning"), rows))
        if len(warnings) > _SHOWN:
            typer.echo(f"... and {len(warnings) - _SHOWN} more warnings; --json shows them all.\n")
    if not report["applied"]:
        steps = [step for step in planned.steps if step.changes]
        if steps:
            console.print(table(("Line", "Record", "What changes"), map(_told, steps[:_SHOWN])))
        if len(steps) > _SHOWN:
            typer.echo(f"... and {len(steps) - _SHOWN} more; --json shows them all.\n")
    would = "" if report["applied"] else " would be"
    counts = f"{report['made']}{would} made, {report['changed']} changed, {report['unchanged']} left as they are"
    end = f", in {report['seconds']} s." if report["applied"] else ". Nothing was changed: add --apply."
    typer.echo(f"{name}: {counts}{end}")


def _told(step: Step) -> tuple[str, str, str]:
    if step.before is None:
        return str(step.line), step.called, "is made"
    return str(step.line), step.called, change_lines(_differences(step))


# Export.


def _write_folder(folder: Path, texts: Mapping[Kind, str]) -> None:
    """Make the folder with all files in it, at once: nobody takes half an export for a whole one."""
    if folder.exists():
        raise NotExported(f"{folder} exists already, and may hold what was not imported yet: name a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as made:
            whole = Path(made) / "whole"
            whole.mkdir(mode=0o700)  # it holds customers: nobody else may read it
            for kind, text in texts.items():
                file = whole / kind.file_name
                file.touch(mode=0o600)  # wherever it is copied to
                # With a mark that tells spreadsheets that it is UTF-8.
                file.write_text(text, "utf-8-sig", newline="")
            whole.rename(folder)
    except OSError as error:
        raise NotExported(f"{folder} cannot be made: {error.strerror}.") from None
