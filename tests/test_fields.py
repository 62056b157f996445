"""Fields as requests bring them and answers take them: nothing is lost, nothing is guessed, nothing breaks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Region,
    Role,
    User,
)
from licensing.errors import LicensingError, MalformedRequest, RuleBroken
from licensing.fields import derived, described, inner, instant, merged, parse, render, text, value, wire_name
from licensing.http.permissions import Privilege, View
from licensing.validation.license_file import LicenseFileRequest

COMMON: dict[str, Any] = {"id": "r", "created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
CUSTOMER = Customer(**COMMON, name="Fabrikam")
ROLE = Role(**COMMON, name="Sales", privileges={View.CUSTOMERS: Privilege.READ})


def test_parse_treats_null_as_absent_field() -> None:
    assert parse(Customer, {"name": "Fabrikam", "number": None, "region": None}) == {"name": "Fabrikam"}


def test_merged_with_null_in_patch_clears_the_value() -> None:
    assert merged(ROLE, {"privileges": {"customers": None, "users": None}})["privileges"] == {}
    assert merged(ROLE, {"privileges": None})["privileges"] == {}


CLEARED: dict[str, Any] = {"number": 5, "day": "2026-02-28", "instant": "2026-11-24T02:00:00Z", "words": "x"}


@dataclass(frozen=True, kw_only=True)
class Clearable:
    """Something with a field of each type that an empty text may clear, or may not."""

    number: int | None = value("Number", default=None, span=(1, 9))
    day: date | None = value("Day", default=None)
    instant: datetime | None = value("Instant", default=None)
    words: str = text("Words")
    choice: Region = value("Choice", default=Region.NONE)
    flag: bool = value("Flag", default=False)


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("name", ["number", "day", "instant"])
def test_merged_and_parse_treat_empty_text_as_null_for_numbers_and_dates(name: str, empty: str | None) -> None:
    whole = Clearable(**parse(Clearable, CLEARED))
    assert merged(whole, {name: empty}) == merged(whole, {}) | {name: None}
    assert parse(Clearable, {name: empty}) == {}


@pytest.mark.parametrize("name", ["choice", "flag"])
def test_parse_and_merged_with_empty_text_for_choice_or_flag_raises_wrong_type(name: str) -> None:
    for read in (partial(parse, Clearable), partial(merged, Clearable())):
        with pytest.raises(RuleBroken) as caught:
            read({name: ""})
        assert [(fault.field, fault.code) for fault in caught.value.errors] == [(name, "wrongType")]


@pytest.mark.parametrize("given", [" ", "null", "0000-00-00"])
def test_parse_with_invalid_date_text_raises_rule_broken(given: str) -> None:
    with pytest.raises(RuleBroken):
        parse(Clearable, {"day": given})


def test_parse_with_empty_text_for_mandatory_number_raises_mandatory() -> None:
    with pytest.raises(RuleBroken) as caught:
        parse(LicenseFileRequest, {"days": ""})
    assert [(fault.field, fault.code) for fault in caught.value.errors] == [("days", "mandatory")]


type Reader = Callable[[Any], dict[str, Any]]


@pytest.mark.parametrize("body", [{"nmae": None}, {"": None}, {"product_ids": None}, {"productIds": None}])
@pytest.mark.parametrize("read", [partial(parse, Customer), partial(merged, CUSTOMER)])
def test_parse_and_merged_with_unknown_field_raises_even_if_null(read: Reader, body: dict[str, Any]) -> None:
    with pytest.raises(RuleBroken) as caught:
        read({"name": "Fabrikam", **body})
    assert [(fault.field, fault.code) for fault in caught.value.errors] == [(*body, "unknownField")]


@pytest.mark.parametrize("read", [partial(parse, Role), partial(merged, ROLE)])
def test_parse_and_merged_with_unknown_view_raises_even_if_null(read: Reader) -> None:
    with pytest.raises(RuleBroken, match="choose one of products, customers"):
        read({"name": "Sales", "privileges": {"custmers": None}})


# --- what is said of a field


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that something else has."""

    name: str = text("Name")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that has fields of every sort."""

    id: str
    full_name: str = text("Full name", most=10, mandatory=True, lines=True, like="url", hint="As on the box.")
    kind_of_it: Region = value("Kind")
    count: int | None = value("Count", default=None, span=(1, 9))
    days: tuple[date, ...] = value("Days", default=())
    rights: Mapping[View, Privilege] = value("Rights", default=dict)
    made_on: date = value("Made on", settable=False)
    parts: tuple[Part, ...] = derived("Parts", default=())
    total: int = derived("Total", default=0, shown=False)
    secret: str = inner("s")


def test_described_returns_name_type_and_flags_of_every_field_in_order() -> None:
    found = {each.name: each for each in described(Thing)}
    assert [*found] == [
        *("id", "fullName", "kindOfIt", "count", "days", "rights", "madeOn", "parts", "total", "secret"),
    ], "in their order"
    name = found["fullName"]
    assert (name.attribute, name.type, name.label, name.hint) == ("full_name", str, "Full name", "As on the box.")
    assert (name.most, name.lines, name.like, name.default) == (10, True, "url", "")
    assert (found["count"].type, found["count"].nullable, found["count"].span) == (int, True, (1, 9))
    assert [each.name for each in found.values() if each.settable] == [
        "fullName",
        "kindOfIt",
        "count",
        "days",
        "rights",
    ]
    assert [each.name for each in found.values() if each.mandatory] == ["fullName", "kindOfIt"]
    assert [each.name for each in found.values() if not each.shown] == ["total", "secret"]
    assert [each.name for each in found.values() if each.derived] == ["parts", "total"]
    assert [each.name for each in found.values() if each.nullable] == ["count"]
    assert found["rights"].default == {}


@pytest.mark.parametrize(
    ("attribute", "name"), [("name", "name"), ("license_type", "licenseType"), ("number_of_users", "numberOfUsers")]
)
def test_wire_name_converts_snake_case_to_camel_case(attribute: str, name: str) -> None:
    assert wire_name(attribute) == name


THING: dict[str, Any] = {
    "fullName": "x",
    "kindOfIt": "anz",
    "count": 5,
    "days": ["2026-02-28", "2024-02-29"],
    "rights": {"products": "read"},
}


def test_parse_and_render_round_trip_every_field_type() -> None:
    found = parse(Thing, THING | {"madeOn": "soon", "parts": 7, "id": {}})
    assert found == {
        "full_name": "x",
        "kind_of_it": Region.ANZ,
        "count": 5,
        "days": (date(2026, 2, 28), date(2024, 2, 29)),
        "rights": {View.PRODUCTS: Privilege.READ},
    }
    thing = Thing(id="t", made_on=date(1, 1, 1), parts=(Part(name="p"),), total=9, **found)
    assert render(thing) == THING | {"id": "t", "madeOn": "0001-01-01", "parts": [{"name": "p"}]}


INVALID_BODIES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing mandatory": ({"kindOfIt": None}, {"kindOfIt": "mandatory"}),
    "a text that is a number": ({"fullName": 1}, {"fullName": "wrongType"}),
    "a choice that is none": ({"kindOfIt": "ANZ"}, {"kindOfIt": "wrongType"}),
    "a choice that is a list": ({"kindOfIt": ["anz"]}, {"kindOfIt": "wrongType"}),
    "a number that is a text": ({"count": "5"}, {"count": "wrongType"}),
    "a number that is yes": ({"count": True}, {"count": "wrongType"}),
    "a number that is a fraction": ({"count": 1.5}, {"count": "wrongType"}),
    "a number that is infinite": ({"count": float("inf")}, {"count": "wrongType"}),
    "a number that is none": ({"count": float("nan")}, {"count": "wrongType"}),
    "a number too small": ({"count": 0}, {"count": "outOfRange"}),
    "a number too great": ({"count": 1e30}, {"count": "outOfRange"}),
    "a list that is none": ({"days": "2026-01-01"}, {"days": "wrongType"}),
    "a list with something else in it": ({"days": ["2026-01-01", None]}, {"days": "wrongType"}),
    "a day with a time": ({"days": ["2026-01-01T00:00:00Z"]}, {"days": "wrongType"}),
    "a day in other digits": ({"days": ["\uff12\uff10\uff12\uff16-01-01"]}, {"days": "wrongType"}),
    "a day that there is not": ({"days": ["2026-02-29"]}, {"days": "wrongType"}),
    "an object that is none": ({"rights": ["products"]}, {"rights": "wrongType"}),
    "an object with another name in it": ({"rights": {"x": "read"}}, {"rights": "wrongType"}),
    "an object with something else in it": ({"rights": {"products": 1}}, {"rights": "wrongType"}),
    "a field that is not shown": ({"secret": "x", "total": 1}, {"secret": "unknownField", "total": "unknownField"}),
    "an attribute for a name": ({"full_name": "x"}, {"full_name": "unknownField"}),
    "half a surrogate pair": ({"\ud800": 1}, {"?": "unknownField"}),
    "several at once": (
        {"count": "x", "days": 1, "z": 1},
        {"count": "wrongType", "days": "wrongType", "z": "unknownField"},
    ),
}


@pytest.mark.parametrize("sentence", INVALID_BODIES)
def test_parse_with_invalid_values_raises_a_code_for_each_field(sentence: str) -> None:
    body, faults = INVALID_BODIES[sentence]
    with pytest.raises(RuleBroken) as caught:
        parse(Thing, THING | body)
    assert {fault.field: fault.code for fault in caught.value.errors} == faults
    assert all(fault.message in caught.value.detail for fault in caught.value.errors)


@pytest.mark.parametrize("body", [None, [], "x", 1, True, [THING]])
def test_parse_and_merged_with_non_object_body_raises_malformed_request(body: object) -> None:
    for read in (partial(parse, Customer), partial(merged, CUSTOMER)):
        with pytest.raises(MalformedRequest):
            read(body)


def test_parse_with_thousands_of_faults_limits_reported_errors() -> None:
    with pytest.raises(RuleBroken) as caught:
        parse(Customer, {f"{'x' * 200}{number}": 1 for number in range(5_000)})
    assert len(caught.value.errors) == 100
    assert len(caught.value.detail) < 1_000
    assert {len(fault.field) for fault in caught.value.errors} == {128}


def test_merged_with_deeply_nested_patch_raises_malformed_request() -> None:
    patch: Any = {}
    for _ in range(5_000):
        patch = {"name": patch}
    with pytest.raises(MalformedRequest):
        merged(CUSTOMER, patch)


# --- any record, any patch, anything at all

texts = st.text(max_size=20)
days = st.none() | st.dates()
instants = st.datetimes(timezones=st.just(UTC))
OPTIONAL: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Publisher: {"allowed_domains": st.lists(texts, max_size=3).map(tuple), "support_email": texts},
    Product: {"description": texts, "region": st.sampled_from(Region), "active": st.booleans()},
    Customer: {"number": texts, "region": st.sampled_from(Region), "product_count": st.integers()},
    CustomerProduct: {
        "customer_id": texts,
        "license_type": st.sampled_from(LicenseType),
        "number_of_users": st.none() | st.integers(1, 1_000_000),
        "site_license": st.booleans(),
        **dict.fromkeys(("start_date", "end_date", "feature_disable_date", "agreement_start_date"), days),
        "notes": texts,
    },
    Environment: {"customer_id": texts, "tenant": texts, "active": st.booleans()},
    Role: {"name": texts, "privileges": st.dictionaries(st.sampled_from(View), st.sampled_from(Privilege))},
    User: {"email": texts, "role_ids": st.lists(texts, max_size=3).map(tuple), "identity": texts},
}
records: dict[type, st.SearchStrategy[Any]] = {
    kind: st.builds(kind, id=texts, created_at=instants, updated_at=instants, **more) for kind, more in OPTIONAL.items()
}
any_record = st.one_of(*records.values())
kinds = st.sampled_from([*records])


def settable(record: Any) -> dict[str, Any]:
    return {each.attribute: getattr(record, each.attribute) for each in described(type(record)) if each.settable}


@given(any_record)
def test_parse_of_rendered_record_returns_its_settable_values(record: Any) -> None:
    sent = json.loads(json.dumps(render(record)))
    assert parse(type(record), sent) == {name: held for name, held in settable(record).items() if held is not None}
    assert "identity" not in sent


@given(any_record)
def test_merged_with_empty_patch_or_rendered_record_changes_nothing(record: Any) -> None:
    whole: dict[str, Any] = json.loads(json.dumps(render(record)))
    for patch in ({}, whole):
        assert merged(record, patch) == settable(record)
        assert replace(record, **merged(record, patch)) == record


@given(st.data(), kinds)
def test_merged_sets_only_the_fields_in_the_patch(data: st.DataObject, kind: type) -> None:
    before, after = data.draw(records[kind]), data.draw(records[kind])
    known = {each.name: each for each in described(kind) if each.settable and each.name != "privileges"}
    named = data.draw(st.sets(st.sampled_from([*known])))
    patch = {name: held for name, held in render(after).items() if name in named}
    expected = settable(before)
    for name, held in patch.items():
        each = known[name]
        expected[each.attribute] = each.default if held is None else getattr(after, each.attribute)
    assert merged(before, patch) == expected


@given(records[Role], st.dictionaries(st.sampled_from(View), st.none() | st.sampled_from(Privilege)))
def test_merged_sets_only_the_privileges_in_the_patch(role: Role, patch: dict[View, Privilege | None]) -> None:
    expected = {view: held for view, held in {**role.privileges, **patch}.items() if held is not None}
    assert merged(role, {"privileges": patch}) == {"name": role.name, "privileges": expected}


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(sorted({each.name for kind in records for each in described(kind)})) | st.text(max_size=5)
anything = st.recursive(plain, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(names, inside, max_size=3))


@given(any_record, st.dictionaries(names, anything, max_size=6) | anything)
def test_parse_and_merged_with_arbitrary_body_return_or_raise_known_error(record: Any, body: Any) -> None:
    for read in (partial(parse, type(record)), partial(merged, record)):
        try:
            found = read(body)
        except (MalformedRequest, RuleBroken) as error:
            assert_serializable(error)
        else:
            assert found.keys() <= settable(record).keys()


def assert_serializable(error: LicensingError) -> None:
    json.dumps([error.detail, *(fault.field for fault in error.errors)], ensure_ascii=False).encode()
    assert error.detail.endswith(".")


# --- instants

time_zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
any_instant = st.datetimes(timezones=time_zones)


@given(any_instant, any_instant)
def test_instant_texts_sort_like_the_instants(one: datetime, other: datetime) -> None:
    texts_of_them = instant(one), instant(other)
    assert {len(each) for each in texts_of_them} == {27}
    if _is_in_range(one) and _is_in_range(other):
        assert (one < other, one == other) == (
            texts_of_them[0] < texts_of_them[1],
            texts_of_them[0] == texts_of_them[1],
        )
        assert datetime.fromisoformat(texts_of_them[0]) == one


def _is_in_range(at: datetime) -> bool:
    return 1 < at.year < 9999


@pytest.mark.parametrize(
    ("at", "written"),
    [
        ("2026-11-24T02:00:00+13:00", "2026-11-23T13:00:00.000000Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_instant_converts_to_utc_and_clamps_to_supported_years(at: str, written: str) -> None:
    assert instant(datetime.fromisoformat(at)) == written
