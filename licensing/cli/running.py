"""How a command uses the services: in an event loop of its own, for as long as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from licensing.services import Services
from licensing.settings import Settings


def with_services[T](environ: Mapping[str, str], use: Callable[[Services], Awaitable[T]]) -> T:
    """What `use` returns; the services are those of these settings, and are closed after it."""

    async def run() -> T:
        services = Services(Settings.read(environ))
        try:
            return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())
