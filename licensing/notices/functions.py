"""Endpoints of support for notices and their updates, and the timer that delivers notices."""

from licensing.catalogue.crud import PUBLISHER, Resource, register_crud
from licensing.catalogue.store import CatalogueStore
from licensing.errors import NotFound
from licensing.fields import parse
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, Page
from licensing.http.permissions import Privilege, View, requires
from licensing.http.request import Request, Services
from licensing.http.response import Response, json_response
from licensing.notices.model import Notice, Update
from licensing.notices.service import Notices

endpoints = Endpoints()

_NOTICES = f"{PUBLISHER}/notices"


def _initialize(notice: Notice, request: Request) -> Notice:
    return request.services.get(Notices).new(notice, request.caller.actor)


register_crud(endpoints, Resource(Notice, "notice", _NOTICES, View.NOTICES, ("title", "body"), initialize=_initialize))


@endpoints.route(
    "GET",
    f"{_NOTICES}/{{noticeId}}/updates",
    requires(View.NOTICES, Privilege.READ),
    OperationSpec(
        summary="List the updates of a notice",
        response_model=Update,
        is_list=True,
        query=(LIMIT, CURSOR),
        error_statuses=(404,),
    ),
)
async def list_notice_updates(request: Request) -> Response:
    """What was said of the notice, oldest first."""
    found = await request.services.get(CatalogueStore).find(
        request.publisher_id, Notice, request.route_params["noticeId"]
    )
    if found is None:
        raise NotFound("There is no such notice; it may have been deleted.")
    numbers = {id(each): f"{number:06d}" for number, each in enumerate(found.updates)}
    return Page.from_request(request).paginate(found.updates, lambda each: [numbers[id(each)]])


@endpoints.route(
    "POST",
    f"{_NOTICES}/{{noticeId}}/updates",
    requires(View.NOTICES, Privilege.UPDATE),
    OperationSpec(
        summary="Add an update to a notice",
        response_model=Notice,
        request_model=Update,
        status=201,
        error_statuses=(404, 409, 422),
    ),
)
async def create_notice_update(request: Request) -> Response:
    """Say one thing more of a notice, which may change its status. Nothing that was said is ever changed."""
    given = parse(Update, request.json())
    notice = await request.services.get(Notices).update(
        request.publisher_id,
        request.route_params["noticeId"],
        given["status"],
        given.get("body", ""),
        actor=request.caller.actor,
    )
    return json_response(notice.as_of(request.services.clock()), 201)


@endpoints.timer(lambda settings: settings.notices_schedule)
async def post_downtime_notices(services: Services) -> None:
    """Announce the notices that are due, and send the deliveries that are pending."""
    await services.get(Notices).run()
