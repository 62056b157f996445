"""The local issuer over real HTTP: the service's own verifier takes its tokens, and no others."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import pytest

from devhost.issuer import Issuer, issuing
from licensing.access.discovery import fetch
from licensing.access.tokens import TokenVerifier
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.errors import ConfigurationError, Unauthenticated
from licensing.http.permissions import Identity
from licensing.signing.store import read_folder, write_folder
from tests.support.token_factory import CLIENT, DIRECTORY, Clock
from tests.support.waiting import http_get


class TokenVerifierFixture:
    """The service's verifier, as it trusts the issuer and every directory of it."""

    def __init__(self, issuer: Issuer) -> None:
        self.clock = Clock()
        self.clock.now = datetime.now(UTC)
        self._verifier = TokenVerifier(authority=issuer.url, audience=DEMO_API_CLIENT_ID, fetch=fetch, clock=self.clock)

    async def verify(self, token: str) -> Identity:
        async def is_trusted(_: str) -> bool:
            return True

        return await self._verifier.verify(f"Bearer {token}", is_trusted)


def rotate(folder: Path) -> None:
    write_folder(folder, read_folder(folder).rotated(datetime.now(UTC)))


async def test_token_verifier_accepts_issuer_tokens_of_persons_and_applications(tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        verifier = TokenVerifierFixture(issuer)
        person = await verifier.verify(issuer.token(email="ada@example.com", name="Ada", roles=["GlobalAdmin"]))
        program = await verifier.verify(issuer.token(application_id=CLIENT, roles=["Application"]))
        other = await verifier.verify(issuer.token(email="ada@example.com", directory_id=DIRECTORY))
    assert (person.email, person.name, person.roles) == ("ada@example.com", "Ada", frozenset({"GlobalAdmin"}))
    assert (person.directory_id, person.application_id, person.is_application) == (
        DEMO_DIRECTORY_ID,
        DEMO_CLIENT_ID,
        False,
    )
    assert (program.email, program.application_id, program.is_application) == ("", CLIENT, True)
    assert (other.directory_id, other.roles) == (DIRECTORY, frozenset())
    assert len({person.object_id, program.object_id, other.object_id}) == 3


async def test_token_verifier_rejects_invalid_issuer_tokens(tmp_path: Path) -> None:
    with issuing(tmp_path / "one") as issuer, issuing(tmp_path / "other") as other:
        verifier = TokenVerifierFixture(issuer)
        for token in (
            issuer.token(email="ada@example.com", lifetime_seconds=-60),
            issuer.token(email="ada@example.com", aud="another"),
            issuer.token(email="ada@example.com", scp="another"),
            issuer.token(application_id=CLIENT),
            other.token(email="ada@example.com"),
            other.token(email="ada@example.com", iss=f"{issuer.url}/{DEMO_DIRECTORY_ID}/v2.0"),
        ):
            with pytest.raises(Unauthenticated):
                await verifier.verify(token)


async def test_token_verifier_accepts_rotated_and_previous_issuer_key(tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        verifier = TokenVerifierFixture(issuer)
        old = issuer.token(email="ada@example.com")
        await verifier.verify(old)
        rotate(tmp_path)
        await verifier.verify(Issuer(tmp_path, issuer.url).token(email="ada@example.com"))  # published ahead of its use
        rotate(tmp_path)
        new = Issuer(tmp_path, issuer.url).token(email="ada@example.com")
        with pytest.raises(Unauthenticated, match="not known here"):
            await verifier.verify(new)
        verifier.clock.advance(minutes=5)
        assert await verifier.verify(new) == await verifier.verify(old)


async def test_issuer_object_id_is_stable_per_email(tmp_path: Path) -> None:
    def object_id(token: str) -> str:
        return str(jwt.decode(token, options={"verify_signature": False})["oid"])

    with issuing(tmp_path) as issuer:
        ada = object_id(issuer.token(email="ada@example.com"))
        assert object_id(issuer.token(email="Ada@Example.com", name="Another name")) == ada
        assert object_id(issuer.token(email="bob@example.com")) != ada
    with issuing(tmp_path) as again:
        assert object_id(again.token(email="ada@example.com")) == ada


def test_issuer_token_verifies_with_pyjwt(tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        token = issuer.token(email="ada@example.com")
        found = http_get(f"{issuer.url}/{DEMO_DIRECTORY_ID}/v2.0/.well-known/openid-configuration").json()
        keys = jwt.PyJWKSet.from_dict(http_get(found["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=DEMO_API_CLIENT_ID, issuer=found["issuer"])
    assert claims["ver"] == "2.0"


def test_issuer_discovery_is_marked_local_and_serves_public_keys_only(tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        found = http_get(f"{issuer.url}/{DIRECTORY}/v2.0/.well-known/openid-configuration").json()
        keys = http_get(f"{issuer.url}/{DIRECTORY}/discovery/v2.0/keys").json()["keys"]
        elsewhere = http_get(f"{issuer.url}/keys.json")
    assert "LOCAL" in found["notice"]
    assert found["jwks_uri"] == f"{issuer.url}/{DIRECTORY}/discovery/v2.0/keys"
    assert [set(key) for key in keys] == [{"kty", "use", "alg", "kid", "n", "e"}] * 2
    assert elsewhere.status_code == 404


def test_issuer_key_file_is_private_and_rejected_when_readable_by_others(tmp_path: Path) -> None:
    with issuing(tmp_path / "issuer"):
        pass
    assert (tmp_path / "issuer").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "issuer/keys.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "issuer/keys.json").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"), issuing(tmp_path / "issuer"):
        pass


async def test_issuer_after_restart_has_same_url_and_key(tmp_path: Path) -> None:
    with issuing(tmp_path) as first:
        token = first.token(email="ada@example.com")
    with issuing(tmp_path) as second:
        assert second.url == first.url
        await TokenVerifierFixture(second).verify(token)


@pytest.mark.parametrize("kept", ["", "planted"])
def test_issuer_with_invalid_port_file_chooses_new_port(tmp_path: Path, kept: str) -> None:
    (tmp_path / "port").write_text(kept)
    with issuing(tmp_path) as issuer:
        assert issuer.url == f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"


def test_issuer_with_occupied_port_chooses_new_port(tmp_path: Path) -> None:
    with issuing(tmp_path / "one") as issuer:
        (tmp_path / "other").mkdir()
        (tmp_path / "other/port").write_text((tmp_path / "one/port").read_text())
        with issuing(tmp_path / "other") as other:
            assert other.url != issuer.url


def test_issuer_stops_listening_when_block_is_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), issuing(tmp_path) as issuer:  # noqa: PT012 - as Ctrl-C ends it
        port = httpx.URL(issuer.url).port
        assert port
        raise KeyboardInterrupt
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    "url",
    [
        "https://login.microsoftonline.com",
        "http://0.0.0.0:8000",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "",
    ],
)
def test_issuer_rejects_non_loopback_url(tmp_path: Path, url: str) -> None:
    with issuing(tmp_path):
        pass
    with pytest.raises(ConfigurationError, match="not on this machine"):
        Issuer(tmp_path, url)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells it so")
def test_issuer_listens_on_loopback_only(tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        port = f":{httpx.URL(issuer.url).port:04X}"
        with Path("/proc/net/tcp").open() as table:
            listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
    assert {address for address in listening if address.endswith(port)} == {f"0100007F{port}"}
