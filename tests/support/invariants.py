"""All that is kept of a publisher, held against every rule of the records, and against the audit."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Publisher, Role, User
from licensing.catalogue.rows import VERSION_ROW, AuditEntry, customer_key, due_key, serial_key
from licensing.identifiers import fold
from licensing.services import Services
from licensing.storage.batches import Row

type Address = tuple[str, str, str]  # kind, parent, id
type Fields = Mapping[str, Any]


@dataclass(frozen=True)
class StoredPublisher:
    """Everything in the partition of a publisher: its rows by key, and the records in them by address."""

    rows: dict[str, Row]
    records: dict[Address, dict[str, Any]]

    @property
    def version(self) -> int:
        return int(self.rows[VERSION_ROW]["number"])

    def of(self, kind: str) -> dict[Address, dict[str, Any]]:
        return {address: fields for address, fields in self.records.items() if address[0] == kind}


async def kept(services: Services, publisher_id: str) -> StoredPublisher:
    """Read with as little of the store's own code as can be, since that is what is tested."""
    table = services.table(publisher_id).connect()
    query = table.query_entities("PartitionKey eq @p", parameters={"p": publisher_id})
    rows: dict[str, Row] = {row["RowKey"]: row async for row in query}
    records: dict[Address, dict[str, Any]] = {}
    for key, row in rows.items():
        kind = key.partition("|")[0]
        if kind not in (Publisher.kind, Product.kind, Customer.kind, Role.kind, User.kind):
            continue
        own = {name: value for name, value in row.items() if name not in ("PartitionKey", "RowKey")}
        for name in ("allowedDomains", "roleIds", "privileges"):
            if name in own:
                own[name] = json.loads(own[name])
        if kind == Customer.kind:
            own["version"] = own.pop("customerVersion")
            for derived in ("productIds", "productCount", "environmentCount"):
                del own[derived]
            for name in sorted(own):
                part = name.rstrip("0123456789")
                if part in (CustomerProduct.kind, Environment.kind):
                    records |= {(part, own["id"], item["id"]): item for item in json.loads(own.pop(name))}
        records[kind, "", own["id"]] = own
    return StoredPublisher(rows, records)


async def audit(services: Services, publisher_id: str) -> list[AuditEntry]:
    """Oldest change first; within a change as the store has it."""
    newest_first = [entry async for entry in services.store.audit(publisher_id)]
    numbers = [entry.number for entry in newest_first]
    assert numbers == sorted(numbers, reverse=True)
    return sorted(newest_first, key=lambda entry: entry.number)


async def check_invariants(services: Services, publisher_id: str) -> tuple[StoredPublisher, list[AuditEntry]]:
    """Assert all that must always hold of a publisher's records; gives them back with their audit."""
    found, entries = await kept(services, publisher_id), await audit(services, publisher_id)
    _check_rules(found)
    _check_derived(found)
    _check_audit(found, entries)
    return found, entries


def _check_rules(found: StoredPublisher) -> None:
    names = [fold(product["name"]) for product in found.of("product").values()]
    assert len(names) == len(set(names)), "product names are unique"
    owners: dict[str, set[str]] = defaultdict(set)
    for environment in found.of("environment").values():
        owners[fold(environment["serialNumber"])].add(environment["customerId"])
    assert all(len(customers) == 1 for customers in owners.values()), "a serial number belongs to one customer"
    pairs = [(fold(each["serialNumber"]), fold(each["tenant"])) for each in found.of("environment").values()]
    assert len(pairs) == len(set(pairs)), "a serial number is registered once for a tenant"
    ids = [record_id for _, _, record_id in found.records]
    assert len(ids) == len(set(ids)), "nothing is kept twice"
    customers = {record_id for _, _, record_id in found.of("customer")}
    products = {record_id for _, _, record_id in found.of("product")}
    for (_, parent, _), fields in (found.of("environment") | found.of("customerProduct")).items():
        assert parent in customers, "nothing outlives its customer"
        assert fields["customerId"] == parent
    for fields in found.of("customerProduct").values():
        assert fields["productId"] in products, "a product that somebody holds is not deleted"
        assert fields["siteLicense"] or fields["numberOfUsers"] >= 1
        assert fields.get("numberOfUsers") != 0, "0 is stored as no number"
        days = [fields.get(name) for name in ("startDate", "endDate")]
        given = [date.fromisoformat(day) for day in days if day]
        assert given == sorted(given), "dates are in order"
    for fields in found.records.values():
        assert all(fields[name].strip() for name in ("name", "tenant", "serialNumber") if name in fields)


def _check_derived(found: StoredPublisher) -> None:
    """Serial numbers, due dates, counts and held products are just what the records say; there is no row besides."""
    environments = list(found.of("environment").values())
    leads_to = {
        key: next(each for each in environments if each["id"] == row["environmentId"])
        for key, row in _stored(found, "serial|").items()
    }
    assert leads_to.keys() == {serial_key(each["serialNumber"]) for each in environments}
    for key, decisive in leads_to.items():
        same = [each for each in environments if serial_key(each["serialNumber"]) == key]
        assert decisive in same, "a serial number leads to an environment that has it"
        assert _stored(found, "serial|")[key]["customerId"] == decisive["customerId"]
        assert decisive["active"] == any(each["active"] for each in same), "to an active one where there is one"
    due = {
        due_key(date.fromisoformat(fields["endDate"]), fields["id"]): {
            "customerProductId": fields["id"],
            **{name: fields[name] for name in ("customerId", "productId", "licenseType", "endDate")},
        }
        for fields in found.of("customerProduct").values()
        if "endDate" in fields
    }
    assert _stored(found, "due|") == due
    held: dict[str, list[str]] = defaultdict(list)
    counts = Counter(parent for _, parent, _ in found.of("environment"))
    newest: dict[str, int] = {}
    for (kind, parent, record_id), fields in found.records.items():
        if kind == CustomerProduct.kind:
            held[parent].append(fields["productId"])
        if kind in (Customer.kind, CustomerProduct.kind, Environment.kind):
            customer = parent or record_id
            newest[customer] = max(newest.get(customer, 0), fields["version"])
    for _, _, customer_id in found.of("customer"):
        row = found.rows[customer_key(customer_id)]
        assert set(row["productIds"].split()) == set(held[customer_id])
        assert (row["productCount"], row["environmentCount"]) == (len(held[customer_id]), counts[customer_id])
        assert newest[customer_id] <= row["version"] <= found.version
    kinds = {key.partition("|")[0] for key in found.rows}
    assert kinds <= {
        VERSION_ROW,
        "publisher",
        "product",
        "customer",
        "role",
        "user",
        "serial",
        "due",
        "request",
        "audit",
        "reminder",
    }


def _stored(found: StoredPublisher, prefix: str) -> dict[str, dict[str, Any]]:
    return {
        key: {name: row[name] for name in row if name not in ("PartitionKey", "RowKey")}
        for key, row in found.rows.items()
        if key.startswith(prefix)
    }


def _check_audit(found: StoredPublisher, entries: list[AuditEntry]) -> None:
    """The audit, told from the beginning, ends in just what is kept; and each entry begins where the last one ended."""
    assert {entry.number for entry in entries} == set(range(1, found.version + 1)), "no change without its audit"
    told: dict[Address, dict[str, Any]] = {}
    for entry in entries:
        address = (entry.kind, entry.parent_id, entry.record_id)
        state = told.pop(address, None)
        before = {name: value for name, value in state.items() if name != "version"} if state else None
        assert entry.before == before, "what was before is what the entry says"
        if entry.after is not None:
            told[address] = {**entry.after, "version": entry.number}
    assert told == found.records
