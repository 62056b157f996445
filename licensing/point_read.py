"""One row, read by its keys with a request of our own: a quarter of the processor time that the client library takes.

For the plain case only, which is what validations meet: whatever else there may be, the client library knows.
"""

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

type Authorize = Callable[[str, str], Awaitable[str]]
"""From the date of a request and the path of its address to its Authorization header."""


class NotPlain(Exception):
    """Neither a row nor the lack of it: ask again with the client library, which knows what to make of it."""


class PlainRow(dict[str, Any]):
    """A row of texts, whole numbers and flags: what JSON has as it is. `metadata`: as the client library has it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        """Take what the service answered. Raises LookupError where that is no row, NotPlain where it holds more."""
        self.metadata = {"etag": found["odata.etag"]}
        for name, value in found.items():
            if name.endswith("@odata.type") and not name.startswith("Timestamp"):
                raise NotPlain(value)
            if not name.startswith(("odata.", "Timestamp")):
                self[name] = value


class PointRead:
    """Reads rows of the table at this address, over the connections of the client library.

    https://learn.microsoft.com/rest/api/storageservices/query-entities
    """

    def __init__(self, table_url: str, transport: "AioHttpTransport", authorize: Authorize, **seconds: float) -> None:
        """`seconds`: `sock_connect` and `sock_read`, as aiohttp has them."""
        self._table_url = table_url
        self._transport = transport
        self._authorize = authorize
        self._seconds = seconds

    async def find(self, partition: str, row: str) -> "PlainRow | None":
        """The row, or None where there is no such row. Raises NotPlain."""
        from aiohttp import ClientError, ClientTimeout  # noqa: PLC0415 - see `tables.load_client`
        from azure.core.exceptions import AzureError  # noqa: PLC0415
        from yarl import URL  # noqa: PLC0415

        url = f"{self._table_url}(PartitionKey='{_quoted(partition)}',RowKey='{_quoted(row)}')"
        date = formatdate(usegmt=True)
        try:
            await self._transport.open()
            headers = {
                "Accept": "application/json;odata=minimalmetadata",
                "Authorization": await self._authorize(date, urlsplit(url).path),
                "x-ms-date": date,
                "x-ms-version": _VERSION,
            }
            async with self._transport.session.get(
                URL(url, encoded=True), headers=headers, allow_redirects=False, timeout=ClientTimeout(**self._seconds)
            ) as response:
                found = json.loads(await response.read())
            if response.status == HTTPStatus.OK:
                return PlainRow(found)
            if (response.status, found["odata.error"]["code"]) == (HTTPStatus.NOT_FOUND, "ResourceNotFound"):
                return None
        except (AzureError, ClientError, OSError, ValueError, LookupError, TypeError) as error:
            raise NotPlain from error
        raise NotPlain(response.status)


def by_key(account: str, key: str) -> Authorize:
    """By an account's key (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key)."""
    secret = base64.b64decode(key)

    async def authorize(date: str, path: str) -> str:
        signature = hmac.digest(secret, f"{date}\n/{account}{path}".encode(), hashlib.sha256)
        return f"SharedKeyLite {account}:{base64.b64encode(signature).decode()}"

    return authorize


def by_identity(credential: "AsyncTokenCredential") -> Authorize:
    """By a token of Entra ID, which is kept until it is about to expire."""
    header, until = "", 0.0

    async def authorize(_date: str, _path: str) -> str:
        nonlocal header, until
        if time.time() > until:
            token = await credential.get_token(_SCOPE)
            header, until = f"Bearer {token.token}", token.expires_on - _RENEW_SECONDS
        return header

    return authorize


def _quoted(key: str) -> str:
    return quote(key.replace("'", "''"), safe="", errors="surrogatepass")
