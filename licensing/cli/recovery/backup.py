"""`python -m licensing backup`: all that is kept of a publisher, in one file."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from licensing.catalogue.records import Publisher
from licensing.cli.recovery.backup_file import head, writing
from licensing.cli.running import with_services
from licensing.cli.terminal import AsJson, PublisherId, progress
from licensing.errors import Busy, PublisherNotFound
from licensing.fields import instant
from licensing.services import Services

_READS = 5


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make.", show_default=False)],
    publisher: PublisherId,
    as_json: AsJson = False,
) -> None:
    """Write all that is kept of a publisher to a file that `restore` reads.

    Records, users, roles, notices and the audit are those of one moment:
    where somebody changes them meanwhile, it begins anew. Subscribers and
    messages on their way are each as they were when they were read. Run
    again after it was stopped, it goes on where it was.

    The file holds customers and addresses, and webhooks that are secrets:
    only you can read it. Keep it so.

    For example:

    python -m licensing backup contoso.backup --publisher GUID
    """
    started = time.monotonic()
    done = with_services(os.environ, lambda services: _write(services, file, str(publisher)))
    done["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        typer.echo(json.dumps(done, indent=2, ensure_ascii=False))
    else:
        what = f"{done['rows']} rows of {done['name']}, as of change {done['version']}"
        typer.echo(f"{file} holds {what}, in {done['seconds']} s.")


async def _write(services: Services, file: Path, publisher_id: str) -> dict[str, Any]:
    store = services.store
    for _ in range(_READS):
        version = await store.version(publisher_id)
        publisher = await store.find(publisher_id, Publisher, publisher_id)
        if version is None or publisher is None:
            raise PublisherNotFound("No publisher of this id is known here: check the id.")
        first = head(publisher_id, publisher.name, version.number, version.etag, instant(services.clock()))
        with writing(file, first) as backup, progress(None) as advance:
            async for row in store.table(publisher_id).partitions(publisher_id, after=backup.last):
                backup.add(row)
                advance(1)
            if await store.version(publisher_id) == version:
                backup.end()
                return {
                    "file": str(file),
                    "publisherId": publisher_id,
                    "name": publisher.name,
                    "version": version.number,
                    "rows": backup.rows,
                    "sha256": backup.digest.hexdigest(),
                }
    raise Busy(
        "Others keep changing these records. Try again when it is quieter, or stop them meanwhile: "
        f"python -m licensing freeze --publisher {publisher_id} --apply."
    )
