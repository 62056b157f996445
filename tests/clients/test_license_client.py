"""The client in Python, where a table of cases does not reach: every bit, and whatever may come."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from clients.python import license_client
from clients.python.license_client import (
    LEVELS,
    LICENSE_FILE,
    REPLY,
    Client,
    Keys,
    Refused,
    State,
    Stored,
    parse_keys,
    verify,
)
from licensing.signing.keys import SigningKey
from licensing.signing.service import JWK_SET_TYPE
from licensing.validation.model import Action, Status
from licensing.validation.reply import LICENSE_FILE_TYPE, REPLY_TYPE
from tests.vectors import make
from tests.vectors.client.parts import DAY, NOW, claims_at, product, signed

TOKEN = (make.FOLDER / "reply.jws").read_text("ascii")


@pytest.fixture(scope="module")
def signer() -> SigningKey:
    return make.key_set().current


@pytest.fixture(scope="module")
def trusted() -> Keys:
    return parse_keys((make.FOLDER / "jwk-set.json").read_text("utf-8"))


def test_verify_valid_reply_returns_claims(trusted: Keys) -> None:
    assert verify(TOKEN, trusted, REPLY) == make.CLAIMS


def test_verify_rejects_every_flipped_bit(trusted: Keys) -> None:
    for position, letter in enumerate(TOKEN):
        for bit in range(7):
            flipped = f"{TOKEN[:position]}{chr(ord(letter) ^ 1 << bit)}{TOKEN[position + 1 :]}"
            with pytest.raises(Refused):
                verify(flipped, trusted, REPLY)


def test_verify_rejects_every_removed_or_duplicated_character(trusted: Keys) -> None:
    for position in range(len(TOKEN)):
        for tampered in (TOKEN[:position] + TOKEN[position + 1 :], TOKEN[: position + 1] + TOKEN[position:]):
            with pytest.raises(Refused):
                verify(tampered, trusted, REPLY)


@given(token=st.text() | st.text(alphabet=make.ALPHABET + "."))
def test_verify_rejects_arbitrary_text(trusted: Keys, token: str) -> None:
    with pytest.raises(Refused):
        verify(token, trusted, REPLY)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "iat", "exp", "refreshAfter", "products", "x"]), inner)
    ),
)


@given(header=json_values)
def test_verify_rejects_signed_reply_with_arbitrary_header(signer: SigningKey, trusted: Keys, header: Any) -> None:
    token = make.forged(json.dumps(header), make.encoded(json.dumps(make.CLAIMS)), signer.sign)
    with pytest.raises(Refused):
        verify(token, trusted, REPLY)


@given(claims=json_values)
def test_verify_rejects_signed_reply_with_arbitrary_claims_as_malformed(
    signer: SigningKey, trusted: Keys, claims: Any
) -> None:
    header = {"alg": "RS256", "kid": signer.kid, "typ": REPLY}
    token = make.forged(header, make.encoded(json.dumps(claims)), signer.sign)
    with pytest.raises(Refused) as refused:
        verify(token, trusted, REPLY)
    assert refused.value.code == "malformedClaims"


def pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def test_parse_keys_returns_same_key_id_for_pem_xml_and_jwk_set(signer: SigningKey) -> None:
    forms = (
        signer.public_pem,
        signer.public_xml,
        f"\n{signer.public_xml}\n",
        json.dumps({"keys": [signer.public_jwk]}),
    )
    for form in forms:
        assert list(parse_keys(form)) == [signer.kid]


def test_parse_keys_skips_weak_and_non_rsa_keys() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    small_exponent = rsa.generate_private_key(3, 2048)
    others = (ec.generate_private_key(ec.SECP256R1()), dsa.generate_private_key(2048))
    for key in (weak, small_exponent, *others):
        assert not parse_keys(pem(key))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', "<html></html>", "<RSAKeyValue></RSAKeyValue>", "key"])
def test_parse_keys_with_invalid_text_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_keys(text)


def test_license_client_constants_match_service() -> None:
    assert set(license_client.STATUSES) == set(Status)
    assert set(license_client.ACTIONS) == set(Action)
    types = (license_client.REPLY, license_client.LICENSE_FILE, license_client.KEY_SET)
    assert types == (REPLY_TYPE, LICENSE_FILE_TYPE, JWK_SET_TYPE)


def state_of(reply: str | None = None, *products: str, now: int = NOW, **stored: Any) -> State:
    client = Client(
        issuer=make.ISSUER,
        publisher_id=make.CLAIMS["aud"],
        serial_number=make.CLAIMS["sub"],
        pinned=parse_keys((make.FOLDER / "jwk-set.json").read_text("utf-8")),
    )
    return client.state(products or ("SmartSend",), Stored(reply=reply, **stored), now)


def test_client_state_before_first_check_prompts_administrators_only() -> None:
    state = state_of()
    assert (state.actions, state.administrators_only) == ({"SmartSend": "prompt"}, True)
    assert state.messages == {
        "SmartSend": "The license of product SmartSend is not known. No good reply is stored: an administrator should "
        "validate the licenses, or load a license file."
    }
    assert state.summary.startswith("It is not known whether the products are licensed. No good reply is stored")


def test_client_state_after_first_check_has_messages_for_all_users() -> None:
    assert not state_of(signed(claims_at())).administrators_only
    assert not state_of(latest_iat=NOW).administrators_only, "the stored reply was lost"


def test_client_state_message_for_missing_product_names_reply_or_license_file() -> None:
    state = state_of(signed(claims_at()), "BankFeeds")
    assert state.messages == {
        "BankFeeds": "The license of product BankFeeds has not been checked yet: validate the licenses."
    }
    claims = {name: value for name, value in claims_at().items() if name != "nonce"}
    state = state_of(signed(claims, typ=LICENSE_FILE), "SmartSend", "BankFeeds")
    assert state.messages == {
        "SmartSend": None,
        "BankFeeds": "Product BankFeeds is not in the license file: load a license file that names it.",
    }


SUMMARIES = {
    "all": (["allow", "allow"], 0, "All products are licensed."),
    "one of two": (["allow", "prompt"], 0, "Not licensed: ForexRates (1 of 2 products)."),
    "none": (["disable", "prompt"], 0, "Not licensed: SmartSend, ForexRates (2 of 2 products)."),
    "the reply has expired": (
        ["allow", "allow"],
        8 * DAY,
        f"It is not known whether the products are licensed. {LEVELS['expired']}",
    ),
    "the reply has expired, and one is switched off": (
        ["prompt", "disable"],
        8 * DAY,
        f"It is not known whether the products are licensed. {LEVELS['expired']} Switched off: ForexRates.",
    ),
    "the clock was turned back, and both are switched off": (
        ["disable", "disable"],
        -8 * DAY,
        (
            f"It is not known whether the products are licensed. {LEVELS['clockTurnedBack']} "
            "Switched off: SmartSend, ForexRates."
        ),
    ),
}


@pytest.mark.parametrize(("actions", "age", "summary"), SUMMARIES.values(), ids=SUMMARIES)
def test_client_state_summary_describes_license_status(actions: list[str], age: int, summary: str) -> None:
    statuses = {"allow": "licensed", "prompt": "expired", "disable": "featureDisabled"}
    names = ("SmartSend", "ForexRates")
    products = [product(name, statuses[action], action) for name, action in zip(names, actions, strict=True)]
    assert state_of(signed(claims_at(NOW - age, *products)), *names).summary == summary


def test_client_state_with_pending_disable_prompts_until_validation_fails() -> None:
    change = {"at": "2026-11-24T00:00:00Z", "status": "featureDisabled", "action": "disable", "message": "Off."}
    reply = signed(claims_at(NOW - DAY, product(changes=[change])))
    assert state_of(reply).messages == {
        "SmartSend": "Product SmartSend is enabled but not licensed: its license expired. "
        "Validate the licenses, or contact support@example.com."
    }
    assert state_of(reply, failing_since=NOW).messages == {"SmartSend": "Off."}


def test_license_client_module_imports_outside_repository(tmp_path: Path) -> None:
    (tmp_path / "license_client.py").write_text(Path(license_client.__file__).read_text("utf-8"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "import license_client; print(license_client.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (str(tmp_path / "license_client.py"), "")
