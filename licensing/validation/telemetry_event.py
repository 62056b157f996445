"""What is collected of a validation: exactly what customers were promised, and nothing else (docs/telemetry.md)."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from licensing.catalogue.records import Publisher
from licensing.telemetry.model import HOST_URL
from licensing.validation.model import Decision
from licensing.validation.request import ValidationRequest

_HOST_MEANT = re.compile(
    r"\W*(?:\w+:(?=[/\\]{2})|https?:)?[/\\]*(?:[^/?#]*@)?"
    r"(?:[^\w:-]*(?P<ipv6>[0-9a-f]*(?::[0-9a-f]*){2,})|[^\w-]*(?P<name>[\w.-]*))"
)
"""What is a host to people: also without a scheme, and whatever stands round it."""
_NON_PRODUCTION_HOSTS = (
    # Sandboxes that Lifecycle Services deploys: contoso.sandbox.operations.eu.dynamics.com, in China
    # contoso.sandbox.operations.dynamics.cn, formerly contoso.sandbox.ax.dynamics.com. Geographies and their hosts:
    # https://learn.microsoft.com/dynamics365/fin-ops-core/dev-itpro/deployment/deployment-options-geo
    # Unified sandbox and developer environments have the form of production hosts, NAME.operations.dynamics.com, where
    # the customer chooses NAME: they are recognized only by a label of this table or by LICENSING_NON_PRODUCTION_HOSTS.
    # https://learn.microsoft.com/power-platform/admin/unified-experience/unified-environment-types-and-templates
    r"(.+\.)?sandbox\.(.+\.)?dynamics\.(com|cn)",
    # Cloud-hosted development, build and demo environments (contosodevaos.axcloud.dynamics.com):
    # https://learn.microsoft.com/dynamics365/fin-ops-core/dev-itpro/dev-tools/access-instances
    r".+\.(cloudax|axcloud)\..+",
    # The virtual machine for download, usnconeboxax1aos.cloud.onebox.dynamics.com: the same page.
    r"(.+\.)?onebox\.dynamics\.com",
    # Names of the machine itself (RFC 6761, section 6.3).
    r"(.+\.)?localhost",
    # Addresses: a host whose last label is a number is an IPv4 address (https://url.spec.whatwg.org/#host-parsing).
    r"(.+\.)?(\d+|0x[0-9a-f]*)",
)
"""Hosts of sandboxes and development environments, as regular expressions of the whole host in lower case."""
_NON_PRODUCTION = re.compile("|".join(_NON_PRODUCTION_HOSTS), re.ASCII)


def telemetry_event(
    request: ValidationRequest,
    decisions: Sequence[Decision],
    publisher: Publisher,
    non_production_hosts: tuple[str, ...],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was sent of all products, and of each that was asked for with what was answered. None was not sent."""
    of_all = {
        "serialNumber": request.serial_number,
        "hostUrl": scheme_and_host(request.host_url),
        "isProductionEnvironment": is_production(
            request.is_production_environment, request.host_url, non_production_hosts
        ),
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


def is_production(reported: bool | None, url: str | None, non_production_hosts: tuple[str, ...]) -> bool | None:  # noqa: FBT001
    """Whether it is, as it said; never where its host is one for tests. None where it did not say."""
    meant = _HOST_MEANT.match((url or "").lower())
    if meant and (meant["ipv6"] or _is_non_production(meant["name"].rstrip("."), non_production_hosts)):
        return False
    return reported


@lru_cache(4096)
def _is_non_production(host: str, non_production_hosts: tuple[str, ...]) -> bool:
    return _NON_PRODUCTION.fullmatch(host) is not None or any(
        fnmatchcase(host, pattern) for pattern in non_production_hosts
    )
