"""What is stored, on every step of the ladder, and a clock that was turned back."""

import json
from typing import Any

from tests.vectors import make
from tests.vectors.client.parts import (
    DAY,
    DISABLED,
    HOUR,
    KEY_SET,
    NOTHING_STORED,
    NOW,
    PRODUCT,
    Json,
    claims_at,
    keys,
    product,
    signed,
    stored,
    stored_case,
)
from tests.vectors.make import TYPE, forged


def cases() -> list[Json]:
    good = signed(claims_at(NOW - 2 * DAY))
    header, payload, signature = good.split(".")
    allowing = make.encoded(json.dumps(claims_at(NOW - 2 * DAY)))
    denial_header, _, denial_signature = signed(claims_at(NOW - 2 * DAY, DISABLED)).split(".")

    def unusable(name: str, reason: str, before: Json, **members: Any) -> Json:
        return stored_case(name, "neverChecked", "prompt", before, due=True, storedReason=reason, **members)

    def with_reply(token: str) -> Json:
        return NOTHING_STORED | {"reply": token, "latestIat": NOW - 2 * DAY}

    def with_claims(**members: Any) -> Json:
        return with_reply(signed(claims_at(NOW - 2 * DAY, **members)))

    return [
        unusable("nothing is stored", "nothingStored", NOTHING_STORED, administratorsOnly=True),
        stored_case("a reply of an hour ago", "fresh", "allow", stored(NOW - HOUR), due=False),
        stored_case("a second before refreshAfter", "fresh", "allow", stored(NOW - DAY + 1), due=False),
        stored_case("refreshAfter is now", "aged", "allow", stored(NOW - DAY), due=True),
        stored_case("a reply of two days ago that was not refreshed", "aged", "allow", stored(), due=True),
        stored_case(
            "a reply of two days ago that disables", "aged", "disable", stored(NOW - 2 * DAY, DISABLED), due=True
        ),
        stored_case("a second before exp", "aged", "allow", stored(NOW - 7 * DAY + 1), due=True),
        stored_case("exp is now", "expired", "prompt", stored(NOW - 7 * DAY), due=True),
        stored_case("a reply of last month", "expired", "prompt", stored(NOW - 30 * DAY), due=True),
        stored_case(
            "a reply of last month that disables", "expired", "disable", stored(NOW - 30 * DAY, DISABLED), due=True
        ),
        stored_case(
            "a reply of last month that prompts",
            "expired",
            "prompt",
            stored(NOW - 30 * DAY, product(status="expired", action="prompt")),
            due=True,
        ),
        stored_case(
            "the last try failed, and the next is not due yet",
            "unreachable",
            "allow",
            stored(failingSince=NOW - 90, retryAt=NOW + 1),
            due=False,
        ),
        stored_case(
            "the last try failed, and the next is due now",
            "unreachable",
            "allow",
            stored(failingSince=NOW - 90, retryAt=NOW),
            due=True,
        ),
        stored_case(
            "the next try lies an hour ahead",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY + 1, retryAt=NOW + 3600),
            due=False,
        ),
        stored_case(
            "the next try lies more than an hour ahead, as no pause does",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY + 1, retryAt=NOW + 3601),
            due=True,
        ),
        stored_case(
            "tries failed while the clock was a year ahead",
            "unreachable",
            "allow",
            stored(failingSince=NOW + 365 * DAY, retryAt=NOW + 365 * DAY + 60),
            due=True,
        ),
        stored_case(
            "a second before it has failed for a day",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY + 1, retryAt=NOW),
            due=True,
        ),
        stored_case(
            "it has failed for a day",
            "unreachable",
            "allow",
            stored(failingSince=NOW - DAY, retryAt=NOW + 9),
            due=False,
            warn=True,
        ),
        stored_case(
            "it has failed for a week, and the reply has expired",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, failingSince=NOW - 7 * DAY, retryAt=NOW),
            due=True,
            warn=True,
        ),
        stored_case(
            "it has failed for a day from the start",
            "neverChecked",
            "prompt",
            NOTHING_STORED | {"failingSince": NOW - DAY, "retryAt": NOW + 9},
            due=False,
            warn=True,
            storedReason="nothingStored",
            administratorsOnly=True,
        ),
        stored_case(
            "a try by hand failed while the reply is fresh",
            "fresh",
            "allow",
            stored(NOW - HOUR, failingSince=NOW - 90, retryAt=NOW - 30),
            due=False,
        ),
        stored_case(
            "a product that the fresh reply does not name",
            "fresh",
            "allow",
            stored(NOW - HOUR),
            due=True,
            products=(PRODUCT, "BankFeeds"),
            actions={PRODUCT: "allow", "BankFeeds": "prompt"},
        ),
        stored_case(
            "a product that the fresh reply does not name, and the next try is not due yet",
            "fresh",
            "allow",
            stored(NOW - HOUR, failingSince=NOW - 90, retryAt=NOW + 30),
            due=False,
            products=("BankFeeds",),
            actions={"BankFeeds": "prompt"},
        ),
        stored_case(
            "a product whose name the fresh reply writes in another case",
            "fresh",
            "allow",
            stored(NOW - HOUR),
            due=True,
            products=("smartsend",),
            actions={"smartsend": "prompt"},
        ),
        stored_case(
            "one product of the three that the reply names",
            "fresh",
            "disable",
            stored(NOW - HOUR, product("BankFeeds"), DISABLED, product("LeaseBook")),
            due=False,
        ),
        stored_case("the clock is 300 seconds behind the stored reply", "fresh", "allow", stored(NOW + 300), due=False),
        stored_case(
            "the clock was turned back behind the stored reply",
            "clockTurnedBack",
            "prompt",
            stored(NOW + 301),
            due=True,
        ),
        stored_case(
            "the clock was turned back, and the stored reply disables",
            "clockTurnedBack",
            "disable",
            stored(NOW + 30 * DAY, DISABLED),
            due=True,
        ),
        stored_case(
            "the clock was turned back behind what was seen before",
            "clockTurnedBack",
            "prompt",
            stored(NOW - HOUR, latestIat=NOW + 301),
            due=True,
        ),
        stored_case(
            "the clock is 300 seconds behind what was seen before",
            "fresh",
            "allow",
            stored(NOW - HOUR, latestIat=NOW + 300),
            due=False,
        ),
        stored_case(
            "the clock was turned back, and what was seen is forgotten",
            "clockTurnedBack",
            "prompt",
            stored(NOW + 301, latestIat=None),
            due=True,
        ),
        stored_case(
            "the clock was turned back before the stored reply had expired",
            "clockTurnedBack",
            "prompt",
            stored(NOW - 8 * DAY, latestIat=NOW + DAY),
            due=True,
        ),
        unusable("the stored reply was changed", "invalidSignature", with_reply(f"{header}.{allowing}.{signature}")),
        unusable(
            "the stored denial was changed to allow",
            "invalidSignature",
            with_reply(f"{denial_header}.{payload}.{denial_signature}"),
        ),
        unusable(
            "the stored reply was signed by a stranger",
            "unknownKey",
            with_reply(signed(claims_at(NOW - 2 * DAY), "stranger")),
        ),
        unusable("the stored reply was cut off", "malformed", with_reply(good[:200])),
        unusable("the stored reply is an empty text", "nothingStored", with_reply("")),
        unusable("the stored reply is JSON without a signature", "malformed", with_reply(json.dumps(claims_at()))),
        unusable(
            "the stored reply has the algorithm none",
            "invalidAlgorithm",
            with_reply(forged({"alg": "none", "kid": "x", "typ": TYPE}, payload, lambda _: b"")),
        ),
        unusable("a key set lies where the reply should", "invalidType", with_reply(signed(claims_at(), typ=KEY_SET))),
        unusable(
            "the stored reply has another member in its header",
            "invalidHeader",
            with_reply(
                forged(
                    {"alg": "RS256", "kid": keys()["current"].kid, "typ": TYPE, "x": 1}, payload, keys()["current"].sign
                )
            ),
        ),
        unusable("the stored reply does not say when to ask again", "malformedClaims", with_claims(refreshAfter=None)),
        unusable(
            "the stored reply comes from another service",
            "issuerMismatch",
            with_claims(iss="https://licenses.example.org"),
        ),
        unusable(
            "the stored reply was meant for another publisher",
            "audienceMismatch",
            with_claims(aud="00000000-0000-4000-8000-000000000000"),
        ),
        unusable(
            "the stored reply came with a database of another environment",
            "subjectMismatch",
            with_claims(sub="PRODUCTION-1"),
        ),
        unusable(
            "the stored reply was signed by a key that is pinned no more", "unknownKey", stored(), pinnedKeys=["next"]
        ),
        stored_case(
            "the stored reply answers an earlier question, as it must",
            "aged",
            "allow",
            with_claims(nonce="0" * 32),
            due=True,
        ),
    ]
