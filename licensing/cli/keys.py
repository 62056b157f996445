"""`python -m licensing keys`: see, make, rotate and retire the signing keys, export their public half."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from licensing.cli.terminal import Apply, AsJson
from licensing.errors import ConfigurationError, Conflict, NotFound
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.signing.store import FILE_NAME, read_keys, write_folder, write_private_file

app = typer.Typer(
    no_args_is_help=True,
    # A traceback that shows variables would show private keys.
    pretty_exceptions_show_locals=False,
    help="The keys that sign replies. The current one signs; the next one is published ahead of its use, so "
    "that clients know it when it begins to sign; retired ones stay published for as long as what they "
    "signed may count. Nothing is changed without --apply.",
)

# A client that asks for the keys when it validates has done so within the longest time that a reply counts.
KNOWN_AFTER = timedelta(days=30)

Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        help="The folder with the keys in keys.json. Without it, LICENSING_SIGNING_KEYS is read, or the "
        "folder that LICENSING_SIGNING_KEYS_FOLDER names.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="Write all keys, private halves too, to this new file that only you can read, and leave the "
        "folder as it is. Needed where the keys are in LICENSING_SIGNING_KEYS: no command can change that.",
    ),
]


class ExportFormat(StrEnum):
    """How a public key is written down."""

    JWKS = "jwks"
    PEM = "pem"
    XML = "xml"


@app.command("list")
def list_keys(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show every key: its name, state, and until when it is published."""
    _, key_set = _open(folder)
    if as_json:
        rows = [
            {
                "kid": key.kid,
                "state": key.state,
                "bits": key.public_key.key_size,
                "createdAt": _instant(key.created_at),
                "retiredAt": _instant(key.retired_at),
                "publishedUntil": _instant(key.published_until),
            }
            for key in key_set.keys
        ]
        typer.echo(json.dumps({"keys": rows}, indent=2))
        return
    if not key_set.keys:
        typer.echo("There are no keys yet: `keys create` makes them.")
        return
    table = _table("Key", "State", "Created", "Published until")
    for key in key_set.keys:
        until = key.published_until
        table.add_row(key.kid, key.state, f"{key.created_at:%Y-%m-%d}", f"{until:%Y-%m-%d}" if until else "-")
    Console().print(table)


@app.command()
def create(folder: Folder = None, output: Output = None, apply: Apply = False, as_json: AsJson = False) -> None:
    """Make the keys that are missing: a current and a next one to begin with, later a next one."""
    _change(_Manner(folder, output, apply, as_json), lambda key_set: key_set.created(_now()))


@app.command()
def rotate(folder: Folder = None, output: Output = None, apply: Apply = False, as_json: AsJson = False) -> None:
    """Let the next key sign and the current one only verify, make a new next, drop what counts no more."""

    def step(before: KeySet) -> KeySet:
        now = _now()
        after = before.rotated(now)
        if (age := now - after.current.created_at) < KNOWN_AFTER:
            typer.echo(
                f"Mind: the key that is to sign is {age.days} days old. Clients that have not asked for keys "
                "since it was made cannot verify what it signs.",
                err=True,
            )
        return after

    _change(_Manner(folder, output, apply, as_json), step)


# A kid may begin with "-", and is no option then.
@app.command(context_settings={"ignore_unknown_options": True})
def retire(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The name of a next or a retired key, from `keys list`.")],
    folder: Folder = None,
    output: Output = None,
    apply: Apply = False,
    as_json: AsJson = False,
) -> None:
    """Take a next or retired key out at once: compromised, or not wanted. What it signed counts no more."""
    _change(_Manner(folder, output, apply, as_json), lambda key_set: key_set.without(kid))


@app.command()
def export(
    folder: Folder = None,
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="A JWK Set, a PEM (SubjectPublicKeyInfo), or the XML that .NET Framework reads."),
    ] = ExportFormat.JWKS,
    kid: Annotated[
        str | None,
        typer.Option(
            metavar="KID",
            show_default=False,
            help="Only this key. Without it, jwks has all, pem and xml the current.",
        ),
    ] = None,
) -> None:
    """Write public keys to standard output, for clients to pin. Private halves are never exported."""
    _, key_set = _open(folder)
    now = _now()
    key = key_set.find_published(kid, now) if kid else key_set.current
    if key is None:
        raise NotFound("No key with this kid is published: `python -m licensing keys list` shows those there are.")
    if form is ExportFormat.JWKS:
        keys = [key] if kid else key_set.published(now)
        typer.echo(json.dumps({"keys": [key.public_jwk for key in keys]}, indent=2))
    else:
        typer.echo((key.public_pem if form is ExportFormat.PEM else key.public_xml).strip())


def _open(folder: Path | None) -> tuple[Path | None, KeySet]:
    """The folder in use, if it is one, and the keys; no keys where none have been made yet."""
    settings = Settings(signing_keys_folder=folder) if folder else Settings.read(os.environ)
    place = settings.signing_keys_folder
    if settings.signing_keys or (place and (place / FILE_NAME).exists()):
        return place, read_keys(settings)
    return place, KeySet()


@dataclass(frozen=True)
class _Manner:
    """How a change is made: the options that every changing command has."""

    folder: Path | None
    output: Path | None
    apply: bool
    as_json: bool


def _change(how: _Manner, step: Callable[[KeySet], KeySet]) -> None:
    place, before = _open(how.folder)
    after = step(before)
    if how.apply:
        _write(after, place, how.output)
    changes = _changes(before, after, applied=how.apply)
    if how.as_json:
        rows = [dict(zip(("kid", "from", "to"), change, strict=True)) for change in changes]
        typer.echo(json.dumps({"applied": how.apply, "changes": rows}, indent=2))
        return
    table = _table("Key", "From", "To")
    for kid, old, new in changes:
        table.add_row(kid or "(made when applied)", old or "-", new or "taken out")
    Console().print(table)
    if not how.apply:
        typer.echo("Nothing was changed: add --apply" + ("." if place or how.output else " and --output FILE."))
        return
    if how.output:
        typer.echo(
            f"{how.output} holds private keys: put them where LICENSING_SIGNING_KEYS is kept, delete it.\n"
            f"  az keyvault secret set --vault-name VAULT --name SECRET --file {how.output}"
        )
    typer.echo("The service reads its keys when it starts: restart it to use what has changed.")


def _write(key_set: KeySet, place: Path | None, output: Path | None) -> None:
    if output:
        if output.exists():
            raise Conflict(f"{output} exists already, and may hold keys: name a new file.")
        write_private_file(output, key_set)
    elif place:
        write_folder(place, key_set)
    else:
        raise ConfigurationError(
            "A command cannot change the setting that holds the keys: add --output FILE and put its content "
            "there, or name a folder with --folder."
        )


def _changes(before: KeySet, after: KeySet, *, applied: bool) -> list[tuple[str | None, str | None, str | None]]:
    """Kid, old state, new state of each key that changes. A key that a dry run only imagined has no kid."""
    old = {key.kid: key.state.value for key in before.keys}
    new = {key.kid: key.state.value for key in after.keys}
    return [
        (kid if applied or kid in old else None, old.get(kid), new.get(kid))
        for kid in old | new
        if old.get(kid) != new.get(kid)
    ]


def _table(kid: str, *columns: str) -> Table:
    # Without lines all columns of a list fit into 80 characters.
    table = Table(box=None, padding=(0, 2, 0, 0))
    # Whole even in a narrow terminal: it is there to be copied.
    table.add_column(kid, no_wrap=True, min_width=43)
    for column in columns:
        table.add_column(column, min_width=10)
    return table


def _now() -> datetime:
    return datetime.now(UTC)


def _instant(instant: datetime | None) -> str | None:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}" if instant else None
