"""What anybody may read of a publisher's notices, for programs: JSON and Atom. Pure: time is an argument."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from licensing.catalogue.records import Product, Publisher
from licensing.fields import instant
from licensing.notices.message_text import headline, html_of, one_line, plain, status_word, title_of
from licensing.notices.model import HISTORY, Notice, is_overdue

GONE = "a product that is no longer offered"
_ATOM = "http://www.w3.org/2005/Atom"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, however it is escaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What anybody may know of a publisher at an instant: the notices that are open or not older than HISTORY."""

    publisher: Publisher
    products: Mapping[str, Product]
    notices: tuple[Notice, ...]
    """Newest first."""
    now: datetime
    read_at: datetime
    """When the records were read: `now`, unless they cannot be read any more."""
    public_url: str
    support_email: str

    @property
    def page_url(self) -> str:
        return f"{self.public_url}/status/{self.publisher.id}"

    def url_of(self, notice: Notice) -> str:
        return f"{self.page_url}#{notice.id}"

    def feed_url(self, ending: str) -> str:
        """`/public`, `.atom` or `.ics`."""
        return f"{self.public_url}/api/v1/publishers/{self.publisher.id}/notices{ending}"

    def product_names(self, notice: Notice) -> list[str]:
        """Those that the notice is about; none where it is about all."""
        known = {id_: one_line(self.products[id_].name) for id_ in notice.product_ids if id_ in self.products}
        return sorted(known.values(), key=str.casefold) + [GONE] * (len(known) < len(notice.product_ids))


def worth_showing(notices: Iterable[Notice], now: datetime) -> tuple[Notice, ...]:
    """Those that are open, or came to their end within HISTORY, newest first."""
    shown = (each for each in notices if each.is_open or each.last_updated_at > now - HISTORY)
    return tuple(sorted(shown, key=lambda each: (each.created_at, each.id), reverse=True))


# JSON.


def json_of(published: Published) -> bytes:
    """The notices as docs/protocol.md describes them."""
    return json.dumps({"value": [_item(published, each) for each in published.notices]}, ensure_ascii=False).encode()


def _item(published: Published, notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "title": title_of(notice),
        "kind": notice.notice_kind,
        "status": notice.status,
        "impact": notice.impact,
        "startsAt": notice.starts_at and instant(notice.starts_at),
        "endsAt": notice.ends_at and instant(notice.ends_at),
        "overdue": is_overdue(notice, published.now),
        "products": published.product_names(notice),
        "body": plain(notice, None),
        "updates": [
            {"at": instant(each.at), "status": each.status, "body": plain(notice, each)} for each in notice.updates
        ],
        "url": published.url_of(notice),
        "createdAt": instant(notice.created_at),
        "updatedAt": instant(notice.updated_at),
    }


# Atom (RFC 4287).


def atom_of(published: Published) -> bytes:
    """The notices as an Atom feed, an entry each. Ids stay as they are wherever the service moves."""
    feed = ET.Element("feed", {"xmlns": _ATOM})
    _text(feed, "id", f"urn:license-manager:notices:{published.publisher.id}")
    _text(feed, "title", f"Notices of {one_line(published.publisher.name)}")
    newest = max((each.updated_at for each in published.notices), default=published.publisher.updated_at)
    _text(feed, "updated", instant(newest))
    _text(ET.SubElement(feed, "author"), "name", one_line(published.publisher.name))
    _link(feed, "self", published.feed_url(".atom"), "application/atom+xml")
    _link(feed, "alternate", published.page_url, "text/html")
    for notice in published.notices:
        _entry(feed, published, notice)
    document: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return document


def _entry(feed: ET.Element, published: Published, notice: Notice) -> None:
    entry = ET.SubElement(feed, "entry")
    _text(entry, "id", f"urn:license-manager:notice:{published.publisher.id}:{notice.id}")
    _text(entry, "title", headline(notice, None))
    _text(entry, "published", instant(notice.created_at))
    _text(entry, "updated", instant(notice.updated_at))
    _link(entry, "alternate", published.url_of(notice), "text/html")
    ET.SubElement(entry, "category", {"term": notice.notice_kind})
    # The newest first, as on the page: that is what a reader has not seen.
    said = [f"<h2>{status_word(each.status)}</h2>{html_of(each.body)}" for each in reversed(notice.updates)]
    content = _text(entry, "content", "".join([*said, html_of(notice.body)]))
    content.set("type", "html")


def _text(parent: ET.Element, tag: str, text: str) -> ET.Element:
    made = ET.SubElement(parent, tag)
    made.text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return made


def _link(parent: ET.Element, rel: str, href: str, media_type: str) -> None:
    ET.SubElement(parent, "link", {"rel": rel, "href": href, "type": media_type})
