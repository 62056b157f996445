"""`python -m licensing token`: tokens of the local issuer, for this machine only."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from devhost.issuer import Issuer, issuing
from licensing.access.discovery import fetch
from licensing.access.tokens import TokenVerifier
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.http.permissions import Identity
from tests.cli.conftest import Command
from tests.support.token_factory import AUDIENCE, CLIENT, DIRECTORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("issuer")


@pytest.fixture(scope="module")
def issuer(folder: Path) -> Iterator[Issuer]:
    with issuing(folder) as running:
        yield running


@pytest.fixture
def local(issuer: Issuer, folder: Path) -> dict[str, str]:
    """The settings that `make run` writes."""
    return {
        "LICENSING_SIGN_IN_AUTHORITY": issuer.url,
        "LICENSING_DIRECTORY_ID": DEMO_DIRECTORY_ID,
        "LICENSING_API_CLIENT_ID": DEMO_API_CLIENT_ID,
        "DEVHOST_ISSUER_FOLDER": str(folder),
    }


async def verified_identity(issuer: Issuer, token: str, audience: str = DEMO_API_CLIENT_ID) -> Identity:
    async def is_trusted(_: str) -> bool:
        return True

    verifier = TokenVerifier(authority=issuer.url, audience=audience, fetch=fetch, clock=lambda: datetime.now(UTC))
    return await verifier.verify(f"Bearer {token}", is_trusted)


async def test_token_prints_only_token_that_verifies_with_identity(
    command: Command, local: dict[str, str], issuer: Issuer
) -> None:
    ended = command("token", "--email", "ada@example.com", "--name", "Ada", "--role", "GlobalAdmin", **local)
    assert (ended.code, ended.err, ended.out.count("\n"), ended.out.count(" ")) == (0, "", 1, 0)
    identity = await verified_identity(issuer, ended.out.strip())
    assert (identity.email, identity.name, identity.roles) == ("ada@example.com", "Ada", frozenset({"GlobalAdmin"}))
    assert (identity.directory_id, identity.is_application) == (DEMO_DIRECTORY_ID, False)


@pytest.mark.parametrize(
    ("options", "roles"),
    [((), ["Application"]), (("--role", "GlobalAdmin", "--role", "Reader"), ["GlobalAdmin", "Reader"])],
)
async def test_token_for_application_verifies_with_roles(
    command: Command, local: dict[str, str], issuer: Issuer, options: tuple[str, ...], roles: list[str]
) -> None:
    identity = await verified_identity(issuer, command("token", "--application", CLIENT, *options, **local).out.strip())
    assert (identity.application_id, identity.is_application, identity.roles) == (CLIENT, True, frozenset(roles))


async def test_token_uses_given_directory_and_audience(command: Command, local: dict[str, str], issuer: Issuer) -> None:
    settings = local | {"LICENSING_API_CLIENT_ID": AUDIENCE}
    ended = command("token", "--email", "ada@example.com", "--directory", DIRECTORY.upper(), **settings)
    assert (await verified_identity(issuer, ended.out.strip(), AUDIENCE)).directory_id == DIRECTORY


def test_token_expires_after_given_minutes(command: Command, local: dict[str, str]) -> None:
    shown = json.loads(command("token", "--email", "ada@example.com", "--minutes", 5, "--json", **local).out)
    assert set(shown) == {"token", "claims"}
    assert shown["claims"] == jwt.decode(shown["token"], options={"verify_signature": False})
    assert shown["claims"]["exp"] - shown["claims"]["iat"] == 300


@pytest.mark.parametrize(
    "changes",
    [
        {"LICENSING_SIGN_IN_AUTHORITY": "https://login.microsoftonline.com"},
        {"LICENSING_SIGN_IN_AUTHORITY": None},
        {"DEVHOST_ISSUER_FOLDER": None},
        {"LICENSING_DIRECTORY_ID": None},
        {"LICENSING_API_CLIENT_ID": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_token_without_local_issuer_settings_suggests_azure_cli(
    command: Command, local: dict[str, str], changes: dict[str, str | None]
) -> None:
    ended = command("token", "--email", "ada@example.com", **{**local, **changes})
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "az account get-access-token --resource api://" in ended.err
    assert "settings.env" in ended.err


def test_token_without_issuer_key_file_reports_missing_file(
    command: Command, local: dict[str, str], tmp_path: Path
) -> None:
    ended = command("token", "--email", "ada@example.com", **local | {"DEVHOST_ISSUER_FOLDER": str(tmp_path)})
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert f"{tmp_path}/keys.json does not exist" in ended.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--email", "ada@example.com", "--application", CLIENT),
        ("--application", "planted"),
        ("--email", "ada@example.com", "--directory", "contoso.example"),
        ("--email", "ada@example.com", "--minutes", "0"),
    ],
    ids=["nobody", "two at once", "an application by its name", "a directory by its name", "no time"],
)
def test_token_with_invalid_options_exits_with_code_3(
    command: Command, local: dict[str, str], options: tuple[str, ...]
) -> None:
    ended = command("token", *options, **local)
    assert (ended.code, ended.out) == (3, "")
    assert "Invalid value" in ended.err
