"""A stand-in for Entra ID on this machine: access tokens for a local service, signed with a key beside its data.

Whoever can read that key is whoever they like to be, so no service that others reach may trust it.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4, uuid5

from licensing.errors import ConfigurationError
from licensing.signing.jws import sign
from licensing.signing.store import read_folder

FOLDER_SETTING = "DEVHOST_ISSUER_FOLDER"
"""Where `make run` says in settings.env that the key lies. No setting of the service: it never sees that key."""
DEMO_DIRECTORY_ID = "4f71a420-7762-4500-95a5-2334f3a4ecb8"
DEMO_API_CLIENT_ID = "3b4b310c-ec12-4b51-882b-deb91c9a89b2"
DEMO_CLIENT_ID = "37c15851-ce0f-4ebd-bec2-cde57bf54d26"
"""The program through which people ask."""


class Issuer:
    """Makes the tokens of the local issuer that answers at this url, with the key in the folder.

    Raises ConfigurationError where the url is not on this machine, or the folder holds no key.
    """

    def __init__(self, folder: Path, url: str) -> None:
        if not is_local(url):
            raise ConfigurationError(f"{url} is not on this machine: a local issuer is nowhere else.")
        self.url = url
        self._key = read_folder(folder).current

    def token(  # noqa: PLR0913 - what a token says
        self,
        *,
        email: str = "",
        name: str = "",
        roles: Iterable[str] = (),
        directory_id: str = DEMO_DIRECTORY_ID,
        application_id: str | None = None,
        lifetime_seconds: int = 3600,
        **claims: Any,
    ) -> str:
        """An access token as Entra ID v2.0 makes them: a person's, or that of an application where one is named.

        `claims` are added, or take the place of those that it would have.
        """
        now = int(time.time())
        object_id = str(uuid5(UUID(directory_id), application_id or email.lower()))
        common = {
            "iss": f"{self.url}/{directory_id}/v2.0",
            "aud": DEMO_API_CLIENT_ID,
            "ver": "2.0",
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_seconds,
            "tid": directory_id,
            "oid": object_id,
            "sub": object_id,
            "uti": str(uuid4()),
            "azp": application_id or DEMO_CLIENT_ID,
        }
        person = {"name": name, "preferred_username": email, "scp": "access_as_user"}
        application = {"idtyp": "app", "azpacr": "1"}
        given_out = {"roles": list(roles)} if roles else {}
        content = common | (application if application_id else person) | given_out | claims
        return sign(self._key, json.dumps(content).encode(), "JWT").decode("ascii")


def is_local(url: str) -> bool:
    """Whether the address is one of this machine, that nothing else can reach."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost")
