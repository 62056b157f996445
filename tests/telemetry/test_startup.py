"""What is off costs nothing; what is on, nothing that anybody waits for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devhost.ingestion_sink import collecting
from licensing.signing.keys import KeySet

REPOSITORY = Path(__file__).resolve().parents[2]
IMPORT = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
import function_app
from licensing.services import services

telemetry = services().telemetry
for _ in range(3):
    telemetry.record("Started")
    with telemetry.request("validate", "POST", {}) as answered, telemetry.storage("read"):
        answered(200)
heavy = ("opentelemetry", "aiohttp", "aiodns", "azure.monitor", "azure.core")
print(json.dumps({
    "modules": [name for name in heavy if name in sys.modules],
    "threads": [thread.name for thread in threading.enumerate()],
    "well": telemetry.is_healthy(),
    "shared": telemetry.request("validate", "POST", {}) is telemetry.request("get_health", "GET", {})
    and telemetry.storage("read") is telemetry.storage("write"),
}))
"""


def imported(key_set: KeySet, **settings: str) -> dict[str, Any]:
    """What there is in a process that has just imported the app."""
    program = [sys.executable, "-c", IMPORT, str(REPOSITORY)]
    environment = {"LICENSING_SIGNING_KEYS": key_set.dump(), **settings}
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {**json.loads(result.stdout), "said": result.stderr.splitlines()}


@pytest.mark.parametrize("more", [{}, {"LICENSING_TELEMETRY": "", "LICENSING_TRACES_PER_SECOND": "1000"}])
def test_telemetry_when_disabled_loads_no_modules_and_starts_no_threads(key_set: KeySet, more: dict[str, str]) -> None:
    found = imported(key_set, **more)
    assert found["modules"] == []
    assert found["threads"] == ["MainThread"]
    assert found["well"]
    assert found["said"] == []
    assert found["shared"], "a call creates no object of its own"


def test_app_with_invalid_telemetry_setting_starts_and_logs_once(key_set: KeySet) -> None:
    unresolved = "@Microsoft.KeyVault(SecretUri=https://planted.vault.azure.net/secrets/telemetry)"
    found = imported(key_set, LICENSING_TELEMETRY=unresolved, APPINSIGHTS_INSTRUMENTATIONKEY="planted")
    assert (found["modules"], found["threads"], found["well"]) == ([], ["MainThread"], False)
    host, ours = found["said"]
    assert host.startswith("APPINSIGHTS_INSTRUMENTATIONKEY is set")
    assert ours.startswith("LICENSING_TELEMETRY cannot be used")
    assert "planted" not in host + ours


SLOW = """
import importlib.machinery, sys, threading, time
begin, waited = threading.Event(), []

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name not in ("aiohttp", "opentelemetry.trace", "azure.core"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_later(module):
            waited.append(begin.wait(120) and threading.current_thread() is not threading.main_thread())
            load(module)

        spec.loader.exec_module = load_later
        return spec

sys.meta_path.insert(0, Slow())
sys.path.insert(0, sys.argv[1])
import function_app
begin.set()
from licensing.services import services
telemetry = services().telemetry
while telemetry._tracing is None or not telemetry.is_healthy():
    time.sleep(0.02)
print(len(waited) >= 2 and all(waited))
"""


def test_telemetry_when_enabled_loads_modules_on_background_threads(key_set: KeySet) -> None:
    """The heavy imports are held up until the app has been imported; they would give up in 120 seconds."""
    with collecting() as ingestion:
        settings = {"LICENSING_SIGNING_KEYS": key_set.dump(), "LICENSING_TELEMETRY": ingestion.connection_string}
        program = [sys.executable, "-c", SLOW, str(REPOSITORY)]
        result = subprocess.run(program, env=settings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "True\n"
