"""One validation: look up, decide, reply, sign."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from licensing.catalogue.model import CustomerProduct, fold
from licensing.catalogue.service import Catalogue
from licensing.catalogue.snapshots import Snapshot, Snapshots
from licensing.errors import LicensingError
from licensing.settings import Settings
from licensing.signing.service import Signer
from licensing.validation.model import Dates, Decision, decide
from licensing.validation.rate import RateLimit
from licensing.validation.reply import REPLY_TYPE, claims
from licensing.validation.request import ValidationRequest

_log = logging.getLogger(__name__)
_ACTOR = "license control disabled"


@dataclass(frozen=True, slots=True)
class Reply:
    """A signed reply, and how long the store and the signature took."""

    token: bytes
    store_ms: float
    sign_ms: float


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Answers environments."""

    settings: Settings
    catalogue: Catalogue
    snapshots: Snapshots
    signer: Signer
    limit: RateLimit
    clock: Callable[[], datetime]

    async def validate(self, request: ValidationRequest) -> Reply:
        """The reply. Raises TooManyRequests, PublisherNotFound, and StorageUnavailable where nothing is kept."""
        self.limit.take((request.publisher_id, fold(request.serial_number)))
        started = time.perf_counter()
        snapshot = await self.snapshots.get(request.publisher_id, request.serial_number)
        now = self.clock()
        decisions = decide_all(request, snapshot, now)
        # One time limit for all of them: nobody is kept waiting for what the next validation can do.
        until = asyncio.get_running_loop().time() + self.settings.storage_wait_seconds
        decisions = [await self._with_license(decision, snapshot, until) for decision in decisions]
        looked_up = time.perf_counter()
        payload = claims(request, snapshot, decisions, settings=self.settings, now=now)
        signing = time.perf_counter()
        token = self.signer.sign(payload, REPLY_TYPE)
        return Reply(token, (looked_up - started) * 1e3, (time.perf_counter() - signing) * 1e3)

    async def _with_license(self, decision: Decision, snapshot: Snapshot, until: float) -> Decision:
        """The decision, with a perpetual license where license control is disabled and the customer has none."""
        product, environment = decision.product, snapshot.environment
        if product is None or environment is None or not product.license_control_disabled or decision.license:
            return decision
        if snapshot.stale:
            return decision
        try:
            async with asyncio.timeout_at(until):
                license_: CustomerProduct = await self.catalogue.grant_perpetual(
                    snapshot.state.publisher.id, environment.customer_id, product.id, actor=_ACTOR
                )
        except (LicensingError, TimeoutError) as error:
            # The customer is licensed all the same; the next validation tries again.
            _log.warning("The perpetual license could not be made: %s", type(error).__name__)
            return decision
        return replace(decision, license=license_)


def decide_all(request: ValidationRequest, snapshot: Snapshot, now: datetime) -> list[Decision]:
    """One decision for each product asked for, in that order."""
    dates = Dates.at(now)
    decisions = []
    for query in request.products:
        product = snapshot.state.products.get(fold(query.product_name))
        licenses = snapshot.licenses.get(product.id, ()) if product else ()
        decisions.append(
            decide(
                product,
                snapshot.environment,
                licenses,
                dates=dates,
                enabled_users_count=query.enabled_users_count,
            )
        )
    return decisions
