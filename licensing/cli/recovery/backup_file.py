"""A backup: a publisher's rows in a file of JSON lines, which is gone on with where it was cut off, and proves itself.

    {"backup": 1, "publisherId": ..., "name": ..., "version": 42, "etag": ..., "at": ...}
    {"PartitionKey": ..., "RowKey": ..., ...}    a row, by partition and key
    {"rows": 1234, "sha256": ...}                of all bytes before this line

It holds customers and addresses: nobody else may read it (mode 0600).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from licensing.catalogue.publisher_copy import Place, is_version, place
from licensing.errors import LicensingError
from licensing.storage.batches import Row

_FORMAT = 1
_UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)
"""What a line of any other file may lead to."""


class BackupRefused(LicensingError):
    """The file is no whole backup of this publisher, or cannot be written."""

    code, title = "backupRefused", "This backup cannot be used"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is whole. `version`: the publisher's version row, as it was."""

    path: Path
    publisher_id: str
    name: str
    at: str
    rows: int
    sha256: str
    version: Row

    def read(self) -> Iterator[Row]:
        """Its rows, by partition and key."""
        with self.path.open("rb") as file:
            next(file)
            for _ in range(self.rows):
                yield json.loads(next(file))

    @classmethod
    def open(cls, path: Path, publisher_id: str) -> Self:
        """The backup of this publisher, looked at from its first byte to its last. Raises BackupRefused."""
        try:
            with path.open("rb") as file:
                return cls._checked(path, file, publisher_id)
        except OSError as error:
            raise BackupRefused(f"{path} cannot be read: {error.strerror}.") from None
        except _UNREADABLE:
            raise BackupRefused(f"{path} is no backup, or is damaged. Nothing was changed.") from None

    @classmethod
    def _checked(cls, path: Path, file: BinaryIO, publisher_id: str) -> Self:
        line = file.readline()
        head = json.loads(line)
        if head["backup"] != _FORMAT:
            raise BackupRefused(f"{path} is a backup of another version of this program. Use that version.")
        if head["publisherId"] != publisher_id:
            raise BackupRefused(f"{path} is a backup of {head['name']} ({head['publisherId']}), not of {publisher_id}.")
        digest, rows, last, version = hashlib.sha256(line), 0, Place("", ""), None
        end: dict[str, Any] = {}
        for line in file:
            row = json.loads(line)
            if "sha256" in row and "RowKey" not in row:
                end = row
                break
            here = place(row)
            if here <= last or here.partition.partition("|")[0] != publisher_id:
                raise ValueError(here)
            digest.update(line)
            rows, last = rows + 1, here
            version = row if is_version(row, publisher_id) else version
        if not end or file.read(1):
            raise BackupRefused(f"{path} is cut off, or goes on after its end. Nothing was changed.")
        if (end["rows"], end["sha256"]) != (rows, digest.hexdigest()) or version is None:
            raise BackupRefused(f"{path} is damaged: its checksum is another one. Nothing was changed.")
        if not isinstance(version["number"], int):
            raise TypeError(version["number"])
        return cls(path, publisher_id, head["name"], head["at"], rows, end["sha256"], version)


@dataclass(slots=True)
class Unfinished:
    """A backup that is being written, beside its place. `last`: the row after which it goes on."""

    path: Path
    publisher_id: str
    file: BinaryIO
    last: Place | None = None
    rows: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, row: Row) -> None:
        here = place(row)
        if self.last is not None and here <= self.last:
            raise AssertionError("storage gives rows in the order of their keys")
        self._write(row)
        self.last, self.rows = here, self.rows + 1

    def _write(self, line: Any) -> None:
        raw = _line(line)
        self.digest.update(raw)
        self.file.write(raw)

    def begin(self, head: dict[str, Any]) -> None:
        """Go on with what is there, if that has the same head but for its time; else begin anew."""
        line = self.file.readline()
        if _same(line, head):
            self.digest.update(line)
            whole = self.file.tell()
            for line in self.file:
                try:
                    here = place(_whole(line))
                except _UNREADABLE:  # cut off; or its end, which comes again
                    break
                self.digest.update(line)
                self.last, self.rows = here, self.rows + 1
                whole += len(line)
            self.file.seek(whole)
            self.file.truncate()
        else:
            self.file.seek(0)
            self.file.truncate()
            self._write(head)

    def end(self) -> None:
        """Let it be where it is looked for: read back whole, or not at all. Raises BackupRefused."""
        self.file.write(_line({"rows": self.rows, "sha256": self.digest.hexdigest()}))
        self.file.flush()
        os.fsync(self.file.fileno())
        beside = _beside(self.path)
        try:
            Backup.open(beside, self.publisher_id)
        except BackupRefused:
            raise BackupRefused(f"{beside} is not what was written: look at the disk, delete it, begin anew.") from None
        beside.rename(self.path)


def head(publisher_id: str, name: str, version: int, etag: str, at: str) -> dict[str, Any]:
    return {"backup": _FORMAT, "publisherId": publisher_id, "name": name, "version": version, "etag": etag, "at": at}


@contextmanager
def writing(path: Path, first: dict[str, Any]) -> Iterator[Unfinished]:
    """A backup that is written beside `path`; at `path` it is once it has come to its end. Raises BackupRefused."""
    beside = _beside(path)
    try:
        with os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held the lock may have ended, and what was opened here is their backup by now.
            if not beside.exists() or not os.path.samestat(os.fstat(file.fileno()), beside.stat()):
                raise BlockingIOError
            if path.exists():
                beside.unlink()
                raise BackupRefused(f"{path} exists already: name a new file.")
            os.fchmod(file.fileno(), 0o600)  # also where it was there
            unfinished = Unfinished(path, first["publisherId"], file)
            unfinished.begin(first)
            yield unfinished
    except BlockingIOError:
        raise BackupRefused(f"Somebody else is writing {beside}.") from None
    except OSError as error:
        raise BackupRefused(f"{beside} cannot be written: {error.strerror}.") from None


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _line(item: Any) -> bytes:
    return json.dumps(dict(item), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _whole(line: bytes) -> Any:
    """What the line says. Raises ValueError where it was cut off, be it just before its end."""
    if not line.endswith(b"\n"):
        raise ValueError(line)
    return json.loads(line)


def _same(line: bytes, head: dict[str, Any]) -> bool:
    try:
        return bool(_whole(line) | {"at": ""} == head | {"at": ""})
    except _UNREADABLE:
        return False
