"""The rules that a record keeps by itself, one case a sentence."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from licensing.catalogue.records import (
    MAX_USERS,
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
)
from licensing.catalogue.rules import (
    SerialNumberTaken,
    check,
    check_deletable,
    check_product_name_free,
    check_serial_number,
    normalized,
)
from licensing.errors import AlreadyExists, HasChildren, RuleBroken
from licensing.fields import wire_name
from licensing.identifiers import fold
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment

USERS_OR_SITE = "Fill in No. of Users, or set Site (Module) License to Yes."

FACTORIES: dict[type[Record], Callable[..., Record]] = {
    Publisher: a_publisher,
    Product: a_product,
    Customer: a_customer,
    CustomerProduct: lambda **fields: a_license("customer", "product", **fields),
    Environment: lambda **fields: an_environment("customer", **fields),
}


def day(number: int) -> date:
    return date(2026, 2, number)


VALID: dict[str, Record] = {
    "a product with a name only": a_product(),
    "a product with everything": a_product(
        description="What it does.\r\n\tAnd how.",
        terms_url="https://example.com/terms",
        user_guide_url="http://example.com/guide",
        release_notes_url="https://example.com/notes?of=1",
        support_email="help.desk+x@mail.example.com",
    ),
    "a name of 128 characters": a_product("x" * 128),
    "a name in another script": a_product("東京 Ærø 🧾"),
    "a description of 2000 characters": a_customer(description="x" * 2000),
    "notes of 5000 characters": a_license("c", "p", notes="x" * 5000),
    "one user": a_license("c", "p", number_of_users=1),
    "the greatest number of users": a_license("c", "p", number_of_users=MAX_USERS),
    "a site license without users": a_license("c", "p", number_of_users=None, site_license=True),
    "a site license that also has users": a_license("c", "p", number_of_users=5, site_license=True),
    "no dates": a_license("c", "p"),
    "all dates on one day": a_license("c", "p", start_date=day(1), end_date=day(1), feature_disable_date=day(1)),
    "dates in order": a_license("c", "p", start_date=day(1), end_date=day(2), feature_disable_date=day(3)),
    "an end date alone": a_license("c", "p", end_date=day(1)),
    "a start date alone": a_license("c", "p", start_date=day(1)),
    "a feature disable date alone": a_license("c", "p", feature_disable_date=day(1)),
    "a feature disable date before the end": a_license("c", "p", end_date=day(2), feature_disable_date=day(1)),
    "a feature disable date before the start": a_license("c", "p", start_date=day(2), feature_disable_date=day(1)),
    "a serial number that only begins like adfs": an_environment("c", "adfs.contoso.com"),
    "an agreement that starts after the end of the license": a_license(
        "c", "p", start_date=day(1), end_date=day(2), agreement_start_date=day(3)
    ),
    "the first and the last day that there are": a_license("c", "p", start_date=date.min, end_date=date.max),
    "a publisher with a GUID in lower case": a_publisher(id="446d5d80-d20d-43c6-a96c-370628f5bd9f"),
}


@pytest.mark.parametrize("record", VALID.values(), ids=VALID.keys())
def test_check_accepts_valid_record(record: Record) -> None:
    check(record)


# What is wrong, with what, and the faults: (field, code, sentence).
INVALID: dict[str, tuple[type[Record], dict[str, Any], list[tuple[str, str, str]]]] = {
    "a product without a name": (Product, {"name": ""}, [("name", "mandatory", "Fill in Name.")]),
    "a product with a blank name": (Product, {"name": "  "}, [("name", "mandatory", "Fill in Name.")]),
    "a product with a name of no-break spaces": (Product, {"name": "\xa0"}, [("name", "mandatory", "Fill in Name.")]),
    "a customer without a name": (Customer, {"name": ""}, [("name", "mandatory", "Fill in Name.")]),
    "a publisher without a name": (Publisher, {"name": " "}, [("name", "mandatory", "Fill in Name.")]),
    "an environment without a tenant": (Environment, {"tenant": ""}, [("tenant", "mandatory", "Fill in Tenant.")]),
    "an environment without a serial number": (
        Environment,
        {"serial_number": "  "},
        [("serialNumber", "mandatory", "Fill in Serial number.")],
    ),
    "an environment without either, told at once": (
        Environment,
        {"tenant": "", "serial_number": ""},
        [("tenant", "mandatory", "Fill in Tenant."), ("serialNumber", "mandatory", "Fill in Serial number.")],
    ),
    "a name of 129 characters": (
        Product,
        {"name": "x" * 129},
        [("name", "tooLong", "Name has 128 characters at most.")],
    ),
    "a serial number of 129 characters": (
        Environment,
        {"serial_number": "x" * 129},
        [("serialNumber", "tooLong", "Serial number has 128 characters at most.")],
    ),
    "a description of 2001 characters": (
        Product,
        {"description": "x" * 2001},
        [("description", "tooLong", "Description has 2000 characters at most.")],
    ),
    "notes of 5001 characters": (
        CustomerProduct,
        {"notes": "x" * 5001},
        [("notes", "tooLong", "Notes has 5000 characters at most.")],
    ),
    "an invoice text of 501 characters": (
        CustomerProduct,
        {"invoiced_as": "x" * 501},
        [("invoicedAs", "tooLong", "Invoiced as has 500 characters at most.")],
    ),
    "a directory that is no GUID": (
        Publisher,
        {"directory_id": "contoso.onmicrosoft.com"},
        [("directoryId", "notAGuid", "Directory is a GUID, in lower case.")],
    ),
    "a setting that holds something else": (
        Publisher,
        {"telemetry_setting": "LICENSING_STORAGE"},
        [
            (
                "telemetrySetting",
                "notASetting",
                "Telemetry setting is the name of an app setting: LICENSING_TELEMETRY_OF_NAME.",
            )
        ],
    ),
    "neither a site license nor users": (
        CustomerProduct,
        {"number_of_users": None, "site_license": False},
        [("numberOfUsers", "usersOrSite", USERS_OR_SITE)],
    ),
    "less than no user, on a site license": (
        CustomerProduct,
        {"number_of_users": -1, "site_license": True},
        [("numberOfUsers", "outOfRange", "No. of Users is a number from 0 to 1,000,000.")],
    ),
    "more users than there can be": (
        CustomerProduct,
        {"number_of_users": MAX_USERS + 1},
        [("numberOfUsers", "outOfRange", "No. of Users is a number from 0 to 1,000,000.")],
    ),
    "a start after the end": (
        CustomerProduct,
        {"start_date": day(2), "end_date": day(1)},
        [("endDate", "datesOutOfOrder", "The end date cannot lie before the start date.")],
    ),
    "no users and dates the wrong way round, told at once": (
        CustomerProduct,
        {"number_of_users": None, "start_date": day(2), "end_date": day(1)},
        [
            ("numberOfUsers", "usersOrSite", USERS_OR_SITE),
            ("endDate", "datesOutOfOrder", "The end date cannot lie before the start date."),
        ],
    ),
}

ADFS = (
    "adfs is not a serial number: every on-premises installation reports it as its tenant. "
    "Copy the serial number from the About page of the customer's D365FO (Help & Support > About)."
)
for _serial_number in ("adfs", "ADFS", " Adfs\t", "ad\u200bfs"):
    INVALID[f"the serial number {_serial_number!a}"] = (
        Environment,
        {"serial_number": _serial_number.strip()},
        [("serialNumber", "notASerialNumber", ADFS)],
    )

for _id, _words in {
    "446D5D80-D20D-43C6-A96C-370628F5BD9F": "in upper case",
    "{446d5d80-d20d-43c6-a96c-370628f5bd9f}": "in braces",
    "446d5d80d20d43c6a96c370628f5bd9f": "without dashes",
    "contoso": "that is a name",
    "": "that is nothing",
    "446d5d80-d20d-43c6-a96c-370628f5bd9g": "with a letter that is no digit",
}.items():
    fault = ("id", "notAGuid", "The id of a publisher is a GUID in lower case.")
    INVALID[f"a publisher with an id {_words}"] = (Publisher, {"id": _id}, [fault])

for _url in ("javascript:alert(1)", "example.com", "ftp://example.com", "//example.com", "HTTPS://example.com"):
    INVALID[f"terms at {_url}"] = (
        Product,
        {"terms_url": _url},
        [("termsUrl", "notAUrl", "Terms and conditions URL must begin with https://.")],
    )

for _email in ("support", "@example.com", "a@b", "a@@example.com", "a b@example.com", "a@example.com.", "a@.com@x.y"):
    INVALID[f"support at {_email}"] = (
        Product,
        {"support_email": _email},
        [("supportEmail", "notAnEmail", "Support email is no email address.")],
    )

for _character in ("\0", "\x1b", "\x7f", "\x85", "\n", "\t", "\ud83e", "\udfff"):
    INVALID[f"{_character!a} in a name"] = (
        Product,
        {"name": f"a{_character}b"},
        [("name", "controlCharacter", "Name holds a character that cannot be printed.")],
    )

for _character in ("\0", "\x0b", "\x1b", "\x9f", "\ud83e"):
    INVALID[f"{_character!a} in a text of several lines"] = (
        CustomerProduct,
        {"notes": f"a{_character}b"},
        [("notes", "controlCharacter", "Notes holds a character that cannot be printed.")],
    )


@pytest.mark.parametrize(("record_type", "wrong", "faults"), INVALID.values(), ids=INVALID.keys())
def test_check_invalid_record_raises_rule_broken(
    record_type: type[Record], wrong: dict[str, Any], faults: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(RuleBroken) as refused:
        check(FACTORIES[record_type](**wrong))
    assert [(fault.field, fault.code, fault.message) for fault in refused.value.errors] == faults
    assert refused.value.detail == " ".join(sentence for _, _, sentence in faults), "the message says just that"


SAME_NAME = {
    "itself": ("SmartSend", "SmartSend"),
    "in another case": ("SmartSend", "SMARTSEND"),
    "with spaces round it": ("SmartSend", " \tSmartSend\xa0"),
    "composed and decomposed": ("Caf\xe9", "Cafe\u0301"),
    "composed and decomposed in another case": ("CAF\xc9", "cafe\u0301"),
    "marks in another order": ("a\u0323\u0307", "a\u0307\u0323"),
    "sharp s": ("Straße", "STRASSE"),
    "the Greek final sigma": ("ΟΔΟΣ", "οδος"),
    "the dotted capital I and its decomposition": ("İ", "i\u0307"),
    "the sign of Kelvin": ("\u212a", "k"),
}

ANOTHER_NAME = {
    "with a space within": ("SmartSend", "Smart Send"),
    "without its accent": ("Café", "Cafe"),
    "with a dotless i": ("i", "\u0131"),
    "with a dotted capital I": ("i", "İ"),
    "with full width letters": ("A", "\uff21"),
    "with a letter that only looks the same": ("A", "\u0391"),
}


@pytest.mark.parametrize(("one", "other"), SAME_NAME.values(), ids=SAME_NAME.keys())
def test_check_product_name_free_rejects_equal_name(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    with pytest.raises(AlreadyExists, match="There is a product") as refused:
        check_product_name_free(a_product(one), [a_product("another"), a_product(other)])
    assert f'"{other}"' in refused.value.detail, "as it is spelled there"
    assert [(fault.field, fault.code) for fault in refused.value.errors] == [("name", "taken")]


@pytest.mark.parametrize(("one", "other"), ANOTHER_NAME.values(), ids=ANOTHER_NAME.keys())
def test_check_product_name_free_accepts_different_name(one: str, other: str) -> None:
    assert fold(one) != fold(other)
    check_product_name_free(a_product(one), [a_product(other)])


def test_check_product_name_free_accepts_own_name() -> None:
    product = a_product("SmartSend")
    check_product_name_free(replace(product, name="SMARTSEND"), [product])


any_text = st.text(st.characters(exclude_categories=()), max_size=40)


@given(any_text)
def test_fold_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(any_text, st.sampled_from(["NFC", "NFD"]))
def test_fold_ignores_unicode_composition(text: str, form: Any) -> None:
    assert fold(unicodedata.normalize(form, text)) == fold(text)


@given(any_text)
def test_fold_ignores_case(text: str) -> None:
    assume("\u0131" not in text)  # the dotless i has the capital of the i, and is another letter
    assert fold(text.upper().lower()) == fold(text.upper()) == fold(text)


@given(any_text, st.text(" \t\u2003\xa0", max_size=3))
def test_fold_ignores_surrounding_spaces(text: str, spaces: str) -> None:
    assert fold(f"{spaces}{text}{spaces}") == fold(text)


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_fold_ascii_fast_path_returns_same_result(text: str) -> None:
    assert fold(text) == fold(f"{text.strip()}é").removesuffix("é")


@given(any_text, any_text, any_text)
def test_normalized_trims_texts_and_keeps_other_fields(name: str, text: str, notes: str) -> None:
    license_ = a_license("c", "p", wbs=text, invoiced_as=name, notes=notes, start_date=day(1))
    kept = normalized(license_)
    assert (kept.wbs, kept.invoiced_as, kept.notes) == (text.strip(), name.strip(), notes.strip())
    assert normalized(kept) == kept
    assert replace(kept, wbs=text, invoiced_as=name, notes=notes) == license_


def test_normalized_trims_texts_of_every_record_type() -> None:
    assert normalized(a_publisher(name=" x ")).name == "x"
    assert normalized(a_product(" x ")).name == "x"
    assert normalized(a_customer("x", number=" 7 ")).number == "7"
    environment = normalized(an_environment("c", " x ", tenant=" y "))
    assert (environment.serial_number, environment.tenant) == ("x", "y")


USERS: dict[str, tuple[int | None, int | None]] = {
    "none": (None, None),
    "0": (0, None),
    "1": (1, 1),
}


@pytest.mark.parametrize(("given", "stored"), USERS.values(), ids=USERS.keys())
def test_normalized_stores_zero_users_as_none(given: int | None, stored: int | None) -> None:
    license_ = a_license("c", "p", site_license=True, number_of_users=given)
    assert normalized(license_) == replace(license_, number_of_users=stored)


def test_check_zero_users_without_site_license_raises_rule_broken() -> None:
    with pytest.raises(RuleBroken) as refused:
        check(normalized(a_license("c", "p", number_of_users=0)))
    assert [(fault.field, fault.code, fault.message) for fault in refused.value.errors] == [
        ("numberOfUsers", "usersOrSite", USERS_OR_SITE)
    ]


# Serial numbers.


def test_check_serial_number_accepts_another_tenant_of_same_customer() -> None:
    holder = an_environment("c", tenant="contoso.onmicrosoft.com")
    check_serial_number(an_environment("c", tenant="contoso.com"), [holder])
    check_serial_number(an_environment("c"), [])


@pytest.mark.parametrize("tenant", ["contoso.com", "CONTOSO.com", " contoso.com"])
def test_check_serial_number_with_same_tenant_raises_already_exists(tenant: str) -> None:
    others = [an_environment("c", tenant="fabrikam.com"), an_environment("c", tenant="contoso.com")]
    with pytest.raises(AlreadyExists, match=r"for the tenant contoso.com already") as refused:
        check_serial_number(an_environment("c", tenant=tenant), others)
    assert [(fault.field, fault.code) for fault in refused.value.errors] == [("serialNumber", "taken")]


def test_check_serial_number_accepts_own_environment() -> None:
    environment = an_environment("c")
    check_serial_number(replace(environment, active=False), [environment])


def test_serial_number_taken_omits_customer_name_unless_requested() -> None:
    error = SerialNumberTaken("Fabrikam")
    for each, holder in ((error, "Another customer"), (error.naming_customer(), 'The customer "Fabrikam"')):
        assert each.detail.startswith(f"{holder} has this serial number already.")
        assert [(fault.field, fault.code, fault.message) for fault in each.errors] == [
            ("serialNumber", "taken", each.detail)
        ]
        assert (each.code, each.status) == ("alreadyExists", 409)
    assert "Fabrikam" not in f"{error} {error.errors}"


# What is derived.

DISABLE_DATES: dict[str, tuple[date | None, date | None, str | None]] = {
    "no date": (None, None, None),
    "an end date only": (day(2), None, None),
    "a disable date without an end date": (None, day(2), "withoutEndDate"),
    "a disable date before the end date": (day(2), day(1), "beforeEndDate"),
    "a disable date on the end date": (day(2), day(2), None),
    "a disable date after the end date": (day(2), day(3), None),
}


@pytest.mark.parametrize("license_type", [LicenseType.ANNUAL, LicenseType.PERPETUAL])
@pytest.mark.parametrize(("end", "disable", "code"), DISABLE_DATES.values(), ids=DISABLE_DATES.keys())
def test_as_of_returns_warning_for_disable_date_without_effect(
    end: date | None, disable: date | None, code: str | None, license_type: LicenseType
) -> None:
    license_ = a_license("c", "p", end_date=end, feature_disable_date=disable, license_type=license_type)
    check(license_)
    warnings = license_.as_of(datetime(2026, 1, 1, tzinfo=UTC)).warnings
    assert [(each.field, each.code) for each in warnings] == ([("featureDisableDate", code)] if code else [])
    assert all(each.message.startswith("The feature disable date has no effect") for each in warnings)


ENDED = datetime(2026, 2, 2, 12, 0, tzinfo=UTC)
"""The first instant after 2026-02-01 everywhere on Earth."""
ACTIVE: dict[str, tuple[dict[str, Any], datetime, bool]] = {
    "without an end date": ({}, ENDED, True),
    "before the end": ({"end_date": day(1)}, ENDED - timedelta(microseconds=1), True),
    "after the end": ({"end_date": day(1)}, ENDED, False),
    "perpetual, after the end of its maintenance": (
        {"end_date": day(1), "license_type": LicenseType.PERPETUAL},
        ENDED + timedelta(days=9),
        True,
    ),
    "before the start": ({"start_date": day(9), "end_date": day(9)}, ENDED, True),
    "not enabled": ({"enabled": False}, ENDED, True),
}


@pytest.mark.parametrize(("fields", "now", "active"), ACTIVE.values(), ids=ACTIVE.keys())
def test_as_of_returns_active_until_end_date_has_passed(fields: dict[str, Any], now: datetime, *, active: bool) -> None:
    assert a_license("c", "p", **fields).as_of(now).active is active


CHILDREN: dict[str, tuple[list[tuple[int, str]], str]] = {
    "one": ([(1, "product")], "1 product."),
    "several": ([(3, "product")], "3 products."),
    "of two kinds": ([(1, "product"), (12, "environment")], "1 product and 12 environments."),
    "of the second kind only": ([(0, "product"), (2, "environment")], "2 environments."),
}


@pytest.mark.parametrize(("children", "named"), CHILDREN.values(), ids=CHILDREN.keys())
def test_check_deletable_with_children_raises_has_children_with_totals(
    children: list[tuple[int, str]], named: str
) -> None:
    with pytest.raises(HasChildren) as refused:
        check_deletable(a_customer("Fabrikam"), children=children)
    assert refused.value.detail == f"Fabrikam cannot be deleted: it still has {named}"


def test_check_deletable_without_children_passes() -> None:
    check_deletable(a_customer(), children=[(0, "product"), (0, "environment")])


NAMES = {"name": "name", "license_type": "licenseType", "user_guide_url": "userGuideUrl"}


@pytest.mark.parametrize(("attribute", "name"), NAMES.items())
def test_wire_name_returns_camel_case(attribute: str, name: str) -> None:
    assert wire_name(attribute) == name
