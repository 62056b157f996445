"""The endpoint of the expiry report, and the timer of the weekly digest."""

from licensing.http.csv_response import CSV, JSON, csv_response, wants_csv
from licensing.http.endpoints import Endpoints, OperationSpec
from licensing.http.paging import CURSOR, LIMIT, Page
from licensing.http.permissions import Privilege, View, requires
from licensing.http.request import Parameter, Request, Services
from licensing.http.response import Response
from licensing.reports.digest import ExpiryDigest
from licensing.reports.model import ExpiryItem, ExpiryWindow
from licensing.reports.service import ExpiryReports

endpoints = Endpoints()

_WINDOW = Parameter(
    "window",
    "Window",
    f"How far to look ahead, from today on: {', '.join(ExpiryWindow)}.",
    ExpiryWindow,
    ExpiryWindow.THIS_MONTH,
)
_OVERDUE = Parameter("includeOverdue", "Include overdue", "Also what has expired already: true or false.", bool, False)  # noqa: FBT003 - its default


@endpoints.route(
    "GET",
    "api/v1/publishers/{publisherId}/reports/expiry",
    requires(View.REPORTS, Privilege.READ),
    OperationSpec(
        summary="Get the expiry report",
        response_model=ExpiryItem,
        is_list=True,
        query=(_WINDOW, _OVERDUE, LIMIT, CURSOR),
        produces=(JSON, CSV),
    ),
)
async def get_expiry_report(request: Request) -> Response:
    """What expires in the window, by date: a page of it as JSON, or all of it as CSV."""
    window, include_overdue = request.parameter(_WINDOW), request.parameter(_OVERDUE)
    reports = request.services.get(ExpiryReports)
    if wants_csv(request):
        items = [item async for item in reports.report(request.publisher_id, window, include_overdue=include_overdue)]
        return csv_response(ExpiryItem, items, f"expiry-{window}-{request.services.clock():%Y-%m-%d}")
    page = Page.from_request(request, _WINDOW, _OVERDUE)
    found = reports.report(request.publisher_id, window, include_overdue=include_overdue, after=page.after)
    return await page.paginate_stream(found, lambda item: item.position)


@endpoints.timer(lambda _: "0 0 6 * * MON")
async def post_expiry_digest(services: Services) -> None:
    """Send every publisher the digest of what expires soon: Mondays at 6:00 UTC."""
    await services.get(ExpiryDigest).post()
