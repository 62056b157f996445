"""`python -m licensing keys`, as an operator uses it."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from licensing.cli import keys as command
from licensing.errors import ConfigurationError, Conflict, NotFound
from licensing.signing.keys import KeySet
from licensing.signing.store import read_folder, write_folder
from tests.vectors import make

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command a day after the vectors' time. An error of ours is raised, as `python -m licensing` catches it."""
    monkeypatch.delenv("LICENSING_SIGNING_KEYS", raising=False)
    monkeypatch.delenv("LICENSING_SIGNING_KEYS_FOLDER", raising=False)
    monkeypatch.setattr(command, "_now", lambda: make.NOW + timedelta(days=1))

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(command.app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the keys of the vectors."""
    write_folder(tmp_path / "keys", make.key_set())
    return tmp_path / "keys"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("arguments", ["create", "rotate", "retire KID"])
def test_keys_command_without_apply_changes_nothing(run: Run, folder: Path, arguments: str) -> None:
    keys = make.key_set()
    if arguments == "create":
        write_folder(folder, KeySet((keys.keys[0], keys.keys[2])))
    before = content(folder)
    result = run(*arguments.replace("KID", keys.keys[2].kid).split(), "--folder", folder)
    assert "Nothing was changed: add --apply." in result.stdout
    assert content(folder) == before


def test_keys_create_writes_current_and_next_key(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert "(made when applied)" in run("create", "--folder", folder).stdout
    assert not folder.exists()
    result = run("create", "--folder", folder, "--apply")
    made = read_folder(folder)
    assert [key.state for key in made.keys] == ["current", "next"]
    assert all(key.kid in result.stdout for key in made.keys)
    assert "restart" in result.stdout


def test_keys_rotate_promotes_next_key_and_creates_another(run: Run, folder: Path) -> None:
    before = read_folder(folder)
    result = run("rotate", "--folder", folder, "--apply", "--json")
    after = read_folder(folder)
    assert before.next
    assert after.next
    assert after.current.kid == before.next.kid
    assert json.loads(result.stdout) == {
        "applied": True,
        "changes": [
            {"kid": before.current.kid, "from": "current", "to": "retired"},
            {"kid": before.next.kid, "from": "next", "to": "current"},
            {"kid": after.next.kid, "from": None, "to": "next"},
        ],
    }


@pytest.mark.parametrize(("age_days", "warned"), [(0, True), (29, True), (30, False), (400, False)])
def test_keys_rotate_warns_if_next_key_is_younger_than_30_days(
    run: Run, tmp_path: Path, age_days: int, *, warned: bool
) -> None:
    current, upcoming, _ = make.key_set().keys
    created_at = make.NOW + timedelta(days=1 - age_days)
    write_folder(tmp_path, KeySet((current, replace(upcoming, created_at=created_at))))
    result = run("rotate", "--folder", tmp_path)
    assert (f"{age_days} days old" in result.stderr) is warned


def test_keys_retire_removes_key(run: Run, folder: Path) -> None:
    _, upcoming, retired = make.key_set().keys
    for kid in (upcoming.kid, retired.kid):
        assert "taken out" in run("retire", kid, "--folder", folder, "--apply").stdout
    assert read_folder(folder).keys == (make.key_set().current,)


def test_keys_retire_and_export_accept_kid_starting_with_dash(run: Run, folder: Path) -> None:
    with pytest.raises(NotFound):
        run("retire", "-dash", "--folder", folder, "--apply")
    with pytest.raises(NotFound):
        run("export", "--kid", "-dash", "--folder", folder)


INVALID_REQUESTS: list[tuple[str, type[Exception], str]] = [
    ("create", Conflict, "a next key already"),
    ("retire CURRENT", Conflict, "rotate first"),
    ("retire unknown", NotFound, "keys list"),
    ("export --kid unknown", NotFound, "keys list"),
    ("rotate --output EXISTING --apply", Conflict, "exists already"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"), INVALID_REQUESTS, ids=[case[0] for case in INVALID_REQUESTS]
)
def test_keys_invalid_request_raises_and_changes_nothing(
    run: Run, folder: Path, arguments: str, error: type[Exception], sentence: str
) -> None:
    before = content(folder)
    words = arguments.replace("CURRENT", make.key_set().current.kid).replace("EXISTING", str(folder / "keys.json"))
    with pytest.raises(error, match=sentence):
        run(*words.split(), "--folder", folder)
    assert content(folder) == before


@pytest.mark.parametrize("words", ["rotate", "rotate --apply", "export", "retire KID"])
def test_keys_command_without_keys_raises(run: Run, tmp_path: Path, words: str) -> None:
    with pytest.raises((ConfigurationError, NotFound)):
        run(*words.split(), "--folder", tmp_path)
    assert content(tmp_path) == {}


def test_keys_list_prints_every_key_as_json(run: Run, folder: Path) -> None:
    assert json.loads(run("list", "--folder", folder, "--json").stdout)["keys"] == [
        {
            "kid": key.kid,
            "state": key.state,
            "bits": 2048,
            "createdAt": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "retiredAt": "2026-07-01T00:00:00Z" if key.state == "retired" else None,
            "publishedUntil": "2027-08-05T00:00:00Z" if key.state == "retired" else None,
        }
        for key in make.key_set().keys
    ]


def test_keys_list_fits_80_columns(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("list", "--folder", folder).stdout
    assert "…" not in shown
    for word in (*(key.kid for key in make.key_set().keys), "current", "next", "retired", "2026-07-01", "2027-08-05"):
        assert word in shown


def test_keys_list_of_empty_folder_suggests_keys_create(run: Run, tmp_path: Path) -> None:
    assert "keys create" in run("list", "--folder", tmp_path).stdout
    assert json.loads(run("list", "--folder", tmp_path, "--json").stdout) == {"keys": []}


def test_keys_export_prints_public_keys_in_each_format(run: Run, folder: Path) -> None:
    def export(*arguments: str) -> str:
        return run("export", "--folder", folder, *arguments).stdout

    jwk_set: dict[str, Any] = json.loads((make.FOLDER / "jwk-set.json").read_text())
    retired = make.key_set().keys[2]
    assert json.loads(export()) == jwk_set
    assert json.loads(export("--kid", retired.kid)) == {"keys": [retired.public_jwk]}
    assert export("--format", "pem") == (make.FOLDER / "current.pem").read_text()
    assert export("--format", "xml") == (make.FOLDER / "current.xml").read_text()
    assert export("--format", "pem", "--kid", retired.kid) == retired.public_pem


@pytest.mark.parametrize(
    "words", ["list", "list --json", "export", "rotate", "rotate --apply", "rotate --apply --json"]
)
def test_keys_commands_never_print_private_keys(run: Run, folder: Path, words: str) -> None:
    private = [
        jwk[name]
        for jwk in json.loads(make.key_set().dump())["keys"]
        for name in ("d", "p", "q", "dp", "dq", "qi")
        if name in jwk
    ]
    output = run(*words.split(), "--folder", folder).output
    assert len(private) == 12
    assert not [member for member in private if member in output]


def test_keys_rotate_uses_folder_from_setting(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICENSING_SIGNING_KEYS_FOLDER", str(folder))
    run("rotate", "--apply")
    assert read_folder(folder).current.kid == make.key_set().keys[1].kid


def test_keys_rotate_of_keys_in_setting_writes_output_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENSING_SIGNING_KEYS", make.key_set().dump())
    output = tmp_path / "new.json"
    assert "add --apply and --output FILE." in run("rotate").stdout
    with pytest.raises(ConfigurationError, match="--output"):
        run("rotate", "--apply")
    assert "Nothing was changed" in run("rotate", "--output", output).stdout
    assert not output.exists()
    shown = run("rotate", "--output", output, "--apply").stdout
    assert "az keyvault secret set" in shown
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert KeySet.parse(output.read_text()).current.kid == make.key_set().keys[1].kid


def test_keys_create_with_output_option_writes_file(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "first.json"
    run("create", "--output", output, "--apply")
    assert len(KeySet.parse(output.read_text()).keys) == 2


def test_keys_help_describes_every_command(run: Run) -> None:
    for words in (["--help"], *([name, "--help"] for name in ("list", "create", "rotate", "retire", "export"))):
        assert len(run(*words).stdout) > 300
    for info in command.app.registered_commands:
        assert info.callback
        assert info.callback.__doc__
