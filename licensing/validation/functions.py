"""The validation endpoint, and the endpoint of license files for closed networks."""

from licensing.catalogue.records import Environment
from licensing.catalogue.store import CatalogueStore
from licensing.errors import NotFound
from licensing.fields import parse
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.permissions import ANONYMOUS, Privilege, View, check_access, requires
from licensing.http.request import Request
from licensing.http.response import Response
from licensing.validation.license_file import LicenseFileRequest
from licensing.validation.request import MAX_BODY_BYTES, ValidationRequest
from licensing.validation.service import Validator

endpoints = Endpoints()


@endpoints.route("POST", "api/v1/licenses/validate", ANONYMOUS, max_body_bytes=MAX_BODY_BYTES)
async def validate(request: Request) -> Response:
    """A signed reply: which of these products is this environment licensed for?"""
    validation = ValidationRequest.parse(request.json())
    reply = await request.services.get(Validator).validate(validation, request.id)
    timing = f"store;dur={reply.store_ms:.1f}, sign;dur={reply.sign_ms:.1f}"
    event_fields = {
        "stale": reply.stale,
        "products": len(validation.products),
        "storeMs": reply.store_ms,
        "signMs": reply.sign_ms,
    }
    return Response(reply.token, "application/jose", headers={"Server-Timing": timing}, event_fields=event_fields)


@endpoints.route(
    "POST",
    "api/v1/publishers/{publisherId}/customers/{customerId}/environments/{environmentId}/license-file",
    requires(View.ENVIRONMENTS, Privilege.UPDATE),
    OperationSpec(
        summary="Create a license file",
        request_model=LicenseFileRequest,
        produces=("application/jose",),
        error_statuses=(404, 422),
    ),
)
async def create_license_file(request: Request) -> Response:
    """A signed file for an environment in a closed network: what a validation of all its products says today."""
    # It tells what a list of the customer's products would.
    check_access(request.caller, requires(View.CUSTOMER_PRODUCTS, Privilege.READ))
    asked = parse(LicenseFileRequest, request.json())
    environment = await request.services.get(CatalogueStore).find(
        request.publisher_id,
        Environment,
        request.route_params["environmentId"],
        request.route_params["customerId"],
    )
    if environment is None:
        raise NotFound("There is no such environment; it may have been deleted.")
    token = await request.services.get(Validator).license_file(
        request.publisher_id, environment, asked["days"], actor=request.caller.actor
    )
    return Response(token, "application/jose")
