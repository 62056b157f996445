import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.signing.jws import SignatureInvalid, sign, verify
from licensing.signing.keys import KeySet, parse_public_keys
from licensing.signing.service import JWK_SET_TYPE, Signer
from tests.vectors import make

REFUSED: dict[str, str] = json.loads((make.FOLDER / "refused.json").read_text("utf-8"))
REPLY = (make.FOLDER / "reply.jws").read_bytes()
Trusted = dict[str, rsa.RSAPublicKey]


@pytest.fixture(scope="module")
def trusted(key_set: KeySet) -> Trusted:
    return parse_public_keys(Signer(key_set).jwk_set(make.NOW))


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_is_refused(trusted: Trusted, name: str) -> None:
    for token in (REFUSED[name], REFUSED[name].encode()):
        with pytest.raises(SignatureInvalid):
            verify(token, trusted, make.TYPE)


@pytest.mark.parametrize("token", [REPLY, REPLY.decode()], ids=["bytes", "text"])
def test_a_reply_is_read(trusted: Trusted, token: bytes | str) -> None:
    assert verify(token, trusted, make.TYPE) == make.CLAIMS


def test_a_reply_counts_for_nothing_where_its_key_is_not_trusted(key_set: KeySet, trusted: Trusted) -> None:
    others = {kid: key for kid, key in trusted.items() if kid != key_set.current.kid}
    with pytest.raises(SignatureInvalid, match="not trusted"):
        verify(REPLY, others, make.TYPE)


def test_every_flipped_bit_is_noticed(trusted: Trusted) -> None:
    for position in range(len(REPLY)):
        for bit in range(8):
            flipped = bytearray(REPLY)
            flipped[position] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                verify(bytes(flipped), trusted, make.TYPE)


def test_every_lost_or_doubled_character_is_noticed(trusted: Trusted) -> None:
    for position in range(len(REPLY)):
        for tampered in (REPLY[:position] + REPLY[position + 1 :], REPLY[: position + 1] + REPLY[position:]):
            with pytest.raises(SignatureInvalid):
                verify(tampered, trusted, make.TYPE)


def test_a_header_nested_too_deeply_is_refused_in_the_same_way(key_set: KeySet, trusted: Trusted) -> None:
    depth = 200_000
    token = make.forged('{"kid":' * depth + "0" + "}" * depth, "e30", key_set.current.sign)
    with pytest.raises(SignatureInvalid, match="no compact JWS"):
        verify(token, trusted, make.TYPE)


@given(token=st.text() | st.binary() | st.text(alphabet=make.ALPHABET + "."))
@settings(deadline=None)
def test_whatever_comes_is_refused_in_one_way(trusted: Trusted, token: str | bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify(token, trusted, make.TYPE)


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "x"]), inner),
    )
)
@settings(deadline=None)
def test_whatever_header_is_soundly_signed_is_refused_in_one_way(
    key_set: KeySet, trusted: Trusted, header: Any
) -> None:
    token = make.forged(json.dumps(header), make.encoded(json.dumps(make.CLAIMS)), key_set.current.sign)
    with pytest.raises(SignatureInvalid):
        verify(token, trusted, make.TYPE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(claims=st.dictionaries(st.text(), json_values))
@settings(deadline=None, max_examples=50)
def test_what_is_signed_is_read_again(key_set: KeySet, trusted: Trusted, claims: dict[str, Any]) -> None:
    token = sign(key_set.current, json.dumps(claims).encode(), make.TYPE)
    assert verify(token, trusted, make.TYPE) == claims


def test_the_header_is_the_one_of_the_contract(key_set: KeySet) -> None:
    header, payload, _ = sign(key_set.current, b"{}", make.TYPE).split(b".")
    expected = f'{{"alg":"RS256","kid":"{key_set.current.kid}","typ":"license-reply+jwt"}}'
    assert make.decoded(header.decode()) == expected.encode()
    assert payload == b"e30"


def test_the_signed_key_set_says_who_and_when(key_set: KeySet, trusted: Trusted) -> None:
    token = Signer(key_set).signed_jwk_set(make.NOW, make.ISSUER)
    claims = verify(token, trusted, JWK_SET_TYPE)
    assert claims == {"iss": make.ISSUER, "iat": make.IAT, **Signer(key_set).jwk_set(make.NOW)}
    assert [key["kid"] for key in claims["keys"]] == [key.kid for key in key_set.keys]
