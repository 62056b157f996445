"""What a validation decides: one product of one environment at one instant. Pure: time is an argument.

Dates count in the customer's favour. A day has passed once it is over everywhere on Earth (UTC-12). A day that helps
the customer has begun once it has begun anywhere (UTC+14); one that harms, once it has begun everywhere (UTC-12).
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from licensing.catalogue.model import CustomerProduct, Environment, LicenseType, Product

SOON_DAYS = 30
_FIRST, _LAST = timedelta(hours=14), timedelta(hours=-12)
"""What clocks are ahead of UTC where a day begins first, and where it ends last."""


class Status(StrEnum):
    UNKNOWN_PRODUCT = "unknownProduct"
    LICENSED = "licensed"
    UNKNOWN_ENVIRONMENT = "unknownEnvironment"
    ENVIRONMENT_INACTIVE = "environmentInactive"
    NOT_LICENSED = "notLicensed"
    NOT_ENABLED = "notEnabled"
    FEATURE_DISABLED = "featureDisabled"
    NOT_STARTED = "notStarted"
    EXPIRED = "expired"


class Action(StrEnum):
    """What D365FO does: go on, tell the user and go on, or switch the feature off."""

    ALLOW = "allow"
    PROMPT = "prompt"
    DISABLE = "disable"


class Warning(StrEnum):  # noqa: A001 - the contract's word
    MAINTENANCE_EXPIRED = "maintenanceExpired"
    EXPIRES_SOON = "expiresSoon"
    FEATURE_DISABLES_SOON = "featureDisablesSoon"
    USERS_EXCEEDED = "usersExceeded"


ACTIONS = {
    Status.UNKNOWN_PRODUCT: Action.PROMPT,
    Status.LICENSED: Action.ALLOW,
    Status.UNKNOWN_ENVIRONMENT: Action.PROMPT,
    Status.ENVIRONMENT_INACTIVE: Action.PROMPT,
    Status.NOT_LICENSED: Action.PROMPT,
    Status.NOT_ENABLED: Action.DISABLE,
    Status.FEATURE_DISABLED: Action.DISABLE,
    Status.NOT_STARTED: Action.PROMPT,
    Status.EXPIRED: Action.PROMPT,
}
_SEVERITY = {Action.ALLOW: 0, Action.PROMPT: 1, Action.DISABLE: 2}


class Dates(NamedTuple):
    """One instant as the two calendar dates that count."""

    first: date
    """The date where a day begins first, UTC+14."""
    last: date
    """The date where a day ends last, UTC-12."""

    @classmethod
    def at(cls, now: datetime) -> "Dates":
        """`now` is in UTC."""
        return cls((now + _FIRST).date(), (now + _LAST).date())


class Decision(NamedTuple):
    """What holds for one product, and what it was decided on (None where there was none)."""

    status: Status
    warnings: tuple[Warning, ...] = ()
    product: Product | None = None
    license: CustomerProduct | None = None

    @property
    def action(self) -> Action:
        return ACTIONS[self.status]


def decide(
    product: Product | None,
    environment: Environment | None,
    licenses: Sequence[CustomerProduct],
    *,
    dates: Dates,
    enabled_users_count: int | None,
) -> Decision:
    """The first status that applies, in the order of the table in docs/protocol.md, with its warnings.

    `product`: the publisher's product of that name, active or not. `licenses`: the customer products that the
    environment's customer has of that product; of several, the one that is best for the customer counts.
    """
    if product is None or not product.active:
        return Decision(Status.UNKNOWN_PRODUCT)
    if environment is None:
        status = Status.LICENSED if product.license_control_disabled else Status.UNKNOWN_ENVIRONMENT
        return Decision(status, product=product)
    held = [
        Decision(_license_status(each, dates), _warnings(each, dates, enabled_users_count), product, each)
        for each in licenses
    ]
    if not held:
        best = Decision(Status.NOT_LICENSED, product=product)
    else:
        best = held[0] if len(held) == 1 else min(held, key=_how_good)
    if product.license_control_disabled:
        return Decision(Status.LICENSED, best.warnings, product, best.license)
    if not environment.active:
        return Decision(Status.ENVIRONMENT_INACTIVE, best.warnings, product, best.license)
    return best


def _license_status(license_: CustomerProduct, dates: Dates) -> Status:
    if not license_.enabled:
        return Status.NOT_ENABLED
    if license_.feature_disable_date is not None and license_.feature_disable_date <= dates.last:
        return Status.FEATURE_DISABLED
    if license_.start_date is not None and license_.start_date > dates.first:
        return Status.NOT_STARTED
    if license_.license_type is not LicenseType.PERPETUAL and _has_passed(license_.end_date, dates):
        return Status.EXPIRED
    return Status.LICENSED


def _warnings(license_: CustomerProduct, dates: Dates, enabled_users_count: int | None) -> tuple[Warning, ...]:
    warnings = []
    if license_.license_type is LicenseType.PERPETUAL and _has_passed(license_.end_date, dates):
        warnings.append(Warning.MAINTENANCE_EXPIRED)
    if _is_soon(license_.end_date, dates):
        warnings.append(Warning.EXPIRES_SOON)
    # The feature disable date has been reached on its day, an end date passes only after its day.
    if license_.feature_disable_date != dates.last and _is_soon(license_.feature_disable_date, dates):
        warnings.append(Warning.FEATURE_DISABLES_SOON)
    if (
        enabled_users_count is not None
        and not license_.site_license
        and enabled_users_count > (license_.number_of_users or 0)
    ):
        warnings.append(Warning.USERS_EXCEEDED)
    return tuple(warnings)


def _has_passed(day: date | None, dates: Dates) -> bool:
    return day is not None and day < dates.last


def _is_soon(day: date | None, dates: Dates) -> bool:
    return day is not None and 0 <= (day - dates.last).days <= SOON_DAYS


def _how_good(decision: Decision) -> tuple[int, int, str]:
    """Orders decisions, best for the customer first; the id makes it the same whatever the order of reading."""
    license_ = decision.license
    end_date = license_.end_date if license_ and license_.end_date else date.max
    return (_SEVERITY[decision.action], -end_date.toordinal(), license_.id if license_ else "")


def sentence(decision: Decision, product_name: str) -> str | None:
    """What the user is told; None where there is nothing to tell."""
    if decision.action is Action.ALLOW:
        return None
    return _SENTENCES[decision.status](product_name, decision.license)


def _not_licensed(reason: str) -> Callable[[str, CustomerProduct | None], str]:
    return lambda name, _: f"Product {name} is enabled but not licensed: {reason}"


_SENTENCES: dict[Status, Callable[[str, CustomerProduct | None], str]] = {
    Status.UNKNOWN_PRODUCT: _not_licensed("the publisher has no active product of that name."),
    Status.UNKNOWN_ENVIRONMENT: _not_licensed("no environment is registered with this serial number."),
    Status.ENVIRONMENT_INACTIVE: _not_licensed("the registration of this environment is switched off."),
    Status.NOT_LICENSED: _not_licensed("there is no license of it."),
    Status.NOT_ENABLED: lambda name, _: f"Product {name} is switched off: its license is not enabled.",
    Status.FEATURE_DISABLED: lambda name, held: (
        f"Product {name} is switched off: its feature disable date was {held and held.feature_disable_date}."
    ),
    Status.NOT_STARTED: lambda name, held: (
        f"Product {name} is enabled but not licensed: its license starts on {held and held.start_date}."
    ),
    Status.EXPIRED: lambda name, held: (
        f"Product {name} is enabled but not licensed: its license expired on {held and held.end_date}."
    ),
}
