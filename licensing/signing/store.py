"""Where the keys lie: in a setting, or for local use in a folder. Nothing else of signing reads or writes."""

import os
import stat
import tempfile
from pathlib import Path

from licensing.errors import ConfigurationError
from licensing.settings import Settings
from licensing.signing.keys import KeySet

FILE_NAME = "keys.json"


def read_keys(settings: Settings) -> KeySet:
    """The keys that the settings hold or point to. Raises ConfigurationError: missing, unreadable, unsafe."""
    if settings.signing_keys and settings.signing_keys_folder:
        raise ConfigurationError(
            "LICENSING_SIGNING_KEYS and LICENSING_SIGNING_KEYS_FOLDER are both set: take one of them away."
        )
    if settings.signing_keys.startswith("@Microsoft.KeyVault("):
        raise ConfigurationError(
            "LICENSING_SIGNING_KEYS is a Key Vault reference that Azure could not resolve: check that the "
            "secret exists, and that the app's identity has the role Key Vault Secrets User on it."
        )
    if settings.signing_keys:
        return KeySet.parse(settings.signing_keys)
    if settings.signing_keys_folder:
        return read_folder(settings.signing_keys_folder)
    raise ConfigurationError(
        "There are no signing keys: set LICENSING_SIGNING_KEYS, or for local use "
        "LICENSING_SIGNING_KEYS_FOLDER, to what `python -m licensing keys create` makes."
    )


def read_folder(folder: Path) -> KeySet:
    """The keys in the folder's keys.json. Raises ConfigurationError, also where others may read them."""
    path = folder / FILE_NAME
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and (mode := stat.S_IMODE(os.fstat(file.fileno()).st_mode)) & 0o077:
                raise ConfigurationError(
                    f"{path} is open to others than its owner (mode {mode:04o}): chmod 600 {path}, and "
                    "rotate the keys if others may have read it."
                )
            text = file.read()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} does not exist: `python -m licensing keys create --folder {folder} --apply` makes it."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from None
    return KeySet.parse(text)


def write_folder(folder: Path, key_set: KeySet) -> None:
    """Put the keys into the folder's keys.json, making the folder (mode 0700) where there is none."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}.") from None
    write_private_file(folder / FILE_NAME, key_set)


def write_private_file(path: Path, key_set: KeySet) -> None:
    """Put the keys into a file that only its owner reads (mode 0600): all of them, or what was there stays.

    Raises ConfigurationError where the file cannot be written.
    """
    try:
        # A file of mkstemp has mode 0600 from the start: there is no moment at which others could open it.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(key_set.dump() + "\n")
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from None


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    # A new name lasts through a power cut only once its folder is on disk too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
