import pytest

from tests.support.token_factory import TokenVerifierFixture


@pytest.fixture
def token_verifier() -> TokenVerifierFixture:
    return TokenVerifierFixture()
