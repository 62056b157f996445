"""The smoke test of a deployment, against a real service."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devhost.azurite import Emulator
from licensing.signing.keys import KeySet
from tests.infra.bicep import INFRA, REPOSITORY
from tests.support.hosting import seed_demo, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS


def smoke_test(url: str, keys: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {"PYTHON": sys.executable, "WAIT_SECONDS": "0", "TRIES": "4", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [str(INFRA / "smoke-test.sh"), url, str(keys), "--timeout", str(WAIT_TIMEOUT_SECONDS), *options],
        cwd=REPOSITORY,
        env={**os.environ, **known, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def trusted(key_set: KeySet, tmp_path: Path) -> Path:
    path = tmp_path / "trusted.pem"
    path.write_text(key_set.current.public_pem)
    return path


@pytest.mark.slow
def test_smoke_test_passes_for_any_signed_status_and_fails_for_untrusted_key(
    tables: Emulator, key_set: KeySet, tmp_path: Path
) -> None:
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="smoke")
    seed_demo(settings)
    stranger = KeySet(()).created(datetime.now(UTC))
    with served(settings, tmp_path) as host:
        allowed = smoke_test(host.url, trusted(key_set, tmp_path), "--product", "SmartSend")
        assert (allowed.returncode, allowed.stderr) == (0, "")
        assert "after 3 tries" in allowed.stdout
        unknown = smoke_test(host.url, trusted(key_set, tmp_path), "--serial", "NOBODY", "--product", "SmartSend")
        assert unknown.returncode == 0
        assert smoke_test(host.url, trusted(stranger, tmp_path)).returncode == 1


@pytest.mark.parametrize("python", ["/nowhere/python", "false"])
def test_smoke_test_when_command_cannot_start_fails(python: str, tmp_path: Path) -> None:
    assert smoke_test("http://127.0.0.1:1", tmp_path / "none", PYTHON=python).returncode == 1


def test_smoke_test_after_failure_restarts_success_streak(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/n\nn=$(wc -l < {tmp_path}/n)\necho {{}}\n[ "$n" -ne 3 ] || exit 3\n'
    )
    fake.chmod(0o755)
    done = smoke_test("https://licensing.example.com", tmp_path / "none", PYTHON=str(fake), TRIES="6")
    assert (done.returncode, done.stdout) == (0, "Verified three times in a row, after 6 tries.\n")
