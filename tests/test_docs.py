"""The documents against the code: complete, and true in what a program can check."""

import importlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer.main

from devhost.azurite import Emulator, free_port
from devhost.config import FUNCTION_KEY, MASTER_KEY
from devhost.issuer import issuing
from licensing.__main__ import app as commands
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Role,
    User,
)
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID, FOLDER_SETTING
from licensing.cli.running import with_services
from licensing.cli.seed import DEMO_PUBLISHER_ID
from licensing.errors import ConfigurationError, LicensingError, MalformedRequest
from licensing.fields import described
from licensing.http.endpoints import ROUTES
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.validation.model import ACTIONS, Action, Decision, Status, Warning, sentence  # noqa: A004 - the contract's word
from licensing.validation.request import ProductQuery, ValidationRequest
from tests.support.documents import REPOSITORY, code_spans, covered_block, fenced, read, rows, section
from tests.support.hosting import environ_with, seed_demo, served, settings_for

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "connector/*.md", "infra/*.md", "clients/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
NAMES = [str(path.relative_to(REPOSITORY)) for path in DOCUMENTS]
# Made by a command, or by whoever follows the text.
SOURCES = sorted((REPOSITORY / "licensing").glob("**/*.py"))
GENERATED_FILES = {"keys.json", "local.settings.json", "settings.env", "keys.1.json", "keys.2.json", ".local/"}
PATH = re.compile(r"\.?[\w-]+(?:[./][\w-]+)*(?:/|\.(?:py|md|json|toml|txt|pem|xml|env))")


# Settings.

SETTINGS = {row[0].strip("`"): row[1:] for row in rows(section("docs/configuration.md", "## Settings of the service"))}


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.metadata["name"])
def test_configuration_doc_describes_every_setting_with_its_default(setting: Any) -> None:
    _, default, _ = SETTINGS[setting.metadata["name"]]
    match setting.default:
        case "" | None | ():
            assert default == "none"
        case bool():
            assert default == f"`{str(setting.default).lower()}`"
        case int() | float():
            assert default == f"`{setting.default:g}`"
        case str():
            assert f"`{setting.default}`" in default
        case _:
            assert json.loads(default.strip("`")) == setting.default


@pytest.mark.parametrize(
    "setting",
    [setting for setting in fields(Settings) if type(setting.default) in (int, float)],
    ids=lambda setting: setting.metadata["name"],
)
def test_settings_read_accepts_exactly_the_documented_number_range(setting: Any) -> None:
    name = setting.metadata["name"]
    lowest, highest = SETTINGS[name][2].replace(",", "").split("-")
    for value in (lowest, highest):
        wide = {"LICENSING_REFRESH_AFTER_HOURS": "0.1", "LICENSING_REPLY_DAYS": "30"}  # they bound each other
        assert getattr(Settings.read({**wide, name: value}), setting.name) == float(value)
    step = 0.01 if isinstance(setting.default, float) else 1
    for beyond in (float(lowest) - step, float(highest) + step):
        with pytest.raises(ConfigurationError, match="from"):
            Settings.read({name: f"{beyond:.12g}"})


def test_docs_name_only_existing_settings() -> None:
    known = {setting.metadata["name"] for setting in fields(Settings)}
    assert known == {name for name in SETTINGS if name.startswith("LICENSING_")}
    for name in NAMES:
        named = set(re.findall(r"LICENSING_[A-Z_]+[A-Z]", read(name)))
        # What publishers' own are called, operators choose.
        assert {each for each in named if not each.startswith("LICENSING_TELEMETRY_OF")} <= known, name


@pytest.mark.parametrize("name", ["PORT", "DATA_DIR", "TELEMETRY", "PYTHON", FUNCTION_KEY, MASTER_KEY])
def test_configuration_doc_describes_every_local_setting(name: str) -> None:
    assert name in {row[0].strip("`") for row in rows(section("docs/configuration.md", "## On your machine"))}


def test_configuration_doc_lists_every_host_json_setting_and_no_other() -> None:
    described = {row[0].strip("`") for row in rows(section("docs/configuration.md", "## What host.json sets"))}
    document = json.loads(read("host.json"))
    assert described - {"Setting"} == {
        *(document.keys() - {"version", "extensions", "logging"}),
        *(f"extensions.http.{name}" for name in document["extensions"]["http"]),
        *(f"logging.{name}" for name in document["logging"]),
    }


# The wire contract.


def errors_of(kind: type[LicensingError]) -> Iterator[type[LicensingError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from errors_of(child)


def test_protocol_doc_lists_every_error_code_with_status_and_no_other() -> None:
    described = {
        row[0].strip("`"): int(row[1]) for row in rows(section("docs/protocol.md", "## Errors")) if row[1].isdigit()
    }
    ours = [kind for kind in errors_of(LicensingError) if kind.__module__.startswith("licensing.")]
    # Those of status 500 reach a caller as the root's code, whatever they are.
    assert described == {kind.code: kind.status for kind in ours if kind.status != 500} | {
        LicensingError.code: LicensingError.status
    }


def test_protocol_doc_lists_every_field_error_code_and_no_other() -> None:
    described = {row[0].strip("`") for row in rows(section("docs/protocol.md", "## Errors")) if len(row) == 2}
    good = {"publisherId": str(UUID(int=1)), "serialNumber": "S", "nonce": "0" * 16, "products": [{"productName": "P"}]}
    wrong: dict[str, Any] = {
        "publisherId": "P",
        "serialNumber": "",
        "hostUrl": "\n",
        "isProductionEnvironment": 1,
        "products": [{"productName": "P" * 129, "enabledUsersCount": -1}],
    }
    # Those of records stand in the code as they are.
    found = set(re.findall(r'FieldError\([^"()]*(?:"\w+")?, "(\w+)"', "".join(map(Path.read_text, SOURCES))))
    for body in (good | wrong, good | {"products": [{}] * 201}):
        with pytest.raises(MalformedRequest) as caught:
            ValidationRequest.parse(body)
        found |= {fault.code for fault in caught.value.errors}
    assert {code for cell in described for code in cell.split("`, `")} - {"Field code"} == found


def test_protocol_doc_lists_every_route_with_its_methods_and_no_other(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.services._services", services)
    importlib.import_module("function_app")
    described = {row[0].strip("`"): row[1] for row in rows(read("docs/protocol.md").partition("\n## ")[0])}
    described.pop("Path")
    offered: dict[str, list[str]] = {}
    for route in ROUTES:
        offered.setdefault(f"/{route.template}", []).extend(route.methods)
    order = ["GET", "HEAD", "POST", "PATCH", "DELETE"]
    assert described == {path: ", ".join(sorted(methods, key=order.index)) for path, methods in offered.items()}


def test_protocol_doc_lists_every_record_field_and_no_other() -> None:
    told = {row[0]: row[1:] for row in rows(section("docs/protocol.md", "### Records"))}
    told.pop("Record")
    common = {"id", "createdAt", "updatedAt", "etag"}
    for kind in (Publisher, Product, Customer, CustomerProduct, Environment, Role, User):
        settable, read_only = (set(code_spans(cell)) for cell in told.pop(kind.kind))
        assert settable - {"id"} == {each.name for each in described(kind) if each.settable}
        shown = {each.name for each in described(kind) if each.shown and not each.settable}
        assert read_only == shown - common
    assert not told


def test_protocol_doc_lists_every_status_in_order_with_its_action() -> None:
    described = [(row[0].strip("`"), row[2].strip("`")) for row in rows(section("docs/protocol.md", "### Statuses"))]
    assert described[1:] == [(status, ACTIONS[status]) for status in [*Status, Status.LICENSED]]


def test_protocol_doc_lists_every_action_and_warning() -> None:
    assert set(Action) <= set(code_spans(section("docs/protocol.md", "### Statuses")))
    warnings = [row[0].strip("`") for row in rows(section("docs/protocol.md", "### Warnings"))]
    assert warnings[1:] == list(Warning)


def test_protocol_doc_lists_every_request_member() -> None:
    described = {
        name
        for row in rows(section("docs/protocol.md", "### Request"))[1:]
        for name in row[0].replace("`", "").split(", ")
    }
    members = {field.alias for field in ValidationRequest.model_fields.values()}
    assert described == members | {f"products[].{name}" for name in ProductQuery.__annotations__}


# What publishers, their customers and their reviewers are told.


def test_d365fo_doc_shows_action_and_message_of_every_status() -> None:
    day = date(2026, 11, 24)
    instant = datetime(2026, 11, 24, tzinfo=UTC)
    license_ = CustomerProduct(
        id="",
        created_at=instant,
        updated_at=instant,
        customer_id="",
        product_id="",
        license_type=LicenseType.ANNUAL,
        start_date=day,
        end_date=day,
        feature_disable_date=day,
    )
    told = {row[0].strip("`"): row[1:] for row in rows(section("docs/d365fo.md", "## What the user sees"))}
    for status in Status:
        decision = Decision(status, license=license_)
        assert told[status] == [f"`{decision.action}`", sentence(decision, "SmartSend") or ""]


def names_in_enum(name: str) -> set[str]:
    return set(re.findall(r"^\s+(\w+),?$", read(f"clients/dotnet/{name}.cs"), re.MULTILINE))


def test_d365fo_doc_lists_license_freshness_and_check_codes_of_dotnet_client() -> None:
    freshness = [row[0].strip("`") for row in rows(section("docs/d365fo.md", "### When nothing new comes"))]
    assert sorted(freshness[1:]) == sorted(names_in_enum("LicenseFreshness"))
    codes = [row[0] for row in rows(section("docs/d365fo.md", "## Debug the way to the service"))]
    assert codes
    assert set(code_spans(" ".join(codes))) <= names_in_enum("LicenseCheckCode")


def test_d365fo_doc_payload_table_lists_every_request_member() -> None:
    members = {field.alias for field in ValidationRequest.model_fields.values()} - {"products"}
    members |= {f"products[].{name}" for name in ProductQuery.__annotations__}
    told = rows(section("docs/d365fo.md", "## What is sent"))
    assert {name for row in told for name in code_spans(row[0])} == members


# What a reader copies.


def test_readme_validation_script_verifies_reply_and_prints_documented_claims(
    tables: Emulator, key_set: KeySet, tmp_path: Path
) -> None:
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="readme")
    seed_demo(settings)
    recipe = covered_block("README.md", "bash")
    address = "URL=http://127.0.0.1:7071"
    assert recipe.count(address) == 1
    with served(settings, tmp_path) as host:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", recipe.replace(address, f"URL={host.url}")],
            env={**os.environ, "TMPDIR": str(tmp_path), "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}{done.stderr} - are curl, openssl and python3 installed?"
    printed_verdict, _, printed = done.stdout.partition("\n")
    (shown,) = fenced("README.md", "text")
    shown_verdict, _, shown = shown.partition("\n")
    assert printed_verdict == shown_verdict == "Verified OK"
    printed_claims, shown_claims = json.loads(printed), json.loads(shown)
    assert list(printed_claims) == list(shown_claims)
    for printed_product, shown_product in zip(printed_claims["products"], shown_claims["products"], strict=True):
        assert list(printed_product) == list(shown_product)
        for name in ("productName", "status", "action", "licenseType", "numberOfUsers"):
            assert printed_product[name] == shown_product[name]
    described = set(code_spans(" ".join(row[0] for row in rows(section("docs/protocol.md", "### Reply")))))
    assert described == {*printed_claims, *printed_claims["products"][0]}


ScriptRunner = Callable[[str], str]


@pytest.fixture(scope="module")
def walkthrough(tables: Emulator, key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptRunner]:
    """Runs a script as it stands beside a host like that of `make run`, and gives what it prints."""
    folder, port = tmp_path_factory.mktemp("walkthrough"), free_port()
    with issuing(folder / "issuer") as issuer:
        settings = settings_for(
            tables.connection_string,
            key_set,
            LICENSING_STORAGE_TABLE="walkthrough",
            LICENSING_PUBLIC_URL=f"http://127.0.0.1:{port}",
            LICENSING_SIGN_IN_AUTHORITY=issuer.url,
            LICENSING_DIRECTORY_ID=DEMO_DIRECTORY_ID,
            LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        )
        seed_demo(settings)
        known = {**settings, FOLDER_SETTING: str(folder / "issuer")}
        settings_file = folder / "settings.env"
        settings_file.write_text("".join(f"{name}='{value}'\n" for name, value in known.items()))

        def run(script: str) -> str:
            assert script.count(".local/settings.env") == 1
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script.replace(".local/settings.env", str(settings_file))],
                cwd=REPOSITORY,
                env={**environ_with({}), "no_proxy": "127.0.0.1", "COLUMNS": "100", "TMPDIR": str(folder)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            return done.stdout

        with served(settings, folder, port):
            yield run


def test_administration_doc_script_prints_documented_results(walkthrough: ScriptRunner) -> None:
    printed = walkthrough(covered_block("docs/administration.md", "bash"))
    refused, allowed, prompted, change, report = printed.strip().splitlines()
    assert json.loads(refused)["detail"] == "Fill in No. of Users, or set Site (Module) License to Yes."
    assert [json.loads(each)["products"][0]["action"] for each in (allowed, prompted)] == ["allow", "prompt"]
    (changed,) = json.loads(change)["value"]
    assert (changed["actor"], changed["kind"]) == ("you@example.com", "customerProduct")
    assert (changed["before"].get("endDate"), changed["after"]["endDate"]) == (None, day_before_yesterday())
    (due,) = json.loads(report)["value"]
    assert (due["customerName"], due["productName"], due["expired"]) == ("Adventure Works", "RoastPlanner", True)


@pytest.mark.slow
def test_d365fo_doc_script_produces_documented_license_states(walkthrough: ScriptRunner, key_set: KeySet) -> None:
    printed = walkthrough("".join(fenced("docs/d365fo.md", "bash")))
    constants = dict(re.findall(r"const str (\w+) = '(.*)';", printed))
    assert key_set.next
    assert UUID(constants.pop("PublisherId"))
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", constants.pop("ServiceUrl"))
    assert constants == {
        "CurrentKey": key_set.current.public_xml.strip(),
        "NextKey": key_set.next.public_xml.strip(),
    }
    assert re.findall(r"^ (SmartSend|ForexRates) +(\w+) +(\w+)", printed, re.MULTILINE) == [
        ("SmartSend", "allow", "licensed"),
        ("ForexRates", "allow", "licensed"),
        ("SmartSend", "prompt", "expired"),
        ("ForexRates", "allow", "licensed"),
        ("SmartSend", "disable", "featureDisabled"),
        ("ForexRates", "allow", "licensed"),
        ("SmartSend", "prompt", "notEnabled"),
        ("ForexRates", "allow", "licensed"),
        ("SmartSend", "prompt", "unknownEnvironment"),
        ("ForexRates", "prompt", "unknownEnvironment"),
    ]
    assert re.findall(r"^Ended with (\d)\.$", printed, re.MULTILINE) == ["1", "2", "1", "1", "1"]
    assert re.findall(r"^ (ok|broken) +FAQ: some of the products", printed, re.MULTILINE) == ["broken", "ok"]


def day_before_yesterday() -> str:
    return (datetime.now(UTC).date() - timedelta(days=2)).isoformat()


@pytest.mark.slow
def test_operations_doc_bulk_import_script_stores_records(tables: Emulator, key_set: KeySet, tmp_path: Path) -> None:
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="records")
    seed_demo(settings)
    settings_file = tmp_path / "settings.env"
    settings_file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    recipe = covered_block("docs/operations.md", "bash")
    assert recipe.count(".local/settings.env") == 1
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe.replace(".local/settings.env", str(settings_file))],
        cwd=REPOSITORY,
        env={**environ_with({}), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    told = [line for line in done.stdout.splitlines() if re.match(r"\w+\.csv: ", line)]
    assert [re.sub(r" in [0-9.]+ s", "", line) for line in told[1::2]] == [
        "customers.csv: 2 made, 0 changed, 0 left as they are,.",
        "licenses.csv: 3 made, 0 changed, 0 left as they are,.",
        "environments.csv: 2 made, 0 changed, 0 left as they are,.",
    ]
    assert all(line.endswith("Nothing was changed: add --apply.") for line in told[::2])
    snapshot = with_services(settings, lambda services: services.environment_cache.get(DEMO_PUBLISHER_ID, "AW-0001"))
    assert snapshot.environment
    assert (snapshot.environment.tenant, len(snapshot.licenses)) == ("adventure-works.com", 2)
    (exported,) = tmp_path.glob("*/all/licenses.csv")
    assert exported.read_text().count('"Adventure Works, Inc."') == 2


def commands_named(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_named(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands_named(typer.main.get_command(commands)))


def test_readme_lists_every_command_and_no_other() -> None:
    listed = [row[0].strip("`") for row in rows(section("README.md", "## The operator's commands"))]
    assert sorted(listed[1:]) == sorted(f"python -m licensing {name}" for name in COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_docs_commands_exist_with_their_options(name: str) -> None:
    for called in re.findall(r"python -m licensing ([a-z][^`\n#|]*)", read(name)):
        words = shlex.split(called.partition(" ->")[0])
        command = COMMANDS.get(" ".join(words[:2])) or COMMANDS.get(words[0])
        assert command, called
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, called


def test_readme_lists_every_make_target_and_no_other() -> None:
    told = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    listed = [row[0].strip("`") for row in rows(section("README.md", "## Make targets"))]
    assert sorted(listed[1:]) == sorted(
        f"make {target}" for target in re.findall(r"^  make ([\w-]+)", told, re.MULTILINE)
    )


@pytest.mark.parametrize("name", NAMES)
def test_docs_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    called = "\n".join([*code_spans(read(name)), *fenced(name, "bash")])
    assert set(re.findall(r"^(?:[A-Z_]+=\S+ )*make (?:[A-Z_]+=\S+ )*([\w-]+)", called, re.MULTILINE)) <= targets


# What a reader follows.


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", NAMES)
def test_docs_internal_links_resolve(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", read(name)):
        if not link.startswith("https://"):
            target, _, anchor = link.partition("#")
            path = (REPOSITORY / name).parent / target if target else REPOSITORY / name
            assert path.exists(), link
            if anchor:
                assert anchor in map(slug, re.findall(r"^#+ (.*)", path.read_text("utf-8"), re.MULTILINE)), link


TREE = {
    path.name
    for folder in ("licensing", "clients", "connector", "devhost", "bench", "release", "infra", "tests")
    for path in REPOSITORY.glob(f"{folder}/**/*.*")
}


@pytest.mark.parametrize("name", NAMES)
def test_docs_named_files_exist(name: str) -> None:
    for named in code_spans(read(name)):
        if PATH.fullmatch(named) and named not in GENERATED_FILES:
            places = (REPOSITORY, REPOSITORY / "licensing", (REPOSITORY / name).parent)
            assert any((place / named).exists() for place in places) or named in TREE, named


def test_architecture_doc_names_every_module() -> None:
    text = read("docs/architecture.md")
    grid = set(code_spans(section("docs/architecture.md", "## The grid")))
    for path in (REPOSITORY / "licensing").glob("**/*.py"):
        if path.name != "__init__.py":
            assert str(path.relative_to(REPOSITORY / "licensing")) in grid
    for folder in ("connector", "devhost", "bench", "release"):
        (row,) = [row for row in rows(text) if row[0] == f"`{folder}/`"]
        modules = {path.name for path in (REPOSITORY / folder).glob("*.py")} - {"__init__.py"}
        assert {name for name in code_spans(row[1]) if name.endswith(".py")} == modules


def test_adr_index_lists_every_decision_with_status_and_all_sections() -> None:
    index = read("docs/adr/README.md")
    for path in (REPOSITORY / "docs/adr").glob("0*.md"):
        assert f"({path.name})" in index
        text = path.read_text("utf-8")
        headings = re.findall(r"^## (.*)", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Alternatives", "Consequences"]
        assert "\nStatus: " in text
