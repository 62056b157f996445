"""`python -m licensing freeze` and `thaw`: let nobody change a publisher's records, and let them again."""

import json
import os

import typer

from licensing.catalogue.store import CatalogueStore
from licensing.cli.running import with_services
from licensing.cli.terminal import Apply, AsJson, PublisherId
from licensing.errors import PublisherNotFound
from licensing.services import Services


def freeze_command(publisher: PublisherId, apply: Apply = False, as_json: AsJson = False) -> None:
    """Let nobody change a publisher's records, on any instance, until `thaw`.

    Licenses are validated as before, and all records can be read. Whoever
    would change one gets 503 with Retry-After. Mails about notices, and
    subscriptions, wait. Once this has ended, no change of a record comes
    through any more. What guards no record, subscriptions and messages on
    their way, may still be written for a minute by what has begun before.
    """
    _set(str(publisher), frozen=True, apply=apply, as_json=as_json)


def thaw_command(publisher: PublisherId, apply: Apply = False, as_json: AsJson = False) -> None:
    """Let the publisher's records be changed again."""
    _set(str(publisher), frozen=False, apply=apply, as_json=as_json)


def _set(publisher_id: str, *, frozen: bool, apply: bool, as_json: bool) -> None:
    async def run(services: Services) -> bool:
        if apply:
            return await services.store.freeze(publisher_id, frozen=frozen)
        return await _is_frozen(services.store, publisher_id) != frozen

    changes = with_services(os.environ, run)
    if as_json:
        typer.echo(json.dumps({"publisherId": publisher_id, "frozen": frozen, "changes": changes, "applied": apply}))
        return
    state = "nobody can change its records" if frozen else "its records can be changed"
    if not changes:
        typer.echo(f"As it is, {state}.")
    elif apply:
        typer.echo(f"From now on, {state}.")
    else:
        typer.echo(f"From then on, {state}. Nothing was changed: add --apply.")


async def _is_frozen(store: CatalogueStore, publisher_id: str) -> bool:
    version = await store.version(publisher_id)
    if version is None:
        raise PublisherNotFound("No publisher of this id is known here: check the id.")
    return version.frozen
