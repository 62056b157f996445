"""`python -m devhost`: the local host's commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from devhost import server
from devhost.errors import StartError
from licensing.errors import LicensingError

cli = typer.Typer(add_completion=False, no_args_is_help=True)


@cli.callback()
def main() -> None:
    """The local host for function_app.py."""


@cli.command()
def serve(  # noqa: PLR0913, PLR0917 - each an option of the command
    app: Annotated[Path, typer.Option(help="The folder of the function app.")] = Path(),
    port: Annotated[
        int | None, typer.Option(help="0: a free port. Left out: that of local.settings.json, else 7071.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = server.LOOPBACK,
    state: Annotated[Path | None, typer.Option(help="A folder where timers keep the time of their last run.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="A file to write once requests are answered.")] = None,
    stop_with_stdin: Annotated[  # noqa: FBT002 - the CLI library reads a flag from it
        bool, typer.Option(help="Stop at the end of the standard input, too.")
    ] = False,
) -> None:
    """Serve a function app until Ctrl-C."""
    try:
        server.serve(app, port, host=host, state_folder=state, ready_file=ready_file, stop_with_stdin=stop_with_stdin)
    except StartError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


@cli.command()
def run(
    port: Annotated[int, typer.Option(envvar="PORT", help="The port of 127.0.0.1 to serve on.")] = 7071,
    data: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Where records and keys are kept.")] = Path(".local"),
    telemetry: Annotated[
        str, typer.Option(envvar="TELEMETRY", help="local: start an endpoint that shows it. Left out: none is sent.")
    ] = "",
) -> None:
    """Start a license server with demo data, show that it works, and serve until Ctrl-C."""
    from devhost.run import run as serve_all  # noqa: PLC0415 - `serve` does without what it imports

    try:
        if telemetry not in ("", "local"):
            raise StartError(f'TELEMETRY is "local", or left out: it cannot be "{telemetry}".')
        serve_all(port, data, with_telemetry=telemetry == "local")
    except (StartError, LicensingError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("Stopped.")


if __name__ == "__main__":
    cli()
