"""What expires when, and who is to be reminded of it. Pure: no storage, no clock.

Windows and days left count in days of UTC: these are lists for people to plan by. Whether a license has expired follows
the boundaries of validations (`licensing.catalogue.dates`).
"""

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from licensing.catalogue.records import LicenseType, Publisher, Region
from licensing.fields import text, value
from licensing.identifiers import fold

THRESHOLDS = (0, 1, 7, 14, 30, 60)
"""How many days before a customer product ends its publisher is reminded: once for each of them."""
OVERDUE = -1
"""The step after these: the end date lies before today."""
OVERDUE_DAYS = 366
"""The digest leaves out a customer product that ended more days ago than this."""
_STEPS = (OVERDUE, *THRESHOLDS)


class ExpiryWindow(StrEnum):
    """How far a report looks ahead, from today on."""

    THIS_WEEK = "thisWeek"
    THIS_MONTH = "thisMonth"
    NEXT_THREE_MONTHS = "nextThreeMonths"
    NEXT_SIX_MONTHS = "nextSixMonths"
    THIS_YEAR = "thisYear"


def last_day(window: ExpiryWindow, today: date) -> date:
    """The last day that the window holds. Weeks end on Sunday."""
    match window:
        case ExpiryWindow.THIS_WEEK:
            return today + timedelta(days=6 - today.weekday())
        case ExpiryWindow.THIS_MONTH:
            return _day_of_month(today.year, today.month, 31)
        case ExpiryWindow.NEXT_THREE_MONTHS:
            return _months_on(today, 3)
        case ExpiryWindow.NEXT_SIX_MONTHS:
            return _months_on(today, 6)
        case ExpiryWindow.THIS_YEAR:
            return today.replace(month=12, day=31)


def _months_on(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return _day_of_month(day.year + years, month + 1, day.day)


def _day_of_month(year: int, month: int, day: int) -> date:
    """That day, or the month's last where it has no such day."""
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryItem:
    """A customer product that has an end date, as a report shows it."""

    customer_name: str = text("Customer", settable=False)
    customer_number: str = text("Customer number", settable=False, hint="In the sales or finance systems.")
    region: Region = value("Region", default=Region.NONE, settable=False, hint="The region of the customer.")
    product_name: str = text("Product", settable=False)
    license_type: LicenseType = value("License type", settable=False)
    end_date: date = value("Subscription end date", settable=False, hint="The day of expiry.")
    feature_disable_date: date | None = value("Feature disable date", default=None, settable=False)
    enabled: bool = value("Enabled", default=True, settable=False)
    days_left: int = value("Days left", settable=False, hint="From today (UTC) to the end date; below 0 after it.")
    expired: bool = value("Expired", settable=False, hint="Validations say expired. Never for a perpetual license.")
    maintenance_expired: bool = value(
        "Maintenance expired", default=False, settable=False, hint="The end date of a perpetual license has passed."
    )
    customer_id: str = text("Customer ID", settable=False)
    product_id: str = text("Product ID", settable=False)
    customer_product_id: str = text("Customer product ID", settable=False)

    @property
    def position(self) -> list[str]:
        """Where it stands in a report: unlike that of any other, and in the same order."""
        return [self.end_date.isoformat(), fold(self.customer_name), fold(self.product_name), self.customer_product_id]


class Reminded(NamedTuple):
    """That a publisher is reminded of a customer product, so many days or less before it ends on that date.

    The threshold `OVERDUE`: after that date.
    """

    end_date: date
    customer_product_id: str
    threshold: int


@dataclass(frozen=True, slots=True)
class Reminder:
    """What a publisher is to be reminded of, and why now."""

    item: ExpiryItem
    threshold: int

    @property
    def reminded(self) -> Reminded:
        """What is true once it was sent."""
        return Reminded(self.item.end_date, self.item.customer_product_id, self.threshold)


def reminders(items: Iterable[ExpiryItem], reminded: set[Reminded]) -> Iterator[Reminder]:
    """What of the items its publisher is to be reminded of now. Those that are not enabled are left out.

    An item belongs to the smallest threshold that it has come to; where its publisher was reminded at that one, or at
    a smaller one, it waits for the next. A date that has changed is another date.
    """
    for item in items:
        threshold = next((days for days in _STEPS if days >= item.days_left), None)
        if item.days_left < 0:
            threshold = OVERDUE
        if item.enabled and threshold is not None:
            smaller = (days for days in _STEPS if days <= threshold)
            if reminded.isdisjoint(Reminded(item.end_date, item.customer_product_id, days) for days in smaller):
                yield Reminder(item, threshold)


def recipient(publisher: Publisher) -> str:
    """The address to which the publisher's reminders go; "" where it has none."""
    return publisher.licensing_email or publisher.support_email
