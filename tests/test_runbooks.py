"""The runbooks of docs/operations.md, followed step by step, also where a step fails."""

import json
import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import pytest

from devhost.azurite import Emulator, azurite, free_port
from devhost.issuer import issuing
from licensing.catalogue.records import CustomerProduct
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID, FOLDER_SETTING
from licensing.cli.running import with_services
from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.fields import instant
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.storage.batches import Operation
from tests.support.documents import REPOSITORY, read, section
from tests.support.hosting import environ_with, seed_demo, served, settings_for

# The runbooks, each block after the one that makes ready. What they find wrong in the demo's records ends with 1.
_READ_ONLY_RUNBOOKS = ("All customers are prompted", "One customer is prompted", "Storage is down, or throttled")


def runbook(heading: str) -> list[str]:
    """The blocks of it that can be run here."""
    text = section("docs/operations.md", f"### {heading}")
    blocks = re.findall(r"<!-- runbook.*? -->\n```bash\n(.*?)```", text, flags=re.DOTALL)
    assert blocks, heading
    return blocks


@dataclass(frozen=True)
class RunbookOperator:
    """Somebody who follows the runbooks, and where they do. `settings`: those of the service."""

    settings: Mapping[str, str]
    settings_file: Path
    folder: Path

    def set(self, **settings: str) -> None:
        """From now on, these settings too are those of whoever opens a terminal."""
        with self.settings_file.open("a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in settings.items())

    def follow(
        self,
        heading: str,
        instead: Mapping[str, str] = MappingProxyType({}),
        *,
        blocks: Collection[int] = (),
        then: str = "",
        ends_with: Collection[int] = (0, 1),
    ) -> str:
        """What the runbook prints in a new terminal, once its steps are done: each with what is to be put in its place.

        `blocks`: only those, by their number; `then`: what is typed after them.
        """
        all_blocks = runbook(heading)
        chosen = [all_blocks[number] for number in blocks] or all_blocks
        if not chosen[0].startswith("#!"):
            ready = re.findall(r"before each\. -->\n```bash\n(.*?)```", read("docs/operations.md"), flags=re.DOTALL)
            chosen = [*ready, *chosen]
            instead = {".local/settings.env": str(self.settings_file), **instead}
        text = "\n".join([*chosen, then])
        for old, new in instead.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        done = subprocess.run(
            # As in a terminal, which does not stop where a command fails.
            ["bash", "-uo", "pipefail", "-c", text],
            cwd=REPOSITORY,
            env={
                **environ_with({}),
                **dict.fromkeys(("TMPDIR", "HOME"), str(self.folder)),
                "no_proxy": "127.0.0.1",
                "COLUMNS": "160",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in ends_with, f"{heading}: {done.stdout}{done.stderr}"
        assert not set(re.findall(r"Usage:|Traceback|No such|not found", done.stderr)), done.stderr
        return done.stdout


@pytest.fixture
def operator(tables: Emulator, key_set: KeySet, tmp_path: Path) -> Iterator[RunbookOperator]:
    """Somebody who is on call for a host with the demo's records."""
    port, issuer_folder = free_port(), tmp_path / "issuer"
    with issuing(issuer_folder) as issuer:
        settings = settings_for(
            tables.connection_string,
            key_set,
            LICENSING_STORAGE_TABLE=f"runbooks{uuid4().hex}",
            LICENSING_PUBLIC_URL=f"http://127.0.0.1:{port}",
            LICENSING_SIGN_IN_AUTHORITY=issuer.url,
            LICENSING_DIRECTORY_ID=DEMO_DIRECTORY_ID,
            LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        )
        seed_demo(settings)
        somebody = RunbookOperator(settings, tmp_path / "settings.env", tmp_path)
        # `restore` and `erase` wait twice as long as a validation may take. The service itself is more patient.
        own = {FOLDER_SETTING: str(issuer_folder), "LICENSING_STORAGE_TIMEOUT_SECONDS": "0.1"}
        somebody.set(**{**settings, **own})
        with served(settings, tmp_path, port):
            yield somebody


async def _delete_demo_environment(services: Services) -> str:
    """Somebody deletes the demo's environment and its licenses; gives when that began."""
    environment = (await services.environment_cache.get(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER)).environment
    assert environment
    licenses = await services.store.list_records(DEMO_PUBLISHER_ID, CustomerProduct, environment.customer_id)
    for each in (environment, *licenses):
        await services.catalogue.delete(
            DEMO_PUBLISHER_ID, type(each), each.id, actor="somebody", parent=environment.customer_id
        )
    entries = [entry async for entry in services.store.audit(DEMO_PUBLISHER_ID, actor="somebody")]
    return instant(entries[-1].at)


@pytest.mark.slow
def test_runbooks_produce_documented_results(operator: RunbookOperator) -> None:
    with ThreadPoolExecutor() as together:  # they change nothing
        looked = [*together.map(operator.follow, _READ_ONLY_RUNBOOKS)]
    assert all("Contoso Apps (demo), 10 products" in out for out in looked)
    assert '"status": "healthy"' in looked[0]
    assert "its license expired" in looked[1]
    spoiled_at = with_services(operator.settings, _delete_demo_environment)
    deleted = "Records were deleted, or spoiled"
    with pytest.raises(AssertionError, match="Write an instant"):
        operator.follow(deleted)  # as it is: it changes nothing
    out = operator.follow(deleted, {"AT= ": f"AT={spoiled_at} "})
    assert "8 made again, 0 changed back, 0 deleted, 0 refused." in out
    snapshot = with_services(
        operator.settings, lambda services: services.environment_cache.get(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER)
    )
    assert len(snapshot.licenses) == 7
    assert "taken out" in operator.follow("A signing key got out")
    assert operator.follow("Back up a publisher, and put it back").count("all of it is there already") == 2
    assert "organizationAdmin" in operator.follow("A publisher comes")
    _back_up_each_night(operator)


def _back_up_each_night(somebody: RunbookOperator) -> None:
    """One of two publishers cannot be backed up: the other is, and nobody is told that all is well; then both are."""
    folder = somebody.folder / "nights"
    folder.mkdir()
    somebody.set(WATCH=f"{somebody.settings['LICENSING_PUBLIC_URL']}/api/v1/health")
    cut_off = folder / "one-2020-01-01.backup.partial"
    cut_off.touch()
    os.utime(cut_off, (0, 0))
    in_the_way = folder / f"{DEMO_PUBLISHER_ID}-2026-11-24.backup.partial"
    in_the_way.mkdir()
    places = {
        "cd /opt/license-manager": f"cd {REPOSITORY}",
        "/etc/license-manager.env": str(somebody.settings_file),
        "/var/backups/license-manager": str(folder),
        "$(date +%F)": "2026-11-24",
    }
    assert "healthy" not in somebody.follow("Back up all publishers, each night", places, ends_with=[1])
    assert len([*folder.glob("*.backup")]) == 1
    in_the_way.rmdir()
    assert "healthy" in somebody.follow("Back up all publishers, each night", places, ends_with=[0])
    assert len([*folder.iterdir()]) == 2, "and those of long ago are gone"


def from_step(step: str, block: str) -> str:
    """What is left of the block, from that step on."""
    assert block.count(step) == 1
    return block[block.index(step) :]


@pytest.mark.slow
def test_runbooks_for_publisher_move_and_removal_recover_from_failed_steps(operator: RunbookOperator) -> None:
    moves, other = "A publisher moves to its own account", str(uuid4())
    # As the service reads it: ids in any case, and accounts by the name of a setting.
    operator.set(
        FIRST_ACCOUNT=operator.settings["LICENSING_STORAGE"],
        LICENSING_PUBLISHER_STORAGE=json.dumps({other.upper(): "OTHERS", DEMO_PUBLISHER_ID.upper(): "FIRST_ACCOUNT"}),
    )
    say, copy, look, go_on, back_out = range(5)
    go_on_block = runbook(moves)[go_on]
    with azurite() as account:
        new = {"https://NEW.table.core.windows.net": f"'{account.connection_string}'"}
        out = operator.follow(
            moves, {**new, "sleep 60": "true"}, blocks=[say, copy], then='echo "$AFTER"', ends_with=[0]
        )
        after = {other: "OTHERS", DEMO_PUBLISHER_ID: account.connection_string}
        assert json.loads(out.splitlines()[-1]) == after
        assert "as in the backup" in out
        _write_after_copy(operator, "late")
        out = operator.follow(moves, new, blocks=[say, go_on], ends_with=[3])
        assert "Nothing of" not in out, "something came late, so nothing is erased"
        out = operator.follow(moves, new, blocks=[say, back_out], ends_with=[0])
        assert f"Nothing of {DEMO_PUBLISHER_ID} is left." in out
        assert "From now on, its" in out
        # Again, and each step that can be stopped is.
        restore = "new restore $FOLDER/move --replace --apply"
        operator.follow(moves, {**new, "sleep 60": "true", restore: "false"}, blocks=[say, copy], ends_with=[1])
        assert "as in the backup" in operator.follow(moves, new, blocks=[say], then=restore, ends_with=[0])
        operator.set(LICENSING_PUBLISHER_STORAGE=json.dumps(after))
        looked = operator.follow(moves, new, blocks=[say, look])
        assert "Contoso Apps (demo)" in looked
        assert "frozen" in looked
        _write_after_copy(operator, "later")
        out = operator.follow(
            moves, new, blocks=[say, go_on], then="new restore $AGAIN --replace --apply", ends_with=[0]
        )
        assert "Nothing of" not in out
        out = operator.follow(moves, {**new, "new erase": "false"}, blocks=[say, go_on], ends_with=[1])
        assert "all of it is there already" in out
        out = operator.follow(
            moves, {**new, "new thaw": "false"}, blocks=[say], then=from_step("new erase", go_on_block), ends_with=[1]
        )
        assert "Nothing of" in out
        out = operator.follow(moves, new, blocks=[say], then=from_step("new thaw", go_on_block), ends_with=[0])
        assert "From now on, its" in out
        assert [each.name.split("-")[0] for each in (operator.folder / "backups").iterdir()].count("moved") == 1
        _remove_publisher(operator)


def _write_after_copy(somebody: RunbookOperator, key: str) -> None:
    """Something comes to the old place after it was copied."""

    async def write(services: Services) -> None:
        row = Operation("create", {"RowKey": key})
        await services.table(DEMO_PUBLISHER_ID).commit(f"{DEMO_PUBLISHER_ID}|subscribers", [row])

    with_services(somebody.settings, write)


def _remove_publisher(somebody: RunbookOperator) -> None:
    goes, rest = "A publisher goes", {"sleep 60": "true"}
    fails = {".venv/bin/python -m licensing backup": "false"}
    out = somebody.follow(goes, rest | fails, blocks=[0], ends_with=[1])
    assert "nobody can change its records" in out
    assert "Partition" not in out
    out = somebody.follow(goes, rest, ends_with=[0])
    assert "all of it is there already" in out
    assert json.loads(out[out.index("\n{") :])["leftInAll"] == 0
    assert somebody.follow(goes, blocks=[1], ends_with=[0]), "it may be done once more"
    assert len([*(somebody.folder / "backups").glob("*-last-*/last")]) == 1
