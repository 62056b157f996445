"""The doors through which licenses are validated: by an environment itself, and for one without a network."""

import azure.functions as func

from licensing.access.model import check_access
from licensing.catalogue.model import Environment
from licensing.errors import NotFound
from licensing.fields import parse
from licensing.http import Answer, Operation, Request, route
from licensing.permissions import ANYBODY, Privilege, View, may
from licensing.validation.license_file import LicenseFileRequest
from licensing.validation.request import MAX_BODY_BYTES, ValidationRequest

blueprint = func.Blueprint()


@route(blueprint, "POST", "api/v1/licenses/validate", ANYBODY, max_body_bytes=MAX_BODY_BYTES)
async def validate(request: Request) -> Answer:
    """A signed reply: which of these products is this environment licensed for?"""
    validation = ValidationRequest.parse(request.json())
    reply = await request.services.validator.validate(validation, request.id)
    timing = f"store;dur={reply.store_ms:.1f}, sign;dur={reply.sign_ms:.1f}"
    told = {
        "stale": reply.stale,
        "products": len(validation.products),
        "storeMs": reply.store_ms,
        "signMs": reply.sign_ms,
    }
    return Answer(reply.token, "application/jose", headers={"Server-Timing": timing}, told=told)


@route(
    blueprint,
    "POST",
    "api/v1/publishers/{publisherId}/customers/{customerId}/environments/{environmentId}/license-file",
    may(View.ENVIRONMENTS, Privilege.UPDATE),
    Operation(
        summary="Create a license file", takes=LicenseFileRequest, produces=("application/jose",), refuses=(404, 422)
    ),
)
async def create_license_file(request: Request) -> Answer:
    """A signed file for an environment in a closed network: what a validation of all its products says today."""
    # It tells what a list of the customer's products would.
    check_access(request.caller, may(View.CUSTOMER_PRODUCTS, Privilege.READ))
    asked = parse(LicenseFileRequest, request.json())
    environment = await request.services.store.find(
        request.publisher_id,
        Environment,
        request.route_params["environmentId"],
        request.route_params["customerId"],
    )
    if environment is None:
        raise NotFound("There is no such environment; it may have been deleted.")
    token = await request.services.validator.license_file(
        request.publisher_id, environment, asked["days"], actor=request.caller.actor
    )
    return Answer(token, "application/jose")
