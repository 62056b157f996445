"""The definition against the service: schemathesis calls every operation, rightly and wrongly, in a real host.

It tells of statuses and fields that the definition does not know, of requests that the definition allows and the
service refuses or the other way round, of endpoints that let anybody in, and of any 5xx.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devhost.azurite import Emulator
from devhost.issuer import issuing
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.cli.running import with_services
from licensing.signing.keys import KeySet
from tests.connector.schemathesis_setup import config, definition, seed
from tests.support.hosting import served, settings_for


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some thousand requests
def test_service_conforms_to_the_connector_definition(tables: Emulator, key_set: KeySet, tmp_path: Path) -> None:
    document = definition()
    (tmp_path / "definition.json").write_text(json.dumps(document))
    (tmp_path / "config.toml").write_text(config(document["paths"]))
    with issuing(tmp_path) as issuer:
        settings = settings_for(
            tables.connection_string,
            key_set,
            LICENSING_STORAGE_TABLE="connector",
            LICENSING_DIRECTORY_ID=DEMO_DIRECTORY_ID,
            LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
            LICENSING_SIGN_IN_AUTHORITY=issuer.url,
        )
        with_services(settings, seed)
        with served(settings, tmp_path) as host:
            token = issuer.token(email="boss@example.com", roles=["GlobalAdmin"])
            options = ["run", "definition.json", "--url", host.url, "--report-json-path", "report.json"]
            done = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "--config-file", "config.toml", *options],
                cwd=tmp_path,
                env={**os.environ, "TOKEN": token, "no_proxy": "127.0.0.1", "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    accepted = {
        operation: sum(phase["accepted"] for phase in phases.values())
        for operation, phases in report["valid_rates"].items()
    }
    assert len(accepted) == report["operations"]["total"]
    assert [operation for operation, times in accepted.items() if times == 0] == []
