import json
from typing import Any

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.signing.jws import sign
from licensing.signing.keys import KeySet
from licensing.signing.service import Signer
from tests.vectors import make

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(claims=st.dictionaries(st.text(), json_values))
@settings(max_examples=50)
def test_sign_round_trips_claims_through_pyjwt(key_set: KeySet, claims: dict[str, Any]) -> None:
    token = sign(key_set.current, json.dumps(claims).encode(), make.TYPE)
    verified = jwt.PyJWS().decode(token, key_set.current.public_key, algorithms=["RS256"])
    assert json.loads(verified) == claims


def test_sign_writes_documented_header_and_unpadded_payload(key_set: KeySet) -> None:
    header, payload, _ = sign(key_set.current, b"{}", make.TYPE).split(b".")
    expected = f'{{"alg":"RS256","kid":"{key_set.current.kid}","typ":"license-reply+jwt"}}'
    assert make.decoded(header.decode()) == expected.encode()
    assert payload == b"e30"


def test_signed_jwk_set_contains_issuer_time_and_keys(key_set: KeySet) -> None:
    token = Signer(key_set).signed_jwk_set(make.NOW, make.ISSUER)
    claims = json.loads(jwt.PyJWS().decode(token, key_set.current.public_key, algorithms=["RS256"]))
    assert claims == {"iss": make.ISSUER, "iat": make.IAT, **Signer(key_set).jwk_set(make.NOW)}
    assert [key["kid"] for key in claims["keys"]] == [key.kid for key in key_set.keys]
