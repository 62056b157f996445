"""One validation over HTTP, believed only where the client for callers believes it (clients/python/)."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from clients.python.license_client import Answer, Client, Keys, Refused, Stored, parse_keys
from licensing.errors import LicensingError


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
    timeout_seconds: float,
) -> Checked:
    """Ask the service at the url, and verify its reply.

    `keys_file`: trusted keys in any form that `parse_keys` reads; without it the service's own word for its keys is
    taken, which shows that all fits together and proves nothing about who answered. Raises CouldNotCheck: the reason.
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
            response = _successful(http.post("/api/v1/licenses/validate", json=body))
    except httpx.TimeoutException:
        raise CouldNotCheck(f"{url} did not answer within {timeout_seconds:g} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CouldNotCheck(f"{url} cannot be reached: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "they are no text"
        raise CouldNotCheck(f"The keys in {keys_file} cannot be read: {reason}.") from None
    # Whoever calls compares `iss` by eye: it is shown.
    asker = Client(issuer=None, publisher_id=publisher_id, serial_number=serial_number, pinned=keys)
    answer = Answer(body=response.text, status=response.status_code)
    try:
        claims = asker.check_reply(answer, nonce, product_names, Stored(), int(time.time()))
    except Refused as refused:
        raise CouldNotCheck(f"The reply is not to be believed. {refused}") from None
    return Checked(claims, answer.body)


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


def _parse_keys(text: str) -> Keys:
    try:
        keys = parse_keys(text)
    except ValueError:
        raise CouldNotCheck("The trusted keys are none: a JWK Set, a PEM or an RSAKeyValue is needed.") from None
    if not keys:
        raise CouldNotCheck("Among the trusted keys is no RSA key of 2,048 bits or more for RS256.")
    return keys


def as_json(checked: Checked) -> str:
    return json.dumps({"claims": checked.claims, "token": checked.token}, indent=2, ensure_ascii=False)
