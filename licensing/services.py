"""The composition root: settings in, everything wired out. Each part is made when it is first asked for, once."""

import gc
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import get_type_hints

from licensing.access.discovery import fetch
from licensing.access.service import Authenticator
from licensing.access.tokens import TokenVerifier
from licensing.catalogue.environment_cache import EnvironmentCache
from licensing.catalogue.publisher_cache import PublisherCache, WaitPolicy
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore
from licensing.errors import ConfigurationError
from licensing.health import Health
from licensing.http.permissions import Access, Caller
from licensing.mail.folder import MailFolder
from licensing.mail.message import Mailer
from licensing.mail.smtp import SmtpMailer
from licensing.notices.delivery.channels import MailChannel, TeamsChannel, WebhookChannel
from licensing.notices.delivery.outbox import Channel, Outbox
from licensing.notices.delivery.store import DeliveryStore
from licensing.notices.delivery.webhook import WebhookPost
from licensing.notices.health_monitor import HealthMonitor
from licensing.notices.model import ChannelKind, Notice
from licensing.notices.public.view import PublicView
from licensing.notices.service import Notices
from licensing.notices.subscriptions.quota import MailQuota
from licensing.notices.subscriptions.service import Subscriptions
from licensing.notices.subscriptions.store import SubscriberStore
from licensing.reports.digest import ExpiryDigest
from licensing.reports.service import ExpiryReports
from licensing.reports.store import SentReminders
from licensing.settings import Settings
from licensing.signing.service import Signer
from licensing.signing.store import read_keys
from licensing.storage.table import Table, load_client
from licensing.telemetry.service import Telemetry
from licensing.validation.rate import RateLimit
from licensing.validation.service import Validator

_RECORDS_WAIT_SECONDS = 10.0
"""How long licensing personnel wait for storage: longer than a validation, which has something else to answer with.

This and the other limits here are the least: a longer LICENSING_STORAGE_TIMEOUT_SECONDS extends them.
"""
_HEALTH_WAIT_SECONDS = 3.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Services:
    """All parts of one service. What talks to storage belongs to the event loop in which it is first used."""

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime] = utc_now, *, timeout_seconds: float = 0
    ) -> None:
        """`timeout_seconds`: how long to wait for storage, where that is longer than the settings say."""
        self.settings = settings
        self.clock = clock
        self._timeout_seconds = max(timeout_seconds, settings.storage_timeout_seconds)
        self._tables: dict[str, Table] = {}

    def table(self, publisher_id: str) -> Table:
        """The table that holds this publisher's records. Raises ConfigurationError where no storage is set."""
        account = self.settings.publisher_storage.get(publisher_id, self.settings.storage)
        if not account:
            raise ConfigurationError("LICENSING_STORAGE is not set: the records have no place to be.")
        return self.table_at(account)

    def table_at(self, account: str) -> Table:
        """The table of records in this storage account."""
        if account not in self._tables:
            self._tables[account] = Table(
                account,
                self.settings.storage_table,
                self.telemetry,
                connect_seconds=self.settings.storage_timeout_seconds,
                read_seconds=self._timeout_seconds,
            )
        return self._tables[account]

    @cached_property
    def telemetry(self) -> Telemetry:
        """What the service tells of itself."""
        settings = self.settings
        return Telemetry(
            connection_string=settings.telemetry,
            as_identity=settings.telemetry_as_identity,
            traces_per_second=settings.traces_per_second,
            console=settings.telemetry_console,
            lookup=lambda name: os.environ.get(name, ""),
        )

    @cached_property
    def signer(self) -> Signer:
        """Who signs. Raises ConfigurationError where the keys are missing or unsafe."""
        return Signer(read_keys(self.settings))

    @cached_property
    def store(self) -> CatalogueStore:
        return CatalogueStore(table=self.table, clock=self.clock)

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.store)

    @cached_property
    def publisher_cache(self) -> PublisherCache:
        return PublisherCache(self.store, WaitPolicy(max(_RECORDS_WAIT_SECONDS, self._timeout_seconds)))

    @cached_property
    def authenticator(self) -> Authenticator:
        """Who lets callers in. Raises ConfigurationError where nobody could sign in."""
        settings = self.settings
        if not settings.api_client_id or not settings.directory_id:
            raise ConfigurationError(
                "LICENSING_API_CLIENT_ID and LICENSING_DIRECTORY_ID are not both set: nobody can sign in."
            )
        verifier = TokenVerifier(
            authority=settings.sign_in_authority, audience=settings.api_client_id, fetch=fetch, clock=self.clock
        )
        return Authenticator(
            own_directory_id=settings.directory_id,
            verifier=verifier,
            catalogue=self.catalogue,
            publisher_cache=self.publisher_cache,
            wait_seconds=max(_RECORDS_WAIT_SECONDS, self._timeout_seconds),
        )

    @cached_property
    def environment_cache(self) -> EnvironmentCache:
        settings = self.settings
        return EnvironmentCache(
            self.store,
            self.publisher_cache,
            WaitPolicy(self._timeout_seconds, settings.version_read_interval_ms / 1e3),
            max_environments=settings.cached_environments,
            max_stale_seconds=settings.max_stale_hours * 3600,
            others=(Notice,),
        )

    @cached_property
    def validator(self) -> Validator:
        return Validator(
            settings=self.settings,
            catalogue=self.catalogue,
            environments=self.environment_cache,
            signer=self.signer,
            limit=RateLimit(self.settings.validations_per_minute),
            telemetry=self.telemetry,
            clock=self.clock,
        )

    @cached_property
    def mailer(self) -> Mailer | None:
        """Who carries mail; None where nobody is set to."""
        if self.settings.smtp_host:
            return SmtpMailer(self.settings)
        return MailFolder(self.settings.mail_folder) if self.settings.mail_folder else None

    @cached_property
    def expiry_reports(self) -> ExpiryReports:
        return ExpiryReports(self.store, self.clock)

    @cached_property
    def expiry_digest(self) -> ExpiryDigest:
        return ExpiryDigest(
            settings=self.settings,
            store=self.store,
            reports=self.expiry_reports,
            sent_reminders=SentReminders(self.table, self.clock),
            mailer=self.mailer,
            clock=self.clock,
        )

    @cached_property
    def notices(self) -> Notices:
        health_monitor = HealthMonitor(
            store=self.store,
            catalogue=self.catalogue,
            publisher_cache=self.publisher_cache,
            clock=self.clock,
        )
        return Notices(
            store=self.store,
            catalogue=self.catalogue,
            outbox=self.outbox,
            subscriptions=self.subscriptions,
            health_monitor=health_monitor if self.settings.auto_incidents else None,
            checks=self.health.checks,
            telemetry=self.telemetry,
            clock=self.clock,
        )

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(
            settings=self.settings,
            store=self.subscriber_store,
            quota=MailQuota(self.table, self.clock, self.settings.subscription_mails_per_hour),
            publisher_cache=self.publisher_cache,
            signer=self.signer,
            mailer=self.mailer,
            clock=self.clock,
        )

    @cached_property
    def public_view(self) -> PublicView:
        return PublicView(publisher_cache=self.publisher_cache, settings=self.settings, clock=self.clock)

    @cached_property
    def subscriber_store(self) -> SubscriberStore:
        return SubscriberStore(self.table, self.store.raise_if_frozen)

    @cached_property
    def delivery_store(self) -> DeliveryStore:
        return DeliveryStore(self.table, self.store.raise_if_frozen)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(
            store=self.delivery_store,
            subscribers=self.subscriber_store,
            publisher_cache=self.publisher_cache,
            channels=self.channels,
            telemetry=self.telemetry,
            clock=self.clock,
            per_minute=self.settings.messages_per_minute,
        )

    @cached_property
    def channels(self) -> dict[ChannelKind, Channel]:
        """The channels that are set up."""
        public_url, post = self.settings.public_url, WebhookPost()
        channels: dict[ChannelKind, Channel] = {
            ChannelKind.TEAMS: TeamsChannel(public_url=public_url, post=post),
            ChannelKind.WEBHOOK: WebhookChannel(public_url=public_url, post=post),
        }
        if self.mailer:
            channels[ChannelKind.EMAIL] = MailChannel(
                mailer=self.mailer,
                sender=self.settings.mail_from,
                public_url=public_url,
                unsubscribe_url=self.subscriptions.unsubscribe_url,
            )
        return channels

    @cached_property
    def health(self) -> Health:
        return Health(
            lambda: self.signer,
            lambda: self.table(""),
            wait_seconds=max(_HEALTH_WAIT_SECONDS, self._timeout_seconds),
        )

    def get[T](self, kind: type[T]) -> T:
        """Return the one service of this class. Raises ConfigurationError where the settings do not allow it.

        Raises KeyError where there is no such service.
        """
        service: T = getattr(self, _NAMES[kind])
        return service

    def secrets(self, purpose: str) -> list[bytes]:
        """Return the secrets that seal what callers hand back, the current one last."""
        return self.signer.secrets(purpose)

    async def authenticate(self, access: Access, authorization: str | None, publisher_id: str | None) -> Caller:
        """Return the caller of an endpoint. Raises what `Authenticator.authenticate` raises."""
        return await self.authenticator.authenticate(access, authorization, publisher_id)

    async def close(self) -> None:
        """Let go of the connections to storage, and to the mail server."""
        for table in self._tables.values():
            await table.close()
        if isinstance(self.mailer, SmtpMailer):
            await self.mailer.close()


_NAMES: dict[type, str] = {
    get_type_hints(each.func)["return"]: name
    for name, each in vars(Services).items()
    if isinstance(each, cached_property)
}
"""The attribute of each service, by its class."""

_lock = threading.Lock()
_services: Services | None = None


def services() -> Services:
    """The services of this process, from its environment. Raises ConfigurationError."""
    global _services  # noqa: PLW0603 - the one place where the process has state
    if _services is None:
        with _lock:
            if _services is None:
                _services = Services(Settings.read(os.environ))
    return _services


_GARBAGE = 50_000
"""So many new objects, and the collector looks which of them are left in circles. Python's own is 2,000."""


def start() -> None:
    """Make ready to serve.

    Raises ConfigurationError where this process could not serve safely: settings or keys missing, wrong or unsafe.
    """
    # Most of what is loaded now stays. To look through it for garbage, again and again, took 2 % of the time.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    parts = services()
    with_identity = parts.settings.storage.startswith("https://") or parts.settings.telemetry_as_identity
    # What telemetry loads shares modules with what storage loads, so that comes first.
    parts.telemetry.start(after=partial(load_client, as_identity=with_identity))
    parts.telemetry.record("Started", **parts.signer.facts(parts.clock()))
