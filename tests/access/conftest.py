import pytest

from tests.access.token_factory import TokenVerifierFixture


@pytest.fixture
def token_verifier() -> TokenVerifierFixture:
    return TokenVerifierFixture()
