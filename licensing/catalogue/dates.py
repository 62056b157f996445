"""When the dates of a license take effect. Pure: time is an argument.

Dates count in the customer's favour. An end date has passed once its day is over everywhere on Earth (UTC-12). A start
date is reached once its day has begun anywhere (UTC+14), a feature disable date once its day has begun everywhere
(UTC-12).
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

_FIRST, _LAST = timedelta(hours=14), timedelta(hours=-12)
"""The offsets from UTC at which a day begins first and ends last."""
_DAY = timedelta(days=1)


class Dates(NamedTuple):
    """The first and the last calendar date on Earth at one instant."""

    first: date
    """The date at UTC+14, where a day begins first."""
    last: date
    """The date at UTC-12, where a day ends last."""

    @classmethod
    def at(cls, now: datetime) -> "Dates":
        """The dates at `now`, an instant in UTC."""
        return cls((now + _FIRST).date(), (now + _LAST).date())


def has_started(start_date: date | None, dates: Dates) -> bool:
    """Whether the start date has been reached. A license without one has always started."""
    return start_date is None or start_date <= dates.first


def has_ended(end_date: date | None, dates: Dates) -> bool:
    """Whether the end date has passed. A license without one never ends."""
    return end_date is not None and end_date < dates.last


def is_disabled(end_date: date | None, feature_disable_date: date | None, dates: Dates) -> bool:
    """Whether the end date has passed and the feature disable date has been reached. False without either date."""
    return feature_disable_date is not None and feature_disable_date <= dates.last and has_ended(end_date, dates)


def boundaries(
    start_date: date | None, end_date: date | None, feature_disable_date: date | None, after: Dates, until: Dates
) -> list[datetime]:
    """The instants (UTC, in no order) at which these dates take effect, later than `after` and not later than `until`.

    The three functions above change their result at these instants only.
    """
    found = []
    if start_date is not None and after.first < start_date <= until.first:
        found.append(_midnight(start_date, _FIRST))
    if end_date is not None and after.last <= end_date < until.last:
        found.append(_midnight(end_date + _DAY, _LAST))
    if feature_disable_date is not None and after.last < feature_disable_date <= until.last:
        found.append(_midnight(feature_disable_date, _LAST))
    return found


def _midnight(day: date, offset: timedelta) -> datetime:
    return datetime.combine(day, time.min, UTC) - offset
