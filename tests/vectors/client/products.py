"""What becomes of each product: statuses and actions, known and unknown."""

from typing import Any

from tests.vectors.client.parts import (
    DAY,
    NOW,
    PRODUCT,
    Json,
    acceptance,
    claims_at,
    product,
    signed,
    stored,
    stored_case,
)

KNOWN = (
    ("licensed", "allow"),
    ("unknownProduct", "prompt"),
    ("unknownEnvironment", "prompt"),
    ("environmentInactive", "prompt"),
    ("notLicensed", "prompt"),
    ("notEnabled", "prompt"),
    ("featureDisabled", "disable"),
    ("notStarted", "prompt"),
    ("expired", "prompt"),
)


def cases() -> list[Json]:
    def unknown(name: str, **members: Any) -> Json:
        changed = {member: value for member, value in (product() | members).items() if value != "absent"}
        return acceptance(name, signed(claims_at(NOW, changed)), {PRODUCT: "prompt"})

    return [
        *(
            acceptance(
                f"the status {status}", signed(claims_at(NOW, product(status=status, action=action))), {PRODUCT: action}
            )
            for status, action in KNOWN
        ),
        acceptance(
            "a known status with another known action goes by the action",
            signed(claims_at(NOW, product(status="expired", action="disable"))),
            {PRODUCT: "disable"},
        ),
        acceptance(
            "warnings change nothing, known or not",
            signed(claims_at(NOW, product(warnings=["usersExceeded", "unheardOf"]))),
            {PRODUCT: "allow"},
        ),
        unknown("an action that is not known", action="remind"),
        unknown("an action in another case", action="Disable"),
        unknown("an action that is null", action=None),
        unknown("an action that is a list", action=["disable"]),
        unknown("an action that is an empty text", action=""),
        unknown("no action", action="absent"),
        unknown("a status that is not known, with allow", status="onTrial"),
        unknown("a status that is not known, with prompt", status="onTrial", action="prompt"),
        unknown("a status that is not known, with disable", status="revoked", action="disable"),
        unknown("a status in another case", status="Licensed"),
        unknown("a status that is null", status=None),
        unknown("a status that is an object", status={"licensed": True}),
        unknown("no status", status="absent"),
        unknown("neither is known", status="revoked", action="erase"),
        acceptance(
            "one product that is not understood leaves the others alone",
            signed(
                claims_at(
                    NOW,
                    product(),
                    product("BankFeeds", "revoked", "erase"),
                    product("LeaseBook", "featureDisabled", "disable"),
                )
            ),
            {PRODUCT: "allow", "BankFeeds": "prompt", "LeaseBook": "disable"},
            products=(PRODUCT, "BankFeeds", "LeaseBook"),
        ),
        stored_case(
            "an unknown action, after exp",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, product(action="erase")),
            due=True,
        ),
        stored_case(
            "disable with an unknown status, after exp",
            "expired",
            "prompt",
            stored(NOW - 8 * DAY, product(status="revoked", action="disable")),
            due=True,
        ),
        stored_case(
            "each product by itself, after exp",
            "expired",
            "allow",
            stored(
                NOW - 8 * DAY,
                product(),
                product("BankFeeds", "featureDisabled", "disable"),
                product("LeaseBook", "expired", "prompt"),
            ),
            due=True,
            products=(PRODUCT, "BankFeeds", "LeaseBook", "EdiConnect"),
            actions={PRODUCT: "prompt", "BankFeeds": "disable", "LeaseBook": "prompt", "EdiConnect": "prompt"},
        ),
    ]
