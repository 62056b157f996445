"""Pages of a list. Where a page ends is told by a cursor: signed, and good for that list and that search alone."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from itsdangerous import BadData, URLSafeSerializer

from licensing.errors import FieldError, MalformedRequest
from licensing.fields import render
from licensing.http.request import Parameter, Request
from licensing.http.response import Response

_MAX_LIMIT = 200
LIMIT = Parameter(
    "limit", "Limit", f"How many at most: a whole number from 1 to {_MAX_LIMIT}.", int, 50, (1, _MAX_LIMIT)
)
CURSOR = Parameter("cursor", "Cursor", "Where the page before ended: take it from nextLink.")
SEARCH = Parameter("search", "Search", "Only what has this text in it, whatever its case.")

type Position = list[str]
"""Where an item stands in its list: unlike that of any other item, and in the same order."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a request asks for of a list. `filters`: what else it says, for as long as its pages are turned."""

    request: Request
    limit: int
    after: Position | None
    filters: Mapping[str, str]

    @classmethod
    def from_request(cls, request: Request, *filters: Parameter) -> "Page":
        """Raises MalformedRequest where the limit is none, or the cursor is not of this list."""
        limit = request.parameter(LIMIT)
        given = {each.name: request.query[each.name] for each in filters if request.query.get(each.name)}
        page = cls(request, limit, None, given)
        cursor = request.parameter(CURSOR)
        if cursor is None:
            return page
        try:
            after = page._serializer().loads(cursor)
        except BadData:
            message = "This cursor is not of this list. Begin again without one."
            raise MalformedRequest(message, errors=[FieldError(CURSOR.name, "malformed", message)]) from None
        return cls(request, limit, after, given)

    def paginate[T](self, items: Iterable[T], position: Callable[[T], Position]) -> Response:
        """The page of these items, which come in the order of their positions."""
        later = (each for each in items if self.after is None or position(each) > self.after)
        return self._respond([*itertools.islice(later, self.limit + 1)], position)

    async def paginate_stream[T](self, items: AsyncIterator[T], position: Callable[[T], Position]) -> Response:
        """The page of items that come in order, those after the cursor only."""
        found: list[T] = []
        async for item in items:
            found.append(item)
            if len(found) > self.limit:
                break
        return self._respond(found, position)

    def _respond[T](self, found: list[T], position: Callable[[T], Position]) -> Response:
        document: dict[str, Any] = {"value": [render(each) for each in found[: self.limit]]}
        if len(found) > self.limit:
            cursor = self._serializer().dumps(position(found[self.limit - 1]))
            query = urlencode({**self.filters, "limit": self.limit, "cursor": cursor})
            document["nextLink"] = f"{self.request.services.settings.public_url}{self.request.path}?{query}"
        return Response(json.dumps(document, ensure_ascii=False).encode(), "application/json")

    def _serializer(self) -> URLSafeSerializer:
        # Position and list are sealed together: the cursor of another publisher's list, or search, is none here.
        salt = json.dumps([self.request.path.lower(), sorted(self.filters.items())])
        return URLSafeSerializer(self.request.services.secrets("cursor"), salt=salt)
