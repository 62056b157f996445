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
from licensing.http import Answer, Request
from licensing.paging import SEARCH, Page
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


def listed(answer: Answer) -> tuple[list[str], dict[str, str] | None]:
    """The names on the page, and what the link to the next one asks for."""
    document = json.loads(answer.body)
    names = [item["name"] for item in document["value"]]
    if "nextLink" not in document:
        return names, None
    link = httpx.URL(document["nextLink"])
    assert str(link).startswith(f"{URL}/api/v1/things?")
    return names, dict(link.params)


async def in_order(items: list[Item], after: list[str] | None) -> AsyncIterator[Item]:
    """As storage hands them out: all that follow."""
    for item in sorted(items, key=position):
        if after is None or position(item) > after:
            yield item


names = st.lists(st.text(max_size=3), unique=True, max_size=12)


@given(names=names, limit=st.integers(1, 5), is_stream=st.booleans())
def test_every_item_is_on_one_page_in_order(
    service: Services, names: list[str], limit: int, *, is_stream: bool
) -> None:
    items, seen, sizes = [Item(name) for name in sorted(names)], list[str](), list[int]()
    query: dict[str, str] | None = {"limit": str(limit), "search": "ö &"}
    while query is not None:
        assert query["search"] == "ö &"
        page = Page.asked(request(service, query), SEARCH)
        if is_stream:
            found, query = listed(asyncio.run(page.of_stream(in_order(items, page.after), position)))
        else:
            found, query = listed(page.of(items, position))
        seen += found
        sizes.append(len(found))
    assert seen == sorted(names)
    assert all(size == limit for size in sizes[:-1])
    assert sizes[-1] > 0 or not names, "no page is empty but that of an empty list"


def cursor_of(service: Services, **query: str) -> str:
    _, following = listed(
        Page.asked(request(service, {"limit": "1", **query}), SEARCH).of([Item("a"), Item("b")], position)
    )
    assert following is not None
    return following["cursor"]


def opens(service: Services, cursor: str, path: str = "/api/v1/things", **query: str) -> bool:
    try:
        return Page.asked(request(service, {"cursor": cursor, **query}, path), SEARCH).after == ["a"]
    except MalformedRequest:
        return False


def test_a_cursor_goes_on_counting_while_keys_are_rotated_once(key_set: KeySet) -> None:
    now = datetime.now(UTC)
    rotated = key_set.rotated(now)
    before, after, later = map(service_with, (key_set, rotated, rotated.rotated(now)))
    cursor = cursor_of(before)
    assert opens(before, cursor)
    assert opens(after, cursor)
    assert not opens(later, cursor)
    assert opens(later, cursor_of(after))


def test_a_cursor_of_another_service_is_none_here(service: Services) -> None:
    assert not opens(service, cursor_of(service_with(KeySet().created(datetime.now(UTC)))))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_a_cursor_that_somebody_made_up_is_refused(service: Services, cursor: str) -> None:
    if cursor.strip():
        assert not opens(service, cursor)


@given(st.data())
def test_a_cursor_that_was_changed_is_refused(service: Services, data: st.DataObject) -> None:
    cursor = cursor_of(service)
    place = data.draw(st.integers(0, len(cursor) - 2))  # not all bits of the last character count
    other = data.draw(st.sampled_from("abcXYZ019-_.").filter(lambda character: character != cursor[place]))
    assert not opens(service, cursor[:place] + other + cursor[place + 1 :])


def test_a_cursor_is_of_one_list_and_one_search(service: Services) -> None:
    cursor, searched = cursor_of(service), cursor_of(service, search="a")
    assert opens(service, cursor, "/API/v1/things"), "a path in any case is the same one"
    assert opens(service, searched, search="a")
    refused: list[dict[str, Any]] = [
        {"cursor": cursor, "search": "a"},
        {"cursor": searched},
        {"cursor": searched, "search": "b"},
        {"cursor": cursor, "path": "/api/v1/others"},
    ]
    assert not any(opens(service, **case) for case in refused)
