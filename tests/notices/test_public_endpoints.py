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
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Publisher
from licensing.errors import PublisherNotFound
from licensing.notices.model import HISTORY, Impact, Notice, NoticeKind, NoticeStatus
from licensing.notices.rendering import page
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.notices.samples import MARKUP, NoticeSamples, a_publisher, hostile, ordinary, the_products
from tests.support.administration import refusal
from tests.support.hosting import Served, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

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
    async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as made:
        yield made


@dataclass
class PublicNoticesFixture:
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
async def status_page(host: Served) -> AsyncIterator[PublicNoticesFixture]:
    services = host.services()
    yield PublicNoticesFixture(services, services.clock())
    await services.close()


# Headers.


@DOCUMENTS
async def test_public_document_conditional_get_returns_304_if_unchanged(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture, document: str
) -> None:
    path = path_of(await status_page.publish(*ordinary(status_page.now)), document)
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
async def test_public_document_conditional_get_after_change_returns_new_content(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture, document: str
) -> None:
    (notice,) = [each for each in ordinary(status_page.now) if each.title == "Move to a new region"]
    publisher_id = await status_page.publish(notice)
    path = path_of(publisher_id, document)
    before = await client.get(path)
    await status_page.services.notices.update(
        publisher_id, notice.id, NoticeStatus.CANCELLED, "Not needed.", actor="test"
    )
    for name, value in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")):
        after = await client.get(path, headers={name: before.headers[value]})
        assert after.status_code == 200
        assert re.search("cancelled", after.text, re.IGNORECASE)
    deleted = after
    await status_page.services.catalogue.delete(publisher_id, Notice, notice.id, actor="test")
    after = await client.get(path, headers={"If-Modified-Since": deleted.headers["last-modified"]})
    assert after.status_code == 200
    assert "region" not in after.text


async def test_status_page_sets_strict_content_security_policy(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture
) -> None:
    answer = await client.get(path_of(await status_page.publish(*ordinary(status_page.now)), "page"))
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
async def test_public_document_of_unknown_publisher_returns_404(
    client: httpx.AsyncClient, document: str, publisher_id: str
) -> None:
    answer = await client.get(path_of(publisher_id, document))
    if answer.headers["content-type"] == "text/html; charset=utf-8":
        assert (answer.status_code, document) == (404, "page")
        assert "<h1>There is nothing here</h1>" in answer.text
    else:
        assert refusal(answer)[0] == 404


async def test_public_view_with_malformed_publisher_id_raises_and_caches_nothing(services: Services) -> None:
    with pytest.raises(PublisherNotFound):
        await services.public_view.read("nobody")
    assert services.publisher_cache.stats().publishers == 0


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


async def test_status_page_shows_current_notices_in_words_and_publisher_time(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture
) -> None:
    publisher_id = await status_page.publish(*ordinary(status_page.now))
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


async def test_status_page_has_form_ordered_headings_and_unique_ids(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture
) -> None:
    publisher_id = await status_page.publish(*ordinary(status_page.now))
    page = Page((await client.get(path_of(publisher_id, "page"))).text)
    assert page.fields == {("form", f"/status/{publisher_id}/subscriptions"), ("input", "email"), ("input", "product")}
    assert page.headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert len(set(page.ids)) == len(page.ids)
    assert {notice.id for notice in ordinary(status_page.now)} <= set(page.ids)


async def test_status_page_form_action_accepts_subscription(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture
) -> None:
    publisher_id = await status_page.publish()
    form = {"email": "ops@contoso.com", "product": ["product-0", "product-1"]}
    assert (await client.post(f"/status/{publisher_id}/subscriptions", data=form)).status_code == 202


async def test_status_page_escapes_hostile_text(client: httpx.AsyncClient, status_page: PublicNoticesFixture) -> None:
    publisher_id = await status_page.publish(*hostile(status_page.now), name=MARKUP[:120])
    text = (await client.get(path_of(publisher_id, "page"))).text
    page = Page(text)
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "base"})
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "style")}
    assert "javascript:" not in "".join(re.findall(r'href="([^"]*)"', text))
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("</title>") == 1


async def test_status_page_without_notices_reports_no_disruption(
    client: httpx.AsyncClient, status_page: PublicNoticesFixture
) -> None:
    text = (await client.get(path_of(await status_page.publish(), "page"))).text
    assert "The license server is working" in text
    assert "Nothing is planned." in text
    assert "No disruption" in text


def test_render_with_missing_template_value_raises() -> None:
    with pytest.raises(Exception, match="sentences"):
        page("message.html", title="T", name="N", support_email="")


# In an outage.


async def test_status_page_when_storage_is_down_returns_503_with_last_known_notices(
    key_set: KeySet, tmp_path: Path
) -> None:
    with azurite.azurite() as storage:
        settings = settings_for(storage.connection_string, key_set)
        services = Services(Settings.read(settings))
        await services.table("").create()
        status_page = PublicNoticesFixture(services, services.clock())
        known, unknown = await status_page.publish(*ordinary(status_page.now)), await status_page.publish()
        await services.close()
        with served(settings, tmp_path) as host:
            async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
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


async def test_public_view_last_read_returns_cached_notices_as_of_now(services: Services, publisher: Publisher) -> None:
    """What is kept is shown as of now: a maintenance becomes overdue, whether or not storage answers."""
    now = services.clock()
    notice = NoticeSamples(now).add(
        *(NoticeKind.MAINTENANCE, NoticeStatus.IN_PROGRESS, "Title", timedelta(hours=1)),
        impact=Impact.MINOR,
        starts_at=now,
        ends_at=now + timedelta(hours=1),
    )
    await services.catalogue.create(publisher.id, notice, actor="test")
    public = services.public_view
    read = await public.read(publisher.id)
    public.clock = lambda: now + timedelta(hours=2)
    kept = public.last_read(publisher.id)
    assert kept is not None
    assert (kept.read_at, kept.now) == (read.now, now + timedelta(hours=2))
    assert replace(kept, now=read.now) == read
