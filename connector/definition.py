"""The connector's definition (OpenAPI 2.0 with Microsoft's extensions), from the endpoints that have an operation."""

import importlib
import re
import tomllib
from http import HTTPStatus
from pathlib import Path
from typing import Any

from connector.schemas import Definitions, Schema, first_sentence, title_case, told, typed, words
from licensing.access.tokens import SCOPE
from licensing.errors import LicensingError
from licensing.fields import described
from licensing.http.endpoints import ROUTES, OperationSpec, Route
from licensing.http.paging import CURSOR, LIMIT
from licensing.http.permissions import Access, CallerKind
from licensing.http.request import Parameter

_REPOSITORY = Path(__file__).resolve().parent.parent
HOST = "licenses.example.com"
"""Stands for the host of the service: README.md says who puts the real one there."""
_AUTHORITY = "https://login.microsoftonline.com/common/oauth2/v2.0"
_PROBLEM = "application/problem+json"
_ALWAYS = {400, 401, 403, 404, 413, 500, 503}
"""The statuses that every endpoint may return."""
_NO_GUIDS = {"deliveryId"}
_METHODS = ("get", "post", "patch", "delete")
_PATCHED = "What to change, and nothing else. An empty text clears a text, a date or a number."


def _text(summary: str, description: str) -> Schema:
    return {"type": "string", **told(summary, description)}


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "type": "string",
    "maxLength": 128,
    **told("Idempotency Key", "Who sends the same key again within a day makes nothing anew: the first answer comes."),
    "x-ms-visibility": "advanced",
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "type": "string",
    **told("If Match", "The ETag of the record as it was read: nothing is done where it has changed since."),
    "x-ms-visibility": "advanced",
}

_PROBLEMS: Schema = {
    "Problem": {
        "type": "object",
        "description": "Why a request was refused (RFC 9457).",
        "properties": {
            "type": _text("Type", "Names the problem, as its code does."),
            "title": _text("Title", "What is wrong, in general."),
            "status": {"type": "integer", "format": "int32"} | told("Status", "The status of the answer."),
            "code": _text("Code", "Tells problems apart for programs; it never changes its meaning."),
            "detail": _text("Detail", "What is wrong here, and what to do about it."),
            "errors": {"type": "array", "items": {"$ref": "#/definitions/FieldError"}}
            | told("Errors", "The fields that are at fault."),
            "requestId": _text("Request ID", "What support asks for."),
        },
        "required": ["type", "title", "status", "code", "requestId"],
    },
    "FieldError": {
        "type": "object",
        "description": "One field at fault.",
        "properties": {
            "field": _text("Field", "The field, as it was sent."),
            "code": _text("Code", "Tells faults apart for programs."),
            "message": _text("Message", "What is wrong with it, for a person."),
        },
        "required": ["field", "code", "message"],
    },
}


def document() -> Schema:
    """The whole definition."""
    return _Writer(_routes()).document()


def operation_id(route: Route) -> str:
    """`create_customer_product` -> `CreateCustomerProduct`."""
    return "".join(word.capitalize() for word in route.name.split("_"))


def _routes() -> list[Route]:
    """The endpoints that the connector shows, by path and method."""
    # As function_app.py does, which would also ask for signing keys.
    for path in sorted(_REPOSITORY.glob("licensing/**/*functions.py")):
        importlib.import_module(".".join(path.relative_to(_REPOSITORY).with_suffix("").parts))
    shown = [route for route in ROUTES if route.operation is not None]
    return sorted(shown, key=lambda route: (route.template, _METHODS.index(_method(route))))


def _method(route: Route) -> str:
    return route.methods[0].lower()


def _operation(route: Route) -> OperationSpec:
    if route.operation is None:
        raise AssertionError(f"{route.name} has no operation")
    return route.operation


def _path_parameters(template: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", template)


class _Writer:
    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        templates = {route.template for route in routes}
        lists = {route.template: route for route in routes if _operation(route).is_list}
        self._lists = {
            template.rpartition("{")[2].rstrip("}"): lists[template.rpartition("/")[0]]
            for template in templates
            if template.endswith("}") and template.rpartition("/")[0] in lists
        }
        """By the name of the parameter that holds an id: the list of what may be chosen for it."""
        self._definitions = Definitions(self._choices)

    def document(self) -> Schema:
        paths: dict[str, Schema] = {}
        for route in self._routes:
            paths.setdefault(f"/{route.template}", {})[_method(route)] = self._written(route)
        project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        return {
            "swagger": "2.0",
            "info": {
                "title": "License Manager",
                "description": "Products, customers, their licenses and environments, and who may keep them.",
                "version": project["version"],
            },
            "host": HOST,
            "basePath": "/",
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json", _PROBLEM],
            "paths": paths,
            "definitions": dict(sorted(self._definitions.all.items())) | _PROBLEMS,
            "securityDefinitions": {
                "oauth2": {
                    "type": "oauth2",
                    "flow": "accessCode",
                    "authorizationUrl": f"{_AUTHORITY}/authorize",
                    "tokenUrl": f"{_AUTHORITY}/token",
                    "scopes": {SCOPE: "Work with the license manager as yourself"},
                }
            },
            "security": [{"oauth2": [SCOPE]}],
        }

    def _written(self, route: Route) -> Schema:
        operation = _operation(route)
        written = {
            "operationId": operation_id(route),
            "summary": operation.summary,
            "description": f"{' '.join(route.doc.split()) or self._described(operation)} {_allowed(route.access)}",
            "parameters": [*self._parameters(route)],
            "responses": {str(status): answer for status, answer in sorted(self._answers(operation).items())},
        }
        if operation.produces != ("application/json",):
            written["produces"] = [*operation.produces, _PROBLEM]
        if operation.is_list:
            written["x-ms-pageable"] = {"nextLinkName": "nextLink"}
        return written

    def _described(self, operation: OperationSpec) -> str:
        kind = operation.response_model or operation.request_model
        return f"{operation.summary}." + (f" {first_sentence(kind)}" if kind else "")

    def _parameters(self, route: Route) -> list[Schema]:
        operation = _operation(route)
        parameters = [self._in_path(name) for name in _path_parameters(route.template)]
        parameters += [self._in_query(each) for each in operation.query]
        if HTTPStatus.PRECONDITION_FAILED in operation.error_statuses:
            parameters.append(_IF_MATCH)
        if operation.status == HTTPStatus.CREATED:
            parameters.append(_IDEMPOTENCY_KEY)
        if operation.request_model:
            parameters.append(
                {
                    "name": "body",
                    "in": "body",
                    "required": True,
                    "schema": self._definitions.taken(operation.request_model, partial=operation.partial),
                    **told("Body", _PATCHED if operation.partial else "What is sent."),
                    "x-ms-visibility": "important",
                }
            )
        return parameters

    def _in_path(self, name: str) -> Schema:
        what = words(name.removesuffix("Id"))
        return {
            "name": name,
            "in": "path",
            "required": True,
            "type": "string",
            **({} if name in _NO_GUIDS else {"format": "uuid"}),
            **told(title_case(what), f"The id of the {what}."),
            "x-ms-visibility": "important",
            "x-ms-url-encoding": "single",
            **self._choices(name),
        }

    def _in_query(self, known: Parameter) -> Schema:
        schema = {"name": known.name, "in": "query", "required": False, **typed(known.type), "allowEmptyValue": True}
        if known.default is not None:
            schema["default"] = known.default
        if known.span is not None:
            schema["minimum"], schema["maximum"] = known.span
        schema |= told(title_case(known.label), known.hint)
        if known in (LIMIT, CURSOR):
            schema["x-ms-visibility"] = "advanced"
        return schema | self._choices(known.name)

    def _choices(self, name: str) -> Schema:
        """What tells a maker's designer which ids there are for the parameter or field: `productId`, or `roleIds`."""
        known = self._lists.get(name.removesuffix("s"))
        if known is None:
            return {}
        kind = _operation(known).response_model
        if kind is None:
            raise AssertionError(f"{known.name} lists nothing")
        parameters: dict[str, Any] = {each: {"parameter": each} for each in _path_parameters(known.template)}
        if LIMIT in _operation(known).query and LIMIT.span:
            parameters[LIMIT.name] = LIMIT.span[1]
        return {
            "x-ms-dynamic-values": {
                "operationId": operation_id(known),
                "parameters": parameters,
                "value-collection": "value",
                "value-path": "id",
                "value-title": _title_field(kind),
            }
        }

    def _answers(self, operation: OperationSpec) -> dict[int, Schema]:
        success: Schema = {"description": f"{HTTPStatus(operation.status).phrase}."}
        if operation.response_model:
            of = self._definitions.page if operation.is_list else self._definitions.answer
            success["schema"] = of(operation.response_model)
        elif operation.status != HTTPStatus.NO_CONTENT:
            success["schema"] = {"type": "string"}
        refused = _ALWAYS | {*operation.error_statuses} | ({415} if operation.request_model else set())
        return {operation.status: success} | {status: _refusal(status) for status in refused}


def _title_field(kind: type) -> str:
    """The field by which people know such a record: the first that is a text of its own."""
    return next(
        each.name for each in described(kind) if each.type is str and not each.name.lower().endswith(("id", "etag"))
    )


def _allowed(access: Access) -> str:
    if access.view is not None:
        return f"For those who have the privilege to {access.privilege} {words(access.view)}."
    return (
        "For everybody who can sign in."
        if access.caller_kind is CallerKind.SIGNED_IN
        else f"For {access.caller_kind}s."
    )


def _refusal(status: int) -> Schema:
    # Of several errors with one status the first is the plain one.
    errors: list[type[LicensingError]] = [LicensingError, *LicensingError.__subclasses__()]
    title = next(error.title for error in errors if error.status == status)
    return {"description": f"{title}.", "schema": {"$ref": "#/definitions/Problem"}}
