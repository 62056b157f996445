"""Replies that come, right ones and wrong ones."""

import json
from typing import Any

from tests.vectors import make
from tests.vectors.client import forgeries
from tests.vectors.client.parts import (
    CLIENT,
    DAY,
    DISABLED,
    NEVER_CHECKED,
    NONCE,
    NOTHING_STORED,
    NOW,
    PRODUCT,
    Json,
    acceptance,
    claims_at,
    keys,
    product,
    refusal,
    signed,
    stored,
)
from tests.vectors.make import ISSUER, TYPE, forged


def others() -> list[Json]:
    """Replies with a sound signature, to another question or from another time."""

    def other(name: str, reason: str, iat: int = NOW, *products: Json, **changed: Any) -> Json:
        claims = claims_at(iat, *(products or [DISABLED]), **changed)
        return refusal(name, reason, signed({claim: value for claim, value in claims.items() if value is not None}))

    publisher_id = CLIENT["publisherId"]
    return [
        other("the reply of another service", "issuerMismatch", iss="https://licenses.example.org"),
        other("the issuer with a slash behind it", "issuerMismatch", iss=f"{ISSUER}/"),
        other("a reply without an issuer", "issuerMismatch", iss=None),
        other("a reply for another publisher", "audienceMismatch", aud="00000000-0000-4000-8000-000000000000"),
        other("a reply for our publisher in upper case", "audienceMismatch", aud=str(publisher_id).upper()),
        other("a reply for a list of publishers", "audienceMismatch", aud=[publisher_id]),
        other("a reply without a publisher", "audienceMismatch", aud=None),
        other("a reply for another serial number", "subjectMismatch", sub="C0FFEE-0043"),
        other("a reply for our serial number in another case", "subjectMismatch", sub="c0ffee-0042"),
        other("a reply without a serial number", "subjectMismatch", sub=None),
        other("a reply to an earlier question", "nonceMismatch", nonce="0" * 32),
        other("a reply without a nonce", "nonceMismatch", nonce=None),
        other("a reply with our nonce in another case", "nonceMismatch", nonce=NONCE.upper()),
        other("a reply about no product", "productMismatch", products=[]),
        other(
            "a reply about another product", "productMismatch", NOW, product("BankFeeds", "featureDisabled", "disable")
        ),
        other(
            "a reply about our product in another case", "productMismatch", NOW, product("smartsend", action="disable")
        ),
        other("a reply about one product more", "productMismatch", NOW, DISABLED, product("BankFeeds")),
        other("a reply about our product twice", "productMismatch", NOW, DISABLED, DISABLED),
        refusal(
            "a reply about our products in another order",
            "productMismatch",
            signed(claims_at(NOW, product("BankFeeds"), DISABLED)),
            products=(PRODUCT, "BankFeeds"),
            stored=stored(NOW - 2 * DAY, product(), product("BankFeeds")),
            expected={"actions": {PRODUCT: "allow", "BankFeeds": "allow"}},
        ),
        other("a reply of 301 seconds ago", "issuedTooLongAgo", NOW - 301),
        other("a reply of last week that has not expired", "issuedTooLongAgo", NOW - 6 * DAY),
        other("a reply of 301 seconds ahead", "issuedInFuture", NOW + 301),
        other("a reply of next year", "issuedInFuture", NOW + 365 * DAY),
        other("a reply that expires now", "expired", exp=NOW),
        other("a reply that had expired before it was made", "expired", exp=NOW - DAY),
    ]


def cases() -> list[Json]:
    disabled = signed(claims_at(NOW, DISABLED))
    unheard: Json = {"newClaim": {"deep": [1, 2.5e3, None, True]}}
    wide = signed(claims_at(NOW, product(message='Größe und 日本語 \U0001f511 " \\ \n')))
    named = product("Größe 日本語 \U0001f511")
    good_header = {"alg": "RS256", "kid": keys()["current"].kid, "typ": TYPE}
    payload = signed(claims_at()).split(".")[1]
    two = (product(), product("BankFeeds", "featureDisabled", "disable"), product("LeaseBook", "notLicensed", "prompt"))
    return [
        acceptance("a good reply", signed(claims_at())),
        acceptance("a good reply that disables", disabled, {PRODUCT: "disable"}),
        acceptance("a good reply takes the place of another", disabled, {PRODUCT: "disable"}, stored=stored()),
        acceptance(
            "a good reply ends a week of failures",
            signed(claims_at()),
            stored=stored(NOW - 9 * DAY, DISABLED, failingSince=NOW - 8 * DAY, retryAt=NOW + 1800),
        ),
        acceptance(
            "a good reply about three products",
            signed(claims_at(NOW, *two)),
            {PRODUCT: "allow", "BankFeeds": "disable", "LeaseBook": "prompt"},
            products=(PRODUCT, "BankFeeds", "LeaseBook"),
        ),
        acceptance("a reply by the next key, which is pinned too", signed(claims_at(), "next")),
        acceptance(
            "a reply by the next key in the current key's name, since kid is a hint",
            forged(good_header, payload, keys()["next"].sign),
        ),
        acceptance(
            "a reply by a pinned key in the name of none, since kid is a hint",
            forged(good_header | {"kid": "../../dev/null"}, payload, keys()["current"].sign),
        ),
        acceptance(
            "a header in another order and with spaces",
            forged(json.dumps(dict(reversed(good_header.items())), indent=1), payload, keys()["current"].sign),
        ),
        acceptance("a reply of 300 seconds ago", signed(claims_at(NOW - 300))),
        acceptance("a reply of 300 seconds ahead", signed(claims_at(NOW + 300))),
        acceptance("a reply that expires in a second", signed(claims_at(exp=NOW + 1))),
        acceptance(
            "a reply that is a little older than the one stored, as instances' clocks differ",
            signed(claims_at(NOW - 30)),
            stored=stored(NOW + 30),
        ),
        acceptance(
            "a reply with claims and members that nobody knows yet",
            signed(claims_at(NOW, product(**unheard), **unheard)),
        ),
        acceptance("a reply with letters of many scripts", wide),
        acceptance(
            "a product with letters of many scripts",
            signed(claims_at(NOW, named)),
            {named["productName"]: "allow"},
            products=(named["productName"],),
        ),
        acceptance(
            "letters that are written as escapes",
            forged(good_header, make.encoded(json.dumps(claims_at(NOW, named))), keys()["current"].sign),
            {named["productName"]: "allow"},
            products=(named["productName"],),
        ),
        acceptance(
            "white space around and within the claims",
            forged(good_header, make.encoded(f"\r\n\t {json.dumps(claims_at(), indent=4)} \n"), keys()["current"].sign),
        ),
        acceptance(
            "a client that writes its publisher in upper case",
            signed(claims_at()),
            publisherId=str(CLIENT["publisherId"]).upper(),
        ),
        acceptance("a stale reply counts like any other", signed(claims_at(stale=True))),
        *(
            refusal(
                name,
                "unknownKey",
                signed(claims_at()),
                pinnedKeys=pinned,
                stored=NOTHING_STORED,
                expected=NEVER_CHECKED,
            )
            for name, pinned in (("a client without a pinned key", []), ("a client with other keys", ["next"]))
        ),
        *forgeries.cases(),
        *others(),
    ]
