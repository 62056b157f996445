"""The doors that belong to no feature."""

import json

import azure.functions as func

from licensing.health import Status, overall
from licensing.http import Answer, Request, refuse, route, route_the_rest
from licensing.permissions import ANYBODY

blueprint = func.Blueprint()


@route(blueprint, "GET", "api/v1/health", ANYBODY)
async def get_health(request: Request) -> Answer:
    """How the service is: 503 only where it can serve nobody, since a restart would lose what is kept in memory."""
    checks = await request.services.health.checks()
    status = overall(checks)
    # No license depends on it, so it is told, and does not count.
    telemetry = Status.HEALTHY if request.services.telemetry.is_well() else Status.DEGRADED
    document = {"status": status, "checks": {**checks, "telemetry": telemetry}}
    return Answer(json.dumps(document).encode(), "application/json", 503 if status is Status.UNHEALTHY else 200)


# Azure tries the routes that match a path in the order of their functions' names, so this one is last by its name.
@route_the_rest(blueprint)
async def zz_nothing_here(request: Request) -> Answer:
    """404 for a path that does not exist, 405 for a method that a path does not offer."""
    return refuse(request.route_params.get("path", ""))
