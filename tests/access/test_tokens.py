"""Access tokens: whom they let in, and every way to be refused."""

import hashlib
import hmac
import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from licensing.errors import Unauthenticated
from licensing.http.permissions import Identity
from tests.support.token_factory import (
    AUDIENCE,
    AUTHORITY,
    CLIENT,
    DIRECTORY,
    KEY,
    ONE_FETCH,
    OTHER_DIRECTORY,
    PERSON,
    STRANGER,
    T,
    TokenVerifierFixture,
    application,
    base64url,
    encoded,
    header,
    jwk,
    person,
    token,
)

# --- who comes in


async def test_verify_with_person_token_returns_identity(token_verifier: TokenVerifierFixture) -> None:
    assert await token_verifier.verify(f"Bearer {token()}") == Identity(
        directory_id=DIRECTORY,
        object_id=PERSON,
        email="ada@contoso.example",
        application_id=CLIENT,
        name="Ada Planted",
        is_application=False,
        roles=frozenset(),
    )


async def test_verify_with_application_token_returns_identity_with_role(token_verifier: TokenVerifierFixture) -> None:
    assert await token_verifier.verify(f"Bearer {token(application(preferred_username='a@b.example'))}") == Identity(
        directory_id=DIRECTORY,
        object_id=PERSON,
        email="",
        application_id=CLIENT,
        name="",
        is_application=True,
        roles=frozenset({"Application"}),
    )


async def test_verify_accepts_token_created_by_pyjwt(token_verifier: TokenVerifierFixture) -> None:
    made = jwt.encode(person(), KEY, "RS256", headers={"kid": "one"})
    assert (await token_verifier.verify(f"Bearer {made}")).object_id == PERSON


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_verify_reads_bearer_scheme_in_any_case(token_verifier: TokenVerifierFixture, scheme: str) -> None:
    assert await token_verifier.verify(scheme + token())


@pytest.mark.parametrize(
    "head",
    [
        header(typ=None),
        header(typ="at+jwt"),
        header(x5t=None),
        header(x5c=["planted"]),
        header(unheard_of={"a": 1}),
    ],
    ids=["no type", "the type of RFC 9068", "no thumbprint", "a certificate, which nobody reads", "something new"],
)
async def test_verify_accepts_header_with_optional_or_unknown_member(
    token_verifier: TokenVerifierFixture, head: dict[str, Any]
) -> None:
    assert await token_verifier.verify(f"Bearer {token(head=head)}")


@pytest.mark.parametrize(
    "claims",
    [
        person(exp=T - 59),
        person(nbf=T + 60),
        person(iat=T + 60),
        person(exp=10**400),
        person(roles=[]),
        person(idtyp="user"),
        person(scp="access_as_user"),
        application(idtyp=None),
        application(roles=["GlobalAdmin", "Reader"]),
    ],
    ids=[
        "expired just now, by a clock that is ahead",
        "begins in a minute, by a clock that is behind",
        "made in a minute, by a clock that is behind",
        "expires in the far future",
        "a person without a role",
        "a person, said to be one",
        "no scope but ours",
        "an application, not said to be one",
        "an application that is an administrator",
    ],
)
async def test_verify_accepts_claims_within_bounds(
    token_verifier: TokenVerifierFixture, claims: dict[str, Any]
) -> None:
    assert await token_verifier.verify(f"Bearer {token(claims)}")


async def test_verify_returns_roles_of_a_person(token_verifier: TokenVerifierFixture) -> None:
    assert (await token_verifier.verify(f"Bearer {token(person(roles=['GlobalAdmin', 'X']))}")).roles == {
        "GlobalAdmin",
        "X",
    }


@pytest.mark.parametrize(
    ("changes", "email"),
    [
        ({}, "ada@contoso.example"),
        ({"preferred_username": None, "upn": "ada@upn.example"}, "ada@upn.example"),
        ({"preferred_username": "+61 2 5550 1234", "upn": "ada@upn.example"}, "ada@upn.example"),
        ({"preferred_username": "ada"}, ""),
        ({"preferred_username": None}, ""),
        ({"preferred_username": ["a@b.example"]}, ""),
    ],
)
async def test_verify_takes_email_from_sign_in_name_not_email_claim(
    token_verifier: TokenVerifierFixture, changes: dict[str, Any], email: str
) -> None:
    assert (await token_verifier.verify(f"Bearer {token(person(**changes))}")).email == email


# --- who does not


def unsigned(head: Any, claims: Any = None) -> str:
    return f"{encoded(head)}.{encoded(person() if claims is None else claims)}."


def hmac_with_the_public_key() -> str:
    secret = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = unsigned(header(alg="HS256")).rstrip(".")
    return f"{content}.{base64url(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def json_serialization() -> str:
    protected, payload, signature = token().split(".")
    one = {"protected": protected, "signature": signature}
    return json.dumps({"payload": payload, "signatures": [one, one]})


def twice(members: dict[str, Any], name: str, other: Any) -> str:
    """The object's text, with a member in it a second time."""
    return f'{{"{name}": {json.dumps(other)}, {json.dumps(members)[1:]}'


def with_replaced_claims(claims: dict[str, Any]) -> str:
    """Other claims under the signature of good ones."""
    head, _, signature = token().split(".")
    return f"{head}.{encoded(claims)}.{signature}"


JWK = jwk(STRANGER)
OTHER_ISSUER = f"{AUTHORITY}/{OTHER_DIRECTORY}/v2.0"
# What is wrong, what is sent, a part of the sentence that the caller gets. Nothing is fetched for these.
REJECTED_BEFORE_FETCH: list[tuple[str, str | None, str]] = [
    ("no header", None, "There is no access token"),
    ("an empty header", "", "There is no access token"),
    ("another scheme", f"Basic {token()}", "There is no access token"),
    ("no scheme", token(), "There is no access token"),
    ("a scheme without a token", "Bearer", "There is no access token"),
    ("a scheme and a space", "Bearer ", "There is no access token"),
    ("a key of functions", "Bearer planted", "This is no access token"),
    ("two headers in one", f"Bearer {token()},Bearer {token()}", "This is no access token"),
    ("four parts", f"Bearer {token()}.{'A' * 342}", "This is no access token"),
    ("five parts, encrypted", f"Bearer {token()}.AAAA.AAAA", "This is no access token"),
    ("JSON serialization, with two signatures", f"Bearer {json_serialization()}", "This is no access token"),
    ("too long", f"Bearer {token(person(groups=['g' * 36] * 400))}", "more than 16,384 characters"),
    ("padding", f"Bearer {token()}=", "This is no access token"),
    ("stray bits", f"Bearer {token()[:-1]}B", "This is no access token"),
    ("letters of another alphabet", f"Bearer {token()[:-1]}é", "This is no access token"),
    ("a header that is a list", f"Bearer {token(head=[header()])}", "This is no access token"),
    ("claims that are no JSON", f"Bearer {token('planted')}", "This is no access token"),
    ("claims that are a text", f"Bearer {token(json.dumps('planted'))}", "This is no access token"),
    ("claims nested beyond reason", f"Bearer {token('[' * 8000)}", "This is no access token"),
    ("claims that are not a number", f"Bearer {token(twice(person(), 'x', float('nan')))}", "This is no access token"),
    ("a number without end", f"Bearer {token(twice(person(), 'x', 0)[:-1] + ', "y": ' + '9' * 5000 + '}')}", "This is"),
    ("a claim twice", f"Bearer {token(twice(person(), 'aud', 'planted'))}", "This is no access token"),
    ("a header member twice", f"Bearer {token(head=twice(header(), 'alg', 'none'))}", "This is no access token"),
    ("no algorithm", f"Bearer {unsigned(header(alg='none'))}", "header"),
    ("no algorithm, in capitals", f"Bearer {unsigned(header(alg='None'))}", "header"),
    ("no algorithm, with a signature", f"Bearer {token(head=header(alg='none'))}", "header"),
    ("the public key as a secret", f"Bearer {hmac_with_the_public_key()}", "header"),
    ("another algorithm", f"Bearer {token(head=header(alg='PS256'))}", "header"),
    ("an algorithm that is a list", f"Bearer {token(head=header(alg=['RS256']))}", "header"),
    ("no algorithm named", f"Bearer {token(head=header(alg=None))}", "header"),
    ("no kid", f"Bearer {token(head=header(kid=None))}", "header"),
    ("a kid that is a number", f"Bearer {token(head=header(kid=1))}", "header"),
    ("the type of another token", f"Bearer {token(head=header(typ='license-reply+jwt'))}", "header"),
    ("jku", f"Bearer {token(head=header(jku='https://planted.example/keys'), key=STRANGER)}", "header"),
    ("x5u", f"Bearer {token(head=header(x5u='https://planted.example/x5'), key=STRANGER)}", "header"),
    ("jwk", f"Bearer {token(head=header(jwk=JWK), key=STRANGER)}", "header"),
    ("crit", f"Bearer {token(head=header(crit=['exp']))}", "header"),
    ("crit, empty", f"Bearer {token(head=header(crit=[]))}", "header"),
    ("b64", f"Bearer {token(head=header(b64=False))}", "header"),
    ("version 1.0", f"Bearer {token(person(ver='1.0'))}", "version 2.0"),
    ("no version", f"Bearer {token(person(ver=None))}", "version 2.0"),
    ("a version that is a number", f"Bearer {token(person(ver=2.0))}", "version 2.0"),
    ("another audience", f"Bearer {token(person(aud=CLIENT))}", "another service"),
    ("our audience as a URI", f"Bearer {token(person(aud=f'api://{AUDIENCE}'))}", "another service"),
    ("a list of audiences", f"Bearer {token(person(aud=[AUDIENCE]))}", "another service"),
    ("no audience", f"Bearer {token(person(aud=None))}", "another service"),
    ("another issuer", f"Bearer {token(person(iss=f'https://planted.example/{DIRECTORY}/v2.0'))}", "another issuer"),
    ("the issuer of version 1.0", f"Bearer {token(person(iss=f'https://sts.windows.net/{DIRECTORY}/'))}", "issuer"),
    ("another directory's issuer", f"Bearer {token(person(iss=OTHER_ISSUER))}", "another issuer"),
    ("another directory's id", f"Bearer {token(person(tid=OTHER_DIRECTORY))}", "another issuer"),
    ("no issuer", f"Bearer {token(person(iss=None))}", "another issuer"),
    ("no directory", f"Bearer {token(person(tid=None))}", "another issuer"),
    ("a directory by its name", f"Bearer {token(person(tid='common', iss=f'{AUTHORITY}/common/v2.0'))}", "issuer"),
    ("a directory in capitals", f"Bearer {token(person(tid=DIRECTORY.upper()))}", "another issuer"),
    ("a way out of the path", f"Bearer {token(person(tid='../x', iss=f'{AUTHORITY}/../x/v2.0'))}", "another issuer"),
    ("a directory nobody trusts", f"Bearer {token(person(tid=OTHER_DIRECTORY, iss=OTHER_ISSUER))}", "not known here"),
    ("expired, leeway and all", f"Bearer {token(person(exp=T - 60))}", "has expired: get a new one"),
    ("not valid yet", f"Bearer {token(person(nbf=T + 61))}", "does not count yet"),
    ("made in the future", f"Bearer {token(person(iat=T + 61))}", "does not count yet"),
    ("no expiry", f"Bearer {token(person(exp=None))}", "in numbers"),
    ("no beginning", f"Bearer {token(person(nbf=None))}", "in numbers"),
    ("no time of its making", f"Bearer {token(person(iat=None))}", "in numbers"),
    ("an expiry that is a text", f"Bearer {token(person(exp=str(T + 3600)))}", "in numbers"),
    ("an expiry that is true", f"Bearer {token(person(exp=True))}", "in numbers"),
    ("an expiry beyond all numbers", f"Bearer {token(json.dumps(person(exp=1)).replace(': 1,', ': 1e999,'))}", "in n"),
]
# For these the keys of the directory are needed: once.
REJECTED_AFTER_FETCH: list[tuple[str, str, str]] = [
    ("no signature", unsigned(header()), "not what its directory has signed"),
    ("the signature of another key", token(key=STRANGER), "not what its directory has signed"),
    ("other claims under a signature", with_replaced_claims(person(oid=CLIENT)), "not what its directory has signed"),
    ("more time under a signature", with_replaced_claims(person(exp=T + 7200)), "not what its directory has signed"),
    ("a subject that is a number", token(person(sub=1)), "not what its directory has signed"),
    ("another kid", token(head=header(kid="planted"), key=STRANGER), "not known here"),
    ("our key under another kid", token(head=header(kid="two")), "not known here"),
    ("an empty kid", token(head=header(kid="")), "not known here"),
    ("nobody", token(person(oid=None)), "does not say who asks"),
    ("somebody who is no GUID", token(person(oid="planted")), "does not say who asks"),
    ("through no program", token(person(azp=None)), "does not say who asks"),
    ("no scope and no role", token(application(roles=None)), "neither a scope nor an app role"),
    ("a person without a scope", token(person(scp=None, roles=["GlobalAdmin"])), "neither a person nor an application"),
    ("another scope", token(person(scp="planted")), "does not have the scope access_as_user"),
    ("a scope that ours is a part of", token(person(scp="access_as_user.all x")), "does not have the scope"),
    ("an empty scope", token(person(scp="")), "does not have the scope"),
    ("scopes in a list", token(person(scp=["access_as_user"])), "does not have the scope"),
    ("scopes in a list, ours within", token(person(scp=["x access_as_user x"])), "does not have the scope"),
    ("a person's role without a scope", token(person(scp=None, idtyp="user", roles=["GlobalAdmin"])), "neither a pers"),
    ("an application with a person's scope", token(application(scp="access_as_user")), "neither a person nor"),
    ("a device", token(application(idtyp="device")), "neither a person nor"),
    ("an application without a role", token(application(roles=None)), "neither a scope nor an app role"),
    ("an application with another role", token(application(roles=["planted"])), "neither a scope nor an app role"),
    ("a role that is a text", token(application(roles="Application")), "no list of names"),
    ("roles that are no texts", token(application(roles=["Application", ["planted"]])), "no list of names"),
]


async def refused(token_verifier: TokenVerifierFixture, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await token_verifier.verify(authorization)
    detail = caught.value.detail
    # It stands in a quoted string of a header (RFC 9110), and tells nothing of the token.
    assert detail.isascii()
    assert detail.isprintable()
    assert '"' not in detail
    assert "\\" not in detail
    assert "planted" not in detail.lower()
    assert detail.endswith(".")
    return detail


@pytest.mark.parametrize(
    ("authorization", "sentence"),
    [case[1:] for case in REJECTED_BEFORE_FETCH],
    ids=[c[0] for c in REJECTED_BEFORE_FETCH],
)
async def test_verify_rejects_malformed_or_foreign_token_without_fetching_keys(
    token_verifier: TokenVerifierFixture, authorization: str | None, sentence: str
) -> None:
    assert sentence in await refused(token_verifier, authorization)
    assert token_verifier.net.asked == []


@pytest.mark.parametrize(
    ("text", "sentence"), [case[1:] for case in REJECTED_AFTER_FETCH], ids=[case[0] for case in REJECTED_AFTER_FETCH]
)
async def test_verify_rejects_invalid_token_after_one_fetch_of_keys(
    token_verifier: TokenVerifierFixture, text: str, sentence: str
) -> None:
    assert sentence in await refused(token_verifier, f"Bearer {text}")
    assert token_verifier.net.asked == ONE_FETCH
    assert await token_verifier.verify(f"Bearer {token()}")


async def test_verify_accepts_only_keys_of_the_token_directory(token_verifier: TokenVerifierFixture) -> None:
    discovery = f"{OTHER_ISSUER}/.well-known/openid-configuration"
    keys = f"{AUTHORITY}/{OTHER_DIRECTORY}/discovery/v2.0/keys"
    token_verifier.trusted.add(OTHER_DIRECTORY)
    token_verifier.net.pages[discovery] = {"issuer": OTHER_ISSUER, "jwks_uri": keys}
    token_verifier.net.pages[keys] = {"keys": [jwk(STRANGER)]}
    claims = person(tid=OTHER_DIRECTORY, iss=OTHER_ISSUER)
    assert (await token_verifier.verify(f"Bearer {token(claims, key=STRANGER)}")).directory_id == OTHER_DIRECTORY
    assert "not what its directory has signed" in await refused(token_verifier, f"Bearer {token(claims)}")
    assert "not what its directory has signed" in await refused(token_verifier, f"Bearer {token(key=STRANGER)}")


async def test_verify_accepts_token_until_expiry_plus_leeway(token_verifier: TokenVerifierFixture) -> None:
    text = token(person(exp=T + 3600))
    token_verifier.clock.advance(minutes=60, seconds=59)
    assert await token_verifier.verify(f"Bearer {text}")
    token_verifier.clock.advance(seconds=1)
    assert "has expired" in await refused(token_verifier, f"Bearer {text}")


async def test_verify_rejects_token_with_any_changed_character(token_verifier: TokenVerifierFixture) -> None:
    text = token()
    for position in range(0, len(text), 7):
        changed = "A" if text[position] != "A" else "B"
        await refused(token_verifier, f"Bearer {text[:position]}{changed}{text[position + 1 :]}")


def test_tokens_module_defers_import_of_jwt_and_aiohttp() -> None:
    program = "import sys, licensing.access.tokens; print(sorted({'jwt', 'aiohttp'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_token_factory_ids_are_guids() -> None:
    assert all(str(UUID(value)) == value for value in (DIRECTORY, OTHER_DIRECTORY, AUDIENCE, CLIENT, PERSON))
