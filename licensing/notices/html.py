"""HTML from the templates beside this file. Texts are escaped, but for those that are Markup."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"


def html(template: str, **values: Any) -> str:
    """The template with these values. Raises where one that it needs is missing."""
    return _environment().get_template(template).render(values)


@cache
def style() -> str:
    """The one style of all pages."""
    return (_TEMPLATES / "style.css").read_text("utf-8")


@cache
def _environment() -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415 - takes long, and a validation does without it

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["mailto"] = lambda address: "mailto:" + quote(address, safe="@")
    made.globals["style"] = Markup(style())  # noqa: S704 - a file of ours
    return made
