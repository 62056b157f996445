"""Which record a line is about, and what becomes of it: decided on what is kept, without a look at storage."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from licensing.bulk.csv_records import Importable, Kind, read
from licensing.bulk.plan import Plan, PublisherData, Step, plan
from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Region
from licensing.catalogue.rows import CustomerDocument
from licensing.catalogue.store import CatalogueStore
from licensing.storage.table import Table
from tests.support.records import NOW, a_customer, a_license, a_product, an_environment

PUBLISHER_ID = str(UUID(int=1))


def no_table(_: str) -> Table:
    raise AssertionError("a plan reads nothing")


def publisher_data(records: Iterable[Importable], publisher_id: str = PUBLISHER_ID) -> PublisherData:
    products: list[Product] = []
    documents: dict[str, CustomerDocument] = {}
    for record in sorted(records, key=lambda each: each.parent):  # customers first
        match record:
            case Product():
                products.append(record)
            case Customer():
                documents[record.id] = CustomerDocument(record)
            case CustomerProduct() | Environment():
                documents[record.customer_id].part(type(record))[record.id] = record
    etags = [replace(product, etag="1") for product in products]
    return PublisherData(publisher_id, 1, etags, [_versioned(document) for document in documents.values()])


def _versioned(document: CustomerDocument) -> CustomerDocument:
    """Every kept record tells which version wrote it."""
    assert document.customer
    return CustomerDocument(
        replace(document.customer, etag="1"),
        {key: replace(license_, etag="1") for key, license_ in document.customer_products.items()},
        {key: replace(environment, etag="1") for key, environment in document.environments.items()},
    )


async def plan_lines(kind: Kind, text: str, *records: Importable, publisher_id: str = PUBLISHER_ID) -> Plan:
    lines, faults = read(text.encode(), kind)
    assert faults == []
    store = CatalogueStore(table=no_table, clock=lambda: NOW)
    return await plan(store, publisher_data(records, publisher_id), kind, lines, NOW)


def faults_of(plan: Plan) -> list[tuple[int, str, str]]:
    return [(fault.line, fault.field, fault.code) for fault in plan.faults]


def steps(plan: Plan) -> list[Step]:
    """What the plan does; no line is bad."""
    assert plan.faults == []
    return plan.steps


def only(plan: Plan) -> Step:
    (step,) = steps(plan)
    return step


SMART = a_product("SmartSend", description="Sends", region=Region.ANZ, active=False)
FOREX = a_product("ForexRates")
FABRIKAM = a_customer("Fabrikam", number="C-1", region=Region.ANZ)
NORTHWIND = a_customer("Northwind", number="C-2")
WITHOUT_NUMBER = a_customer("Contoso")
TWIN, OTHER_TWIN = a_customer("Twin"), a_customer("twin")
FIRST, SECOND = date(2025, 1, 1), date(2026, 1, 1)
LICENSE = a_license(FABRIKAM.id, SMART.id, start_date=FIRST, end_date=date(2027, 1, 1), notes="x")
LATER = a_license(FABRIKAM.id, SMART.id, start_date=SECOND)
ENVIRONMENT = an_environment(FABRIKAM.id, "S-1", tenant="fabrikam.com")
ALL = (SMART, FOREX, FABRIKAM, NORTHWIND, WITHOUT_NUMBER, TWIN, OTHER_TWIN, LICENSE, ENVIRONMENT)

# Which record.


@pytest.mark.parametrize(
    ("kind", "text", "record"),
    [
        (Kind.PRODUCTS, f"id,name\n{SMART.id},Other\n", SMART),
        (Kind.PRODUCTS, f"id,name\n{SMART.id.upper()},Other\n", SMART),
        (Kind.PRODUCTS, "name,active\n smartSEND ,yes\n", SMART),
        (Kind.CUSTOMERS, "number,name\nc-1,Other\n", FABRIKAM),
        (Kind.CUSTOMERS, "name,number\nFABRIKAM,\n", FABRIKAM),
        (Kind.CUSTOMERS, "name,region\ncontoso,anz\n", WITHOUT_NUMBER),
        (Kind.CUSTOMERS, f"id,name\n{TWIN.id},Other\n", TWIN),
        (Kind.LICENSES, "customerNumber,productName,notes\nC-1,smartsend,\n", LICENSE),
        (Kind.LICENSES, f"customerId,productId,notes\n{FABRIKAM.id},{SMART.id.upper()},\n", LICENSE),
        (Kind.LICENSES, "customerName,productName,startDate\nfabrikam,SmartSend,2024-02-29\n", LICENSE),
        (Kind.LICENSES, f"id,productName\n{LICENSE.id},ForexRates\n", LICENSE),
        (Kind.LICENSES, f"id,enabled\n{LICENSE.id},no\n", LICENSE),
        (Kind.ENVIRONMENTS, "customerName,serialNumber,tenant\nFabrikam,s-1,other.com\n", ENVIRONMENT),
        (Kind.ENVIRONMENTS, f"id,active\n{ENVIRONMENT.id},no\n", ENVIRONMENT),
    ],
    ids=map(str, itertools.count()),
)
async def test_plan_matches_line_to_existing_record(kind: Kind, text: str, record: Importable) -> None:
    step = only(await plan_lines(kind, text, *ALL))
    assert step.before == record
    assert step.changes
    assert (step.after.id, step.after.parent) == (record.id, record.parent)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.PRODUCTS, "name\nOther\n"),
        (Kind.CUSTOMERS, "name,number\nFabrikam,C-3\n"),
        (Kind.CUSTOMERS, "name,number\nTwin,C-3\n"),
        (Kind.CUSTOMERS, f"id,name,number\n{uuid4()},Fabrikam,C-1\n"),
        (Kind.LICENSES, "customerNumber,productName,licenseType,numberOfUsers\nC-1,ForexRates,annual,5\n"),
        (Kind.LICENSES, "customerNumber,productName,licenseType,siteLicense\nC-2,SmartSend,Annual,yes\n"),
        (Kind.ENVIRONMENTS, "customerNumber,tenant,serialNumber\nC-1,fabrikam.com,S-2\n"),
    ],
    ids=map(str, itertools.count()),
)
async def test_plan_creates_unknown_record_with_stable_id(kind: Kind, text: str) -> None:
    step = only(await plan_lines(kind, text, *ALL))
    assert step.before is None
    assert step.after.id == str(UUID(step.after.id))
    again = only(await plan_lines(kind, text, *ALL))
    assert again.after.id == step.after.id
    assert not only(await plan_lines(kind, text, *ALL, step.after)).changes, "once it is kept, it is known"


@pytest.mark.parametrize(
    ("kind", "text", "faults"),
    [
        (Kind.CUSTOMERS, "name\nTwin\n", [(2, "name", "ambiguous")]),
        (Kind.CUSTOMERS, "name,number\nA,1\nB,1\n", [(2, "number", "repeated"), (3, "number", "repeated")]),
        (Kind.CUSTOMERS, "name,number\nA,1\na,\n", [(3, "name", "repeated")]),
        (Kind.PRODUCTS, "name\nA\nB\na\n", [(2, "name", "repeated"), (4, "name", "repeated")]),
        (Kind.PRODUCTS, f"id,name\n{SMART.id},X\n{SMART.id},Y\n", [(3, "", "repeated")]),
        (Kind.PRODUCTS, f"id,name\n,SmartSend\n{SMART.id},Y\n", [(3, "", "repeated")]),
        (Kind.PRODUCTS, "id,name\nx,Y\n", [(2, "id", "notAGuid")]),
        (Kind.PRODUCTS, f"id,name\n{uuid4()},SMARTSEND\n", [(2, "name", "taken")]),
        (Kind.PRODUCTS, f"id,name\n{SMART.id},X\n{FOREX.id},x\n", [(3, "name", "taken")]),
        (Kind.LICENSES, "productName,licenseType\nSmartSend,annual\n", [(2, "customerName", "mandatory")]),
        (Kind.LICENSES, "customerNumber,licenseType\nC-1,annual\n", [(2, "productName", "mandatory")]),
        (Kind.LICENSES, "customerName,productName\nNobody,SmartSend\n", [(2, "customerName", "unknown")]),
        (Kind.LICENSES, "customerId,productName\nC-1,SmartSend\n", [(2, "customerId", "unknown")]),
        (Kind.LICENSES, "customerName,productName\nFabrikam,Nothing\n", [(2, "productName", "unknown")]),
        (Kind.LICENSES, "customerName,productName\nTwin,SmartSend\n", [(2, "customerName", "ambiguous")]),
        (
            Kind.LICENSES,
            "customerNumber,customerName,productName\nC-1,Northwind,SmartSend\n",
            [(2, "customerName", "contradiction")],
        ),
        (
            Kind.LICENSES,
            f"customerName,productId,productName\nFabrikam,{SMART.id},ForexRates\n",
            [(2, "productName", "contradiction")],
        ),
        (Kind.LICENSES, f"id,customerNumber\n{LICENSE.id},C-2\n", [(2, "id", "ofAnotherCustomer")]),
        (Kind.ENVIRONMENTS, f"id,customerNumber\n{ENVIRONMENT.id},C-2\n", [(2, "id", "ofAnotherCustomer")]),
        (Kind.ENVIRONMENTS, "customerNumber,tenant,serialNumber\nC-2,x.com,S-1\n", [(2, "serialNumber", "taken")]),
        (
            Kind.ENVIRONMENTS,
            "customerNumber,tenant,serialNumber\nC-2,x.com,S-3\nC-1,y.com,s-3\n",
            [(3, "serialNumber", "taken")],
        ),
        (
            Kind.ENVIRONMENTS,
            f"id,tenant,serialNumber\n{ENVIRONMENT.id},x.com,adfs\n",
            [(2, "serialNumber", "notASerialNumber")],
        ),
        (Kind.ENVIRONMENTS, "customerNumber,tenant,serialNumber\nC-2,x.com,\n", [(2, "serialNumber", "mandatory")]),
    ],
    ids=map(str, itertools.count()),
)
async def test_plan_rejects_incomplete_or_contradictory_lines(
    kind: Kind, text: str, faults: list[tuple[int, str, str]]
) -> None:
    assert faults_of(await plan_lines(kind, text, *ALL)) == faults


async def test_plan_reports_line_numbers_of_repeated_records() -> None:
    plan = await plan_lines(Kind.CUSTOMERS, "name\nA\nB\na\n")
    assert [fault.message for fault in plan.faults] == [
        "Line 4 is about the same customer. If they are two, give each its number or id.",
        "Line 2 is about the same customer. If they are two, give each its number or id.",
    ]
    plan = await plan_lines(Kind.PRODUCTS, f"id\n{SMART.id}\n{SMART.id}\n", SMART)
    assert [fault.message for fault in plan.faults] == ["Line 2 is about the same product."]


async def test_plan_matches_customers_of_same_name_by_number() -> None:
    named = a_customer("Twin", number="T-1")
    text = "customerName,customerNumber,productName,licenseType,siteLicense\ntwin,T-1,SmartSend,temp,yes\n"
    step = only(await plan_lines(Kind.LICENSES, text, *ALL, named))
    assert step.after.parent == named.id


_LICENSE = "customerNumber,productName,licenseType,siteLicense,startDate\n"


@pytest.mark.parametrize(
    ("kept", "starts", "befores"),
    [
        ([LICENSE, LATER], ["2026-01-01"], [LATER]),
        ([LICENSE, LATER], ["2025-01-01", "2026-01-01"], [LICENSE, LATER]),
        ([LICENSE, LATER], ["2024-01-01"], [None]),
        ([LICENSE], ["2024-01-01"], [LICENSE]),
        ([LICENSE], ["2024-01-01", "2025-01-01"], [None, LICENSE]),
        ([LICENSE], ["", "2026-01-01"], [None, None]),
        ([], ["2025-01-01", "2026-01-01"], [None, None]),
        ([], ["2025-01-01", ""], [None, None]),
        ([replace(LICENSE, start_date=None), LATER], [""], [LICENSE]),
    ],
    ids=[
        "of two, that of its start",
        "two, each by its start",
        "of two, none begins then",
        "the one that there is gets another start",
        "the one that there is, and another",
        "the one that there is is neither",
        "two new ones",
        "two new ones, one without a start",
        "of two, that without a start",
    ],
)
async def test_plan_matches_licenses_of_same_product_by_start_date(
    kept: list[CustomerProduct], starts: list[str], befores: list[CustomerProduct | None]
) -> None:
    text = _LICENSE + "".join(f"C-1,SmartSend,annual,yes,{start}\n" for start in starts)
    found = steps(await plan_lines(Kind.LICENSES, text, SMART, FABRIKAM, *kept))
    assert [step.before and step.before.id for step in found] == [before and before.id for before in befores]
    assert len({step.after.id for step in found}) == len(starts)


@pytest.mark.parametrize(
    ("kept", "starts", "faults"),
    [
        ([LICENSE, LATER], [""], [(2, "startDate", "ambiguous")]),
        ([LICENSE, replace(LATER, start_date=FIRST)], ["2025-01-01"], [(2, "startDate", "ambiguous")]),
        ([], ["2025-01-01", "2025-01-01"], [(2, "startDate", "repeated"), (3, "startDate", "repeated")]),
        ([LICENSE], ["", ""], [(2, "startDate", "repeated"), (3, "startDate", "repeated")]),
        ([LICENSE], ["01.01.2025"], [(2, "startDate", "wrongType")]),
    ],
)
async def test_plan_rejects_ambiguous_licenses(
    kept: list[CustomerProduct], starts: list[str], faults: list[tuple[int, str, str]]
) -> None:
    text = _LICENSE + "".join(f"C-1,SmartSend,annual,yes,{start}\n" for start in starts)
    assert faults_of(await plan_lines(Kind.LICENSES, text, SMART, FABRIKAM, *kept)) == faults


async def test_plan_with_serial_number_of_another_customer_reports_customer_name() -> None:
    plan = await plan_lines(Kind.ENVIRONMENTS, "customerNumber,tenant,serialNumber\nC-2,x.com,S-1\n", *ALL)
    (fault,) = plan.faults
    assert fault.message.startswith('The customer "Fabrikam" has this serial number already.')


SECOND_TENANT = an_environment(FABRIKAM.id, "S-1", tenant="fabrikam.onmicrosoft.com")
_ENVIRONMENT = "customerNumber,serialNumber,tenant\n"
TENANTS: dict[str, tuple[list[Environment], list[str], list[Environment | None]]] = {
    "of two, that of the tenant": ([ENVIRONMENT, SECOND_TENANT], ["Fabrikam.onmicrosoft.com"], [SECOND_TENANT]),
    "two, each by its tenant": (
        [ENVIRONMENT, SECOND_TENANT],
        ["fabrikam.onmicrosoft.com", "fabrikam.com"],
        [SECOND_TENANT, ENVIRONMENT],
    ),
    "of two, none has the tenant": ([ENVIRONMENT, SECOND_TENANT], ["fabrikam.org"], [None]),
    "the only one gets another tenant": ([ENVIRONMENT], ["fabrikam.org"], [ENVIRONMENT]),
    "the only one, and another": ([ENVIRONMENT], ["fabrikam.org", "fabrikam.com"], [None, ENVIRONMENT]),
    "two new ones": ([], ["fabrikam.com", "fabrikam.org"], [None, None]),
}


@pytest.mark.parametrize(("kept", "tenants", "befores"), TENANTS.values(), ids=TENANTS.keys())
async def test_plan_matches_environments_with_same_serial_number_by_tenant(
    kept: list[Environment], tenants: list[str], befores: list[Environment | None]
) -> None:
    text = _ENVIRONMENT + "".join(f"C-1,s-1,{tenant}\n" for tenant in tenants)
    found = steps(await plan_lines(Kind.ENVIRONMENTS, text, FABRIKAM, *kept))
    assert [step.before and step.before.id for step in found] == [before and before.id for before in befores]
    assert len({step.after.id for step in found}) == len(tenants)


AMBIGUOUS_TENANTS: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "a file without tenants": (
        "customerNumber,serialNumber,active\nC-1,S-1,no\n",
        [(2, "tenant", "ambiguous")],
    ),
    "the same tenant twice": (
        "customerNumber,serialNumber,tenant\nC-1,S-1,x.com\nC-1,s-1,X.com\n",
        [(2, "tenant", "repeated"), (3, "tenant", "repeated")],
    ),
    "the tenant of the other one": (
        f"id,tenant\n{ENVIRONMENT.id},fabrikam.onmicrosoft.com\n",
        [(2, "serialNumber", "taken")],
    ),
}


@pytest.mark.parametrize(("text", "faults"), AMBIGUOUS_TENANTS.values(), ids=AMBIGUOUS_TENANTS.keys())
async def test_plan_rejects_ambiguous_environments(text: str, faults: list[tuple[int, str, str]]) -> None:
    assert faults_of(await plan_lines(Kind.ENVIRONMENTS, text, *ALL, SECOND_TENANT)) == faults


async def test_plan_reads_zero_users_as_none() -> None:
    site = replace(LICENSE, site_license=True, number_of_users=None)
    text = "customerNumber,productName,siteLicense,numberOfUsers\nC-1,SmartSend,yes,0\n"
    assert not only(await plan_lines(Kind.LICENSES, text, SMART, FABRIKAM, site)).changes
    emptied = only(await plan_lines(Kind.LICENSES, text, SMART, FABRIKAM, LICENSE))
    assert (emptied.changes, emptied.after) == (True, site)
    text = text.replace("yes,0", "no,0")
    assert faults_of(await plan_lines(Kind.LICENSES, text, SMART, FABRIKAM, LICENSE)) == [
        (2, "numberOfUsers", "usersOrSite")
    ]


async def test_plan_derives_stable_unique_ids_from_names() -> None:
    one = only(await plan_lines(Kind.PRODUCTS, "name\nNew\n"))
    assert isinstance(one.after, Product)
    same = only(await plan_lines(Kind.PRODUCTS, "name,active\n NEW,no\n", *ALL))
    elsewhere = only(await plan_lines(Kind.PRODUCTS, "name\nNew\n", publisher_id=str(UUID(int=2))))
    customer = only(await plan_lines(Kind.CUSTOMERS, "name\nNew\n"))
    renamed = replace(one.after, name="Old")
    after_that = only(await plan_lines(Kind.PRODUCTS, "name\nNew\n", renamed))
    assert same.after.id == one.after.id
    assert len({step.after.id for step in (one, elsewhere, customer, after_that)}) == 4


# What becomes of it.


async def test_plan_keeps_missing_columns_and_resets_empty_cells_to_default() -> None:
    step = only(await plan_lines(Kind.PRODUCTS, "name,description,active\nSmartSend,,\n", *ALL))
    assert step.after == replace(SMART, description="", active=True)
    step = only(await plan_lines(Kind.LICENSES, f"id,numberOfUsers,endDate\n{LICENSE.id},99,\n", *ALL))
    assert step.after == replace(LICENSE, number_of_users=99, end_date=None)


async def test_plan_creates_record_with_default_values() -> None:
    text = "customerName,productName,licenseType,siteLicense,enabled\nNorthwind,SmartSend,PERPETUAL,YES,\n"
    made = only(await plan_lines(Kind.LICENSES, text, *ALL)).after
    assert made == CustomerProduct(
        id=made.id,
        created_at=NOW,
        updated_at=NOW,
        customer_id=NORTHWIND.id,
        product_id=SMART.id,
        license_type=LicenseType.PERPETUAL,
        site_license=True,
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.PRODUCTS, "name\nSmartSend\n"),
        (Kind.PRODUCTS, "name,description,region,active\n SmartSend , Sends,ANZ,No\n"),
        (Kind.LICENSES, "customerName,productName,startDate,notes\nFabrikam,SmartSend,2025-01-01,x\n"),
        (Kind.ENVIRONMENTS, "customerNumber,tenant,serialNumber,active\nC-1,fabrikam.com,S-1,\n"),
    ],
)
async def test_plan_with_identical_line_changes_nothing(kind: Kind, text: str) -> None:
    step = only(await plan_lines(kind, text, *ALL))
    assert not step.changes


async def test_plan_reports_every_fault_of_every_line() -> None:
    text = (
        "customerName,productName,licenseType,numberOfUsers,siteLicense,startDate,endDate,enabled,notes\n"
        "Fabrikam,ForexRates,annual,,no,2026-07-01,2026-06-30,yes,\n"
        "Northwind,ForexRates,yearly,many,1,1.7.2026,2026-02-30,perhaps,\n"
        "Northwind,SmartSend,annual,5,,,,,fine\n"
        "Contoso,SmartSend,,1000001,,,,,\n"
        f"Contoso,ForexRates,temp,5,,,,,a\x07bell{'.' * 5000}\n"
    )
    plan = await plan_lines(Kind.LICENSES, text, *ALL)
    assert faults_of(plan) == [
        (2, "numberOfUsers", "usersOrSite"),
        (2, "endDate", "datesOutOfOrder"),
        (3, "licenseType", "wrongType"),
        (3, "enabled", "wrongType"),
        (3, "siteLicense", "wrongType"),
        (3, "numberOfUsers", "wrongType"),
        (3, "startDate", "wrongType"),
        (3, "endDate", "wrongType"),
        (5, "licenseType", "mandatory"),
        (5, "numberOfUsers", "outOfRange"),
        (6, "notes", "tooLong"),
        (6, "notes", "controlCharacter"),
    ]
    assert [step.line for step in plan.steps] == [4]
    assert plan.faults[0].message == "Fill in No. of Users, or set Site (Module) License to Yes."


async def test_plan_with_empty_mandatory_cell_rejects_line() -> None:
    assert faults_of(await plan_lines(Kind.LICENSES, f"id,licenseType\n{LICENSE.id},\n", *ALL)) == [
        (2, "licenseType", "mandatory")
    ]
    assert faults_of(await plan_lines(Kind.PRODUCTS, f"id,name\n{SMART.id},\n", *ALL)) == [(2, "name", "mandatory")]


async def test_plan_over_customer_size_limit_reports_record_too_large() -> None:
    products = [a_product(f"P{number}") for number in range(120)]
    lines = "".join(f"Fabrikam,{product.name},annual,5,{'ü' * 5000}\n" for product in products)
    text = "customerName,productName,licenseType,numberOfUsers,notes\n" + lines
    plan = await plan_lines(Kind.LICENSES, text, FABRIKAM, *products)
    assert faults_of(plan) == [(121, "", "recordTooLarge")]
    assert "more licenses, environments and notes than" in plan.faults[0].message


# In which order.


async def test_plan_groups_lines_by_customer_and_checks_rules_in_that_order() -> None:
    other = an_environment(NORTHWIND.id, "S-2")
    text = (
        "id,customerName,tenant,serialNumber\n"
        f"{ENVIRONMENT.id},Fabrikam,fabrikam.com,S-9\n"
        f"{other.id},Northwind,northwind.com,S-1\n"
        ",Fabrikam,fabrikam.com,S-2\n"
    )
    plan = await plan_lines(Kind.ENVIRONMENTS, text, *ALL, other)
    assert [step.line for step in plan.steps] == [2, 3]
    assert faults_of(plan) == [(4, "serialNumber", "taken")], "when its turn comes, Northwind has not let go of it"


_NAMES = st.sampled_from(["A", "B", "C", ""])
_ID = st.sampled_from([*(str(UUID(int=number)) for number in range(5)), "", "", "", "", ""])
_START = st.sampled_from(["2025-01-01", "2026-01-01", ""])
_FILES = st.one_of(
    st.tuples(
        st.just((Kind.PRODUCTS, "id,name,active")),
        st.lists(st.tuples(_ID, _NAMES, st.sampled_from(["yes", "no"])), max_size=4),
    ),
    st.tuples(
        st.just((Kind.CUSTOMERS, "id,name,number")),
        st.lists(st.tuples(_ID, _NAMES, st.sampled_from(["1", "2", "3", ""])), max_size=4),
    ),
    st.tuples(
        st.just((Kind.LICENSES, "id,customerName,productName,startDate,licenseType,siteLicense")),
        st.lists(
            st.tuples(_ID, st.sampled_from("XY"), st.sampled_from("PQ"), _START, st.just("annual"), st.just("yes")),
            max_size=4,
        ),
    ),
    st.tuples(
        st.just((Kind.ENVIRONMENTS, "id,customerName,serialNumber,tenant")),
        st.lists(
            st.tuples(_ID, st.sampled_from("XY"), st.sampled_from("ST"), st.sampled_from(["x.com", "y.com"])),
            max_size=5,
        ),
    ),
)
_FIXED: list[Importable] = [
    replace(a_product("P"), id="p"),
    replace(a_product("Q"), id="q"),
    replace(a_customer("X", number="x"), id="x"),
    replace(a_customer("Y", number="y"), id="y"),
]


def _text(file: tuple[tuple[Kind, str], list[tuple[str, ...]]]) -> tuple[Kind, str]:
    (kind, heading), lines = file
    return kind, "\n".join([heading, *(",".join(line) for line in lines)])


def _after(records: Iterable[Importable], done: Sequence[Step]) -> list[Importable]:
    state = {(type(record), record.id): record for record in records}
    return list((state | {(type(step.after), step.after.id): step.after for step in done}).values())


def _state(records: Iterable[Importable]) -> dict[tuple[type, str], Any]:
    return {(type(record), record.id): record for record in records}


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(_FILES, max_size=3), _FILES)
@example(
    [((Kind.CUSTOMERS, "id,name,number"), [("", "A", "")])], ((Kind.CUSTOMERS, "id,name,number"), [("", "A", "1")])
)
async def test_plan_after_interrupted_import_reaches_same_result(
    earlier: list[tuple[tuple[Kind, str], list[tuple[str, ...]]]],
    file: tuple[tuple[Kind, str], list[tuple[str, ...]]],
) -> None:
    kept: list[Importable] = [*_FIXED]
    for each in earlier:
        kept = _after(kept, (await plan_lines(*_text(each), *kept)).steps)
    whole = await plan_lines(*_text(file), *kept)
    assume(not whole.faults)
    end = _after(kept, whole.steps)
    for count in range(len(whole.steps) + 1):
        half = _after(kept, whole.steps[:count])
        rest = await plan_lines(*_text(file), *half)
        assert rest.faults == []
        assert _state(_after(half, rest.steps)) == _state(end)
        assert not any(step.changes for step in rest.steps[:count])
    assert len({step.after.id for step in whole.steps}) == len(whole.steps)
