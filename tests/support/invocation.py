"""A function of the app called as Microsoft's worker calls it, without the worker."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import azure.functions as func


async def invoke(function: Any, request: func.HttpRequest, invocation_id: str = "") -> func.HttpResponse:
    """What a function as the app has it registered answers, each time in an invocation of its own."""
    context = SimpleNamespace(invocation_id=invocation_id or str(uuid4()))
    response = await function.get_user_function()(request, context)
    assert isinstance(response, func.HttpResponse)
    return func.HttpResponse(
        response.get_body(), status_code=response.status_code, headers={**response.headers}
    )  # whose headers are found in whatever case
