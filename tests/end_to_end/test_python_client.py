"""The program in the README of the client in Python, against the real host."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.signing.keys import KeySet
from tests.support.hosting import PUBLIC_URL, REPOSITORY, Served

FOLDER = REPOSITORY / "clients/python"
(PROGRAM,) = re.findall(
    r"<!-- A test runs this program. -->\n```python\n(.*?)```", (FOLDER / "README.md").read_text("utf-8"), re.DOTALL
)
ADDRESS = f'URL = "{PUBLIC_URL}"'
VERIFIED = "A key that is trusted here has signed it, and it is the answer to what was asked."
STATE = "Not licensed: ForexRates (1 of 2 products). {'SmartSend': 'allow', 'ForexRates': 'prompt'}"


@pytest.fixture
def folder(key_set: KeySet, tmp_path: Path) -> Path:
    """The client and the pinned keys, where nothing else of this repository is."""
    shutil.copy(FOLDER / "license_client.py", tmp_path)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key.public_jwk for key in key_set.keys]}))
    return tmp_path


def run(folder: Path, url: str) -> list[str]:
    """The lines that the program prints, asking at this address."""
    assert PROGRAM.count(ADDRESS) == PROGRAM.count(DEMO_PUBLISHER_ID) == PROGRAM.count(DEMO_SERIAL_NUMBER) == 1
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace(ADDRESS, f'URL = "{url}"')],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_python_readme_program_validates_once_then_uses_stored_reply(host: Served, folder: Path) -> None:
    assert run(folder, host.url) == [VERIFIED, STATE]
    kept = json.loads((folder / "license.json").read_text())
    assert len(kept["key_sets"]) == 1
    assert run(folder, "http://127.0.0.1:1") == [STATE]


def test_python_readme_program_when_service_is_unreachable_prompts_with_reason(folder: Path) -> None:
    reason, state = run(folder, "http://127.0.0.1:1")
    assert reason.startswith("The service cannot be reached")
    assert state.startswith("It is not known whether the products are licensed. No good reply is stored")
    assert state.endswith("{'SmartSend': 'prompt', 'ForexRates': 'prompt'}")
