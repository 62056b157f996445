"""Requests and storage as spans, in a process of its own: OpenTelemetry is set up once a process, for good.

Called with a connection string, and with how many a second are traced. Prints how many were dropped, and why.
"""

import json
import sys
from uuid import uuid4

from licensing.telemetry import tracing
from licensing.telemetry.destinations import parse_destination
from licensing.telemetry.model import OPERATIONS, AllowlistFilter

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def main(connection_string: str, traces_per_second: str) -> None:
    tracing._EXPORT_SECONDS = 300  # a slow machine is no endpoint that hangs
    OPERATIONS.update(("validate", "list_keys", "get_health"))
    allowlist = AllowlistFilter()
    made = tracing.Tracing(
        allowlist=allowlist,
        instance=str(uuid4()),
        destination=parse_destination(connection_string, local=True),
        credential=None,
        traces_per_second=float(traces_per_second),
        console=False,
    )
    sampled = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "tracestate": "planted=PLANTED",
        "baggage": "serial=PLANTED",
        "user-agent": "PLANTED",
        "x-forwarded-for": "PLANTED",
    }
    for name, status, headers in (
        ("validate", 200, sampled),
        ("list_keys", 404, {"traceparent": f"00-{'a' * 32}-{PARENT}-00"}),
        ("get_health", 500, {"traceparent": "PLANTED"}),
    ):
        with made.request(name, "POST", headers) as answered:
            with made.dependency("storage.read"):
                pass
            answered(status)
    try:
        with made.dependency("storage.write"):
            raise ValueError("PLANTED")
    except ValueError:
        pass
    made.close(300)
    json.dump(+allowlist.dropped, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
