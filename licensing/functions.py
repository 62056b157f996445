"""The endpoints that belong to no feature."""

import json

from licensing.health import Health, Status, overall
from licensing.http.endpoints import Endpoints, raise_not_found
from licensing.http.permissions import ANONYMOUS
from licensing.http.request import Request
from licensing.http.response import Response

endpoints = Endpoints()


@endpoints.route("GET", "api/v1/health", ANONYMOUS)
async def get_health(request: Request) -> Response:
    """How the service is: 503 only where it can serve nobody, since a restart would lose what is kept in memory."""
    checks = await request.services.get(Health).checks()
    status = overall(checks)
    # No license depends on it, so it is told, and does not count.
    telemetry = Status.HEALTHY if request.services.telemetry.is_healthy() else Status.DEGRADED
    document = {"status": status, "checks": {**checks, "telemetry": telemetry}}
    return Response(json.dumps(document).encode(), "application/json", 503 if status is Status.UNHEALTHY else 200)


# Azure tries the routes that match a path in the order of their functions' names, so this one is last by its name.
@endpoints.catch_all
async def zz_not_found(request: Request) -> Response:
    """404 for a path that does not exist, 405 for a method that a path does not offer."""
    return raise_not_found(request.route_params.get("path", ""))
