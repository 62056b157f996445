"""Keys that the tests of signing share: to find one takes tens of milliseconds, to load one as long."""

from datetime import UTC, datetime

import pytest

from licensing.signing.keys import KeySet
from tests.vectors import make

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def key_set() -> KeySet:
    """A current, a next and one retired key: those of the vectors."""
    return make.key_set()


@pytest.fixture(scope="session")
def fresh_key_set() -> KeySet:
    """Keys that this run has made."""
    return KeySet().created(NOW).rotated(NOW)
