"""Pages for people. Nothing in them can run, whatever the texts hold."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from licensing.http.response import Response
from licensing.notices.html import html, style


def render(template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """The page of this template, with the headers that keep it harmless.

    Every template extends base.html, and so needs of `values`: `title`; `name` and `support_email` of the publisher,
    "" where they are not known.
    """
    body = html(template, **values).encode(errors="replace")
    return Response(body, "text/html; charset=utf-8", status, {**_harmless(), **(headers or {})})


@cache
def _harmless() -> dict[str, str]:
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
