"""`python -m licensing validate`: one validation, asked for and verified as an environment would."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.python.license_client import action_of
from licensing.cli import client
from licensing.cli.seed import DEMO_PRODUCTS, DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER

_EXIT_CODES = {"allow": 0, "prompt": 1, "disable": 2}
_COULD_NOT_CHECK = 3
_STYLES = {"allow": "green", "prompt": "yellow", "disable": "red"}


def reply_table(claims: Mapping[str, Any]) -> Table:
    """A verified reply for a person: one line a product, 80 columns wide."""
    valid_until = datetime.fromtimestamp(claims["exp"], UTC)
    stale = ", but stale: the service could not reach its records" if claims["stale"] else ""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=Text(f"Environment {claims['sub']}"),
        caption=Text(f"verified{stale}, from {claims['iss']}, valid until {valid_until:%F %R} UTC"),
    )
    for heading in ("Product", "Action", "Status", "Until"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Why", overflow="fold")
    for product in claims["products"]:
        # The sentence for the user names the product first: the line does so already.
        reason = (product["message"] or "").partition(": ")[2]
        cells = (
            product["productName"],
            product["action"],
            product["status"],
            product["endDate"] or "",
            reason or ", ".join(product["warnings"]),
        )
        # As Text, since what a string holds in brackets would be taken for markup.
        table.add_row(*map(Text, cells), style=_STYLES[action_of(product)])
    return table


def command(  # noqa: PLR0913, PLR0917 - each an option
    url: Annotated[str, typer.Option(help="The service's address.")] = "http://127.0.0.1:7071",
    publisher: Annotated[str, typer.Option(help="The publisher's id, a GUID.")] = DEMO_PUBLISHER_ID,
    serial: Annotated[str, typer.Option(help="The environment's serial number.")] = DEMO_SERIAL_NUMBER,
    product: Annotated[
        list[str] | None, typer.Option(help="A product to ask for; may be given several times. [default: the demo's]")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="Trusted public keys: a JWK Set, a PEM or .NET's XML. Without it, those that the service names itself."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait.", min=0.1)] = 5,
    json: Annotated[bool, typer.Option("--json", help="The claims and the token, for programs.")] = False,
) -> None:
    """Ask whether products are licensed, verify the reply, and show it.

    Ends with 0 where all products are allowed, 1 where the user would be prompted (also where a status or an action
    is not known here), 2 where a feature would be disabled, and 3 where nothing could be checked.
    """
    try:
        checked = client.check(
            url, publisher, serial, product or DEMO_PRODUCTS, keys_file=keys, timeout_seconds=timeout
        )
    except client.CouldNotCheck as error:
        typer.echo(f"Could not check: {error.detail}", err=True)
        raise typer.Exit(_COULD_NOT_CHECK) from None
    if json:
        typer.echo(client.as_json(checked))
    else:
        Console().print(reply_table(checked.claims))
    raise typer.Exit(max(_EXIT_CODES[action_of(product)] for product in checked.claims["products"]))
