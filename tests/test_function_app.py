"""What is deployed, alone: the unpacked package, in an environment of just what Azure installs."""

import itertools
import json
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import azure_functions_runtime
import pytest

from devhost.azurite import Emulator
from devhost.config import HostConfig, LocalSettings
from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from release.package import write_package
from tests.support.hosting import VALIDATE, question, seed_demo, settings_for, verified

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = REPOSITORY / ".venv-deployed/bin/python"
# What the worker does when it indexes an app, told as JSON.
INDEX = """
import json, sys
sys.path.insert(0, sys.argv[1])
from function_app import app
from licensing.http.endpoints import (ROUTES)
print(json.dumps({
    "functions": [{"name": function.get_function_name(), "bindings": function.get_dict_repr()["bindings"]}
                  for function in app.get_functions()],
    "declared": {route.name: [route.template, str(route.access)] for route in ROUTES},
    "modules": sorted(sys.modules),
    "places": sorted({str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}),
}, default=str))
"""
# What Azure does with a package: its own worker indexes the app, and one request is answered. Told as JSON.
SERVE = """
import asyncio, json, sys
from pathlib import Path
sys.path.append(sys.argv[2])
from devhost.worker import Request, Worker

async def serve():
    worker = await Worker.load(Path(sys.argv[1]), 60)
    functions = {function.name: function for function in worker.functions}
    request = Request("POST", sys.argv[3], {"content-type": "application/json"}, {}, {}, sys.argv[4].encode())
    response = await worker.answer(functions["validate"], request)
    print(json.dumps({"functions": sorted(functions), "status": response.status, "body": response.body.decode()}))

asyncio.run(serve())
"""


class Deployed(NamedTuple):
    """The folder that Azure would get, and what indexing it tells."""

    folder: Path
    functions: dict[str, dict[str, Any]]
    """The trigger of each function, by its name."""
    declared: dict[str, list[str]]
    """The template and the access of each endpoint, by its function's name."""
    modules: list[str]
    places: list[str]

    def triggered_by(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: found for name, found in self.functions.items() if found["type"] == kind}

    @property
    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Those functions that HTTP reaches."""
        return self.triggered_by("httpTrigger")


def index(folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Import the app of the folder and index it, with those settings and no others of ours."""
    return run(INDEX, folder, settings)


def run(code: str, folder: Path, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    # -I: nothing of this environment or folder helps. -W error: nothing that goes out of use is used.
    command = [str(PYTHON), "-I", "-W", "error", "-c", code, str(folder), *arguments]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, key_set: KeySet) -> Deployed:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: `make test` makes it, or `make setup-tests`.")
    folder = tmp_path_factory.mktemp("deployed")
    package = tmp_path_factory.mktemp("package") / "license-manager.zip"
    write_package(REPOSITORY, package)
    shutil.unpack_archive(package, folder)
    result = index(folder, {"LICENSING_SIGNING_KEYS": key_set.dump()})
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    triggers = {function["name"]: trigger(function["bindings"]) for function in told["functions"]}
    assert len(triggers) == len(told["functions"]), "two functions of one name"
    return Deployed(folder, triggers, told["declared"], told["modules"], told["places"])


def trigger(bindings: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (binding for binding in bindings if binding["type"].endswith("Trigger"))
    return found


def test_package_contains_only_the_app_without_cli(deployed: Deployed) -> None:
    assert {path.name for path in deployed.folder.iterdir()} - {"__pycache__"} == {
        "LICENSE",
        "function_app.py",
        "host.json",
        "licensing",
        "requirements.txt",
    }
    assert not (deployed.folder / "licensing/cli").exists()
    assert not (deployed.folder / "licensing/__main__.py").exists()


def test_package_registers_a_function_for_every_route(deployed: Deployed) -> None:
    """Which there are, and with which methods, docs/protocol.md tells, and tests/test_docs.py holds it to that."""
    endpoints = deployed.endpoints.keys()
    assert endpoints == deployed.declared.keys() | {"zz_not_found"}
    assert {"validate", "list_keys", "get_health", "create_customer_product"} <= endpoints


def test_package_timers_have_schedules_and_do_not_run_on_startup(deployed: Deployed) -> None:
    timers = deployed.triggered_by("timerTrigger")
    assert {name: (timer["schedule"], timer["runOnStartup"]) for name, timer in timers.items()} == {
        "post_expiry_digest": ("0 0 6 * * MON", False),
        "post_downtime_notices": ("0 * * * * *", False),
    }
    assert deployed.functions.keys() == deployed.endpoints.keys() | timers.keys()


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    """A folder of what Azure has beside the package, and no more: the worker, and here the stub that calls it."""
    folder = tmp_path / "platform"
    folder.mkdir()
    site_packages = Path(azure_functions_runtime.__file__).parent.parent
    for package in (
        site_packages / "azure_functions_runtime",
        site_packages / "azurefunctions",
        REPOSITORY / "devhost",
    ):
        (folder / package.name).symlink_to(package)
    return folder


def test_package_in_microsoft_worker_returns_verified_validation_reply(
    deployed: Deployed, platform: Path, tables: Emulator, key_set: KeySet
) -> None:
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="package")
    seed_demo(settings)
    body = question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend")
    url = f"https://licenses.example.com{VALIDATE}"
    done = run(SERVE, deployed.folder, settings, str(platform), url, json.dumps(body))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["functions"] == sorted(deployed.functions)
    assert told["status"] == 200, told["body"]
    claims = verified(told["body"], {"keys": [key_set.current.public_jwk]}, audience=DEMO_PUBLISHER_ID)
    assert claims["products"][0]["status"] == "licensed"


@pytest.mark.parametrize(
    "development_module",
    ["devhost", "bench", "release", "licensing.cli", "typer", "rich", "httpx", "pytest", "uvicorn", "fastapi"],
)
def test_package_does_not_import_development_module(deployed: Deployed, development_module: str) -> None:
    assert not [
        name for name in deployed.modules if name == development_module or name.startswith(f"{development_module}.")
    ]


SLOW_MODULES = [
    *("azure.data", "azure.core", "azure.identity", "aiodns", "aiohttp", "aiosmtplib", "icalendar", "jinja2", "jwt"),
    *("markdown_it", "msal", "opentelemetry", "requests"),
]


@pytest.mark.parametrize("late", SLOW_MODULES)
def test_package_defers_import_of_slow_module(deployed: Deployed, late: str) -> None:
    assert not [name for name in deployed.modules if name == late or name.startswith(f"{late}.")]


def test_package_imports_nothing_from_repository_or_its_virtualenv(deployed: Deployed) -> None:
    assert "licensing.validation.functions" in deployed.modules
    assert not [place for place in deployed.places if place.startswith(f"{REPOSITORY}/licensing")]
    assert not [place for place in deployed.places if place.startswith(f"{REPOSITORY}/.venv/")]


def test_package_endpoints_declare_access_and_only_listed_ones_are_anonymous(deployed: Deployed) -> None:
    """To Azure all are anonymous: the pipeline authenticates callers, never a function key."""
    assert {found["authLevel"] for found in deployed.endpoints.values()} == {"ANONYMOUS"}
    assert {name: found["route"] for name, found in deployed.endpoints.items() if name != "zz_not_found"} == {
        name: template for name, (template, _) in deployed.declared.items()
    }
    open_to_all = {name for name, (_, access) in deployed.declared.items() if access == "anonymous"}
    assert open_to_all == {
        *("validate", "well_known_keys", "list_keys", "get_key_file", "get_health"),
        *("browse_notices", "browse_notices_as_atom", "browse_notices_as_calendar", "show_status"),
        *("request_subscription", "request_subscription_by_form", "get_confirmation", "confirm_subscription"),
        *("get_unsubscription", "unsubscribe"),
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "There are no signing keys"),
        ({"LICENSING_SIGNING_KEYS": '{"keys": []}'}, "hold no key at all"),
        ({"LICENSING_SIGNING_KEYS": "@Microsoft.KeyVault(SecretUri=https://x)"}, "Azure could not resolve"),
        ({"LICENSING_REPLY_DAYS": "soon"}, "LICENSING_REPLY_DAYS cannot be used"),
    ],
)
def test_function_app_with_unsafe_settings_fails_to_start(
    deployed: Deployed, settings: dict[str, str], sentence: str
) -> None:
    result = index(deployed.folder, settings)
    assert result.returncode == 1
    assert sentence in result.stderr.splitlines()[-1]


def test_package_endpoints_have_unique_route_and_method(deployed: Deployed) -> None:
    taken = [
        (found["route"].lower(), str(method)) for found in deployed.endpoints.values() for method in found["methods"]
    ]
    assert len(set(taken)) == len(taken)


def rank(segment: str) -> int:
    """How much a segment of a route matches: the less, the more specific it is."""
    if not segment.startswith("{"):
        return 0
    if segment.startswith("{*"):
        return 3
    return 1 if ":" in segment else 2


def overlap(one: str, other: str) -> bool:
    """Whether some path matches both routes."""
    for first, second in itertools.zip_longest(one.split("/"), other.split("/"), fillvalue=None):
        if "{*" in f"{first} {second}":
            return True
        if first is None or second is None:
            return False
        if rank(first) == rank(second) == 0 and first.lower() != second.lower():
            return False
    return True


def test_package_overlapping_routes_sort_the_more_specific_function_first(deployed: Deployed) -> None:
    """Azure tries the routes that match a path in the order of their functions' names."""
    routes = {name: found["route"] for name, found in deployed.endpoints.items()}
    for earlier, later in itertools.combinations(sorted(routes), 2):
        # On one route the method tells: the test above holds that no two have both.
        if routes[earlier] != routes[later] and overlap(routes[earlier], routes[later]):
            ranks = [[rank(segment) for segment in routes[name].split("/")] for name in (earlier, later)]
            assert ranks[0] < ranks[1], f"{later} would never be reached"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("api/keys", "api/keys/{file}", False),
        ("api/keys/signed", "api/keys/{file}", True),
        ("api/{a}/x", "api/b/{c}", True),
        ("api/{a}/x", "api/b/y", False),
        ("API/x", "api/X", True),
        ("{*path}", "api/x", True),
        ("api/{*rest}", "status/{id}", False),
    ],
)
def test_overlap_returns_whether_some_path_matches_both_routes(one: str, other: str, *, expected: bool) -> None:
    assert (overlap(one, other), overlap(other, one)) == (expected, expected)


def test_host_config_reads_the_packaged_host_json(deployed: Deployed) -> None:
    config = HostConfig.read(deployed.folder)
    assert (config.route_prefix, config.log_level) == ("", "INFO")


def test_local_settings_sample_names_only_existing_settings(tmp_path: Path) -> None:
    sample = REPOSITORY / "local.settings.sample.json"
    document = json.loads(sample.read_text())
    assert document["IsEncrypted"] is False
    assert all(isinstance(value, str) for value in document["Values"].values())
    shutil.copyfile(sample, tmp_path / "local.settings.json")
    values = LocalSettings.read(tmp_path).values
    assert values == document["Values"]
    ours = {name for name in values if name.startswith("LICENSING_")}
    assert ours
    assert ours <= {item.metadata["name"] for item in fields(Settings)}
    Settings.read(values)
