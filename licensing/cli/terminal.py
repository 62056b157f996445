"""What the commands that keep a publisher's records share: their options, and how they show what they do."""

import getpass
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from licensing.identifiers import fold

PublisherId = Annotated[
    UUID, typer.Option("--publisher", metavar="ID", help="Whose records: the publisher's id, a GUID.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Do it. Without it, only show what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def operator(verb: str) -> str:
    """Who does it, for the audit; in lower case, as that is searched."""
    try:
        return fold(f"{verb} {getpass.getuser()}")
    except OSError:  # a container may know no names
        return verb


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; what is yielded moves it on. Where nobody knows the total, it counts."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.advance(task, steps)


def change_lines(changes: Iterable[tuple[str, Any, Any]]) -> str:
    """A line for each field, with its old and its new value."""
    return "\n".join(f"{name}: {_shown(old)} -> {_shown(new)}" for name, old, new in changes)


def _shown(value: Any) -> Any:
    return "nothing" if value in (None, "") else value


def table(headings: Sequence[str], lines: Iterable[Sequence[str | Text]]) -> Table:
    """A table of these lines. A cell that is a Text is shown as it is."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for cells in lines:
        # As Text, since what a string holds in brackets would be taken for markup.
        made.add_row(*(cell if isinstance(cell, Text) else Text(_printable(cell)) for cell in cells))
    return made


def _printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
