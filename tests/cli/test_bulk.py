"""`python -m licensing import` and `export` on a real store: what is kept, what is told, and what a stop leaves."""

import csv
import json
import random
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from licensing.bulk import plan as plan_module
from licensing.bulk.csv_records import COLUMNS, Kind
from licensing.bulk.plan import Plan
from licensing.catalogue.records import Customer, LicenseType, Region
from licensing.catalogue.service import Catalogue
from licensing.catalogue.store import CatalogueStore
from licensing.cli.running import with_services
from licensing.services import Services
from licensing.storage import batches
from tests.cli.conftest import Command, CommandResult
from tests.support.hosting import REPOSITORY, Served, environ_with
from tests.support.invariants import StoredPublisher, audit, check_invariants, kept
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment


@dataclass(frozen=True)
class BulkFixture:
    """A publisher without records, and the commands for it."""

    command: Command
    settings: Mapping[str, str]
    folder: Path
    publisher_id: str

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, newline="")
        return path

    def run(self, name: str, text: str, *options: object, **settings: str) -> CommandResult:
        path = self.file(name, text)
        return self.command("import", path, "--publisher", self.publisher_id, *options, **settings)

    def report(self, name: str, text: str, *options: object) -> dict[str, Any]:
        ended = self.run(name, text, "--json", *options)
        report: dict[str, Any] = json.loads(ended.out)
        assert ended.code == (3 if report["badLines"] else 0)
        return report

    def apply(self, name: str, text: str) -> tuple[int, int, int]:
        """How many records are made, changed, and left as they are."""
        report = self.report(name, text, "--apply")
        assert (report["applied"], report["badLines"]) == (True, [])
        return report["made"], report["changed"], report["unchanged"]

    def export(self) -> dict[str, str]:
        folder = self.folder / f"out-{uuid4()}"
        ended = self.command("export", "--publisher", self.publisher_id, "--output", folder)
        assert (ended.code, ended.err) == (0, "")
        return {path.name: path.read_text("utf-8-sig", newline="") for path in sorted(folder.iterdir())}

    def on_services(self, use: Callable[[Services], Any]) -> Any:
        return with_services(self.settings, use)

    def kept(self) -> StoredPublisher:
        found: StoredPublisher = self.on_services(lambda services: kept(services, self.publisher_id))
        return found

    def check(self) -> StoredPublisher:
        found, _ = self.on_services(lambda services: check_invariants(services, self.publisher_id))
        assert isinstance(found, StoredPublisher)
        return found


@pytest.fixture
def create_workspace(command: Command, service: Served, tmp_path: Path) -> Callable[[], BulkFixture]:
    def open_one() -> BulkFixture:
        publisher = a_publisher()
        with_services(service.settings, lambda services: services.catalogue.create_publisher(publisher, actor="test"))
        return BulkFixture(command, service.settings, tmp_path, publisher.id)

    return open_one


@pytest.fixture
def workspace(create_workspace: Callable[[], BulkFixture]) -> BulkFixture:
    return create_workspace()


FILES = {
    "products.csv": "name,description,region\nSmartSend,Sends,anz\nForexRates,,\n",
    "customers.csv": "name;number\nFabrikam;C-1\nStraße, & Söhne;C-2\nContoso;\n",
    "licenses.csv": (
        "customerNumber,customerName,productName,licenseType,numberOfUsers,siteLicense,startDate,endDate\n"
        "C-1,,SmartSend,annual,50,,2026-07-01,2027-06-30\n"
        ",contoso,ForexRates,perpetual,,yes,,\n"
        "C-1,,ForexRates,temp,5,no,2026-07-01,\n"
    ),
    "environments.csv": "customerNumber,tenant,serialNumber\nC-1,fabrikam.com,S-1\nC-2,soehne.example,S-2\n",
}


def fill(workspace: BulkFixture) -> None:
    for name, text in FILES.items():
        workspace.apply(name, text)


# Import.


@pytest.mark.parametrize("name", FILES)
def test_import_previews_then_applies_and_is_idempotent(workspace: BulkFixture, name: str) -> None:
    names = list(FILES)
    for earlier in names[: names.index(name)]:
        workspace.apply(earlier, FILES[earlier])
    before, lines = workspace.kept(), len(FILES[name].splitlines()) - 1
    shown = workspace.report(name, FILES[name])
    assert (shown["applied"], shown["made"], shown["changed"], shown["unchanged"]) == (False, lines, 0, 0)
    assert workspace.kept() == before, "without --apply nothing is changed"
    assert workspace.apply(name, FILES[name]) == (lines, 0, 0)
    after = workspace.check()
    assert after.version == before.version + 1
    assert {change["id"] for change in shown["changes"]} == {key[2] for key in after.records.keys() - before.records}
    assert workspace.apply(name, FILES[name]) == (0, 0, lines)
    assert workspace.check() == after


def test_import_reports_changed_fields_and_writes_audit(
    workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workspace)
    monkeypatch.setattr("getpass.getuser", lambda: "Ada")
    text = "name,region,active\nsmartsend,,no\nForexRates,,\n"
    report = workspace.report("products.csv", text, "--apply")
    (change,) = report["changes"]
    assert (change["line"], change["record"], change["made"]) == (2, "smartsend", False)
    assert change["fields"] == {
        "name": {"from": "SmartSend", "to": "smartsend"},
        "region": {"from": "anz", "to": "none"},
        "active": {"from": True, "to": False},
    }
    assert (report["made"], report["changed"], report["unchanged"]) == (0, 1, 1)
    found = workspace.check()
    (product,) = [fields for fields in found.of("product").values() if fields["name"] == "smartsend"]
    assert product["updatedAt"] > product["createdAt"]
    entries = workspace.on_services(lambda services: audit(services, workspace.publisher_id))
    assert [entry.actor for entry in entries if entry.number == found.version] == ["import ada"]
    assert entries[-1].before["region"] == "anz"


def test_import_without_user_name_uses_actor_import(workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr("getpass.getuser", nobody)
    workspace.apply("products.csv", "name\nSmartSend\n")
    assert workspace.on_services(lambda services: audit(services, workspace.publisher_id))[-1].actor == "import"


def test_import_with_bad_lines_applies_nothing_and_reports_all(workspace: BulkFixture) -> None:
    fill(workspace)
    before = workspace.kept()
    text = "name,region,active\nGood,anz,yes\nSmartSend,mars,1\nx\n,none,no\n"
    report = workspace.report("products.csv", text, "--apply")
    assert report["applied"] is False
    assert [(bad["line"], bad["field"], bad["code"]) for bad in report["badLines"]] == [
        (3, "region", "wrongType"),
        (3, "active", "wrongType"),
        (4, "", "wrongNumberOfCells"),
        (5, "name", "mandatory"),
    ]
    assert workspace.kept() == before


def test_import_prints_bad_lines(workspace: BulkFixture) -> None:
    ended = workspace.run("customers.csv", "name,region\n,anz\nFabrikam,Middle Earth\n", "--apply")
    assert (ended.code, ended.err) == (3, "")
    assert re.search(r"^ 2 +name +Fill in Name\. *$", ended.out, re.MULTILINE)
    assert re.search(
        r"^ 3 +region +Region: choose one of none, anz, global, nordic, internal, other\. *$", ended.out, re.MULTILINE
    )
    assert ended.out.endswith("customers.csv: 2 bad lines. Nothing was changed: fix the file, then run this again.\n")


def test_import_license_with_warning_applies_and_prints_warning(workspace: BulkFixture) -> None:
    fill(workspace)
    text = (
        "customerNumber,productName,startDate,endDate,featureDisableDate\n"
        "C-1,SmartSend,2026-07-01,2027-06-30,2027-06-29\n"
        "C-1,ForexRates,2026-07-01,,2027-06-29\n"
    )
    report = workspace.report("licenses.csv", text, "--apply")
    assert (report["applied"], report["badLines"], report["changed"]) == (True, [], 2)
    assert [(each["line"], each["field"], each["code"]) for each in report["warnings"]] == [
        (2, "featureDisableDate", "beforeEndDate"),
        (3, "featureDisableDate", "withoutEndDate"),
    ]
    workspace.check()
    printed = workspace.run("licenses.csv", text)
    assert printed.code == 0
    rows = [line.split(maxsplit=2) for line in printed.out.splitlines() if line.strip()[:2] in ("2 ", "3 ")]
    assert [(row[0], row[1]) for row in rows] == [("2", "featureDisableDate"), ("3", "featureDisableDate")]
    assert all("The feature disable date has no effect" in row[2] for row in rows)
    assert workspace.report("customers.csv", FILES["customers.csv"])["warnings"] == []


def test_import_prints_at_most_20_warnings(workspace: BulkFixture) -> None:
    workspace.apply("customers.csv", "name\nFabrikam\n")
    workspace.apply("products.csv", "name\n" + "".join(f"P{number}\n" for number in range(30)))
    lines = "".join(f"Fabrikam,P{number},annual,5,2027-01-01\n" for number in range(30))
    ended = workspace.run(
        "licenses.csv", "customerName,productName,licenseType,numberOfUsers,featureDisableDate\n" + lines, "--apply"
    )
    assert ended.out.count("The feature disable date has no effect") == 20
    assert "... and 10 more warnings" in ended.out


def test_import_environment_with_taken_serial_number_prints_customer(workspace: BulkFixture) -> None:
    fill(workspace)
    ended = workspace.run("environments.csv", "customerNumber,tenant,serialNumber\nC-2,x.com,s-1\n", "--apply")
    assert ended.code == 3
    assert 'The customer "Fabrikam" has this serial number already.' in " ".join(ended.out.split())


def test_import_prints_planned_changes(workspace: BulkFixture) -> None:
    fill(workspace)
    changed = FILES["licenses.csv"].replace("annual,50", "month,49").replace("2026-07-01,2", "2026-08-01,2")
    ended = workspace.run("licenses.csv", changed + ",Contoso,SmartSend,temp,9,,,\n")
    assert (ended.code, ended.err) == (0, "")
    assert [line.strip() for line in ended.out.splitlines()[3:]] == [
        "2      Fabrikam: SmartSend   licenseType: annual -> month",
        "numberOfUsers: 50 -> 49",
        "startDate: 2026-07-01 -> 2026-08-01",
        "5      Contoso: SmartSend    is made",
        "",
        "licenses.csv: 1 would be made, 1 changed, 2 left as they are. Nothing was changed: add --apply.",
    ]


def test_import_prints_at_most_20_changes(workspace: BulkFixture) -> None:
    ended = workspace.run("products.csv", "name\n" + "".join(f"P{number}\n" for number in range(50)))
    assert ended.out.count(" is made") == 20
    assert "... and 30 more" in ended.out


def test_import_with_apply_prints_duration(workspace: BulkFixture) -> None:
    ended = workspace.run("products.csv", "name\nSmartSend\n", "--apply")
    assert re.fullmatch(r"products\.csv: 1 made, 0 changed, 0 left as they are, in \d+\.\d s\.\n", ended.out)
    assert ended.err == ""


@pytest.mark.parametrize("name", ["[/bold]", "[red]Red[/red]", "a [link=https://example.com]b", ":key:", "\\[x]"])
def test_import_prints_markup_in_names_literally(workspace: BulkFixture, name: str) -> None:
    assert f" {name} " in workspace.run("products.csv", f"name\n{name}\n").out


def test_import_strips_terminal_control_characters(workspace: BulkFixture) -> None:
    ended = workspace.run("licenses.csv", "customerName,productName\n\x1b]0;owned\x07\x9b31m,x\n")
    assert "There is no customer" in ended.out
    assert not {"\x1b", "\x07", "\x9b"} & set(ended.out)


def test_import_on_terminal_shows_progress_bar(workspace: BulkFixture) -> None:
    text = "name\n" + "".join(f"P{number}\n" for number in range(120))
    assert "120/120" in workspace.run("products.csv", text, "--apply", FORCE_COLOR="1").err


# Which file.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("products.csv", []),
        ("Products.CSV", []),
        ("export (2).csv", ["--kind", "products"]),
        ("customers.csv", ["--kind", "products"]),
    ],
)
def test_import_takes_kind_from_file_name_or_option(workspace: BulkFixture, name: str, options: list[str]) -> None:
    assert workspace.report(name, "name,active\nSmartSend,yes\n", *options)["made"] == 1


def rejected_message(ended: CommandResult) -> str:
    assert (ended.code, ended.out) == (3, "")
    return ended.err


def test_import_with_unknown_file_name_requires_kind_option(workspace: BulkFixture) -> None:
    told = rejected_message(workspace.run("stuff.csv", "name\nSmartSend\n"))
    assert "--kind" in told
    assert "environments.csv" in told


def test_import_with_unknown_column_prints_one_line_error(workspace: BulkFixture) -> None:
    told = rejected_message(workspace.run("products.csv", "name,colour\nSmartSend,red\n", "--apply"))
    assert told.startswith(
        'This file cannot be imported: There are no such columns as "colour". products have: id, name,'
    )
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_import_of_unreadable_file_reports_path(workspace: BulkFixture, name: str) -> None:
    path = workspace.folder / name
    told = rejected_message(
        workspace.command("import", path, "--kind", "products", "--publisher", workspace.publisher_id)
    )
    assert f"{path} cannot be read" in told


def test_import_and_export_reject_unknown_publisher(workspace: BulkFixture) -> None:
    path = workspace.file("products.csv", "name\nSmartSend\n")
    for publisher_id in (str(uuid4()), "contoso"):
        rejected_message(workspace.command("import", path, "--apply", "--publisher", publisher_id))
        rejected_message(workspace.command("export", "--publisher", publisher_id, "--output", workspace.folder / "out"))
    assert not (workspace.folder / "out").exists()
    workspace.command("import", path, "--apply", "--publisher", workspace.publisher_id.upper())
    assert len(workspace.check().of("product")) == 1


# Transactions.


def test_import_fills_transactions_up_to_limit(workspace: BulkFixture) -> None:
    workspace.apply("products.csv", "name\n" + "".join(f"P{number}\n" for number in range(10)))
    version = workspace.kept().version
    workspace.apply("customers.csv", "name\n" + "".join(f"C{number:03}\n" for number in range(98)))
    # 49 customers with their audit, and the version.
    assert workspace.kept().version == version + 2
    lines = "".join(f"C{number:03},P{number % 7},annual,5,2027-01-01\n" for number in range(60))
    lines += "".join(f"C000,P{number},annual,5,2027-01-01\n" for number in range(7, 10))
    workspace.apply("licenses.csv", "customerName,productName,licenseType,numberOfUsers,endDate\n" + lines)
    # 4 of the first customer, 30 of one each; then 30.
    assert workspace.kept().version == version + 4
    later = lines.replace("2027", "2028")
    workspace.apply("licenses.csv", "customerName,productName,licenseType,numberOfUsers,endDate\n" + later)
    # What is found by its end date moves.
    assert workspace.kept().version == version + 7
    lines = "".join(f"C000,x.com,S-{number}\n" for number in range(49))
    workspace.apply("environments.csv", "customerName,tenant,serialNumber\n" + lines)
    assert workspace.check().version == version + 8


def test_import_splits_transactions_that_are_too_large(workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_TRANSACTION_BYTES", 60_000)
    text = "name,description\n" + "".join(f"C{number},{'x' * 2000}\n" for number in range(40))
    assert workspace.apply("customers.csv", text) == (40, 0, 0)
    found = workspace.check()
    assert len(found.of("customer")) == 40
    assert found.version > 5


def test_import_with_line_over_transaction_limit_reports_applied_count(
    workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MAX_TRANSACTION_BYTES", 7_000)
    text = "name,description\nA,\nB,\n" + f"C,{'x' * 2000}\n"
    monkeypatch.setattr("licensing.bulk.plan.check_limits", lambda *_: None)
    ended = workspace.run("customers.csv", text, "--apply")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines()[0] == "2 of 3 changes are stored. Run the same again: it makes the others."
    assert len(workspace.check().of("customer")) == 2


# Others at the same time, and ends before the end.


def meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[CatalogueStore], Any]) -> None:
    """Do this after the plan, before anything is kept."""
    planned = plan_module.plan

    async def plan_then_change(store: CatalogueStore, *others: Any) -> Plan:
        found = await planned(store, *others)
        await change(store)
        return found

    monkeypatch.setattr("licensing.cli.bulk.plan", plan_then_change)


def test_import_keeps_concurrent_change_of_same_record(workspace: BulkFixture) -> None:
    text = "name,description\n" + "".join(f"C{number:02},first\n" for number in range(60))
    workspace.apply("customers.csv", text)

    async def change(store: CatalogueStore) -> None:
        last = max(await store.list_records(workspace.publisher_id, Customer), key=lambda customer: customer.name)
        await Catalogue(store).update(
            workspace.publisher_id, Customer, last.id, lambda it: replace(it, description="theirs"), actor="other"
        )

    with pytest.MonkeyPatch.context() as patch:
        meanwhile(patch, change)
        ended = workspace.run("customers.csv", text.replace("first", "second"), "--apply")
    assert (ended.code, ended.out) == (3, "")
    kept_so_far, why = ended.err.splitlines()
    assert kept_so_far.startswith("49 of 60 changes are stored.")
    assert why.endswith("Somebody else has changed the record of line 61 meanwhile.")
    descriptions = [fields["description"] for fields in workspace.check().of("customer").values()]
    assert sorted(descriptions) == ["first"] * 10 + ["second"] * 49 + ["theirs"]
    assert workspace.apply("customers.csv", text.replace("first", "second")) == (0, 11, 49)
    workspace.check()


def test_import_succeeds_despite_concurrent_change_of_other_records(
    workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(store: CatalogueStore) -> None:
        await Catalogue(store).create(workspace.publisher_id, a_product("Theirs"), actor="other")

    meanwhile(monkeypatch, change)
    assert workspace.apply("products.csv", "name\nOurs\n") == (1, 0, 0)
    assert {fields["name"] for fields in workspace.check().of("product").values()} == {"Ours", "Theirs"}


def test_import_with_name_taken_concurrently_reports_error(
    workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(store: CatalogueStore) -> None:
        await Catalogue(store).create(workspace.publisher_id, a_product("ours"), actor="other")

    meanwhile(monkeypatch, change)
    ended = workspace.run("products.csv", "name\nOurs\n", "--apply")
    assert 'There is a product "ours" already' in rejected_message(ended)
    assert len(workspace.check().of("product")) == 1


_MANY = {
    "products.csv": "name\n" + "".join(f"P{number}\n" for number in range(4)),
    "customers.csv": "name,number\n" + "".join(f"Customer {number % 90},C-{number}\n" for number in range(300)),
    "licenses.csv": "customerNumber,productName,licenseType,numberOfUsers,endDate\n"
    + "".join(f"C-{number % 100},P{number // 100},annual,5,2027-01-01\n" for number in range(300)),
    "environments.csv": "customerNumber,tenant,serialNumber\n"
    + "".join(f"C-{number % 7},x.com,S-{number}\n" for number in range(200)),
}


@pytest.mark.slow
def test_import_killed_and_run_again_ends_with_same_records(create_workspace: Callable[[], BulkFixture]) -> None:
    killed, whole = create_workspace(), create_workspace()
    kills = 0
    for name, text in _MANY.items():
        whole.apply(name, text)
        if name != "products.csv":  # which takes one transaction
            kills += _kill_import(killed, name, text) + _kill_import(killed, name, text)
        killed.run(name, text, "--apply")
        assert killed.apply(name, text)[:2] == (0, 0)
        killed.check()
    assert kills, "some had not ended before they were killed"
    assert [_without_ids(text) for text in killed.export().values()] == [
        _without_ids(text) for text in whole.export().values()
    ]


def _kill_import(workspace: BulkFixture, name: str, text: str) -> bool:
    """Start the import, and kill it after some of its changes; whether it was still going then."""
    path, before = workspace.file(name, text), workspace.kept().version
    words = [sys.executable, "-m", "licensing", "import", str(path), "--apply", "--publisher", workspace.publisher_id]
    with subprocess.Popen(
        words, cwd=REPOSITORY, env=environ_with(workspace.settings), stdout=subprocess.DEVNULL
    ) as running:

        async def kill_it(services: Services) -> None:
            number, least = before, before + random.randint(1, 3)
            while number < least and running.poll() is None:
                version = await services.store.version(workspace.publisher_id)
                assert version
                number = version.number
            # Then at some moment within a change: a read of ours takes the longer, the slower the machine is.
            for _ in range(random.randrange(8)):
                await services.store.version(workspace.publisher_id)
            running.send_signal(signal.SIGKILL)

        workspace.on_services(kill_it)
        return running.wait() == -signal.SIGKILL


def _without_ids(text: str) -> list[tuple[str, ...]]:
    rows = csv.DictReader(text.splitlines())
    return sorted(tuple(cell for name, cell in row.items() if not name.lower().endswith("id")) for row in rows)


# Export.


_SPECIAL_VALUES = [
    "plain",
    'a "quoted" one',
    "commas, and; semicolons",
    "Straße Ünïcode 漢字 🧾",
    "=1+1",
    "'@+-",
    "\u2028line\u00a0space",
    "0012",
    "1E5",
    "TRUE",
]


def create_records_with_special_values(workspace: BulkFixture) -> None:
    """Records with all sorts of values in them."""

    async def create(services: Services) -> None:
        def keep(record: Any) -> Any:
            return services.catalogue.create(workspace.publisher_id, record, actor="test")

        for number, nasty in enumerate(_SPECIAL_VALUES):
            product = a_product(nasty, description=f"  {nasty}\r\nand\n\rmore\t", active=bool(number % 2))
            customer = a_customer(nasty, number=nasty, description="", region=Region.INTERNAL)
            for record in (
                product,
                customer,
                a_customer(nasty, number=""),
                a_license(
                    customer.id, product.id, notes=nasty, invoiced_as=nasty, wbs="", start_date=date(2024, 2, 29)
                ),
                a_license(customer.id, product.id, site_license=True, number_of_users=None, enabled=False),
                a_license(
                    customer.id,
                    product.id,
                    license_type=LicenseType.MANAGED_SERVICES,
                    start_date=date(2025, 1, 1),
                    end_date=date(2026, 1, 1),
                    feature_disable_date=date(2025, 6, 1),
                ),
                an_environment(customer.id, nasty, tenant=nasty, active=not number % 3),
                an_environment(customer.id, nasty, tenant=f"{nasty}.onmicrosoft.com"),
            ):
                await keep(record)

    workspace.on_services(create)


def test_export_files_are_readable_by_owner_only(workspace: BulkFixture) -> None:
    folder = workspace.folder / "private"
    assert workspace.command("export", "--publisher", workspace.publisher_id, "--output", folder).code == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_import_of_export_into_same_publisher_changes_nothing(workspace: BulkFixture) -> None:
    create_records_with_special_values(workspace)
    before = workspace.check()
    files = workspace.export()
    assert sorted(files) == sorted(kind.file_name for kind in Kind)
    for name, text in files.items():
        assert workspace.apply(name, text)[:2] == (0, 0)
    assert workspace.kept() == before


def test_import_of_export_into_another_publisher_creates_same_records(
    create_workspace: Callable[[], BulkFixture],
) -> None:
    source, target = create_workspace(), create_workspace()
    create_records_with_special_values(source)
    files = source.export()
    for kind in Kind:
        lines = target.apply(kind.file_name, "\ufeff" + files[kind.file_name])
        assert lines[1:] == (0, 0)
    assert target.export() == files
    ours, theirs = (
        {key for key in workspace.check().records if key[0] != "publisher"} for workspace in (source, target)
    )
    assert ours == theirs


def test_export_writes_every_column_of_every_record(workspace: BulkFixture) -> None:
    fill(workspace)
    ended = workspace.command(
        "export", "--publisher", workspace.publisher_id, "--output", workspace.folder / "new" / "all"
    )
    assert ended.out == f"{workspace.folder}/new/all holds 2 products, 3 customers, 3 licenses, 2 environments.\n"
    folder = workspace.folder / "new" / "all"
    for kind in Kind:
        assert (folder / kind.file_name).read_bytes().startswith(b"\xef\xbb\xbfid,")
    (_, customer, _) = csv.DictReader((folder / "customers.csv").read_text("utf-8-sig").splitlines())
    assert (customer["name"], customer["number"], customer["region"]) == ("Fabrikam", "C-1", "none")
    licenses = list(csv.DictReader((folder / "licenses.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["customerName"], row["productName"]) for row in licenses] == [
        ("Contoso", "ForexRates"),
        ("Fabrikam", "ForexRates"),
        ("Fabrikam", "SmartSend"),
    ]
    assert list(licenses[0]) == list(COLUMNS[Kind.LICENSES])


def test_export_with_json_option_prints_record_totals(workspace: BulkFixture) -> None:
    fill(workspace)
    folder = workspace.folder / "out"
    ended = workspace.command("export", "--publisher", workspace.publisher_id, "--output", folder, "--json")
    assert json.loads(ended.out) == {
        "folder": str(folder),
        "products": 2,
        "customers": 3,
        "licenses": 3,
        "environments": 2,
    }


def test_export_keeps_existing_files(workspace: BulkFixture) -> None:
    path = workspace.file("products.csv", "name\nEdited\n")
    told = rejected_message(
        workspace.command("export", "--publisher", workspace.publisher_id, "--output", workspace.folder)
    )
    assert "exists already" in told
    assert path.read_text() == "name\nEdited\n"
    told = rejected_message(
        workspace.command("export", "--publisher", workspace.publisher_id, "--output", path / "out")
    )
    assert "cannot be made" in told
    assert list(workspace.folder.iterdir()) == [path]


def test_export_with_concurrent_changes_retries_until_consistent(
    workspace: BulkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workspace)
    reads, documents = 0, CatalogueStore.documents

    async def then_change(store: CatalogueStore, publisher_id: str) -> Any:
        nonlocal reads
        reads += 1
        found = await documents(store, publisher_id)
        if reads <= turns:
            await Catalogue(store).create(publisher_id, a_product(str(uuid4())), actor="other")
        return found

    monkeypatch.setattr(CatalogueStore, "documents", then_change)
    turns = 2
    files = workspace.export()
    assert (reads, files["products.csv"].count("\r\n")) == (3, 1 + 2 + 2)
    reads, turns = 0, 100
    told = rejected_message(
        workspace.command("export", "--publisher", workspace.publisher_id, "--output", workspace.folder / "busy")
    )
    assert "Others keep changing these records" in told
    assert not (workspace.folder / "busy").exists()
