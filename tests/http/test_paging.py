"""Turning pages: every item once and in order, by a cursor that only we can have made."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import MalformedRequest
from licensing.fields import text
from licensing.http.paging import SEARCH, Page
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet

URL = "https://licenses.example.com"


@dataclass(frozen=True)
class Item:
    """Something to list."""

    name: str = text("Name")


def position(item: Item) -> list[str]:
    return [item.name]


@pytest.fixture(scope="module")
def service(key_set: KeySet) -> Services:
    return service_with(key_set)


def service_with(key_set: KeySet) -> Services:
    return Services(Settings(public_url=URL, signing_keys=key_set.dump()))


def request(service: Services, query: Mapping[str, str], path: str = "/api/v1/things") -> Request:
    return Request("id", "GET", f"http://inside{path}?x=y", {}, query, {}, b"", service)


def names_and_next_query(answer: Response) -> tuple[list[str], dict[str, str] | None]:
    """The names on the page, and what the link to the next one asks for."""
    document = json.loads(answer.body)
    names = [item["name"] for item in document["value"]]
    if "nextLink" not in document:
        return names, None
    link = httpx.URL(document["nextLink"])
    assert str(link).startswith(f"{URL}/api/v1/things?")
    return names, dict(link.params)


async def sorted_stream(items: list[Item], after: list[str] | None) -> AsyncIterator[Item]:
    """As storage hands them out: all that follow."""
    for item in sorted(items, key=position):
        if after is None or position(item) > after:
            yield item


names = st.lists(st.text(max_size=3), unique=True, max_size=12)


@given(names=names, limit=st.integers(1, 5), is_stream=st.booleans())
def test_paginate_and_paginate_stream_return_every_item_once_in_order(
    service: Services, names: list[str], limit: int, *, is_stream: bool
) -> None:
    items, seen, sizes = [Item(name) for name in sorted(names)], list[str](), list[int]()
    query: dict[str, str] | None = {"limit": str(limit), "search": "ö &"}
    while query is not None:
        assert query["search"] == "ö &"
        page = Page.from_request(request(service, query), SEARCH)
        if is_stream:
            found, query = names_and_next_query(
                asyncio.run(page.paginate_stream(sorted_stream(items, page.after), position))
            )
        else:
            found, query = names_and_next_query(page.paginate(items, position))
        seen += found
        sizes.append(len(found))
    assert seen == sorted(names)
    assert all(size == limit for size in sizes[:-1])
    assert sizes[-1] > 0 or not names, "no page is empty but that of an empty list"


def cursor_of(service: Services, **query: str) -> str:
    _, following = names_and_next_query(
        Page.from_request(request(service, {"limit": "1", **query}), SEARCH).paginate([Item("a"), Item("b")], position)
    )
    assert following is not None
    return following["cursor"]


def is_cursor_accepted(service: Services, cursor: str, path: str = "/api/v1/things", **query: str) -> bool:
    try:
        return Page.from_request(request(service, {"cursor": cursor, **query}, path), SEARCH).after == ["a"]
    except MalformedRequest:
        return False


def test_cursor_remains_valid_for_one_key_rotation(key_set: KeySet) -> None:
    now = datetime.now(UTC)
    rotated = key_set.rotated(now)
    before, after, later = map(service_with, (key_set, rotated, rotated.rotated(now)))
    cursor = cursor_of(before)
    assert is_cursor_accepted(before, cursor)
    assert is_cursor_accepted(after, cursor)
    assert not is_cursor_accepted(later, cursor)
    assert is_cursor_accepted(later, cursor_of(after))


def test_cursor_of_another_service_is_rejected(service: Services) -> None:
    assert not is_cursor_accepted(service, cursor_of(service_with(KeySet().created(datetime.now(UTC)))))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_cursor_with_arbitrary_text_is_rejected(service: Services, cursor: str) -> None:
    if cursor.strip():
        assert not is_cursor_accepted(service, cursor)


@given(st.data())
def test_cursor_with_changed_character_is_rejected(service: Services, data: st.DataObject) -> None:
    cursor = cursor_of(service)
    place = data.draw(st.integers(0, len(cursor) - 2))  # not all bits of the last character count
    other = data.draw(st.sampled_from("abcXYZ019-_.").filter(lambda character: character != cursor[place]))
    assert not is_cursor_accepted(service, cursor[:place] + other + cursor[place + 1 :])


def test_cursor_for_another_list_or_search_is_rejected(service: Services) -> None:
    cursor, searched = cursor_of(service), cursor_of(service, search="a")
    assert is_cursor_accepted(service, cursor, "/API/v1/things"), "a path in any case is the same one"
    assert is_cursor_accepted(service, searched, search="a")
    refused: list[dict[str, Any]] = [
        {"cursor": cursor, "search": "a"},
        {"cursor": searched},
        {"cursor": searched, "search": "b"},
        {"cursor": cursor, "path": "/api/v1/others"},
    ]
    assert not any(is_cursor_accepted(service, **case) for case in refused)
