"""Is the service well? One small read of storage a second, while many ask."""

from collections.abc import Callable
from enum import StrEnum

from licensing.errors import ConfigurationError, LicensingError
from licensing.signing.service import Signer
from licensing.storage.coalesced_read import CoalescedRead
from licensing.storage.table import Table

_MIN_INTERVAL_SECONDS = 1.0


class Status(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Storage does not answer: environments that are kept in memory get their replies, others must wait."""
    UNHEALTHY = "unhealthy"


class Health:
    """What of the service works. `signer` and `table` give the parts, and may raise."""

    def __init__(self, signer: Callable[[], Signer], table: Callable[[], Table], *, wait_seconds: float) -> None:
        self._signer = signer
        self._table = table
        self._storage = CoalescedRead(
            self._read_storage, min_interval_seconds=_MIN_INTERVAL_SECONDS, timeout_seconds=wait_seconds
        )

    async def checks(self) -> dict[str, Status]:
        """The parts of the service by name, and how each is."""
        return {"storage": await self._check_storage(), "signing": self._check_signing()}

    async def _check_storage(self) -> Status:
        try:
            await self._storage.get()
        except ConfigurationError:
            return Status.UNHEALTHY
        except (LicensingError, TimeoutError):
            return Status.DEGRADED
        return Status.HEALTHY

    async def _read_storage(self) -> None:
        await self._table().find("health", "health")

    def _check_signing(self) -> Status:
        try:
            self._signer()
        except LicensingError:
            return Status.UNHEALTHY
        return Status.HEALTHY


def overall(checks: dict[str, Status]) -> Status:
    """The worst of them."""
    return max(checks.values(), key=list(Status).index)
