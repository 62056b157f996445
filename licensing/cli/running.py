"""How a command uses the services: in an event loop of its own, for as long as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from licensing.services import Services
from licensing.settings import Settings

_PATIENCE_SECONDS = 30
"""Azure takes no longer for one request to a table. A command can wait that long; an environment cannot."""


def with_services[T](environ: Mapping[str, str], use: Callable[[Services], Awaitable[T]]) -> T:
    """What `use` returns; the services are those of these settings, and are closed after it."""

    async def run() -> T:
        services = Services(Settings.read(environ), timeout_seconds=_PATIENCE_SECONDS)
        try:
            return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())
