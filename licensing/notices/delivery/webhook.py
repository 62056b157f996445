"""POST to an address that somebody gave: over https to the public internet, never to what lies behind this service."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from licensing.notices.delivery.outbox import DeliveryFailed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from aiohttp.abc import AbstractResolver
    from yarl import URL

type Address = IPv4Address | IPv6Address
type Resolve = Callable[[str], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError."""

_TIMEOUT_SECONDS = 5.0
_BUFFER_BYTES = 32 * 1024
"""aiohttp reads twice this ahead of who wants it. We want nothing of an answer but its head."""
_MAX_HEADERS = 64
_RESOLVERS = ThreadPoolExecutor(4, "webhook-names")
"""Threads of their own: where a name server does not answer, they hang, and nobody else's wait for them."""
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NOT_GLOBAL = (
    IPv4Network("168.63.129.16/32"),  # Azure's own platform, as each machine there sees it
    IPv4Network("192.88.99.0/24"),  # relays into 6to4
    IPv6Network("2002::/16"),  # 6to4: it holds an IPv4 address
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)


def is_global(address: Address) -> bool:
    """Whether the address is one on the public internet, and holds no other in itself."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return False  # so much for those that IPv4 is mapped or translated to
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_GLOBAL)


async def resolve(host: str) -> list[str]:
    """What this machine takes for the addresses of the host."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_RESOLVERS, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, kw_only=True)
class WebhookPost:
    """POSTs. Everything that it lets through by default is for all; the arguments are there for tests."""

    resolve: Resolve = resolve
    is_allowed: Callable[[Address], bool] = is_global
    port: int = 443
    trusted: "ssl.SSLContext | bool" = True
    """Whose certificates count; True: those whom this machine trusts."""
    timeout_seconds: float = _TIMEOUT_SECONDS

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """POST the JSON. Raises DeliveryFailed, which never contains the URL: the URL is a secret."""
        import aiohttp  # noqa: PLC0415 - takes long, and a validation does without it

        try:
            async with asyncio.timeout(self.timeout_seconds):
                parsed = self._parsed(url)
                status = await self._status(parsed, await self._addresses(parsed), body, headers)
        except TimeoutError:
            raise DeliveryFailed("timedOut") from None
        except aiohttp.ClientSSLError:
            raise DeliveryFailed("certificateNotTrusted") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise DeliveryFailed("notReached") from None
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise DeliveryFailed(f"answered{status}", refused_for_good=status in _GONE)

    def _parsed(self, url: str) -> "URL":
        from yarl import URL  # noqa: PLC0415 - as above

        try:
            parsed = URL(url)
        except ValueError:
            raise DeliveryFailed("notAWebhook", refused_for_good=True) from None
        names_somebody = parsed.user is not None or parsed.password is not None
        if parsed.scheme != "https" or not parsed.raw_host or parsed.port != self.port or names_somebody:
            raise DeliveryFailed("notAWebhook", refused_for_good=True)
        return parsed

    async def _addresses(self, url: "URL") -> list[str]:
        """Where the host is: connected to is one of these, whatever its name leads to a moment later."""
        found = await self.resolve(url.raw_host or "")
        if not found or not all(self.is_allowed(ip_address(each)) for each in found):
            raise DeliveryFailed("addressNotAllowed")
        return found

    async def _status(self, url: "URL", addresses: "Sequence[str]", body: bytes, headers: Mapping[str, str]) -> int:
        import aiohttp  # noqa: PLC0415 - as above

        connector = aiohttp.TCPConnector(resolver=_pinned(addresses), ssl=self.trusted, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                max_headers=_MAX_HEADERS,
                trust_env=False,  # no proxy: it would resolve the name anew
            ) as session,
            session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", "User-Agent": "License-Manager", **headers},
                allow_redirects=False,
            ) as response,
        ):
            return response.status


def _pinned(addresses: "Sequence[str]") -> "AbstractResolver":
    """Resolves every name to these addresses."""
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415 - as above

    class Pinned(AbstractResolver):
        async def resolve(
            self,
            host: str,
            port: int = 0,
            family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - each address has its own
        ) -> list[ResolveResult]:
            return [_result(host, port, address) for address in addresses]

        async def close(self) -> None:
            pass

    def _result(host: str, port: int, address: str) -> ResolveResult:
        family = socket.AF_INET6 if isinstance(ip_address(address), IPv6Address) else socket.AF_INET
        return ResolveResult(
            hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
        )

    return Pinned()
