"""A client of the service: asks, and believes nothing before it has verified it (docs/protocol.md)."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from licensing.errors import ConfigurationError, LicensingError
from licensing.signing import jws
from licensing.signing.encoding import parse_json_object
from licensing.signing.keys import parse_public_keys, thumbprint
from licensing.validation.reply import REPLY_TYPE

_CLOCK_SECONDS = 300
"""How far the clocks of client and service may be apart."""


class CouldNotCheck(LicensingError):
    """There is no verified answer. That says nothing about any license: the last good reply goes on counting."""

    code, title = "couldNotCheck", "The licenses could not be checked"


@dataclass(frozen=True, slots=True)
class Checked:
    """A reply whose signature and claims hold: the claims, and the token they came in."""

    claims: Mapping[str, Any]
    token: str


def check(  # noqa: PLR0913 - a question has four parts
    url: str,
    publisher_id: str,
    serial_number: str,
    product_names: Sequence[str],
    *,
    keys_file: Path | None = None,
    timeout_seconds: float = 5,
) -> Checked:
    """Ask the service at the url, and verify its reply.

    `keys_file`: trusted keys, a JWK Set or PEM; without it the service's own word for its keys is taken, which shows
    that all fits together and proves nothing about who answered. Raises CouldNotCheck with the reason.
    """
    nonce = secrets.token_urlsafe(16)
    body = {
        "publisherId": publisher_id,
        "serialNumber": serial_number,
        "nonce": nonce,
        "products": [{"productName": name} for name in product_names],
    }
    try:
        with httpx.Client(base_url=url, timeout=timeout_seconds, trust_env=False) as http:
            keys = _parse_keys(
                keys_file.read_text() if keys_file else _successful(http.get("/.well-known/jwks.json")).text
            )
            token = _successful(http.post("/api/v1/licenses/validate", json=body)).text
    except httpx.TimeoutException:
        raise CouldNotCheck(f"{url} did not answer within {timeout_seconds:g} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CouldNotCheck(f"{url} cannot be reached: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "they are no text"
        raise CouldNotCheck(f"The keys in {keys_file} cannot be read: {reason}.") from None
    try:
        claims = jws.verify(token, keys, REPLY_TYPE)
    except jws.SignatureInvalid as error:
        raise CouldNotCheck(f"The reply is not to be believed. {error.detail}") from None
    _check_claims(claims, publisher_id.lower(), serial_number, nonce)
    return Checked(claims, token)


def _check_claims(claims: Mapping[str, Any], publisher_id: str, serial_number: str, nonce: str) -> None:
    now = time.time()
    expected = {"aud": publisher_id, "sub": serial_number, "nonce": nonce}
    for name, value in expected.items():
        if claims.get(name) != value:
            raise CouldNotCheck(f"The reply is signed, but for another question: its {name} is not ours.")
    if not all(isinstance(claims.get(name), int) for name in ("iat", "exp")):
        raise CouldNotCheck("The reply is signed, but does not say when it was made and until when it counts.")
    if abs(claims["iat"] - now) > _CLOCK_SECONDS:
        raise CouldNotCheck("The reply was not made just now: compare this machine's clock with the service's.")
    if claims["exp"] < now:
        raise CouldNotCheck("The reply has expired.")


def _successful(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise CouldNotCheck(f"{response.url} answered {response.status_code}{_explanation(response)}")


def _explanation(response: httpx.Response) -> str:
    """What a problem document says; nothing where it is none, whatever it calls itself."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return ""
    try:
        problem = response.json()
        faults = "; ".join(f"{fault['field']}: {fault['message']}" for fault in problem.get("errors", ()))
        return f": {problem['detail']} {faults}".rstrip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _parse_keys(text: str) -> dict[str, rsa.RSAPublicKey]:
    """The public keys of a JWK Set or a PEM, by thumbprint."""
    try:
        if not text.lstrip().startswith("-----BEGIN"):
            return parse_public_keys(parse_json_object(text))
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise CouldNotCheck("The trusted keys are neither a JWK Set nor a PEM.") from None
    except ConfigurationError as error:
        raise CouldNotCheck(error.detail) from None
    return {thumbprint(key): key} if isinstance(key, rsa.RSAPublicKey) else {}


def as_json(checked: Checked) -> str:
    return json.dumps({"claims": checked.claims, "token": checked.token}, indent=2, ensure_ascii=False)
