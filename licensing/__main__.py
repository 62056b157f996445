"""`python -m licensing`: the operator's commands."""

import sys

import typer

from licensing.cli import diagnose, keys, seed, validate
from licensing.errors import LicensingError

app = typer.Typer(
    name="licensing",
    help="The operator's commands of License Manager. Settings come from the environment: docs/configuration.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.command("seed")(seed.command)
app.command("validate")(validate.command)
app.command("diagnose")(diagnose.command)


def main() -> None:
    """Run a command. What goes wrong ends in one sentence, and exit code 2."""
    try:
        app(prog_name="python -m licensing")
    except LicensingError as error:
        typer.echo(f"{error.title}: {error.detail}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
