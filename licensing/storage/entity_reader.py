"""One row, read by its keys with a request of our own: a quarter of the processor time that the client library takes.

For the plain case only, which is what validations meet: whatever else there may be, the client library knows.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AioHttpTransport

_VERSION = "2019-02-02"
_SCOPE = "https://storage.azure.com/.default"
_RENEW_SECONDS = 300
_TIMESTAMP = ("Timestamp", "Timestamp@odata.type")

type Authorize = Callable[[str, str], Awaitable[str]]
"""From the date of a request and the path of its address to its Authorization header."""


class FallbackRequired(Exception):
    """Neither a row nor the lack of it: ask again with the client library, which knows what to make of it.

    `status`: what was answered; None where nothing was, or nothing that could be read.
    """

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status


class Entity(dict[str, Any]):
    """A row of texts, whole numbers and flags: what JSON has as it is. `metadata`: as the client library has it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        """Take what the service answered. Raises FallbackRequired where that is no row, or holds more."""
        etag = found["odata.etag"]
        if not isinstance(etag, str):
            raise FallbackRequired
        self.metadata = {"etag": etag}
        for name, value in found.items():
            if name in _TIMESTAMP or name.startswith("odata."):
                continue
            if name.endswith("@odata.type"):
                raise FallbackRequired
            self[name] = value


class EntityReader:
    """Reads rows of the table at this address, over the connections of the client library.

    https://learn.microsoft.com/rest/api/storageservices/query-entities
    """

    def __init__(self, table_url: str, transport: "AioHttpTransport", authorize: Authorize, **seconds: float) -> None:
        """`seconds`: `sock_connect` and `sock_read`, as aiohttp has them."""
        self._table_url = table_url
        self._transport = transport
        self._authorize = authorize
        self._seconds = seconds

    async def find(self, partition: str, row: str) -> Entity | None:
        """The row, or None where there is no such row. Raises FallbackRequired."""
        from aiohttp import ClientError, ClientTimeout  # noqa: PLC0415 - see `table.load_client`
        from azure.core.exceptions import AzureError  # noqa: PLC0415
        from yarl import URL  # noqa: PLC0415

        url = f"{self._table_url}(PartitionKey='{_quoted(partition)}',RowKey='{_quoted(row)}')"
        date, status = formatdate(usegmt=True), None
        try:
            headers = {
                "Accept": "application/json;odata=minimalmetadata",
                "Accept-Encoding": "identity",
                "Authorization": await self._authorize(date, urlsplit(url).path),
                "DataServiceVersion": "3.0",
                "x-ms-date": date,
                "x-ms-version": _VERSION,
            }
            await self._transport.open()
            async with self._transport.session.get(
                URL(url, encoded=True), headers=headers, allow_redirects=False, timeout=ClientTimeout(**self._seconds)
            ) as response:
                status = response.status
                found = json.loads(await response.read())
            if status == HTTPStatus.OK:
                return Entity(found)
            if (status, found["odata.error"]["code"]) == (HTTPStatus.NOT_FOUND, "ResourceNotFound"):
                return None
        # The last four: something in between answered with a page of its own, or the table was just closed.
        except (AzureError, ClientError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise FallbackRequired(status) from error
        raise FallbackRequired(status)


def by_key(account: str, key: str) -> Authorize:
    """By an account's key (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key)."""
    secret = base64.b64decode(key)

    async def authorize(date: str, path: str) -> str:
        signature = hmac.digest(secret, f"{date}\n/{account}{path}".encode(), hashlib.sha256)
        return f"SharedKeyLite {account}:{base64.b64encode(signature).decode()}"

    return authorize


def by_identity(credential: "AsyncTokenCredential") -> Authorize:
    """By a token of Entra ID, which is asked for once and kept until it is about to expire."""
    header, until, asking = "", 0.0, asyncio.Lock()

    async def authorize(_date: str, _path: str) -> str:
        nonlocal header, until
        if time.time() > until:
            async with asking:
                if time.time() > until:
                    token = await credential.get_token(_SCOPE)
                    header, until = f"Bearer {token.token}", token.expires_on - _RENEW_SECONDS
        return header

    return authorize


def _quoted(key: str) -> str:
    return quote(key.replace("'", "''"), safe="", errors="surrogatepass")
