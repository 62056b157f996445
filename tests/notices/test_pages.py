"""The documents that anybody may read, over HTTP from a real host: their texts, their headers, and in an outage."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from devhost import azurite
from devhost.azurite import Emulator
from licensing.catalogue.model import Publisher
from licensing.catalogue.store import Draft
from licensing.errors import PublisherNotFound
from licensing.notices.model import HISTORY, Impact, Notice, NoticeKind, NoticeStatus
from licensing.notices.pages import render
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.end_to_end.administration import refusal
from tests.end_to_end.hosting import Served, served, settings_for
from tests.notices.gallery import MARKUP, Gallery, a_publisher, hostile, ordinary, the_products
from tests.waiting import PATIENCE_SECONDS

MEDIA_TYPES = {
    "page": "text/html; charset=utf-8",
    "/public": "application/json",
    ".atom": "application/atom+xml; charset=utf-8",
    ".ics": "text/calendar; charset=utf-8; method=PUBLISH",
}
DOCUMENTS = pytest.mark.parametrize("document", MEDIA_TYPES)


def path_of(publisher_id: str, document: str) -> str:
    if document == "page":
        return f"/status/{publisher_id}"
    return f"/api/v1/publishers/{publisher_id}/notices{document}"


@contextmanager
def hosting(storage: Emulator, key_set: KeySet, folder: Path) -> Iterator[Served]:
    settings = settings_for(storage.connection_string, key_set, LICENSING_STORAGE_TABLE="pages")

    async def make_table() -> None:
        services = Services(Settings.read(settings))
        await services.table("").create()
        await services.close()

    asyncio.run(make_table())
    with served(settings, folder) as host:
        yield host


@pytest.fixture(scope="module")
def host(tables: Emulator, key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with hosting(tables, key_set, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture
async def client(host: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=host.url, timeout=PATIENCE_SECONDS, trust_env=False) as made:
        yield made


@dataclass
class Press:
    """Who publishes, in another process than the host."""

    services: Services
    now: datetime

    async def publish(self, *notices: Notice, **publisher: str) -> str:
        """The id of a new publisher that has these notices."""
        made = a_publisher(self.now, id=str(uuid4()), **publisher)
        await self.services.catalogue.create_publisher(made, actor="test")

        async def prepare(draft: Draft) -> None:
            for record in (*the_products(self.now), *notices):
                draft.put(record)

        await self.services.store.change(made.id, "test", prepare)
        return made.id


@pytest.fixture
async def press(host: Served) -> AsyncIterator[Press]:
    services = host.services()
    yield Press(services, services.clock())
    await services.close()


# Headers.


@DOCUMENTS
async def test_whoever_has_a_document_already_does_not_get_it_again(
    client: httpx.AsyncClient, press: Press, document: str
) -> None:
    path = path_of(await press.publish(*ordinary(press.now)), document)
    first = await client.get(path)
    assert (first.status_code, first.headers["content-type"]) == (200, MEDIA_TYPES[document])
    assert first.headers["cache-control"] == "public, max-age=60"
    etag, last_modified = first.headers["etag"], first.headers["last-modified"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    assert parsedate_to_datetime(last_modified) <= datetime.now(UTC)
    earlier = format_datetime(parsedate_to_datetime(last_modified) - timedelta(seconds=1), usegmt=True)
    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"other", W/{etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": last_modified}, 304),
        ({"If-Modified-Since": earlier}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        # RFC 9110, section 13.1.3: the date is not looked at where there is an ETag.
        ({"If-None-Match": '"other"', "If-Modified-Since": last_modified}, 200),
    ):
        answer = await client.get(path, headers=headers)
        if document == "page" and answer.headers["etag"] != etag:
            continue  # a minute has begun meanwhile, and the page names it
        assert answer.status_code == status, headers
        assert (answer.headers["etag"], answer.headers["last-modified"]) == (etag, last_modified)
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert bool(answer.content) == (status == 200)
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")


@DOCUMENTS
async def test_a_change_is_seen_at_once_also_by_who_goes_by_the_date(
    client: httpx.AsyncClient, press: Press, document: str
) -> None:
    (notice,) = [each for each in ordinary(press.now) if each.title == "Move to a new region"]
    publisher_id = await press.publish(notice)
    path = path_of(publisher_id, document)
    before = await client.get(path)
    await press.services.notices.update(publisher_id, notice.id, NoticeStatus.CANCELLED, "Not needed.", actor="test")
    for name, value in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")):
        after = await client.get(path, headers={name: before.headers[value]})
        assert after.status_code == 200
        assert re.search("cancelled", after.text, re.IGNORECASE)
    deleted = after
    await press.services.catalogue.delete(publisher_id, Notice, notice.id, actor="test")
    after = await client.get(path, headers={"If-Modified-Since": deleted.headers["last-modified"]})
    assert after.status_code == 200
    assert "region" not in after.text


async def test_nothing_in_a_page_can_run_or_be_sent_elsewhere(client: httpx.AsyncClient, press: Press) -> None:
    answer = await client.get(path_of(await press.publish(*ordinary(press.now)), "page"))
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


# What there is not.


@pytest.mark.parametrize("publisher_id", ["7b1c0a52-0000-4000-8000-00000000c0de", "nobody", "%00", "..%2Fx", "é'"])
@DOCUMENTS
async def test_a_publisher_that_is_not_there_is_not_found(
    client: httpx.AsyncClient, document: str, publisher_id: str
) -> None:
    answer = await client.get(path_of(publisher_id, document))
    if answer.headers["content-type"] == "text/html; charset=utf-8":
        assert (answer.status_code, document) == (404, "page")
        assert "<h1>There is nothing here</h1>" in answer.text
    else:
        assert refusal(answer)[0] == 404


async def test_only_publishers_that_might_be_are_looked_for(services: Services) -> None:
    with pytest.raises(PublisherNotFound):
        await services.public_notices.read("nobody")
    assert not services.replica._publishers


# What the page says.


class Page(HTMLParser):
    """The parts of a page that a reader and a program go by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.fields: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes |= given.keys()
        self.ids += [given["id"]] if "id" in given else []
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag in ("form", "input"):
            self.fields.add((tag, given.get("action") or given["name"]))


async def test_the_page_shows_what_goes_on_in_words_and_in_both_times(client: httpx.AsyncClient, press: Press) -> None:
    publisher_id = await press.publish(*ordinary(press.now))
    text = (await client.get(path_of(publisher_id, "page"))).text
    for words in (
        "There is a major disruption",
        "<strong>License records</strong>: working",
        "Overdue",
        "Pacific/Auckland)",
        "ForexRates",
        "mailto:support@example.com",
        f"https://licenses.example.com/api/v1/publishers/{publisher_id}/notices.ics",
    ):
        assert words in text
    (days,) = re.findall(r"(\d+) days without a disruption, (\d+) with one", text)
    quiet, disturbed = map(int, days)
    assert quiet + disturbed == HISTORY.days
    assert 2 <= disturbed <= 4, "two incidents, each of which may reach over midnight"
    assert "secret-author" not in text


async def test_the_page_has_a_form_headings_in_order_and_no_id_twice(client: httpx.AsyncClient, press: Press) -> None:
    publisher_id = await press.publish(*ordinary(press.now))
    page = Page((await client.get(path_of(publisher_id, "page"))).text)
    assert page.fields == {("form", f"/status/{publisher_id}/subscriptions"), ("input", "email"), ("input", "product")}
    assert page.headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert len(set(page.ids)) == len(page.ids)
    assert {notice.id for notice in ordinary(press.now)} <= set(page.ids)


async def test_the_form_s_address_is_one_that_takes_it(client: httpx.AsyncClient, press: Press) -> None:
    publisher_id = await press.publish()
    form = {"email": "ops@contoso.com", "product": ["product-0", "product-1"]}
    assert (await client.post(f"/status/{publisher_id}/subscriptions", data=form)).status_code == 202


async def test_hostile_texts_stay_texts(client: httpx.AsyncClient, press: Press) -> None:
    publisher_id = await press.publish(*hostile(press.now), name=MARKUP[:120])
    text = (await client.get(path_of(publisher_id, "page"))).text
    page = Page(text)
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "base"})
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "style")}
    assert "javascript:" not in "".join(re.findall(r'href="([^"]*)"', text))
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("</title>") == 1


async def test_a_quiet_publisher_s_page_is_good_news(client: httpx.AsyncClient, press: Press) -> None:
    text = (await client.get(path_of(await press.publish(), "page"))).text
    assert "The license server is working" in text
    assert "Nothing is planned." in text
    assert "No disruption" in text


def test_a_template_that_lacks_a_value_fails_instead_of_showing_nothing() -> None:
    with pytest.raises(Exception, match="sentences"):
        render("message.html", title="T", name="N", support_email="")


# In an outage.


async def test_when_storage_is_down_the_page_tells_what_was_known(key_set: KeySet, tmp_path: Path) -> None:
    with azurite.azurite() as storage:
        settings = settings_for(storage.connection_string, key_set)
        services = Services(Settings.read(settings))
        await services.table("").create()
        press = Press(services, services.clock())
        known, unknown = await press.publish(*ordinary(press.now)), await press.publish()
        await services.close()
        with served(settings, tmp_path) as host:
            async with httpx.AsyncClient(base_url=host.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
                assert (await client.get(path_of(known, "page"))).status_code == 200
                azurite.stop(storage)
                kept = await client.get(path_of(known, "page"))
                nothing = await client.get(path_of(unknown, "page"))
                feed = await client.get(path_of(known, ".atom"))
    assert (kept.status_code, kept.headers["cache-control"], kept.headers["retry-after"]) == (503, "no-store", "60")
    for words in ("The records cannot be read right now", "was known at", "Validations are slow", "out of reach"):
        assert words in kept.text
    assert nothing.status_code == 503
    assert "<h1>The license server is only partly working</h1>" in nothing.text
    assert refusal(feed) == (503, "storageUnavailable")


async def test_an_outage_shows_time_going_on(services: Services, publisher: Publisher) -> None:
    """What is kept is shown as of now: a maintenance becomes overdue, whether or not storage answers."""
    now = services.clock()
    notice = Gallery(now).add(
        *(NoticeKind.MAINTENANCE, NoticeStatus.IN_PROGRESS, "Title", timedelta(hours=1)),
        impact=Impact.MINOR,
        starts_at=now,
        ends_at=now + timedelta(hours=1),
    )
    await services.catalogue.create(publisher.id, notice, actor="test")
    public = services.public_notices
    read = await public.read(publisher.id)
    public.clock = lambda: now + timedelta(hours=2)
    kept = public.last_read(publisher.id)
    assert kept is not None
    assert (kept.read_at, kept.now) == (read.now, now + timedelta(hours=2))
    assert replace(kept, now=read.now) == read
