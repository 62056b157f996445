"""Where telemetry may go: Application Insights, over https, at addresses that Microsoft owns."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_SUFFIXES = (
    ".applicationinsights.azure.com",
    ".applicationinsights.azure.cn",
    ".applicationinsights.us",
    ".applicationinsights.azure.us",
    ".monitor.azure.com",
    ".monitor.azure.cn",
    ".monitor.azure.us",
    ".services.visualstudio.com",
)
"""Azure's clouds: https://learn.microsoft.com/azure/azure-monitor/app/sdk-connection-string."""
_DEFAULT_ENDPOINT = "https://dc.services.visualstudio.com"
_THIS_MACHINE = ("127.0.0.1", "localhost")
HOST_COLLECTS = ("APPLICATIONINSIGHTS_CONNECTION_STRING", "APPINSIGHTS_INSTRUMENTATIONKEY")
"""App settings with which the Functions host itself collects addresses of requests and callers."""


class Destination(NamedTuple):
    """One Application Insights resource."""

    key: str
    """Its instrumentation key: an address rather than a secret, but nobody else's business."""
    endpoint: str
    """scheme://host[:port] of its ingestion, without a slash at the end."""
    connection_string: str

    @property
    def audience(self) -> str:
        """For whom an access token is, in that one of Azure's clouds."""
        cloud = self.endpoint.rpartition(".")[2]
        return f"https://monitor.azure.{cloud if cloud in ('cn', 'us') else 'com'}"


def parse_destination(connection_string: str, *, local: bool = False) -> Destination:
    """The destination of a connection string. `local`: one on this machine will do too.

    Raises ValueError with a reason in words of ours, which repeat nothing of it.
    """
    pairs = (part.partition("=") for part in connection_string.split(";") if part.strip())
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    try:
        key = str(UUID(parts.get("instrumentationkey", "")))
        url = urlsplit(parts.get("ingestionendpoint", _DEFAULT_ENDPOINT))
        host, port = (url.hostname or "").rstrip("."), url.port
    except ValueError:
        raise ValueError(
            "a connection string of Application Insights is needed, as InstrumentationKey=<GUID>;IngestionEndpoint=https://..."
        ) from None
    on_this_machine = local and url.scheme == "http" and host in _THIS_MACHINE
    # Not whatever ends so: a program that splits it at another character would call somebody else.
    of_azure = url.scheme == "https" and _NAME.fullmatch(host) and host.endswith(_SUFFIXES) and port in (None, 443)
    if not (on_this_machine or of_azure) or url.username or url.password:
        raise ValueError(
            "an https address of Application Insights is needed, as <region>.in.applicationinsights.azure.com"
        )
    endpoint = f"{url.scheme}://{host}{f':{port}' if port else ''}"
    # Made anew: an exporter must not find more in it than was looked at here.
    found = Destination(key, endpoint, f"InstrumentationKey={key};IngestionEndpoint={endpoint}/")
    return found._replace(connection_string=f"{found.connection_string};AADAudience={found.audience}")
