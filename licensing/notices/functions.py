"""The doors of support: notices, what is said of them, and who could not be told. And the timer that posts them."""

import os

import azure.functions as func

from licensing.catalogue.functions import PUBLISHER, Resource, register_crud
from licensing.errors import NotFound
from licensing.fields import parse
from licensing.http import OperationSpec, Request, Response, json_response, route
from licensing.notices.model import Notice, Update
from licensing.paging import CURSOR, LIMIT, Page
from licensing.permissions import Privilege, View, requires
from licensing.services import services
from licensing.settings import Settings

blueprint = func.Blueprint()

_NOTICES = f"{PUBLISHER}/notices"


def _initialize(notice: Notice, request: Request) -> Notice:
    return request.services.notices.new(notice, request.caller.actor)


register_crud(blueprint, Resource(Notice, "notice", _NOTICES, View.NOTICES, ("title", "body"), initialize=_initialize))


@route(
    blueprint,
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
    found = await request.services.store.find(request.publisher_id, Notice, request.route_params["noticeId"])
    if found is None:
        raise NotFound("There is no such notice; it may have been deleted.")
    numbers = {id(each): f"{number:06d}" for number, each in enumerate(found.updates)}
    return Page.from_request(request).paginate(found.updates, lambda each: [numbers[id(each)]])


@route(
    blueprint,
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
    notice = await request.services.notices.update(
        request.publisher_id,
        request.route_params["noticeId"],
        given["status"],
        given.get("body", ""),
        actor=request.caller.actor,
    )
    return json_response(notice.as_of(request.services.clock()), 201)


@blueprint.timer_trigger(schedule=Settings.read(os.environ).notices_schedule, arg_name="timer", run_on_startup=False)
async def post_downtime_notices(timer: func.TimerRequest) -> None:  # noqa: ARG001 - Azure hands it over by its name
    """Announce what is due, and deliver what is on its way."""
    await services().notices.run()
