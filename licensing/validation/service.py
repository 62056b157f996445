"""The use cases of validation: validate, and issue a license file."""

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
    """Validates licenses, and issues license files."""

    settings: Settings
    catalogue: Catalogue
    environments: EnvironmentCache
    signer: Signer
    limit: RateLimit
    telemetry: Telemetry
    clock: Callable[[], datetime]

    async def validate(self, request: ValidationRequest, reply_id: str) -> Reply:
        """Return the signed reply to an environment. The steps are those of docs/architecture.md, One validation.

        Raises:
            TooManyRequests: This environment validates too often.
            PublisherNotFound: No such publisher.
            StorageUnavailable: Storage does not answer, and the environment is not in memory.

        """
        serial_number = fold(request.serial_number)
        # 1. Limit the rate of this environment.
        self.limit.take((request.publisher_id, serial_number))
        # 2. Look up the environment: as it is now, or as it was last known.
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + 2 * self.settings.storage_timeout_seconds
        snapshot = await self.environments.get(request.publisher_id, serial_number)
        # 3. Decide each product.
        now = self.clock()
        decisions = decide_all(request, snapshot, now)
        # 4. Store the perpetual licenses that are missing. This is the one step that writes.
        if not snapshot.stale and any(map(_lacks_perpetual_license, decisions)):
            decisions = await self._ensure_perpetual_licenses(decisions, snapshot, deadline)
        looked_up = time.perf_counter()
        # 5. Write the claims.
        payload = claims(request, snapshot, decisions, settings=self.settings, now=now, reply_id=reply_id)
        # 6. Sign them, together with the other replies that are ready.
        signing = time.perf_counter()
        token = await self.signer.sign_together(payload, REPLY_TYPE)
        sign_ms = (time.perf_counter() - signing) * 1e3
        # 7. Record the events that the publisher collects.
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
        snapshot = await self.environments.get(publisher_id, environment.serial_number)
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

    async def _ensure_perpetual_licenses(
        self, decisions: list[Decision], snapshot: Snapshot, deadline: float
    ) -> list[Decision]:
        """Create a perpetual license where license control is disabled and the customer has no license.

        Writes to storage, on behalf of an anonymous caller: at most one license for each product of each customer,
        since it is created only while there is none. Returns the decisions with these licenses.
        """
        completed = list(decisions)
        try:
            async with asyncio.timeout_at(deadline):
                for index, decision in enumerate(decisions):
                    product, environment = decision.product, snapshot.environment
                    if product and environment and _lacks_perpetual_license(decision):
                        license_ = await self.catalogue.grant_perpetual(
                            snapshot.state.publisher.id, environment.customer_id, product.id, actor=_ACTOR
                        )
                        completed[index] = decision._replace(license=license_)
        except (LicensingError, TimeoutError) as error:
            # The customer is licensed without it. The next validation tries again.
            _log.warning("A perpetual license could not be created: %s", type(error).__name__)
        return completed


def _lacks_perpetual_license(decision: Decision) -> bool:
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
