"""What is collected of a validation: exactly what customers were promised, and nothing else (docs/telemetry.md)."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from licensing.catalogue.model import Publisher
from licensing.telemetry.model import HOST_URL
from licensing.validation.model import Decision
from licensing.validation.request import ValidationRequest

_HOST_MEANT = re.compile(r"\W*(?:\w+:(?=[/\\]{2})|https?:)?[/\\]*(?:[^/?#]*@)?[^\w-]*([\w.-]*)")
"""What is a host to people: also without a scheme, and whatever stands round it."""
_TEST_HOSTS = (
    "*.sandbox.operations.*dynamics.com",
    "*.cloudax.dynamics.com",
    "*.axcloud.dynamics.com",
    "*.cloudax.int.dynamics.com",
    "localhost",
)
"""Where Microsoft runs sandboxes and development environments."""


def collected(
    request: ValidationRequest, decisions: Sequence[Decision], publisher: Publisher, test_hosts: tuple[str, ...]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was sent of all products, and of each that was asked for with what was answered. None was not sent."""
    of_all = {
        "serialNumber": request.serial_number,
        "hostUrl": scheme_and_host(request.host_url),
        "isProductionEnvironment": is_production(request.is_production_environment, request.host_url, test_hosts),
    }
    of_each = [
        {
            "productName": query["productName"],
            "modelName": query.get("modelName"),
            "modelVersion": query.get("modelVersion"),
            "isEnabled": query.get("isEnabled"),
            "isInstalled": query.get("isInstalled"),
            "status": decision.status,
            "action": decision.action,
            "enabledUsersCount": query.get("enabledUsersCount") if publisher.enabled_users_collected else None,
        }
        for query, decision in zip(request.products, decisions, strict=True)
    ]
    return of_all, of_each


def scheme_and_host(url: str | None) -> str | None:
    """Of an address no more than that: no user, port, path or query. None where it is no http address."""
    try:
        parts = urlsplit(url or "")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return None
    found = f"{parts.scheme}://{host}"
    # A name of letters and digits: what follows another character, as in `host;secret`, is not of the host.
    return found if HOST_URL.fullmatch(found) else None


def is_production(said: bool | None, url: str | None, test_hosts: tuple[str, ...]) -> bool | None:  # noqa: FBT001
    """Whether it is, as it said; never where its host is one for tests. None where it did not say."""
    meant = _HOST_MEANT.match((url or "").lower())
    return False if meant and _is_for_tests(meant[1].rstrip("."), test_hosts) else said


@lru_cache(4096)
def _is_for_tests(host: str, test_hosts: tuple[str, ...]) -> bool:
    return any(fnmatchcase(host, pattern) for pattern in (*_TEST_HOSTS, *test_hosts))
