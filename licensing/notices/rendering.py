"""HTML from the templates next to this file, and pages of it. Texts are escaped unless they are Markup."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from licensing.http.response import Response

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


def page(template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """The page of this template, with the headers that keep it harmless.

    Every template extends base.html, and so needs of `values`: `title`; `name` and `support_email` of the publisher,
    "" where they are not known.
    """
    body = html(template, **values).encode(errors="replace")
    return Response(body, "text/html; charset=utf-8", status, {**_security_headers(), **(headers or {})})


@cache
def _security_headers() -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",  # the one style that base.html holds
        "img-src data:",  # its icon
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
