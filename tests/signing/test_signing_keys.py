import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.errors import ConfigurationError
from licensing.signing.encoding import base64url_uint
from licensing.signing.keys import PUBLISHED_AFTER_RETIREMENT, KeySet, KeyState, SigningKey
from tests.vectors import make

PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi")
Jwk = dict[str, Any]


def weak_jwk(bits: int, exponent: int) -> Jwk:
    key = rsa.generate_private_key(exponent, bits)
    numbers = key.private_numbers()
    parts = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return {
        "n": base64url_uint(numbers.public_numbers.n),
        "e": base64url_uint(exponent),
        **dict(zip(PRIVATE_MEMBERS, map(base64url_uint, parts), strict=True)),
    }


def without(jwk: Jwk, *names: str) -> Jwk:
    return {name: value for name, value in jwk.items() if name not in names}


def keys_of(*jwks: Any) -> str:
    return json.dumps({"keys": jwks})


# What is wrong, the text made of a sound current, next and retired key, and what the operator is told.
REFUSED: list[tuple[str, Callable[[Jwk, Jwk, Jwk], str], str]] = [
    ("nothing", lambda _c, _n, _r: "", "not JSON"),
    ("no JSON", lambda c, _n, _r: keys_of(c)[:-3], "not JSON"),
    ("a PEM", lambda _c, _n, _r: "-----BEGIN PRIVATE KEY-----", "not JSON"),
    ("one key, not a set", lambda c, _n, _r: json.dumps(c), "JWK Set"),
    ("a list", lambda c, _n, _r: json.dumps([c]), "not a JSON object"),
    ("keys that are no objects", lambda c, _n, _r: keys_of(c, "key"), "JWK Set"),
    ("nested too deeply", lambda _c, _n, _r: '{"keys":' + "[" * 200_000, "nested too deeply"),
    ("a member twice", lambda c, _n, _r: keys_of(c).replace('"kty": "RSA"', '"kty": "oct", "kty": "RSA"'), "twice"),
    ("no key at all", lambda _c, _n, _r: keys_of(), "no key at all"),
    ("no current key", lambda _c, n, r: keys_of(n, r), "no current key"),
    ("two current keys", lambda c, n, _r: keys_of(c, n | {"state": "current"}), "2 current keys"),
    ("one key twice", lambda c, n, _r: keys_of(c, n, n), "one key twice"),
    ("one key twice, in two states", lambda c, _n, _r: keys_of(c, c | {"state": "next"}), "one key twice"),
    ("under 2048 bits", lambda c, _n, _r: keys_of(c | weak_jwk(2040, 65537)), "2040 bits"),
    ("another exponent", lambda c, _n, _r: keys_of(c | weak_jwk(2048, 3)), "exponent is not 65537"),
    ("a symmetric key", lambda c, _n, _r: keys_of(c, {"kty": "oct", "k": "c2VjcmV0", "state": "next"}), "no RSA key"),
    ("an elliptic key", lambda c, _n, _r: keys_of(c | {"kty": "EC"}), "no RSA key"),
    ("no kty", lambda c, _n, _r: keys_of(without(c, "kty")), "no RSA key"),
    ("another algorithm", lambda c, _n, _r: keys_of(c | {"alg": "PS256"}), "RS256"),
    ("for encryption", lambda c, _n, _r: keys_of(c | {"use": "enc"}), "for signing"),
    ("a kid of one's own", lambda c, _n, _r: keys_of(c | {"kid": "2026-11"}), "thumbprint"),
    ("no kid", lambda c, _n, _r: keys_of(without(c, "kid")), "thumbprint"),
    ("another key's kid", lambda c, n, _r: keys_of(c | {"kid": n["kid"]}), "thumbprint"),
    ("public only", lambda c, _n, _r: keys_of(without(c, *PRIVATE_MEMBERS)), "public key only"),
    ("next one public only", lambda c, n, _r: keys_of(c, without(n, *PRIVATE_MEMBERS)), "Number 2"),
    ("private exponent only", lambda c, _n, _r: keys_of(without(c, "p")), '"p"'),
    ("another key's d", lambda c, n, _r: keys_of(c | {"d": n["d"]}), "belong together"),
    ("another key's qi", lambda c, n, _r: keys_of(c | {"qi": n["qi"]}), "belong together"),
    ("another key's p and q", lambda c, n, _r: keys_of(c | {"p": n["p"], "q": n["q"]}), "belong together"),
    ("three primes", lambda c, _n, _r: keys_of(c | {"oth": []}), "two primes"),
    ("n no text", lambda c, _n, _r: keys_of(c | {"n": 5}), '"n" cannot be read'),
    ("n padded", lambda c, _n, _r: keys_of(c | {"n": c["n"] + "=="}), '"n" cannot be read'),
    ("n with a zero before it", lambda c, _n, _r: keys_of(c | {"e": "AAEAAQ"}), '"e" cannot be read'),
    ("d with a space", lambda c, _n, _r: keys_of(c | {"d": " " + c["d"]}), '"d" cannot be read'),
    ("an unknown state", lambda c, _n, _r: keys_of(c | {"state": "active"}), "next, current, retired"),
    ("no state", lambda c, _n, _r: keys_of(without(c, "state")), "next, current, retired"),
    ("a state that is a list", lambda c, _n, _r: keys_of(c | {"state": []}), "next, current, retired"),
    ("no createdAt", lambda c, _n, _r: keys_of(without(c, "createdAt")), '"createdAt"'),
    ("createdAt without a zone", lambda c, _n, _r: keys_of(c | {"createdAt": "2026-01-01T00:00:00"}), '"createdAt"'),
    ("retired, nobody knows when", lambda c, _n, r: keys_of(c, without(r, "retiredAt")), "retiredAt"),
    ("current, and retired", lambda c, _n, r: keys_of(c | {"retiredAt": r["retiredAt"]}), "retiredAt"),
]


@pytest.mark.parametrize(("broken", "sentence"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_parse_with_unsafe_keys_raises_without_exposing_private_members(
    key_set: KeySet, broken: Callable[[Jwk, Jwk, Jwk], str], sentence: str
) -> None:
    jwks: list[Jwk] = json.loads(key_set.dump())["keys"]
    text = broken(*jwks)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        KeySet.parse(text)
    for jwk in jwks:
        for name in PRIVATE_MEMBERS:
            assert jwk.get(name, "\0") not in caught.value.detail
    # Nor is it chained to an error that holds the text.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_key_set_with_two_next_keys_raises_configuration_error(key_set: KeySet) -> None:
    with pytest.raises(ConfigurationError, match="2 next keys"):
        KeySet((*key_set.keys, SigningKey.generate(KeyState.NEXT, make.NOW)))


def test_parse_ignores_unknown_members(key_set: KeySet) -> None:
    document = json.loads(key_set.dump())
    document["comment"] = "rotated for the audit"
    document["keys"][0]["x5t"] = "abc"
    assert KeySet.parse(json.dumps(document)) == key_set


def test_retired_key_has_no_private_key(key_set: KeySet) -> None:
    document = json.loads(key_set.dump())
    current, _, retired = document["keys"]
    assert not set(PRIVATE_MEMBERS) & set(retired)
    assert key_set.current.retired(make.NOW).private_key is None
    assert current["d"] not in key_set.rotated(make.NOW).dump()
    # Nor does one whose private half an operator has left in.
    retired_whole = current | {"state": "retired", "retiredAt": "2026-11-01T00:00:00Z"}
    reread = KeySet.parse(keys_of(document["keys"][1] | {"state": "current"}, retired_whole))
    assert reread.keys[1].private_key is None
    assert current["d"] not in reread.dump()
    with pytest.raises(ValueError, match="signs nothing"):
        reread.keys[1].sign(b"")


def test_key_repr_and_public_formats_exclude_private_members(key_set: KeySet) -> None:
    jwk = json.loads(key_set.dump())["keys"][0]
    shown = repr(key_set) + json.dumps(key_set.current.public_jwk) + key_set.current.public_pem
    assert all(jwk[name] not in shown for name in PRIVATE_MEMBERS)
    assert set(key_set.current.public_jwk) == {"kty", "use", "alg", "kid", "n", "e"}


def test_current_of_empty_key_set_raises_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="keys create"):
        _ = KeySet().current


instants = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - the bounds are naive by contract
    lambda instant: instant.replace(microsecond=0)
)


@given(created=instants, retired=st.none() | instants, with_next=st.booleans())
@settings(max_examples=15)
def test_dump_and_parse_round_trip_key_set(
    key_set: KeySet, created: datetime, retired: datetime | None, *, with_next: bool
) -> None:
    keys = [replace(key_set.current, created_at=created)]
    if with_next and key_set.next:
        keys.append(key_set.next)
    if retired:
        keys.append(key_set.keys[2].retired(retired))
    made = KeySet(tuple(keys))
    reread = KeySet.parse(made.dump())
    assert reread == made
    assert reread.dump() == made.dump()
    assert reread.current.sign(b"reply") == made.current.sign(b"reply")


def test_generate_stores_created_at_in_utc_with_second_precision() -> None:
    local = datetime.fromisoformat("2026-11-24T03:00:00.999999+01:00")
    assert SigningKey.generate(KeyState.NEXT, local).created_at == datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_retired_key_is_published_for_exactly_400_days(key_set: KeySet) -> None:
    retired = key_set.keys[2]
    assert retired.retired_at
    last = retired.retired_at + PUBLISHED_AFTER_RETIREMENT
    assert timedelta(days=400) == PUBLISHED_AFTER_RETIREMENT
    assert key_set.find_published(retired.kid, last) is retired
    assert key_set.find_published(retired.kid, last + timedelta(seconds=1)) is None
    assert [key.state for key in key_set.published(last + timedelta(seconds=1))] == ["current", "next"]
