"""License files."""

from typing import Any

from tests.vectors.client.parts import (
    DAY,
    DISABLED,
    HTML,
    NOTHING_STORED,
    NOW,
    PRODUCT,
    Json,
    acceptance,
    case,
    claims_at,
    key_set_of,
    product,
    refusal,
    signed,
    stored,
    stored_case,
)


def cases() -> list[Json]:
    def file(
        iat: int = NOW - 10 * DAY, *entries: Json, key: str = "current", typ: str = "license-file+jwt", **members: Any
    ) -> str:
        claims = claims_at(iat, *entries, **{"exp": iat + 400 * DAY, "refreshAfter": iat + 400 * DAY, **members})
        return signed({claim: value for claim, value in claims.items() if claim != "nonce"}, key, typ)

    def loaded(name: str, token: str, action: str = "allow", **members: Any) -> Json:
        before = members.setdefault("stored", NOTHING_STORED)
        after = NOTHING_STORED | {"reply": token, "keySets": before["keySets"], "latestIat": NOW - 10 * DAY}
        expected = {"reason": "verified", "level": "fresh", "actions": {PRODUCT: action}, "stored": after}
        return case(name, expected, license_file=token, **members)

    def not_loaded(name: str, reason: str, token: str, before: Json | None = None, **expected: Any) -> Json:
        outcome = {"reason": reason, "level": "aged", "actions": {PRODUCT: "allow"}, "refreshDue": True, **expected}
        return case(name, outcome, license_file=token, stored=before or stored())

    def with_false_iat(iat: int, *entries: Json) -> Json:
        return NOTHING_STORED | {"reply": file(iat, *entries), "latestIat": iat}

    turned = stored(NOW + 301)
    return [
        loaded("a license file", file()),
        loaded("a license file that disables", file(NOW - 10 * DAY, DISABLED), "disable"),
        loaded(
            "a license file ends a year of failures",
            file(),
            stored=stored(NOW - 400 * DAY, failingSince=NOW - 365 * DAY, retryAt=NOW + 60),
        ),
        loaded("a license file as old as what is stored", file(), stored=stored(NOW - 10 * DAY)),
        loaded(
            "a license file by a key of the stored set",
            file(key="later"),
            stored=NOTHING_STORED | {"keySets": [key_set_of("current", "later", iat=NOW - 20 * DAY)]},
        ),
        loaded(
            "a license file that names a product twice goes by the first",
            file(NOW - 10 * DAY, DISABLED, product()),
            "disable",
        ),
        case(
            "a license file without our product",
            {
                "reason": "verified",
                "level": "fresh",
                "actions": {PRODUCT: "prompt"},
                "refreshDue": True,
                "stored": with_false_iat(NOW - 10 * DAY, product("BankFeeds")),
            },
            license_file=file(NOW - 10 * DAY, product("BankFeeds")),
        ),
        not_loaded("a reply in place of a license file", "invalidType", signed(claims_at())),
        not_loaded("a key set in place of a license file", "invalidType", key_set_of("current")),
        not_loaded("a license file by a stranger", "unknownKey", file(key="stranger")),
        not_loaded(
            "a license file that was changed",
            "invalidSignature",
            ".".join((*file().split(".")[:2], file(NOW).split(".")[2])),
        ),
        not_loaded("a license file that is a page of HTML", "malformed", HTML),
        not_loaded("a license file for another serial number", "subjectMismatch", file(sub="C0FFEE-0043")),
        not_loaded(
            "a license file of another publisher", "audienceMismatch", file(aud="00000000-0000-4000-8000-000000000000")
        ),
        not_loaded("a license file of another service", "issuerMismatch", file(iss="https://licenses.example.org")),
        not_loaded("a license file without an end", "malformedClaims", file(exp=None)),
        not_loaded("a license file that has expired", "expired", file(NOW - DAY, exp=NOW)),
        not_loaded(
            "a license file that is older than what is stored",
            "olderThanStored",
            file(NOW - 10 * DAY),
            stored(NOW - 2 * DAY),
        ),
        not_loaded("a license file of 301 seconds ahead", "issuedInFuture", file(NOW + 301)),
        not_loaded(
            "a license file where the clock was turned back",
            "clockTurnedBack",
            file(NOW + 301),
            turned,
            level="clockTurnedBack",
            actions={PRODUCT: "prompt"},
        ),
        stored_case("a license file of 399 days ago", "fresh", "allow", with_false_iat(NOW - 399 * DAY), due=False),
        stored_case(
            "a license file that has reached its end", "expired", "prompt", with_false_iat(NOW - 400 * DAY), due=True
        ),
        acceptance(
            "a reply takes the place of a license file", signed(claims_at()), stored=with_false_iat(NOW - 10 * DAY)
        ),
        refusal(
            "no answer, and a license file is stored",
            "timeout",
            {"failure": "timeout"},
            stored=with_false_iat(NOW - 10 * DAY),
            expected={"level": "fresh"},
        ),
    ]
