"""A local OpenID issuer, so that sign-in is real without Entra ID: discovery and keys over HTTP, on loopback only."""

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from devhost.app import Receive, Scope, Send
from devhost.pages import App, listen_again, quiet_server, serving
from devhost.server import LOOPBACK
from licensing.cli.local_issuer import Issuer
from licensing.signing.keys import KeySet
from licensing.signing.store import FILE_NAME, read_folder, write_folder

__all__ = ["Issuer", "issuing"]

_NOTICE = "A LOCAL issuer: whoever has its key can be anybody. Trust it on this machine only."
_DISCOVERY = re.compile("/([^/]+)/v2.0/.well-known/openid-configuration")
_KEYS = re.compile("/[^/]+/discovery/v2.0/keys")


@contextlib.contextmanager
def issuing(folder: Path) -> Iterator[Issuer]:
    """An issuer that answers at its url until the block ends. Its keys and its port are kept in the folder."""
    if not (folder / FILE_NAME).exists():
        write_folder(folder, KeySet().created(datetime.now(UTC)))
    with listen_again(folder / "port") as listener:
        issuer = Issuer(folder, f"http://{LOOPBACK}:{listener.getsockname()[1]}")
        server = quiet_server(app(folder, issuer.url))
        with serving(server, lambda: server.run(sockets=[listener])):
            yield issuer


def app(folder: Path, url: str) -> App:
    """The issuer's answers, for any directory: its discovery document, and the keys that lie in the folder now."""

    @lru_cache(maxsize=1)
    def read(_written: bytes) -> KeySet:
        return read_folder(folder)

    read((folder / FILE_NAME).read_bytes())

    def answer(path: str) -> Any:
        if match := _DISCOVERY.fullmatch(path):
            directory = f"{url}/{match[1]}"
            return {
                "issuer": f"{directory}/v2.0",
                "jwks_uri": f"{directory}/discovery/v2.0/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
                "notice": _NOTICE,
            }
        if _KEYS.fullmatch(path):
            # To check the keys takes 200 ms of this thread, while others wait: once for each content of the file.
            keys = read((folder / FILE_NAME).read_bytes())
            return {"keys": [key.public_jwk for key in keys.published(datetime.now(UTC))]}
        return None

    async def respond(scope: Scope, _: Receive, send: Send) -> None:
        document = answer(scope["path"])
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200 if document else 404, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(document or {"notice": _NOTICE}).encode()})

    return respond
