import json
import os
import stat
from pathlib import Path

import pytest

from licensing.errors import ConfigurationError
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.signing.store import read_folder, read_keys, write_folder, write_private_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_write_folder_and_read_folder_round_trip_keys_with_private_file_modes(tmp_path: Path, key_set: KeySet) -> None:
    folder = tmp_path / "deep" / "keys"
    write_folder(folder, key_set)
    assert read_folder(folder) == key_set
    assert (mode_of(folder), mode_of(folder / "keys.json")) == (0o700, 0o600)
    assert read_keys(Settings(signing_keys_folder=folder)) == key_set


def test_read_keys_accepts_file_content_as_setting(tmp_path: Path, key_set: KeySet) -> None:
    write_folder(tmp_path, key_set)
    assert read_keys(Settings(signing_keys=(tmp_path / "keys.json").read_text())) == key_set


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_read_folder_with_keys_accessible_to_others_raises(tmp_path: Path, key_set: KeySet, mode: int) -> None:
    write_folder(tmp_path, key_set)
    (tmp_path / "keys.json").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode 0{mode:o}.*chmod 600"):
        read_folder(tmp_path)


def test_write_folder_when_disk_is_full_leaves_previous_keys(
    tmp_path: Path, key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, key_set)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left"):
        write_folder(tmp_path, KeySet((key_set.current,)))
    assert read_folder(tmp_path) == key_set
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_write_private_file_restricts_mode_of_existing_file(tmp_path: Path, key_set: KeySet) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_private_file(path, key_set)
    assert mode_of(path) == 0o600


# What is there, and what the operator is told.
UNREADABLE = [
    ("no folder", lambda folder: folder.rmdir(), "does not exist: .*keys create --folder"),
    ("no file", lambda _folder: None, "does not exist: .*keys create --folder"),
    ("a folder in its place", lambda folder: (folder / "keys.json").mkdir(), "cannot be read: Is a directory"),
    ("no text", lambda folder: (folder / "keys.json").write_bytes(b"\xff\xfe"), "cannot be read: it is not UTF-8"),
    ("no keys", lambda folder: (folder / "keys.json").write_text("{}"), "no JWK Set"),
    ("an empty file", lambda folder: (folder / "keys.json").write_text(""), "not JSON"),
]


@pytest.mark.parametrize(("prepare", "sentence"), [case[1:] for case in UNREADABLE], ids=[c[0] for c in UNREADABLE])
def test_read_folder_with_unreadable_keys_raises_and_names_the_cause(
    tmp_path: Path, prepare: object, sentence: str
) -> None:
    assert callable(prepare)
    folder = tmp_path / "keys"
    folder.mkdir()
    prepare(folder)
    if (folder / "keys.json").is_file():
        (folder / "keys.json").chmod(0o600)
    with pytest.raises(ConfigurationError, match=sentence):
        read_folder(folder)


def test_write_folder_when_folder_cannot_be_created_raises(tmp_path: Path, key_set: KeySet) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made: Not a directory"):
        write_folder(tmp_path / "file" / "keys", key_set)


def test_read_keys_without_settings_raises_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no signing keys: set LICENSING_SIGNING_KEYS"):
        read_keys(Settings())


def test_read_keys_with_both_settings_raises_configuration_error(tmp_path: Path, key_set: KeySet) -> None:
    with pytest.raises(ConfigurationError, match="both set"):
        read_keys(Settings(signing_keys=key_set.dump(), signing_keys_folder=tmp_path))


def test_read_keys_with_unresolved_key_vault_reference_names_required_role() -> None:
    reference = "@Microsoft.KeyVault(SecretUri=https://vault.example.net/secrets/keys)"
    with pytest.raises(ConfigurationError, match="Key Vault Secrets User"):
        read_keys(Settings(signing_keys=reference))


def test_write_folder_writes_one_line_of_json(tmp_path: Path, key_set: KeySet) -> None:
    write_folder(tmp_path, key_set)
    text = (tmp_path / "keys.json").read_text()
    assert text.count("\n") == 1
    assert len(json.loads(text)["keys"]) == len(key_set.keys)
