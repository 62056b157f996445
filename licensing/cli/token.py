"""`python -m licensing token`: an access token of the local issuer, to call a local service with."""

import json
import os
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from licensing.cli.local_issuer import FOLDER_SETTING, Issuer, is_local
from licensing.cli.terminal import AsJson
from licensing.errors import ConfigurationError
from licensing.settings import Settings
from licensing.signing.encoding import parse_base64url, parse_json_object


def command(  # noqa: PLR0913, PLR0917 - each an option of the command
    email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", show_default=False, help="Who signs in: a person.")
    ] = None,
    application: Annotated[
        UUID | None, typer.Option(metavar="CLIENT_ID", show_default=False, help="Who signs in instead: an application.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            show_default=False,
            help="An app role, such as GlobalAdmin; may be repeated. An application has the role Application, unless "
            "others are named.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", show_default=False, help="How they are called.")] = "",
    directory: Annotated[
        UUID | None,
        typer.Option(metavar="GUID", show_default=False, help="Their directory. Without it, the service's own."),
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="For how long it counts.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Print an access token of the local issuer that `make run` starts. It counts on this machine only."""
    if (email is None) == (application is None):
        raise typer.BadParameter("Name a person with --email, or an application with --application.")
    settings = Settings.read(os.environ)
    folder = os.environ.get(FOLDER_SETTING, "")
    if not (folder and settings.directory_id and settings.api_client_id and is_local(settings.sign_in_authority)):
        raise ConfigurationError(
            "These settings name no issuer on this machine: those that `make run` writes to settings.env do; a token "
            "of Entra ID comes from `az account get-access-token --resource api://...`."
        )
    token = Issuer(Path(folder), settings.sign_in_authority).token(
        email=email or "",
        name=name,
        roles=role or (["Application"] if application else []),
        directory_id=str(directory or settings.directory_id),
        application_id=str(application) if application else None,
        lifetime_seconds=minutes * 60,
        aud=settings.api_client_id,
    )
    if as_json:
        claims = parse_json_object(parse_base64url(token.split(".")[1]).decode())
        typer.echo(json.dumps({"token": token, "claims": claims}, indent=2, ensure_ascii=False))
    else:
        typer.echo(token)
