"""The vectors, and that others read our signatures as we do: OpenSSL, PyJWT, and jose for Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jwt
import pytest

from clients.python.license_client import REPLY, parse_keys, verify
from devhost.node import node
from licensing.signing.keys import KeySet, thumbprint
from licensing.signing.service import JWK_SET_TYPE, Signer
from tests.vectors import make

JOSE = Path(__file__).parent / "verify_with_jose.mjs"


def vector(name: str) -> Any:
    return json.loads((make.FOLDER / name).read_text("utf-8"))


def test_vector_files_match_generated_content() -> None:
    for name, content in make.build().items():
        assert (make.FOLDER / name).read_bytes() == content.encode(), f"{name}: python -m tests.vectors.make"


def test_sign_matches_rfc_7515_appendix_a_2() -> None:
    example = vector("rfc7515-a2.json")
    signing_input, _, signature = example["jws"].rpartition(".")
    assert make.encoded(make.key_of(example["jwk"]).sign(signing_input.encode())) == signature


def test_thumbprint_matches_rfc_7638_section_3_1() -> None:
    example = vector("rfc7638-3-1.json")
    ((kid, public_key),) = parse_keys(json.dumps({"keys": [example["jwk"]]})).items()
    assert thumbprint(public_key) == kid == example["thumbprint"]


@pytest.fixture(scope="module", params=["vectors", "fresh keys"])
def signer_and_keys(request: pytest.FixtureRequest, key_set: KeySet, fresh_key_set: KeySet) -> tuple[Signer, KeySet]:
    keys = key_set if request.param == "vectors" else fresh_key_set
    return Signer(keys), keys


def openssl_verdict(folder: Path, pem: str, signing_input: bytes, signature: bytes) -> str:
    (folder / "key.pem").write_text(pem)
    (folder / "signature").write_bytes(signature)
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"]
    done = subprocess.run(command, cwd=folder, input=signing_input, capture_output=True, check=False)
    return done.stdout.decode().strip()


def test_openssl_verifies_signature_and_rejects_changed_input(
    tmp_path: Path, signer_and_keys: tuple[Signer, KeySet]
) -> None:
    signer, keys = signer_and_keys
    signing_input, _, signature = signer.sign(b'{"ver":1}', make.TYPE).rpartition(b".")
    pem, raw = signer.public_pem(keys.current.kid, make.NOW), make.decoded(signature.decode())
    assert openssl_verdict(tmp_path, pem, signing_input, raw) == "Verified OK"
    assert openssl_verdict(tmp_path, pem, signing_input + b"A", raw) == "Verification failure"


def test_pyjwt_verifies_signed_reply(signer_and_keys: tuple[Signer, KeySet]) -> None:
    signer, keys = signer_and_keys
    token = signer.sign(json.dumps(make.CLAIMS).encode(), make.TYPE).decode()
    public_keys = jwt.PyJWKSet.from_dict(signer.jwk_set(make.NOW))
    verified = jwt.decode_complete(
        token,
        public_keys[keys.current.kid],
        algorithms=["RS256"],
        audience=make.CLAIMS["aud"],
        issuer=make.ISSUER,
        # The vectors' claims have times of their own.
        options={"verify_exp": False, "verify_iat": False},
    )
    assert verified["payload"] == make.CLAIMS
    assert verified["header"] == {"alg": "RS256", "kid": keys.current.kid, "typ": make.TYPE}


def test_license_client_verifies_reply_signed_by_pyjwt(key_set: KeySet) -> None:
    assert key_set.current.private_key
    headers = {"kid": key_set.current.kid, "typ": make.TYPE}
    token = jwt.encode(make.CLAIMS, key_set.current.private_key, "RS256", headers)
    assert verify(token, parse_keys(json.dumps(Signer(key_set).jwk_set(make.NOW))), REPLY) == make.CLAIMS


@pytest.mark.parametrize("kind", ["reply", "key set"])
def test_jose_verifies_signed_token(signer_and_keys: tuple[Signer, KeySet], kind: str) -> None:
    signer, keys = signer_and_keys
    if kind == "reply":
        typ, token = make.TYPE, signer.sign(json.dumps(make.CLAIMS).encode(), make.TYPE)
    else:
        typ, token = JWK_SET_TYPE, signer.signed_jwk_set(make.NOW, make.ISSUER)
    kids = [key.kid for key in keys.published(make.NOW)]
    request: dict[str, Any] = {
        "jwks": signer.jwk_set(make.NOW),
        "pems": {kid: signer.public_pem(kid, make.NOW) for kid in kids},
        "token": token.decode(),
        "typ": typ,
    }
    done = subprocess.run([node(), JOSE], input=json.dumps(request).encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    verdict = json.loads(done.stdout)
    assert (
        verdict["claims"]
        == verdict["claimsByPem"]
        == verify(token.decode(), parse_keys(json.dumps(request["jwks"])), typ)
    )
    assert verdict["protectedHeader"] == {"alg": "RS256", "kid": keys.current.kid, "typ": typ}
    assert verdict["thumbprints"] == kids


def test_public_xml_contains_modulus_and_exponent_of_key(signer_and_keys: tuple[Signer, KeySet]) -> None:
    signer, keys = signer_and_keys
    root = ET.fromstring(signer.public_xml(keys.current.kid, make.NOW))
    numbers = keys.current.public_key.public_numbers()
    assert (root.tag, [part.tag for part in root]) == ("RSAKeyValue", ["Modulus", "Exponent"])
    modulus, exponent = (jwt.utils.base64url_decode((part.text or "").translate({43: "-", 47: "_"})) for part in root)
    assert (int.from_bytes(modulus), int.from_bytes(exponent)) == (numbers.n, numbers.e)
    assert root.findtext("Exponent") == "AQAB"
