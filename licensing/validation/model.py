"""What a validation decides: one product of one environment at one instant. Pure: time is an argument.

`licensing/catalogue/dates.py` defines when a date takes effect.

Invariants, each with the test that holds it (tests/validation/test_decide.py):

- A feature is disabled only where its license is enabled, and past its end date and its feature disable date
  (`disables_only_enabled_license_past_both_dates`).
- The first row of the table in docs/protocol.md that applies decides (`applies_the_earlier_table_row_first`).
- Another license never makes the decision stricter, and their order does not matter
  (`with_another_license_is_never_stricter`, `is_independent_of_license_order`).
- Dates take effect in the time zone that is best for the customer (`applies_dates_in_the_most_favourable_time_zone`).
- The number of users changes a warning and nothing else (`users_count_changes_only_its_warning`).
- Between two date boundaries the decision is constant (`is_constant_between_boundaries`).
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from licensing.catalogue.dates import Dates, boundaries, has_ended, has_started, is_disabled
from licensing.catalogue.records import CustomerProduct, Environment, LicenseType, Product

SOON_DAYS = 30


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
    Status.NOT_ENABLED: Action.PROMPT,
    Status.FEATURE_DISABLED: Action.DISABLE,
    Status.NOT_STARTED: Action.PROMPT,
    Status.EXPIRED: Action.PROMPT,
}
_SEVERITY = {Action.ALLOW: 0, Action.PROMPT: 1, Action.DISABLE: 2}


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
    environment's customer has of that product. Of several, the best one for the customer is valid: by action, then
    without `usersExceeded`, then site license, then the later end date, then more users.
    """
    if product is None or not product.active:
        return Decision(Status.UNKNOWN_PRODUCT)
    if environment is None:
        status = Status.LICENSED if product.license_control_disabled else Status.UNKNOWN_ENVIRONMENT
        return Decision(status, product=product)
    held = [
        (each, Decision(_license_status(each, dates), _warnings(each, dates, enabled_users_count), product, each))
        for each in licenses
    ]
    if not held:
        best = Decision(Status.NOT_LICENSED, product=product)
    else:
        _, best = held[0] if len(held) == 1 else min(held, key=_rank)
    if product.license_control_disabled:
        return Decision(Status.LICENSED, best.warnings, product, best.license)
    if not environment.active:
        return Decision(Status.ENVIRONMENT_INACTIVE, best.warnings, product, best.license)
    return best


def boundaries_of(licenses: Sequence[CustomerProduct], after: Dates, until: Dates) -> list[datetime]:
    """All date boundaries of the licenses later than `after` and not later than `until`, ascending.

    Between these instants neither the status nor the license in force changes.
    """
    found: list[datetime] = []
    for each in licenses:
        found += boundaries(each.start_date, each.end_date, each.feature_disable_date, after, until)
    return sorted({*found}) if found else found


def _license_status(license_: CustomerProduct, dates: Dates) -> Status:
    if not license_.enabled:
        return Status.NOT_ENABLED
    if is_disabled(license_.end_date, license_.feature_disable_date, dates):
        return Status.FEATURE_DISABLED
    if not has_started(license_.start_date, dates):
        return Status.NOT_STARTED
    if license_.license_type is not LicenseType.PERPETUAL and has_ended(license_.end_date, dates):
        return Status.EXPIRED
    return Status.LICENSED


def _warnings(license_: CustomerProduct, dates: Dates, enabled_users_count: int | None) -> tuple[Warning, ...]:
    warnings = []
    if license_.license_type is LicenseType.PERPETUAL and has_ended(license_.end_date, dates):
        warnings.append(Warning.MAINTENANCE_EXPIRED)
    if _expires_soon(license_.start_date, license_.end_date, dates):
        warnings.append(Warning.EXPIRES_SOON)
    if _feature_disables_soon(license_, dates):
        warnings.append(Warning.FEATURE_DISABLES_SOON)
    if (
        enabled_users_count is not None
        and not license_.site_license
        and enabled_users_count > (license_.number_of_users or 0)
    ):
        warnings.append(Warning.USERS_EXCEEDED)
    return tuple(warnings)


def _expires_soon(start_date: date | None, end_date: date | None, dates: Dates) -> bool:
    """Whether the end date has not passed, and is 30 days or a quarter of the term away, whichever is less."""
    if end_date is None:
        return False
    days_left = (end_date - dates.last).days
    return 0 <= days_left <= SOON_DAYS and (start_date is None or days_left <= (end_date - start_date).days / 4)


def _feature_disables_soon(license_: CustomerProduct, dates: Dates) -> bool:
    """Whether `featureDisabled` does not apply yet, and will within 30 days."""
    end_date, disable_date = license_.end_date, license_.feature_disable_date
    if disable_date is None or end_date is None or not license_.enabled:
        return False
    # The end date passes a day later than a feature disable date of the same day is reached.
    days_left = max((end_date - dates.last).days + 1, (disable_date - dates.last).days)
    return 0 < days_left <= SOON_DAYS


def _rank(held: tuple[CustomerProduct, Decision]) -> tuple[int, bool, bool, int, int, str]:
    """Order licenses with their decisions, the best for the customer first. The id decides between equals."""
    license_, decision = held
    return (
        _SEVERITY[decision.action],
        Warning.USERS_EXCEEDED in decision.warnings,
        not license_.site_license,
        -(license_.end_date or date.max).toordinal(),
        -(license_.number_of_users or 0),
        license_.id,
    )


def sentence(decision: Decision, product_name: str, contact: str = "") -> str | None:
    """The sentence for the user, which ends with the `contact`, an email address; None where the action is allow."""
    if decision.action is Action.ALLOW:
        return None
    reason = _SENTENCES[decision.status](product_name, decision.license)
    return f"{reason} Contact {contact}." if contact else reason


def _not_licensed(reason: str) -> Callable[[str, CustomerProduct | None], str]:
    return lambda name, _: f"Product {name} is enabled but not licensed: {reason}"


# Help pages of customers quote "Product XXX is enabled but not licensed".
_SENTENCES: dict[Status, Callable[[str, CustomerProduct | None], str]] = {
    Status.UNKNOWN_PRODUCT: _not_licensed("the publisher has no active product of that name."),
    Status.UNKNOWN_ENVIRONMENT: _not_licensed("no environment is registered with this serial number."),
    Status.ENVIRONMENT_INACTIVE: _not_licensed("the registration of this environment is switched off."),
    Status.NOT_LICENSED: _not_licensed("there is no license of it."),
    Status.NOT_ENABLED: _not_licensed("its license is not enabled."),
    Status.FEATURE_DISABLED: lambda name, held: (
        f"Product {name} is switched off: its end date was {held and held.end_date}, "
        f"its feature disable date {held and held.feature_disable_date}."
    ),
    Status.NOT_STARTED: lambda name, held: (
        f"Product {name} is enabled but not licensed: its license starts on {held and held.start_date}."
    ),
    Status.EXPIRED: lambda name, held: (
        f"Product {name} is enabled but not licensed: its license expired on {held and held.end_date}."
    ),
}
