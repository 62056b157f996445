"""One validation: look up, decide, reply, sign."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from licensing.catalogue.dates import Dates
from licensing.catalogue.environment_cache import EnvironmentCache, Snapshot
from licensing.catalogue.records import Environment
from licensing.catalogue.service import Catalogue
from licensing.errors import LicensingError, RuleBroken, StorageUnavailable
from licensing.identifiers import fold
from licensing.settings import Settings
from licensing.signing.service import Signer
from licensing.telemetry.service import Telemetry
from licensing.validation.license_file import LicenseFile
from licensing.validation.model import Decision, decide
from licensing.validation.rate import RateLimit
from licensing.validation.reply import LICENSE_FILE_TYPE, REPLY_TYPE, claims
from licensing.validation.request import ProductQuery, ValidationRequest
from licensing.validation.telemetry_event import telemetry_event

_log = logging.getLogger(__name__)
_ACTOR = "license control disabled"


class Reply(NamedTuple):
    """A signed reply, and how long the store and the signature took."""

    token: bytes
    stale: bool
    store_ms: float
    sign_ms: float


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Answers environments."""

    settings: Settings
    catalogue: Catalogue
    environment_cache: EnvironmentCache
    signer: Signer
    limit: RateLimit
    telemetry: Telemetry
    clock: Callable[[], datetime]

    async def validate(self, request: ValidationRequest, reply_id: str) -> Reply:
        """The reply. Raises TooManyRequests, PublisherNotFound, and StorageUnavailable where nothing is kept."""
        self.limit.take((request.publisher_id, fold(request.serial_number)))
        started = time.perf_counter()
        until = asyncio.get_running_loop().time() + 2 * self.settings.storage_timeout_seconds
        snapshot = await self.environment_cache.get(request.publisher_id, request.serial_number)
        now = self.clock()
        decisions = decide_all(request, snapshot, now)
        if not snapshot.stale and any(map(_lacks_its_license, decisions)):
            decisions = await self._with_licenses(decisions, snapshot, until)
        looked_up = time.perf_counter()
        payload = claims(request, snapshot, decisions, settings=self.settings, now=now, reply_id=reply_id)
        signing = time.perf_counter()
        token = await self.signer.sign_together(payload, REPLY_TYPE)
        sign_ms = (time.perf_counter() - signing) * 1e3
        self._record_telemetry(request, snapshot, decisions)
        return Reply(token, snapshot.stale, (looked_up - started) * 1e3, sign_ms)

    def _record_telemetry(self, request: ValidationRequest, snapshot: Snapshot, decisions: list[Decision]) -> None:
        publisher = snapshot.state.publisher
        if self.telemetry.is_enabled_for(publisher.telemetry_setting):
            self.telemetry.record_validation(
                *telemetry_event(request, decisions, publisher, self.settings.non_production_hosts),
                setting=publisher.telemetry_setting,
                shared=publisher.telemetry_shared,
            )

    async def license_file(self, publisher_id: str, environment: Environment, days: int, *, actor: str) -> bytes:
        """What a validation of all that the customer holds would say, signed for an environment without a network.

        The audit keeps that it was made.

        Raises StorageUnavailable where the records cannot be read: a file that counts so long is made of fresh ones
        only. Raises RuleBroken where there is nothing to license.
        """
        snapshot = await self.environment_cache.get(publisher_id, environment.serial_number)
        if snapshot.stale:
            raise StorageUnavailable(
                "The records cannot be read right now. Try again in a moment.", retry_after_seconds=5
            )
        held = [
            product.name
            for product in snapshot.state.products.values()
            if product.active and (product.license_control_disabled or product.id in snapshot.licenses)
        ]
        if not held:
            raise RuleBroken("The customer holds no active product: there is nothing to put into a license file.")
        request = ValidationRequest.model_construct(
            publisher_id=publisher_id,
            serial_number=environment.serial_number,
            products=tuple(ProductQuery(productName=name) for name in sorted(held, key=fold)),
        )
        now = self.clock()
        decisions = decide_all(request, snapshot, now)
        kept = LicenseFile(
            id=str(uuid4()),
            created_at=now,
            updated_at=now,
            customer_id=environment.customer_id,
            environment_id=environment.id,
            serial_number=environment.serial_number,
            expires_at=now + timedelta(days=days),
        )
        payload = claims(
            request, snapshot, decisions, settings=self.settings, now=now, reply_id=kept.id, license_file=kept
        )
        token = self.signer.sign(payload, LICENSE_FILE_TYPE)
        await self.catalogue.create(publisher_id, kept, actor=actor)
        return token

    async def _with_licenses(self, decisions: list[Decision], snapshot: Snapshot, until: float) -> list[Decision]:
        """The decisions, with a perpetual license where license control is disabled and the customer has none."""
        completed = list(decisions)
        try:
            async with asyncio.timeout_at(until):
                for index, decision in enumerate(decisions):
                    product, environment = decision.product, snapshot.environment
                    if product and environment and _lacks_its_license(decision):
                        license_ = await self.catalogue.grant_perpetual(
                            snapshot.state.publisher.id, environment.customer_id, product.id, actor=_ACTOR
                        )
                        completed[index] = decision._replace(license=license_)
        except (LicensingError, TimeoutError) as error:
            # The customer is licensed all the same; the next validation tries again.
            _log.warning("A perpetual license could not be made: %s", type(error).__name__)
        return completed


def _lacks_its_license(decision: Decision) -> bool:
    product = decision.product
    return product is not None and product.license_control_disabled and decision.license is None


def decide_all(request: ValidationRequest, snapshot: Snapshot, now: datetime) -> list[Decision]:
    """One decision for each product asked for, in that order."""
    dates = Dates.at(now)
    products, held = snapshot.state.products, snapshot.licenses
    decisions = []
    for query in request.products:
        product = products.get(fold(query["productName"]))
        licenses = held.get(product.id, ()) if product else ()
        decisions.append(
            decide(
                product,
                snapshot.environment,
                licenses,
                dates=dates,
                enabled_users_count=query.get("enabledUsersCount"),
            )
        )
    return decisions
