"""Who is told of notices: whoever asks and confirms by mail, and whom support adds.

Strangers learn nothing from it: whether an address is known here, only the owner of its mailbox can tell.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import NamedTuple
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer

from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Product, Publisher
from licensing.catalogue.rules import check, normalized
from licensing.errors import AlreadyExists, Busy, FieldError, RuleBroken
from licensing.identifiers import fold, is_email
from licensing.mail.message import Mailer
from licensing.notices.model import ChannelKind, Subscriber, SubscriberState, subscriber_id
from licensing.notices.subscriptions.confirmation_email import confirmation_email, reminder
from licensing.notices.subscriptions.quota import MailQuota
from licensing.notices.subscriptions.store import SubscriberStore
from licensing.settings import Settings
from licensing.signing.service import Signer
from licensing.storage.errors import ConcurrencyConflict

CONFIRM_WITHIN = timedelta(hours=48)
MAX_PRODUCTS = 100
_ATTEMPTS = 5
_MAIL_WAIT_SECONDS = 15.0
_ID_CHARACTERS = 32
_PURGE_INTERVAL = timedelta(hours=1)

_log = logging.getLogger(__name__)


class ExpiredLink(Exception):
    """A link to confirm counts no more: it is too old, not ours, or the address has been forgotten meanwhile."""


class PendingConfirmation(NamedTuple):
    """What somebody is asked to confirm."""

    publisher: Publisher
    subscriber: Subscriber
    product_ids: tuple[str, ...]
    products: tuple[str, ...]
    """Their names; none where it is all."""


@dataclass(kw_only=True)
class Subscriptions:
    """The use cases. All of them raise PublisherNotFound and StorageUnavailable."""

    settings: Settings
    store: SubscriberStore
    quota: MailQuota
    publisher_cache: PublisherCache
    signer: Signer
    mailer: Mailer | None
    clock: Callable[[], datetime]
    _purged_at: dict[str, datetime] = field(default_factory=dict)

    # Whoever comes.

    async def request(self, publisher_id: str, email: str, products: Collection[str]) -> None:
        """Send a mail that asks the address's owner to confirm; products by id or name, none means all.

        To the caller it is all the same whether the address is known, and whether there was a mail. Raises RuleBroken
        where the address is none, or a product is not the publisher's.
        """
        publishers, known = await self.publisher_cache.several(publisher_id, Publisher, Product)
        await self.store.raise_if_frozen(publisher_id)
        email = email.strip()
        faults = [*_address_faults("email", ChannelKind.EMAIL, email)]
        chosen, unknown = _chosen(products, known)
        if unknown:
            faults.append(FieldError("products", "unknown", "Choose products of this publisher."))
        if len(products) > MAX_PRODUCTS:
            faults.append(
                FieldError("products", "tooMany", f"Choose {MAX_PRODUCTS} products at most, or none for all.")
            )
        _raise_faults(faults)
        address_id = subscriber_id(ChannelKind.EMAIL, email)
        if not await self.quota.take(publisher_id, address_id):
            _log.warning(
                "a mail about a subscription at publisher %s was not sent: too many within an hour", publisher_id
            )
            return
        subscriber = await self._stored(publisher_id, address_id, email)
        await self._send(lambda: self._email(publishers[publisher_id], subscriber, chosen, known))

    async def _stored(self, publisher_id: str, address_id: str, email: str) -> Subscriber:
        """The subscriber of the address; a new one has to confirm. Writes it in any case: that takes equally long."""
        now = self.clock()
        for _ in range(_ATTEMPTS):
            found = await self.store.find_subscriber(publisher_id, address_id)
            if found is None:
                found = Subscriber(id=address_id, created_at=now, updated_at=now, address=email, unsubscribe_key=_key())
            elif found.state is SubscriberState.UNCONFIRMED:
                found = replace(found, updated_at=now)
            with suppress(ConcurrencyConflict):
                await self.store.put_subscriber(publisher_id, found)
                return found
        raise _busy()

    def _email(
        self, publisher: Publisher, subscriber: Subscriber, chosen: Sequence[str], products: Mapping[str, Product]
    ) -> EmailMessage:
        token = self._serializer(publisher.id).dumps(
            {"id": subscriber.id, "products": chosen, "until": int((self.clock() + CONFIRM_WITHIN).timestamp())}
        )
        confirm_url = f"{self._url(publisher.id)}/{token}"
        sender, now = self.settings.mail_from, self.clock()
        wanted = _names(chosen, products)
        # Always to the address that is kept, never to one that only folds to the same.
        if subscriber.is_active:
            return reminder(
                publisher,
                subscriber.address,
                _names(subscriber.product_ids, products),
                wanted,
                confirm_url=confirm_url,
                unsubscribe_url=self.unsubscribe_url(publisher.id, subscriber),
                sender=sender,
                now=now,
            )
        return confirmation_email(
            publisher, subscriber.address, wanted, confirm_url=confirm_url, sender=sender, now=now
        )

    async def _send(self, compose: Callable[[], EmailMessage]) -> None:
        """Send it, or log by its type why not: whoever asked learns neither."""
        if self.mailer is None:
            _log.warning("a mail about a subscription was not sent: nothing is set to carry mail")
            return
        try:
            async with asyncio.timeout(_MAIL_WAIT_SECONDS):
                await self.mailer.send(compose())
        except Exception as error:  # noqa: BLE001 - whatever it was. Its message may hold the address
            _log.warning("a mail about a subscription was not sent: %s", type(error).__name__)

    async def pending(self, publisher_id: str, token: str) -> PendingConfirmation:
        """What the token asks to confirm; changes nothing. Raises ExpiredLink."""
        publishers, products = await self.publisher_cache.several(publisher_id, Publisher, Product)
        try:
            asked = self._serializer(publisher_id).loads(_raw(token))
        except BadData:
            raise ExpiredLink from None
        subscriber = await self.store.find_subscriber(publisher_id, asked["id"])
        if subscriber is None or asked["until"] < self.clock().timestamp():
            raise ExpiredLink
        product_ids = tuple(asked["products"])
        return PendingConfirmation(
            publishers[publisher_id], subscriber, product_ids, tuple(_names(product_ids, products))
        )

    async def confirm(self, publisher_id: str, token: str) -> PendingConfirmation:
        """From now on the subscriber is told of what the token says, and of nothing else. Raises ExpiredLink."""
        for _ in range(_ATTEMPTS):
            pending = await self.pending(publisher_id, token)
            confirmed = _confirmed(pending.subscriber, pending.product_ids, self.clock())
            with suppress(ConcurrencyConflict):
                await self.store.put_subscriber(publisher_id, confirmed)
                return pending
        raise _busy()

    # Whoever goes.

    def unsubscribe_url(self, publisher_id: str, subscriber: Subscriber) -> str:
        """Where a POST unsubscribes (RFC 8058), and a browser finds the button for it. Lasts as long as the row."""
        return f"{self._url(publisher_id)}/{subscriber.id}{subscriber.unsubscribe_key}/unsubscribe"

    async def unsubscribe(self, publisher_id: str, token: str) -> None:
        """Forget the subscriber; to the caller it is the same where there is none, or another key."""
        # Also where there is none: an instance that does not know yet that the publisher has moved finds nobody.
        await self.store.raise_if_frozen(publisher_id)
        known_id, key = token[:_ID_CHARACTERS], token[_ID_CHARACTERS:]
        found = await self.store.find_subscriber(publisher_id, known_id)
        # A row without a key has no URL that could be followed.
        if found and found.unsubscribe_key and hmac.compare_digest(_raw(found.unsubscribe_key), _raw(key)):
            await self.store.delete_subscriber(publisher_id, known_id)

    # Support.

    async def add(self, publisher_id: str, asked: Subscriber) -> Subscriber:
        """Add whom support vouches for: it counts at once. One that is not confirmed, or paused, counts again.

        Raises RuleBroken, and AlreadyExists where it counts already.
        """
        (products,) = await self.publisher_cache.several(publisher_id, Product)
        asked = normalized(asked)
        check(asked)
        faults = [*_address_faults("address", asked.channel, asked.address)]
        if set(asked.product_ids) - products.keys():
            faults.append(FieldError("productIds", "unknown", "Choose products of this publisher."))
        if len(asked.product_ids) > MAX_PRODUCTS:
            faults.append(FieldError("productIds", "tooMany", f"Choose {MAX_PRODUCTS} products at most."))
        _raise_faults(faults)
        now, known_id = self.clock(), subscriber_id(asked.channel, asked.address)
        found = await self.store.find_subscriber(publisher_id, known_id)
        if found and found.is_active:
            message = "There is such a subscriber already."
            raise AlreadyExists(message, errors=[FieldError("address", "taken", message)])
        begun = found or replace(asked, id=known_id, created_at=now, unsubscribe_key=_key())
        secret = secrets.token_urlsafe(32) if asked.channel is ChannelKind.WEBHOOK else ""
        with suppress(ConcurrencyConflict):
            counted = replace(_confirmed(begun, asked.product_ids, now), secret=secret)
            await self.store.put_subscriber(publisher_id, counted)
            if added := await self.store.find_subscriber(publisher_id, known_id):
                return added
        raise _busy()

    async def remove(self, publisher_id: str, known_id: str) -> None:
        """Delete the subscriber, whether there is one or not. Raises Frozen."""
        await self.store.delete_subscriber(publisher_id, known_id)

    async def purge_expired(self, publisher_id: str) -> None:
        """Now and then forget who never confirmed, and to whom mails went."""
        now = self.clock()
        if now - self._purged_at.get(publisher_id, datetime.min.replace(tzinfo=now.tzinfo)) < _PURGE_INTERVAL:
            return
        self._purged_at[publisher_id] = now
        await self.quota.purge_expired()
        async for each in self.store.unconfirmed(publisher_id):
            if each.updated_at < now - CONFIRM_WITHIN - _PURGE_INTERVAL:  # no link to it counts any more
                await self.store.delete_subscriber(publisher_id, each.id)

    def _url(self, publisher_id: str) -> str:
        return f"{self.settings.public_url}/api/v1/publishers/{publisher_id}/subscriptions"

    def _serializer(self, publisher_id: str) -> URLSafeSerializer:
        # Sealed together with its purpose and the publisher: good for nothing else, and nowhere else.
        return URLSafeSerializer(self.signer.secrets("subscription"), salt=f"confirm|{publisher_id}")


def _confirmed(subscriber: Subscriber, product_ids: tuple[str, ...], now: datetime) -> Subscriber:
    return replace(subscriber, state=SubscriberState.CONFIRMED, bounces=0, product_ids=product_ids, updated_at=now)


def _chosen(products: Iterable[str], known: Mapping[str, Product]) -> tuple[list[str], list[str]]:
    """The ids of the products that are named by id or name, and what is neither."""
    ids = {fold(product.name): product.id for product in known.values()} | {each: each for each in known}
    named = {each: ids.get(each) or ids.get(fold(each)) for each in products}
    return sorted({each for each in named.values() if each}), [name for name, each in named.items() if not each]


def _names(product_ids: Iterable[str], products: Mapping[str, Product]) -> list[str]:
    return sorted(products[each].name if each in products else "a product that is no more" for each in product_ids)


def _address_faults(name: str, channel: ChannelKind, address: str) -> Iterable[FieldError]:
    if not address:
        yield FieldError(name, "mandatory", "Fill in the address.")
    elif channel is ChannelKind.EMAIL and not is_email(address):
        yield FieldError(name, "notAnEmail", "This is no email address.")
    elif channel is not ChannelKind.EMAIL and not _is_webhook(address):
        yield FieldError(name, "notAUrl", "A webhook begins with https://, and names neither user nor password.")


def _is_webhook(address: str) -> bool:
    """Whether it may be one at all. Where it leads is looked at each time that something is sent there."""
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False


def _raise_faults(faults: Sequence[FieldError]) -> None:
    if faults:
        raise RuleBroken(" ".join(fault.message for fault in faults), errors=faults)


def _key() -> str:
    return secrets.token_urlsafe(24)


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _busy() -> Busy:
    return Busy("Others keep changing this. Nothing was changed; try again.", retry_after_seconds=2)
