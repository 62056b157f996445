"""What a validation decides: the table of docs/protocol.md row by row, its edges in time, its warnings."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.dates import Dates
from licensing.catalogue.records import CustomerProduct, Environment, LicenseType, Product
from licensing.validation.model import ACTIONS, Action, Decision, Status, boundaries_of, decide, sentence
from licensing.validation.model import Warning as LicenseWarning

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TODAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RECORD: dict[str, Any] = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
PRODUCT = Product(id="product", name="SmartSend", **RECORD)
ENVIRONMENT = Environment(
    id="environment", customer_id="customer", tenant="contoso.com", serial_number="C0FFEE-0042", **RECORD
)
LICENSE = CustomerProduct(
    id="license",
    customer_id="customer",
    product_id="product",
    license_type=LicenseType.ANNUAL,
    number_of_users=50,
    start_date=TODAY - timedelta(days=100),
    end_date=TODAY + timedelta(days=200),
    **RECORD,
)


def licensed_by(*licenses: CustomerProduct, at: datetime = NOW, users: int | None = None) -> Decision:
    """What is decided of an active product in an active environment whose customer has these licenses."""
    return decide(PRODUCT, ENVIRONMENT, licenses, dates=Dates.at(at), enabled_users_count=users)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- the rows of the table


@dataclass(frozen=True)
class Situation:
    """All that decides. As it stands, the product is licensed."""

    product: Product | None = PRODUCT
    environment: Environment | None = ENVIRONMENT
    licenses: tuple[CustomerProduct, ...] = (LICENSE,)

    def decide(self) -> Decision:
        return decide(self.product, self.environment, self.licenses, dates=Dates.at(NOW), enabled_users_count=None)


type Change = Callable[[Situation], Situation]


def of_the_product(**changes: Any) -> Change:
    return lambda it: replace(it, product=it.product and replace(it.product, **changes))


def of_the_environment(**changes: Any) -> Change:
    return lambda it: replace(it, environment=it.environment and replace(it.environment, **changes))


def of_the_license(**changes: Any) -> Change:
    return lambda it: replace(it, licenses=tuple(replace(each, **changes) for each in it.licenses))


YESTERDAY_EVERYWHERE, TOMORROW_EVERYWHERE = TODAY - timedelta(days=2), TODAY + timedelta(days=2)
ROWS: list[tuple[str, Change, Status, Action]] = [
    ("the product is not active", of_the_product(active=False), Status.UNKNOWN_PRODUCT, Action.PROMPT),
    ("license control is disabled", of_the_product(license_control_disabled=True), Status.LICENSED, Action.ALLOW),
    (
        "no environment has the serial number",
        lambda it: replace(it, environment=None),
        Status.UNKNOWN_ENVIRONMENT,
        Action.PROMPT,
    ),
    ("the environment is switched off", of_the_environment(active=False), Status.ENVIRONMENT_INACTIVE, Action.PROMPT),
    ("the customer has no license", lambda it: replace(it, licenses=()), Status.NOT_LICENSED, Action.PROMPT),
    ("the license is not enabled", of_the_license(enabled=False), Status.NOT_ENABLED, Action.PROMPT),
    (
        "the end date has passed and the feature disable date is reached",
        of_the_license(end_date=YESTERDAY_EVERYWHERE, feature_disable_date=YESTERDAY_EVERYWHERE),
        Status.FEATURE_DISABLED,
        Action.DISABLE,
    ),
    ("the start date lies ahead", of_the_license(start_date=TOMORROW_EVERYWHERE), Status.NOT_STARTED, Action.PROMPT),
    ("the end date has passed", of_the_license(end_date=YESTERDAY_EVERYWHERE), Status.EXPIRED, Action.PROMPT),
    ("nothing is wrong", lambda it: it, Status.LICENSED, Action.ALLOW),
]
PAIRS = [
    pytest.param(earlier, later, id=f"{earlier[0]} goes before {later[0]}")
    for earlier, later in itertools.combinations(ROWS, 2)
    # Without an environment none is switched off, without a license nothing is wrong with it.
    if (earlier[2], later[2]) != (Status.UNKNOWN_ENVIRONMENT, Status.ENVIRONMENT_INACTIVE)
]


@pytest.mark.parametrize(
    ("change", "status", "action"), [row[1:] for row in ROWS], ids=[f"{row[2]}: {row[0]}" for row in ROWS]
)
def test_decide_returns_status_and_action_of_each_table_row(change: Change, status: Status, action: Action) -> None:
    decision = change(Situation()).decide()
    assert (decision.status, decision.action) == (status, action)


@pytest.mark.parametrize(("earlier", "later"), PAIRS)
def test_decide_applies_the_earlier_table_row_first(
    earlier: tuple[str, Change, Status, Action], later: tuple[str, Change, Status, Action]
) -> None:
    for first, second in ((earlier, later), (later, earlier)):
        assert second[1](first[1](Situation())).decide().status is earlier[2]


DISABLED = replace(LICENSE, end_date=YESTERDAY_EVERYWHERE, feature_disable_date=YESTERDAY_EVERYWHERE)
SPECIAL_CASES: list[tuple[str, Situation, Status]] = [
    ("a product that nobody has is unknown", Situation(product=None), Status.UNKNOWN_PRODUCT),
    (
        "a product that nobody has is unknown to an unknown environment too",
        Situation(product=None, environment=None, licenses=()),
        Status.UNKNOWN_PRODUCT,
    ),
    (
        "without license control an unknown environment is licensed",
        Situation(replace(PRODUCT, license_control_disabled=True), None, ()),
        Status.LICENSED,
    ),
    (
        "without license control a customer without a license is licensed",
        Situation(replace(PRODUCT, license_control_disabled=True), licenses=()),
        Status.LICENSED,
    ),
    (
        "an inactive product is unknown, its license control disabled or not",
        Situation(replace(PRODUCT, license_control_disabled=True, active=False)),
        Status.UNKNOWN_PRODUCT,
    ),
    (
        "a license without dates counts for ever",
        Situation(licenses=(replace(LICENSE, start_date=None, end_date=None),)),
        Status.LICENSED,
    ),
    *(
        (
            f"a license of type {license_type} expires",
            Situation(licenses=(replace(LICENSE, license_type=license_type, end_date=YESTERDAY_EVERYWHERE),)),
            Status.EXPIRED,
        )
        for license_type in LicenseType
        if license_type is not LicenseType.PERPETUAL
    ),
    (
        "a perpetual license does not expire",
        Situation(
            licenses=(replace(LICENSE, license_type=LicenseType.PERPETUAL, end_date=YESTERDAY_EVERYWHERE),),
        ),
        Status.LICENSED,
    ),
    (
        "a perpetual license that is not enabled is not",
        Situation(licenses=(replace(LICENSE, license_type=LicenseType.PERPETUAL, enabled=False),)),
        Status.NOT_ENABLED,
    ),
    (
        "a perpetual license starts on its day",
        Situation(licenses=(replace(LICENSE, license_type=LicenseType.PERPETUAL, start_date=TOMORROW_EVERYWHERE),)),
        Status.NOT_STARTED,
    ),
    (
        "a perpetual license is disabled too, once its maintenance has ended",
        Situation(licenses=(replace(DISABLED, license_type=LicenseType.PERPETUAL),)),
        Status.FEATURE_DISABLED,
    ),
    (
        "a feature disable date without an end date disables nothing",
        Situation(licenses=(replace(DISABLED, end_date=None),)),
        Status.LICENSED,
    ),
    (
        "a feature disable date without an end date disables no perpetual license",
        Situation(licenses=(replace(DISABLED, license_type=LicenseType.PERPETUAL, end_date=None),)),
        Status.LICENSED,
    ),
    (
        "a feature disable date before the end date disables nothing yet",
        Situation(licenses=(replace(DISABLED, end_date=TOMORROW_EVERYWHERE),)),
        Status.LICENSED,
    ),
    (
        "an end date that has passed disables nothing without a feature disable date",
        Situation(licenses=(replace(DISABLED, feature_disable_date=None),)),
        Status.EXPIRED,
    ),
    (
        "an end date that has passed disables nothing before the feature disable date",
        Situation(licenses=(replace(DISABLED, feature_disable_date=TOMORROW_EVERYWHERE),)),
        Status.EXPIRED,
    ),
    (
        "a license that is not enabled is not disabled",
        Situation(licenses=(replace(DISABLED, enabled=False),)),
        Status.NOT_ENABLED,
    ),
    (
        "an inactive environment is not disabled",
        Situation(environment=replace(ENVIRONMENT, active=False), licenses=(DISABLED,)),
        Status.ENVIRONMENT_INACTIVE,
    ),
    (
        "without license control nothing is disabled",
        Situation(replace(PRODUCT, license_control_disabled=True), licenses=(DISABLED,)),
        Status.LICENSED,
    ),
]


@pytest.mark.parametrize(
    ("situation", "status"), [case[1:] for case in SPECIAL_CASES], ids=[case[0] for case in SPECIAL_CASES]
)
def test_decide_in_special_case_returns_status(situation: Situation, status: Status) -> None:
    assert situation.decide().status is status


def test_statuses_actions_and_warnings_match_the_protocol() -> None:
    assert {status.value: action.value for status, action in ACTIONS.items()} == {
        "unknownProduct": "prompt",
        "licensed": "allow",
        "unknownEnvironment": "prompt",
        "environmentInactive": "prompt",
        "notLicensed": "prompt",
        "notEnabled": "prompt",
        "featureDisabled": "disable",
        "notStarted": "prompt",
        "expired": "prompt",
    }
    assert set(ACTIONS) == set(Status)
    assert set(LicenseWarning) == {"maintenanceExpired", "expiresSoon", "featureDisablesSoon", "usersExceeded"}


# --- the edges of a day

DAY = date(2026, 3, 31)
UNLIMITED = replace(LICENSE, start_date=None, end_date=None)
DAY_BOUNDARIES: list[tuple[str, dict[str, Any], str, Status]] = [
    ("on the morning of its end date a license counts", {"end_date": DAY}, "2026-03-31T00:00:00", Status.LICENSED),
    ("at the end of its end date in UTC it counts", {"end_date": DAY}, "2026-04-01T00:00:00", Status.LICENSED),
    (
        "a microsecond before the day is over at UTC-12 it counts",
        {"end_date": DAY},
        "2026-04-01T11:59:59.999999",
        Status.LICENSED,
    ),
    ("once the day is over at UTC-12 it has expired", {"end_date": DAY}, "2026-04-01T12:00:00", Status.EXPIRED),
    (
        "a leap day ends as other days do",
        {"end_date": date(2028, 2, 29)},
        "2028-03-01T11:59:59.999999",
        Status.LICENSED,
    ),
    ("and not later", {"end_date": date(2028, 2, 29)}, "2028-03-01T12:00:00", Status.EXPIRED),
    (
        "the last day of a year ends in the next",
        {"end_date": date(2026, 12, 31)},
        "2027-01-01T11:59:59.999999",
        Status.LICENSED,
    ),
    ("at noon of New Year", {"end_date": date(2026, 12, 31)}, "2027-01-01T12:00:00", Status.EXPIRED),
    (
        "a microsecond before the day begins at UTC+14 a license has not started",
        {"start_date": DAY},
        "2026-03-30T09:59:59.999999",
        Status.NOT_STARTED,
    ),
    ("once the day begins at UTC+14 it has started", {"start_date": DAY}, "2026-03-30T10:00:00", Status.LICENSED),
    (
        "a microsecond before the day has begun at UTC-12 a feature is not disabled",
        {"end_date": date(2026, 3, 1), "feature_disable_date": DAY},
        "2026-03-31T11:59:59.999999",
        Status.EXPIRED,
    ),
    (
        "once the day has begun at UTC-12 it is",
        {"end_date": date(2026, 3, 1), "feature_disable_date": DAY},
        "2026-03-31T12:00:00",
        Status.FEATURE_DISABLED,
    ),
    (
        "a feature disable date before the end date waits until that day is over",
        {"end_date": DAY, "feature_disable_date": date(2026, 3, 1)},
        "2026-04-01T11:59:59.999999",
        Status.LICENSED,
    ),
    (
        "and applies then",
        {"end_date": DAY, "feature_disable_date": date(2026, 3, 1)},
        "2026-04-01T12:00:00",
        Status.FEATURE_DISABLED,
    ),
    (
        "a license of one day has begun where that day begins first",
        {"start_date": DAY, "end_date": DAY},
        "2026-03-30T10:00:00",
        Status.LICENSED,
    ),
    (
        "and lasts until it ends last, 50 hours later",
        {"start_date": DAY, "end_date": DAY},
        "2026-04-01T11:59:59.999999",
        Status.LICENSED,
    ),
    (
        "expiry comes before the feature is disabled on the next day",
        {"end_date": DAY, "feature_disable_date": date(2026, 4, 2)},
        "2026-04-02T11:59:59.999999",
        Status.EXPIRED,
    ),
    (
        "where end and feature disable date are one day, the license is valid until that day is over",
        {"end_date": DAY, "feature_disable_date": DAY},
        "2026-04-01T11:59:59.999999",
        Status.LICENSED,
    ),
    (
        "and the feature is disabled then",
        {"end_date": DAY, "feature_disable_date": DAY},
        "2026-04-01T12:00:00",
        Status.FEATURE_DISABLED,
    ),
]


@pytest.mark.parametrize(
    ("dates", "at", "status"), [case[1:] for case in DAY_BOUNDARIES], ids=[case[0] for case in DAY_BOUNDARIES]
)
def test_decide_at_day_boundary_returns_status(dates: dict[str, Any], at: str, status: Status) -> None:
    assert licensed_by(replace(UNLIMITED, **dates), at=instant(at)).status is status


# --- warnings

SOON, LATER = TODAY + timedelta(days=30), TODAY + timedelta(days=31)
PERPETUAL = replace(UNLIMITED, license_type=LicenseType.PERPETUAL)
SITE = replace(UNLIMITED, site_license=True, number_of_users=None)
ENDED = replace(UNLIMITED, end_date=TODAY - timedelta(days=1))


def of_term(days: int, days_left: int) -> CustomerProduct:
    """A license with so many days from its start to its end, and so many left."""
    end = TODAY + timedelta(days=days_left)
    return replace(LICENSE, start_date=end - timedelta(days=days), end_date=end)


WARNINGS: list[tuple[str, CustomerProduct, int | None, tuple[str, ...]]] = [
    ("31 days to the end date are not soon", replace(UNLIMITED, end_date=LATER), None, ()),
    ("30 days to the end date are soon", replace(UNLIMITED, end_date=SOON), None, ("expiresSoon",)),
    ("the end date itself is soon", replace(UNLIMITED, end_date=TODAY), None, ("expiresSoon",)),
    ("an end date passed is soon no more", replace(UNLIMITED, end_date=TODAY - timedelta(days=1)), None, ()),
    ("no end date never comes", UNLIMITED, None, ()),
    ("a perpetual license's maintenance ends soon too", replace(PERPETUAL, end_date=SOON), None, ("expiresSoon",)),
    ("on its end date it has not passed", replace(PERPETUAL, end_date=TODAY), None, ("expiresSoon",)),
    (
        "a day later it has",
        replace(PERPETUAL, end_date=TODAY - timedelta(days=1)),
        None,
        ("maintenanceExpired",),
    ),
    ("a perpetual license without end date has no warning", PERPETUAL, None, ()),
    (
        "without a start date the term has no quarter: 30 days",
        replace(UNLIMITED, start_date=None, end_date=SOON),
        None,
        ("expiresSoon",),
    ),
    ("a term of 120 days: its last quarter is 30 days", of_term(120, 30), None, ("expiresSoon",)),
    ("a term of 120 days, 31 days before its end", of_term(120, 31), None, ()),
    ("a term of a year: 30 days, not 91", of_term(364, 31), None, ()),
    ("a term of a year, 30 days before its end", of_term(364, 30), None, ("expiresSoon",)),
    ("a term of 90 days: its last quarter is 22 days and a half", of_term(90, 22), None, ("expiresSoon",)),
    ("a term of 90 days, 23 days before its end", of_term(90, 23), None, ()),
    ("a term of a month: its last quarter is a week", of_term(30, 7), None, ("expiresSoon",)),
    ("a term of a month, 8 days before its end", of_term(30, 8), None, ()),
    ("a term of one day, on that day", of_term(0, 0), None, ("expiresSoon",)),
    ("a term of three days, a day before its end", of_term(3, 1), None, ()),
    (
        "a perpetual license has a term too, that of its maintenance",
        replace(of_term(30, 8), license_type=LicenseType.PERPETUAL),
        None,
        (),
    ),
    ("31 days to the feature disable date are not soon", replace(ENDED, feature_disable_date=LATER), None, ()),
    (
        "30 days to the feature disable date are soon",
        replace(ENDED, feature_disable_date=SOON),
        None,
        ("featureDisablesSoon",),
    ),
    (
        "so is the day before it",
        replace(ENDED, feature_disable_date=TODAY + timedelta(days=1)),
        None,
        ("featureDisablesSoon",),
    ),
    ("the feature disable date itself is reached", replace(ENDED, feature_disable_date=TODAY), None, ()),
    (
        "a feature disable date without an end date never comes",
        replace(UNLIMITED, feature_disable_date=SOON),
        None,
        (),
    ),
    (
        "a feature of a license that is not enabled is not disabled",
        replace(ENDED, feature_disable_date=SOON, enabled=False),
        None,
        (),
    ),
    (
        "a feature disable date before the end date: 30 days until that day is over",
        replace(UNLIMITED, end_date=TODAY + timedelta(days=29), feature_disable_date=date(2026, 1, 1)),
        None,
        ("expiresSoon", "featureDisablesSoon"),
    ),
    (
        "a feature disable date before the end date: 31 days until that day is over",
        replace(UNLIMITED, end_date=SOON, feature_disable_date=date(2026, 1, 1)),
        None,
        ("expiresSoon",),
    ),
    (
        "a feature disable date on the end date, which is today: a day",
        replace(UNLIMITED, end_date=TODAY, feature_disable_date=TODAY),
        None,
        ("expiresSoon", "featureDisablesSoon"),
    ),
    (
        "the last day that can be written never comes",
        replace(UNLIMITED, end_date=date.max, feature_disable_date=date.max),
        None,
        (),
    ),
    ("as many users as licensed are no warning", UNLIMITED, 50, ()),
    ("one user more is", UNLIMITED, 51, ("usersExceeded",)),
    ("no users are no warning", UNLIMITED, 0, ()),
    ("users that are not reported are no warning", UNLIMITED, None, ()),
    ("a site license has no limit", SITE, 10_000_000, ()),
    (
        "a site license with a number of users has no limit either",
        replace(SITE, number_of_users=1),
        10_000_000,
        (),
    ),
    (
        "warnings stand side by side, in the order of the contract",
        replace(PERPETUAL, end_date=TODAY - timedelta(days=1), feature_disable_date=SOON),
        51,
        ("maintenanceExpired", "featureDisablesSoon", "usersExceeded"),
    ),
    (
        "both dates may be soon",
        replace(UNLIMITED, end_date=TODAY + timedelta(days=10), feature_disable_date=SOON),
        None,
        ("expiresSoon", "featureDisablesSoon"),
    ),
    (
        "a status other than licensed has its warnings too",
        replace(UNLIMITED, enabled=False, end_date=SOON),
        51,
        ("expiresSoon", "usersExceeded"),
    ),
]


@pytest.mark.parametrize(
    ("license_", "users", "warnings"), [case[1:] for case in WARNINGS], ids=[case[0] for case in WARNINGS]
)
def test_decide_returns_warnings(license_: CustomerProduct, users: int | None, warnings: tuple[str, ...]) -> None:
    # At noon UTC the last day anywhere is the UTC date.
    assert licensed_by(license_, users=users).warnings == warnings


@pytest.mark.parametrize(
    ("product", "environment", "status"),
    [
        (replace(PRODUCT, license_control_disabled=True), ENVIRONMENT, Status.LICENSED),
        (PRODUCT, replace(ENVIRONMENT, active=False), Status.ENVIRONMENT_INACTIVE),
    ],
    ids=["license control is disabled", "the environment is switched off"],
)
def test_decide_returns_license_warnings_when_product_or_environment_decides(
    product: Product, environment: Environment, status: Status
) -> None:
    license_ = replace(UNLIMITED, end_date=SOON)
    decision = decide(product, environment, [license_], dates=Dates.at(NOW), enabled_users_count=51)
    assert (decision.status, decision.warnings) == (status, ("expiresSoon", "usersExceeded"))


def test_decide_with_users_exceeded_still_allows() -> None:
    assert licensed_by(UNLIMITED, users=10_000_000).action is Action.ALLOW


# --- several licenses of one product

GOOD = replace(LICENSE, id="good")
EXPIRED = replace(LICENSE, id="expired", end_date=YESTERDAY_EVERYWHERE)
AHEAD = replace(LICENSE, id="ahead", start_date=TOMORROW_EVERYWHERE)
OFF = replace(LICENSE, id="off", enabled=False)
GONE = replace(DISABLED, id="gone")
SEVERAL_LICENSES: list[tuple[str, list[CustomerProduct], str]] = [
    ("a license that counts goes before one that has expired", [EXPIRED, GOOD], "good"),
    ("before one that has not started", [AHEAD, GOOD], "good"),
    ("before one that is not enabled", [OFF, GOOD], "good"),
    ("before one whose feature is disabled", [GONE, GOOD], "good"),
    ("a prompt goes before a feature that is disabled", [GONE, EXPIRED], "expired"),
    ("a license that is not enabled goes before a feature that is disabled", [GONE, OFF], "off"),
    ("among prompts the later end date goes first, whatever the reason", [OFF, EXPIRED], "off"),
    ("of two that count, the one that counts longer", [GOOD, replace(GOOD, id="longer", end_date=LATER)], "good"),
    ("for ever is longest", [GOOD, replace(GOOD, id="for ever", end_date=None)], "for ever"),
    (
        "of two that have expired, the one that did so last",
        [replace(EXPIRED, id="earlier", end_date=date(2020, 1, 1)), EXPIRED],
        "expired",
    ),
    (
        "enough users go before too few, though that license ends later",
        [replace(GOOD, id="few", number_of_users=59, end_date=None), replace(GOOD, id="enough", number_of_users=60)],
        "enough",
    ),
    (
        "a site license goes before a number of users, though that license ends later",
        [replace(GOOD, number_of_users=100, end_date=None), replace(GOOD, id="site", site_license=True)],
        "site",
    ),
    (
        "an action goes before the number of users",
        [replace(GOOD, number_of_users=1), replace(EXPIRED, number_of_users=100, site_license=True)],
        "good",
    ),
    (
        "the later end date goes before more users",
        [replace(GOOD, id="more", number_of_users=100), replace(GOOD, number_of_users=70, end_date=None)],
        "good",
    ),
    (
        "of two that end on one day, the one with more users",
        [replace(GOOD, id="a", number_of_users=70), replace(GOOD, id="more", number_of_users=100)],
        "more",
    ),
    (
        "of temp with 1 user, annual with 100 and an annual site license, the site license",
        [
            replace(GOOD, id="temp", license_type=LicenseType.TEMP, number_of_users=1, end_date=None),
            replace(GOOD, id="annual", number_of_users=100),
            replace(GOOD, id="site", site_license=True, number_of_users=None),
        ],
        "site",
    ),
    ("seats do not add up", [replace(GOOD, id="30", number_of_users=30), replace(GOOD, number_of_users=40)], "good"),
    ("of two alike, always the same", [replace(GOOD, id="b"), replace(GOOD, id="a")], "a"),
]


@pytest.mark.parametrize(
    ("licenses", "best"), [case[1:] for case in SEVERAL_LICENSES], ids=[case[0] for case in SEVERAL_LICENSES]
)
def test_decide_uses_the_best_license_in_any_order(licenses: list[CustomerProduct], best: str) -> None:
    for order in itertools.permutations(licenses):
        decision = licensed_by(*order, users=60)
        assert decision.license
        assert decision.license.id == best
        assert decision == licensed_by(decision.license, users=60)


# --- what the user is told

SENTENCES: list[tuple[Situation, str | None]] = [
    (
        Situation(product=None),
        "Product SmartSend is enabled but not licensed: the publisher has no active product of that name.",
    ),
    (Situation(), None),
    (
        Situation(environment=None),
        "Product SmartSend is enabled but not licensed: no environment is registered with this serial number.",
    ),
    (
        Situation(environment=replace(ENVIRONMENT, active=False)),
        "Product SmartSend is enabled but not licensed: the registration of this environment is switched off.",
    ),
    (Situation(licenses=()), "Product SmartSend is enabled but not licensed: there is no license of it."),
    (Situation(licenses=(OFF,)), "Product SmartSend is enabled but not licensed: its license is not enabled."),
    (
        Situation(licenses=(replace(GONE, end_date=date(2026, 10, 31)),)),
        "Product SmartSend is switched off: its end date was 2026-10-31, its feature disable date 2026-11-22.",
    ),
    (Situation(licenses=(AHEAD,)), "Product SmartSend is enabled but not licensed: its license starts on 2026-11-26."),
    (
        Situation(licenses=(EXPIRED,)),
        "Product SmartSend is enabled but not licensed: its license expired on 2026-11-22.",
    ),
]


@pytest.mark.parametrize(
    ("situation", "told"), SENTENCES, ids=[situation.decide().status for situation, _ in SENTENCES]
)
def test_sentence_names_product_reason_and_date(situation: Situation, told: str | None) -> None:
    assert sentence(situation.decide(), "SmartSend") == told


@pytest.mark.parametrize(
    "situation", [each for each, _ in SENTENCES], ids=[each.decide().status for each, _ in SENTENCES]
)
def test_sentence_with_contact_ends_with_it(situation: Situation) -> None:
    decision = situation.decide()
    plain, whole = (sentence(decision, "SmartSend", contact) for contact in ("", "help@contoso.com"))
    assert whole == (plain and f"{plain} Contact help@contoso.com.")


def test_sentence_of_every_prompt_starts_with_the_documented_words() -> None:
    for situation, message in SENTENCES:
        if situation.decide().action is Action.PROMPT:
            assert message
            assert message.startswith("Product SmartSend is enabled but not licensed")


def test_sentence_cases_cover_every_status() -> None:
    assert {situation.decide().status for situation, _ in SENTENCES} == set(Status)


# --- properties

DATES = st.none() | st.dates(date(2025, 1, 1), date(2027, 12, 31))
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - the bounds have none
LICENSES = st.builds(
    CustomerProduct,
    id=st.uuids().map(str),
    created_at=st.just(LONG_AGO),
    updated_at=st.just(LONG_AGO),
    customer_id=st.just("customer"),
    product_id=st.just("product"),
    license_type=st.sampled_from(LicenseType),
    enabled=st.booleans(),
    site_license=st.booleans(),
    number_of_users=st.none() | st.integers(1, 100),
    start_date=DATES,
    end_date=DATES,
    feature_disable_date=DATES,
)
USERS = st.none() | st.integers(0, 200)
ALL_TIME_ZONES = [timezone(timedelta(minutes=minutes)) for minutes in range(-12 * 60, 14 * 60 + 1, 15)]
SEVERITY = [Action.ALLOW, Action.PROMPT, Action.DISABLE]


@given(st.lists(LICENSES, max_size=4), INSTANTS, USERS, st.data())
def test_decide_is_independent_of_license_order(
    licenses: list[CustomerProduct], at: datetime, users: int | None, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(licenses))
    assert licensed_by(*licenses, at=at, users=users) == licensed_by(*shuffled, at=at, users=users)


@given(st.lists(LICENSES, min_size=1, max_size=4), INSTANTS)
def test_decide_with_another_license_is_never_stricter(licenses: list[CustomerProduct], at: datetime) -> None:
    alone = [licensed_by(each, at=at).action for each in licenses]
    assert licensed_by(*licenses, at=at).action is min(alone, key=SEVERITY.index)


@given(LICENSES, INSTANTS, USERS)
def test_decide_users_count_changes_only_its_warning(
    license_: CustomerProduct, at: datetime, users: int | None
) -> None:
    with_users, without = licensed_by(license_, at=at, users=users), licensed_by(license_, at=at)
    assert with_users.status is without.status
    assert [warning for warning in with_users.warnings if warning is not LicenseWarning.USERS_EXCEEDED] == [
        *without.warnings
    ]


@given(LICENSES, INSTANTS, st.timedeltas(timedelta(0), timedelta(days=800)))
def test_decide_license_valid_later_is_valid_since_its_start(
    license_: CustomerProduct, at: datetime, span: timedelta
) -> None:
    later = licensed_by(license_, at=at + span).status
    now = licensed_by(license_, at=at).status
    if later is Status.LICENSED:
        assert now in {Status.LICENSED, Status.NOT_STARTED}
    if now is not Status.NOT_STARTED:
        assert later is not Status.NOT_STARTED


@given(LICENSES, INSTANTS)
def test_decide_applies_dates_in_the_most_favourable_time_zone(license_: CustomerProduct, at: datetime) -> None:
    """Held against every time zone there is, one by one, instead of the two that stand for all."""
    days = [at.astimezone(zone).date() for zone in ALL_TIME_ZONES]
    start, end, disable = license_.start_date, license_.end_date, license_.feature_disable_date
    ended = end is not None and all(day > end for day in days)
    disabled = ended and disable is not None and all(day >= disable for day in days)
    not_started = start is not None and all(day < start for day in days)
    expired = license_.license_type is not LicenseType.PERPETUAL and ended
    expected = (
        Status.FEATURE_DISABLED
        if disabled
        else Status.NOT_STARTED
        if not_started
        else Status.EXPIRED
        if expired
        else Status.LICENSED
    )
    assert licensed_by(replace(license_, enabled=True), at=at).status is expected


@given(LICENSES, INSTANTS)
def test_decide_disables_only_enabled_license_past_both_dates(license_: CustomerProduct, at: datetime) -> None:
    last = at.astimezone(timezone(timedelta(hours=-12))).date()
    end, disable = license_.end_date, license_.feature_disable_date
    past_both = end is not None and disable is not None and end < last and disable <= last
    assert (licensed_by(license_, at=at).action is Action.DISABLE) is (license_.enabled and past_both)


@given(LICENSES, INSTANTS)
def test_decide_warns_30_days_before_a_feature_is_disabled(license_: CustomerProduct, at: datetime) -> None:
    announced = LicenseWarning.FEATURE_DISABLES_SOON in licensed_by(license_, at=at).warnings
    disabled, later = (licensed_by(license_, at=at + timedelta(days=days)).action is Action.DISABLE for days in (0, 30))
    assert announced is (later and not disabled)


@given(st.lists(LICENSES, max_size=3), INSTANTS, st.timedeltas(timedelta(0), timedelta(days=400)), USERS)
def test_decide_is_constant_between_boundaries(
    licenses: list[CustomerProduct], at: datetime, span: timedelta, users: int | None
) -> None:
    until = Dates.at(at + span)
    expected = licensed_by(*licenses, at=at, users=users)
    for instant in boundaries_of(licenses, Dates.at(at), until):
        assert at < instant <= at + span
        before = licensed_by(*licenses, at=instant - timedelta(seconds=1), users=users)
        assert (before.status, before.license) == (expected.status, expected.license)
        expected = licensed_by(*licenses, at=instant, users=users)
    last = licensed_by(*licenses, at=at + span, users=users)
    assert (last.status, last.license) == (expected.status, expected.license)
