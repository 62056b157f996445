import pytest

from tests.access.forging import Door


@pytest.fixture
def door() -> Door:
    return Door()
