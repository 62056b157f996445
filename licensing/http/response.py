"""Responses of handlers."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from licensing.fields import render


class Response(NamedTuple):
    """What a function answers with."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = {}
    """In addition to Content-Type."""
    event_fields: Mapping[str, Any] = {}
    """Extra fields of the event `RequestServed`."""


def json_response(item: Any, status: int = 200, **headers: str) -> Response:
    """The dataclass as JSON; a record's ETag as header too."""
    if etag := getattr(item, "etag", ""):
        headers["ETag"] = f'"{etag}"'
    return Response(json.dumps(render(item), ensure_ascii=False).encode(), "application/json", status, headers)
