"""The door of a validation."""

import azure.functions as func

from licensing.http import Answer, Request, route
from licensing.permissions import ANYBODY
from licensing.validation.request import MAX_BODY_BYTES, ValidationRequest

blueprint = func.Blueprint()


@route(blueprint, "POST", "api/v1/licenses/validate", ANYBODY, max_body_bytes=MAX_BODY_BYTES)
async def validate(request: Request) -> Answer:
    """A signed reply: which of these products is this environment licensed for?"""
    validation = ValidationRequest.parse(request.json())
    reply = await request.services.validator.validate(validation)
    timing = f"store;dur={reply.store_ms:.1f}, sign;dur={reply.sign_ms:.1f}"
    return Answer(reply.token, "application/jose", headers={"Server-Timing": timing})
