"""A client of License Manager: what to believe of what comes, and what follows for each product.

No valid signature, no denial: whatever else comes, the last good reply goes on counting. Pure: it does no I/O, the
time is an argument (seconds since 1970), and what is to be kept is returned. It needs `cryptography` and nothing else,
so that this one file can be copied. `tests/vectors/client/` says case by case what it must do.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

type Claims = dict[str, Any]
type Keys = Mapping[str, rsa.RSAPublicKey]
"""Public keys by their thumbprints (RFC 7638)."""

REPLY, LICENSE_FILE, KEY_SET = "license-reply+jwt", "license-file+jwt", "jwk-set+jwt"
ACTIONS = ("allow", "prompt", "disable")
STATUSES = (
    "licensed",
    "unknownProduct",
    "unknownEnvironment",
    "environmentInactive",
    "notLicensed",
    "notEnabled",
    "featureDisabled",
    "notStarted",
    "expired",
)
CLOCK_SECONDS = 300
"""How far the clocks of client and service may be apart."""
LEAST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 60, 3600
WARN_AFTER_SECONDS = 86_400
MAX_CHARACTERS = 1_048_576
_LAST_INSTANT = 253_402_300_799  # the end of the year 9999
_EXPONENT, _LEAST_BITS = 65537, 2048
_ALLOWING_NOTHING = ("expired", "clockTurnedBack")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")
_RSA_KEY_VALUE = re.compile(
    r"<RSAKeyValue>\s*<Modulus>([^<]+)</Modulus>\s*<Exponent>([^<]+)</Exponent>\s*</RSAKeyValue>"
)

REASONS = {
    "verified": "A key that is trusted here has signed it, and it is the answer to what was asked.",
    "timeout": "The service did not answer in time.",
    "connectionReset": "The connection broke off before the answer was there.",
    "unreachable": "The service cannot be reached: no name, no route, or no secure connection.",
    "unexpectedHttpStatus": "The answer is no reply but an error, or comes from a proxy or a firewall.",
    "tooLarge": "The answer is larger than any reply.",
    "malformed": "This is no compact JWS, so not from the service: perhaps the page of a firewall or of a sign-in.",
    "invalidAlgorithm": "It is not signed with RS256, which is all that counts here.",
    "invalidType": (
        "It is signed for another purpose: a reply, a license file and a key set cannot stand for each other."
    ),
    "invalidHeader": "Its header must hold exactly alg, typ, and a kid.",
    "unknownKey": "It names a key that is not trusted here: take the signed key set first.",
    "invalidSignature": "Its content is not what the key it names has signed.",
    "malformedClaims": "It is signed, but lacks what it must say, or can be read in more than one way.",
    "issuerMismatch": "It comes from another service: compare its iss with the issuer set here.",
    "audienceMismatch": "It is signed, but for another question: its aud is not our publisher.",
    "subjectMismatch": "It is signed, but for another question: its sub is not our serial number.",
    "nonceMismatch": "It is signed, but for another question: its nonce is not ours.",
    "productMismatch": "It is signed, but for another question: its products are not those that were asked for.",
    "olderThanStored": "It is older than what is stored.",
    "clockTurnedBack": "The clock of this machine is behind what the service has signed before: set it right.",
    "issuedTooLongAgo": "It was not made just now: compare this machine's clock with the service's.",
    "issuedInFuture": "It was made later than now: compare this machine's clock with the service's.",
    "expired": "It has expired.",
    "nothingStored": "There never was a good reply.",
}
"""A sentence for people beside each code."""
LEVELS = {
    "neverChecked": "No good reply is stored: an administrator should validate the licenses, or load a license file.",
    "clockTurnedBack": "The clock of this machine is behind what the service has signed before: set it right.",
    "expired": "The last good reply has expired: validate the licenses, or load a new license file.",
    "fresh": "The last good reply counts.",
    "unreachable": "The service cannot be reached now: the last good reply goes on counting until it expires.",
    "aged": "The last good reply counts, and is to be refreshed.",
}
"""A sentence for people beside each step of the ladder."""


class Refused(Exception):
    """What came does not count, or nothing came. The code is one of REASONS."""

    def __init__(self, code: str) -> None:
        super().__init__(REASONS[code])
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an HTTP request has brought; where nothing, `failure` is timeout, connectionReset or unreachable."""

    body: str = ""
    status: int = 200
    retry_after_seconds: int | None = None
    failure: str | None = None

    def text(self) -> str:
        """The body of a success. Its media type is not asked for: only a signature says anything. Raises Refused."""
        if self.failure:
            raise Refused(self.failure)
        if self.status != 200:  # noqa: PLR2004 - OK
            raise Refused("unexpectedHttpStatus")
        return self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a client keeps from one use to the next. Signed texts stay as they came: each use verifies them anew."""

    reply: str | None = None
    key_sets: tuple[str, ...] = ()
    """Oldest first; each is signed by a pinned key or by one of the set before it."""
    latest_iat: int | None = None
    """The highest that was ever seen: shows a clock that was turned back."""
    failing_since: int | None = None
    retry_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What counts now."""

    level: str
    """One of LEVELS."""
    reason: str
    """What the stored reply is worth, its age aside: verified, nothingStored, or why it does not count."""
    actions: dict[str, str]
    """allow, prompt or disable for each product asked for."""
    messages: dict[str, str | None]
    """A sentence for the user, in English, for each product asked for. None where the action is allow."""
    summary: str
    """Whether the products asked for are licensed, for the person who validates them by hand."""
    administrators_only: bool
    """No reply was ever verified here: show the messages to administrators only."""
    refresh_due: bool
    """Whether to validate now, in the background."""
    warn: bool
    """An administrator should know that the service has not been reached for a day."""


def thumbprint(key: rsa.RSAPublicKey) -> str:
    """The key's name (RFC 7638)."""
    numbers = key.public_numbers()
    e, n = (_encode(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.e, numbers.n))
    return _encode(hashlib.sha256(f'{{"e":"{e}","kty":"RSA","n":"{n}"}}'.encode()).digest())


def parse_keys(text: str) -> Keys:
    """The keys that may be trusted in a JWK Set, a PEM, or an `<RSAKeyValue>` of .NET; others are passed over.

    Raises ValueError where it is none of the three. Not checked: where the keys come from.
    """
    if text.lstrip().startswith("-----BEGIN"):
        try:
            key = load_pem_public_key(text.encode())
        except UnsupportedAlgorithm:
            return {}
        return _trustworthy([key] if isinstance(key, rsa.RSAPublicKey) else [])
    if found := _RSA_KEY_VALUE.fullmatch(text.strip()):
        return _trustworthy([_key(*(base64.b64decode(part, validate=True) for part in found.groups()))])
    return _parse_jwks(_parse_object(text.encode()).get("keys"))


def verify(token: str, trusted: Keys, *types: str) -> Claims:
    """The claims of a compact JWS (RFC 7515) of one of these types that a trusted key has signed. Raises Refused.

    The token chooses neither its algorithm nor where its key comes from; its `kid` only tells what is wrong.
    Not checked: what the claims say, but for their form.
    """
    if len(token) > MAX_CHARACTERS:
        raise Refused("tooLarge")
    try:
        unverified_header_json, unverified_payload, _ = map(_decode, token.split("."))
        unverified_header = _parse_object(unverified_header_json)
    except ValueError:
        raise Refused("malformed") from None
    alg, typ, kid = (unverified_header.get(name) for name in ("alg", "typ", "kid"))
    if alg != "RS256":
        raise Refused("invalidAlgorithm")
    if typ not in types:
        raise Refused("invalidType")
    if len(unverified_header) != 3 or not isinstance(kid, str):  # noqa: PLR2004 - alg, typ, kid
        raise Refused("invalidHeader")
    if not _find_signer(token, trusted):
        raise Refused("invalidSignature" if kid in trusted else "unknownKey")
    try:
        return _parse_claims(unverified_payload, typ)
    except ValueError:
        raise Refused("malformedClaims") from None


def action_of(product: Mapping[str, Any], level: str = "fresh") -> str:
    """allow, prompt or disable for one product of a reply; prompt where its status or action is not known here.

    A reply that counts no more allows nothing. What it disabled stays so: that was said under a signature.
    """
    known = product.get("status") in STATUSES and product.get("action") in ACTIONS
    action: str = product["action"] if known else "prompt"
    return "prompt" if action == "allow" and level in _ALLOWING_NOTHING else action


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks, and whom it trusts from the start."""

    issuer: str | None
    """The service's public address; None believes whoever has a trusted key."""
    publisher_id: str
    serial_number: str
    pinned: Keys

    def check_reply(self, answer: Answer, nonce: str, products: Sequence[str], stored: Stored, now: int) -> Claims:
        """The claims of the answer to a validation that was asked for just now. Raises Refused."""
        claims = self._verify(answer.text(), self._trusted(stored), REPLY)
        if claims.get("nonce") != nonce:
            raise Refused("nonceMismatch")
        if [product["productName"] for product in claims["products"]] != list(products):
            raise Refused("productMismatch")
        if _is_turned_back(now, stored.latest_iat):
            raise Refused("clockTurnedBack")
        if claims["iat"] < now - CLOCK_SECONDS:
            raise Refused("issuedTooLongAgo")
        return _counting(claims, now)

    def check_license_file(self, text: str, stored: Stored, now: int) -> Claims:
        """The claims of a license file that somebody loads. Raises Refused."""
        claims = self._verify(text, self._trusted(stored), LICENSE_FILE)
        if claims["iat"] < (stored.latest_iat or 0):
            raise Refused("olderThanStored")
        if _is_turned_back(now, stored.latest_iat):
            raise Refused("clockTurnedBack")
        return _counting(claims, now)

    def after_reply(
        self, answer: Answer, nonce: str, products: Sequence[str], stored: Stored, now: int
    ) -> tuple[str, Stored]:
        """What became of the answer to a validation (one of REASONS), and what to store."""
        try:
            claims = self.check_reply(answer, nonce, products, stored, now)
        except Refused as refused:
            since = now if stored.failing_since is None else min(now, stored.failing_since)
            pause = now - since if answer.retry_after_seconds is None else answer.retry_after_seconds
            retry_at = now + min(max(pause, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            return refused.code, replace(stored, failing_since=since, retry_at=retry_at)
        return "verified", _with_reply(stored, answer.body, claims)

    def after_license_file(self, text: str, stored: Stored, now: int) -> tuple[str, Stored]:
        """What became of a license file, and what to store."""
        try:
            claims = self.check_license_file(text, stored, now)
        except Refused as refused:
            return refused.code, stored
        return "verified", _with_reply(stored, text, claims)

    def after_key_set(self, answer: Answer, stored: Stored, now: int) -> tuple[str, Stored]:
        """What became of a signed key set, and what to store: it behind as few as lead to the key that signed it."""
        steps = self._steps(stored)
        _, trusted, iat = steps[-1]
        try:
            token = answer.text()
            claims = self._verify(token, trusted, KEY_SET)
            if claims["iat"] < iat:
                raise Refused("olderThanStored")
            if claims["iat"] > now + CLOCK_SECONDS:
                raise Refused("issuedInFuture")
        except Refused as refused:
            return refused.code, stored
        fewest = next(number for number, (_, keys, _) in enumerate(steps) if _find_signer(token, keys))
        return "verified", replace(stored, key_sets=(*(each for each, _, _ in steps[1 : fewest + 1]), token))

    def state(self, products: Sequence[str], stored: Stored, now: int) -> State:
        """What counts now, by what is stored."""
        reason, claims = "verified", None
        try:
            if not stored.reply:
                raise Refused("nothingStored")
            claims = self._verify(stored.reply, self._trusted(stored), REPLY, LICENSE_FILE)
        except Refused as refused:
            reason = refused.code
        level = _level(claims, stored, now)
        known: dict[str, Mapping[str, Any]] = {}
        changed: dict[str, bool] = {}
        if claims is not None:
            # A name that stands twice goes by its first entry.
            for each in reversed(claims["products"]):
                name = each["productName"]
                known[name], changed[name] = _in_force(each, claims, stored, now)
        actions = {name: action_of(known.get(name, {}), level) for name in products}
        # Where the clocks differ, a new reply can still announce a change that this clock has reached.
        is_new = claims is not None and now - claims["iat"] <= CLOCK_SECONDS
        is_denied_by_change = any(action != "allow" and changed.get(name, False) for name, action in actions.items())
        # No pause is longer: what lies further ahead was stored while the clock was.
        may_try = stored.retry_at is None or not now < stored.retry_at <= now + LONGEST_PAUSE_SECONDS
        return State(
            level=level,
            reason=reason,
            actions=actions,
            messages={
                name: _message(name, known[name], action, level)
                if name in known
                else _missing_message(name, claims, stored)
                for name, action in actions.items()
            },
            summary=_summary(actions, level),
            administrators_only=claims is None and stored.latest_iat is None,
            refresh_due=may_try
            and (level != "fresh" or not known.keys() >= set(products) or (is_denied_by_change and not is_new)),
            warn=stored.failing_since is not None and now - stored.failing_since >= WARN_AFTER_SECONDS,
        )

    def _verify(self, token: str, trusted: Keys, *types: str) -> Claims:
        claims = verify(token, trusted, *types)
        if claims.get("iss") != (self.issuer or claims.get("iss")):
            raise Refused("issuerMismatch")
        if KEY_SET not in types:
            if claims.get("aud") != self.publisher_id.lower():
                raise Refused("audienceMismatch")
            if claims.get("sub") != self.serial_number:
                raise Refused("subjectMismatch")
        return claims

    def _trusted(self, stored: Stored) -> Keys:
        return self._steps(stored)[-1][1]

    def _steps(self, stored: Stored) -> list[tuple[str, Keys, int]]:
        """Each stored key set that counts, the keys trusted after it, and its iat; before them the pinned keys.

        A set that does not count is passed over: where a new build has dropped the key that signed it, one behind it
        may still be signed by a pinned key.
        """
        steps: list[tuple[str, Keys, int]] = [("", self.pinned, 0)]
        for token in stored.key_sets:
            try:
                claims = self._verify(token, steps[-1][1], KEY_SET)
            except Refused:
                continue
            steps.append((token, {**self.pinned, **_parse_jwks(claims["keys"])}, claims["iat"]))
        return steps


def _level(claims: Claims | None, stored: Stored, now: int) -> str:
    if claims is None:
        return "neverChecked"
    if _is_turned_back(now, max(claims["iat"], stored.latest_iat or 0)):
        return "clockTurnedBack"
    if claims["exp"] <= now:
        return "expired"
    if claims["refreshAfter"] > now:
        return "fresh"
    return "aged" if stored.failing_since is None else "unreachable"


def _in_force(product: Mapping[str, Any], claims: Claims, stored: Stored, now: int) -> tuple[Mapping[str, Any], bool]:
    """The entry of a product that is in force, and whether it is one of `changes`; empty where they are malformed."""
    changes = product.get("changes")
    if changes is None:
        return product, False
    if not isinstance(changes, list):
        return {}, False
    try:
        # After `exp` the last change before it stays in force.
        reached = [change for change in changes if _parse_instant(change["at"]) < min(now + 1, claims["exp"])]
    except (ValueError, TypeError, KeyError):
        return {}, False
    if not reached:
        return product, False
    change: dict[str, Any] = reached[-1]
    may_disable = stored.failing_since is not None or _is_license_file(stored.reply or "")
    if action_of(change) == "disable" and not may_disable:
        # The records may have changed since the reply, and no validation has failed since.
        return {**change, "action": "prompt", "message": _pending_message(product, claims)}, True
    return change, True


def _pending_message(product: Mapping[str, Any], claims: Claims) -> str:
    """The sentence about a product that is disabled once a validation has failed."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else ""

    end_date = text(product.get("endDate"))
    support_email = text(product.get("supportEmail")) or text(claims.get("supportEmail"))
    expired_on = f" on {end_date}" if end_date else ""
    contact = f", or contact {support_email}" if support_email else ""
    return (
        f"Product {product['productName']} is enabled but not licensed: its license expired{expired_on}. "
        f"Validate the licenses{contact}."
    )


def _missing_message(name: str, claims: Claims | None, stored: Stored) -> str:
    """The sentence about a product that the stored reply does not name."""
    if claims is None:
        return f"The license of product {name} is not known. {LEVELS['neverChecked']}"
    if _is_license_file(stored.reply or ""):
        return f"Product {name} is not in the license file: load a license file that names it."
    return f"The license of product {name} has not been checked yet: validate the licenses."


def _message(name: str, in_force: Mapping[str, Any], action: str, level: str) -> str | None:
    """The sentence about a product that the stored reply names."""
    if action == "allow":
        return None
    if action == "prompt" and level in _ALLOWING_NOTHING:
        return f"The license of product {name} is not known. {LEVELS[level]}"
    message = in_force.get("message")
    return message if isinstance(message, str) else f"What is known of product {name} needs a newer client."


def _summary(actions: Mapping[str, str], level: str) -> str:
    if level == "neverChecked" or level in _ALLOWING_NOTHING:
        disabled = [name for name, action in actions.items() if action == "disable"]
        switched_off = f" Switched off: {', '.join(disabled)}." if disabled else ""
        return f"It is not known whether the products are licensed. {LEVELS[level]}{switched_off}"
    missing = [name for name, action in actions.items() if action != "allow"]
    if not missing:
        return "All products are licensed."
    return f"Not licensed: {', '.join(missing)} ({len(missing)} of {len(actions)} products)."


def _counting(claims: Claims, now: int) -> Claims:
    if claims["iat"] > now + CLOCK_SECONDS:
        raise Refused("issuedInFuture")
    if claims["exp"] <= now:
        raise Refused("expired")
    return claims


def _is_turned_back(now: int, latest_iat: int | None) -> bool:
    return now < (latest_iat or 0) - CLOCK_SECONDS


def _with_reply(stored: Stored, token: str, claims: Claims) -> Stored:
    return Stored(reply=token, key_sets=stored.key_sets, latest_iat=max(claims["iat"], stored.latest_iat or 0))


def _find_signer(token: str, trusted: Keys) -> str | None:
    """The name of the trusted key that has signed the compact JWS."""
    signed, _, signature = token.rpartition(".")
    for name, key in trusted.items():
        with suppress(InvalidSignature):
            key.verify(_decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            return name
    return None


def _parse_claims(payload: bytes, typ: str) -> Claims:
    claims = _parse_object(payload)
    instants = ("iat",) if typ == KEY_SET else ("iat", "exp", "refreshAfter")
    if not all(type(claims.get(name)) is int and 0 <= claims[name] <= _LAST_INSTANT for name in instants):
        raise ValueError("no instants")
    entries = claims.get("keys" if typ == KEY_SET else "products")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("no list of objects")
    if typ != KEY_SET and not all(isinstance(entry.get("productName"), str) for entry in entries):
        raise ValueError("no name")
    return claims


def _parse_jwks(jwks: Any) -> Keys:
    """The keys of a JWK Set (RFC 7517) that may be trusted; any other is passed over, as section 5 asks."""
    if not isinstance(jwks, list):
        raise ValueError("no JWK Set")  # noqa: TRY004 - one kind of error for all that cannot be read
    keys = []
    for jwk in jwks:
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            if (jwk["kty"], jwk.get("alg", "RS256"), jwk.get("use", "sig")) == ("RSA", "RS256", "sig"):
                keys.append(_key(_decode(jwk["n"]), _decode(jwk["e"])))
    return _trustworthy(keys)


def _key(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()


def _trustworthy(keys: Sequence[rsa.RSAPublicKey]) -> Keys:
    """The keys by their thumbprints, without those that are weak."""
    return {thumbprint(key): key for key in keys if key.key_size >= _LEAST_BITS and key.public_numbers().e == _EXPONENT}


def _is_license_file(verified_token: str) -> bool:
    header = _parse_object(_decode(verified_token.partition(".")[0]))
    return bool(header["typ"] == LICENSE_FILE)


def _parse_instant(text: Any) -> int:
    """Seconds since 1970 of an instant such as 2026-12-20T12:00:00Z, in just this form. Raises ValueError."""
    if not _INSTANT.fullmatch(text):
        raise ValueError("no instant")
    return int(datetime.fromisoformat(text).timestamp())


def _parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8, read in the one way that there is. Raises ValueError."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("no object")  # noqa: TRY004 - one kind of error for all that cannot be read
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """The bytes behind base64url without padding, written in the one way that there is. Raises ValueError."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
