"""Pages for people: HTML from the templates beside this file. Nothing in them can run, whatever the texts hold."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from licensing.http import Answer

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Answer:
    """The page of this template, with the headers that keep it harmless.

    Every template extends base.html, and so needs of `values`: `title`; `name` and `support_email` of the publisher,
    "" where they are not known. Texts are escaped, but for those that are Markup.
    """
    page = _environment().get_template(template).render(values)
    return Answer(page.encode(errors="replace"), "text/html; charset=utf-8", status, {**_harmless(), **(headers or {})})


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
    made.globals["style"] = Markup(_style())  # noqa: S704 - a file of ours
    return made


@cache
def _style() -> str:
    return (_TEMPLATES / "style.css").read_text("utf-8")


@cache
def _harmless() -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",  # the one style that base.html holds
        "img-src data:",  # its icon
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
