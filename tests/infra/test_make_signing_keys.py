"""What azd runs after it has made the vault: the real commands, and a stand-in for Azure's."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from licensing.signing.keys import KeySet
from tests.infra.bicep import INFRA, REPOSITORY

# Says what was asked for, keeps what was put, and refuses as often as told.
AZ = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
  *"secret list"*) [ "$(grep -c 'secret list' "$CALLS")" -gt "$REFUSALS" ] || exit 1; printf '%b' "$KNOWN" ;;
  *"--name signing-keys --file"*)
    while [ "$1" != --file ]; do shift; done
    cp "$2" "$KEPT"; stat -c %a "$2" >> "$CALLS" ;;
esac
"""


@pytest.fixture
def azure(tmp_path: Path) -> dict[str, str]:
    """The environment in which the script meets the stand-in."""
    stand_in = tmp_path / "bin/az"
    stand_in.parent.mkdir()
    stand_in.write_text(AZ)
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "TMPDIR": str(tmp_path / "tmp"),
        "VAULT_NAME": "lm-test",
        "WAIT_SECONDS": "0",
        "CALLS": str(tmp_path / "calls"),
        "KEPT": str(tmp_path / "kept.json"),
        "KNOWN": "smtp-password\\n",
        "REFUSALS": "0",
    }


def make_signing_keys(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = [str(INFRA / "make-signing-keys.sh")]
    return subprocess.run(script, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)


def test_make_signing_keys_with_empty_vault_stores_keys_and_leaves_no_files(azure: dict[str, str]) -> None:
    outside = {"LICENSING_SIGNING_KEYS": "what the shell happens to hold", "KNOWN": "signing-keys-of-others\\n"}
    done = make_signing_keys({**azure, **outside})
    assert done.returncode == 0, done.stderr
    kept = Path(azure["KEPT"]).read_text()
    assert KeySet.parse(kept).current
    private = [key["d"] for key in json.loads(kept)["keys"]]
    assert private
    assert not [each for each in private if each in done.stdout + done.stderr]
    listed, put, mode = Path(azure["CALLS"]).read_text().splitlines()
    assert "secret list" in listed
    assert "--vault-name lm-test --name signing-keys --file" in put
    assert mode == "600"
    assert list(Path(azure["TMPDIR"]).iterdir()) == []


def test_make_signing_keys_retries_until_vault_accepts_and_restarts_app(
    azure: dict[str, str],
) -> None:
    app = {"APP_NAME": "licensing-test", "AZURE_RESOURCE_GROUP": "group-test"}
    done = make_signing_keys({**azure, **app, "REFUSALS": "2"})
    assert done.returncode == 0, done.stderr
    restart = "functionapp restart --name licensing-test --resource-group group-test"
    assert Path(azure["KEPT"]).exists()
    assert Path(azure["CALLS"]).read_text().splitlines()[-1] == restart


def test_make_signing_keys_with_existing_keys_changes_nothing(azure: dict[str, str]) -> None:
    done = make_signing_keys({**azure, "KNOWN": "other\\nsigning-keys\\n"})
    assert done.returncode == 0, done.stderr
    assert not Path(azure["KEPT"]).exists()
    assert "stay as they are" in done.stdout


def test_make_signing_keys_when_vault_denies_access_exits_naming_required_role(azure: dict[str, str]) -> None:
    done = make_signing_keys({**azure, "REFUSALS": "99"})
    assert done.returncode == 1
    assert "Key Vault Secrets Officer" in done.stderr
    assert not Path(azure["KEPT"]).exists()
