"""`python -m licensing`: the operator's commands."""

import sys

import typer

from licensing.cli import bulk, diagnose, keys, seed, token, validate
from licensing.cli.recovery import backup, erase, freeze, history, restore
from licensing.errors import LicensingError

app = typer.Typer(
    name="licensing",
    help="The operator's commands of License Manager. Settings come from the environment: docs/configuration.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.command("import")(bulk.import_command)
app.command("export")(bulk.export_command)
app.command("history")(history.command)
app.command("backup")(backup.command)
app.command("restore")(restore.command)
app.command("freeze")(freeze.freeze_command)
app.command("thaw")(freeze.thaw_command)
app.command("erase")(erase.command)
app.command("seed")(seed.command)
app.command("validate")(validate.command)
app.command("diagnose")(diagnose.command)
app.command("token")(token.command)


_NOT_DONE = 3
"""How a command ends that could not be done: 1 and 2 are answers of `validate`, which no slip may look like."""


def main() -> None:
    """Run a command. What goes wrong ends in one sentence, and exit code 3."""
    (usage_error,) = typer.BadParameter.__bases__
    usage_error.exit_code = _NOT_DONE  # type: ignore[attr-defined] # the CLI library has no setting for it
    try:
        app(prog_name="python -m licensing")
    except LicensingError as error:
        typer.echo(f"{error.title}: {error.detail}", err=True)
        sys.exit(_NOT_DONE)


if __name__ == "__main__":
    main()
