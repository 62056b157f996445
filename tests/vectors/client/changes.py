"""What changes by date alone while a reply or a license file is stored."""

from datetime import UTC, datetime
from typing import Any

from tests.vectors.client.parts import (
    DAY,
    DISABLED,
    HOUR,
    NOTHING_STORED,
    NOW,
    PRODUCT,
    Json,
    acceptance,
    claims_at,
    product,
    refusal,
    signed,
    stored,
    stored_case,
)

EXPIRED = "Product SmartSend is enabled but not licensed: its license expired. Contact help@example.com."
SWITCHED_OFF = "Product SmartSend is switched off. Contact help@example.com."
PENDING = (
    "Product SmartSend is enabled but not licensed: its license expired. "
    "Validate the licenses, or contact support@example.com."
)
FAILED: Json = {"failingSince": NOW - 90, "retryAt": NOW + 30}


def instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def change(at: int, status: Any, action: Any, message: str | None = None) -> Json:
    return {"at": instant(at), "status": status, "action": action, "message": message}


def expires(at: int) -> Json:
    return change(at, "expired", "prompt", EXPIRED)


def disables(at: int) -> Json:
    return change(at, "featureDisabled", "disable", SWITCHED_OFF)


def allows(at: int) -> Json:
    return change(at, "licensed", "allow")


def showing(message: str) -> Json:
    return {"messages": {PRODUCT: message}}


def aged(name: str, action: str, changes: Any, entry: Json | None = None, **more: Any) -> Json:
    """A reply of two days ago, after which no try has failed."""
    return stored_case(name, "aged", action, stored(NOW - 2 * DAY, with_changes(changes, entry)), due=True, **more)


def failed(name: str, action: str, changes: Any, entry: Json | None = None, **more: Any) -> Json:
    """A reply of two days ago, after which a try has failed."""
    before = stored(NOW - 2 * DAY, with_changes(changes, entry), **FAILED)
    return stored_case(name, "unreachable", action, before, due=False, **more)


def with_changes(changes: Any, entry: Json | None = None) -> Json:
    """The product, which is allowed unless `entry` says otherwise, with these changes."""
    return (entry or product()) | {"changes": changes}


def cases() -> list[Json]:
    return [
        *reached(),
        *after_exp(),
        *by_a_wrong_clock(),
        *not_understood(),
        *malformed(),
        *in_license_files(),
        *refreshes(),
    ]


def reached() -> list[Json]:
    both = [expires(NOW - DAY), disables(NOW - HOUR)]
    waiting = stored(NOW - 2 * DAY, with_changes(both))
    not_started = product(status="notStarted", action="prompt")
    return [
        aged("no change by date", "allow", []),
        aged("changes that are null", "allow", None),
        aged("a change a second ahead", "allow", [expires(NOW + 1)]),
        aged("a change that is reached now", "prompt", [expires(NOW)], **showing(EXPIRED)),
        aged("a change of yesterday", "prompt", [expires(NOW - DAY)], **showing(EXPIRED)),
        aged("a change to allow", "allow", [allows(NOW)], not_started),
        failed(
            "the last of the changes that are reached",
            "prompt",
            [allows(NOW - DAY), expires(NOW), disables(NOW + 1)],
            not_started,
            **showing(EXPIRED),
        ),
        aged("a disable that is reached, and no try has failed", "prompt", both, **showing(PENDING)),
        failed("a disable that is reached, and a try has failed", "disable", both, **showing(SWITCHED_OFF)),
        stored_case(
            "a disable that is reached while the reply is fresh, and a try by hand has failed",
            "fresh",
            "disable",
            stored(NOW - HOUR, with_changes([disables(NOW - 60)]), failingSince=NOW - 50, retryAt=NOW - 1),
            due=True,
            **showing(SWITCHED_OFF),
        ),
        refusal(
            "a try that fails now, after a disable that was reached",
            "timeout",
            {"failure": "timeout"},
            stored=waiting,
            expected={"actions": {PRODUCT: "disable"}, **showing(SWITCHED_OFF)},
        ),
        acceptance("a good reply after a disable that was reached", signed(claims_at()), stored=waiting),
        acceptance(
            "a change that is reached a second before a reply of 300 seconds ago comes",
            signed(claims_at(NOW - 300, with_changes([expires(NOW - 1)]))),
            {PRODUCT: "prompt"},
            expected=showing(EXPIRED),
        ),
        acceptance(
            "a change of a reply of 300 seconds ahead", signed(claims_at(NOW + 300, with_changes([expires(NOW + 301)])))
        ),
        aged(
            "a disable by a change of a reply that disables, and no try has failed",
            "prompt",
            [disables(NOW - HOUR)],
            DISABLED,
            **showing(PENDING),
        ),
        aged("a change to allow of a reply that disables", "allow", [allows(NOW)], DISABLED),
        aged("changes that are not ascending go by their order", "allow", [expires(NOW), allows(NOW - DAY)]),
        aged("a change with a member that nobody knows yet", "allow", [allows(NOW) | {"newMember": [1]}]),
        aged("a change without a message", "prompt", [change(NOW, "expired", "prompt")]),
        stored_case(
            "each product by its own changes",
            "aged",
            "prompt",
            stored(
                NOW - 2 * DAY,
                with_changes([expires(NOW)]),
                with_changes([expires(NOW + 1)], product("BankFeeds")),
                product("LeaseBook"),
                with_changes([allows(NOW)]),
            ),
            due=True,
            products=(PRODUCT, "BankFeeds", "LeaseBook"),
            actions={PRODUCT: "prompt", "BankFeeds": "allow", "LeaseBook": "allow"},
            messages={PRODUCT: EXPIRED, "BankFeeds": None, "LeaseBook": None},
        ),
    ]


def after_exp() -> list[Json]:
    exp = NOW - DAY

    def expired(name: str, action: str, changes: list[Json], entry: Json | None = None, **more: Any) -> Json:
        """A reply of eight days ago, which expired yesterday; a try has failed since unless `tried` is False."""
        members = FAILED if more.pop("tried", True) else {}
        before = stored(NOW - 8 * DAY, with_changes(changes, entry), **members)
        return stored_case(f"after exp, {name}", "expired", action, before, due=not members, **more)

    return [
        expired("a change to a prompt", "prompt", [expires(exp - HOUR)]),
        expired("a change to allow", "prompt", [allows(exp - HOUR)], product(status="notStarted", action="prompt")),
        expired("a change to a disable, and a try has failed", "disable", [disables(exp - 1)], **showing(SWITCHED_OFF)),
        expired("a change to a disable, and no try has failed", "prompt", [disables(exp - 1)], tried=False),
        expired("a change to a disable at exp", "prompt", [disables(exp)]),
        expired("a change to a disable behind exp", "prompt", [disables(exp + 1)]),
        expired("a change to allow of a reply that disables", "prompt", [allows(exp - 1)], DISABLED),
        expired("a change to allow, at exp, of a reply that disables", "disable", [allows(exp)], DISABLED),
    ]


def by_a_wrong_clock() -> list[Json]:
    def turned(name: str, action: str, changes: list[Json], **more: Any) -> Json:
        """A reply of two days ago, and a later one that was seen, from 301 seconds ahead; a try has failed."""
        before = stored(NOW - 2 * DAY, with_changes(changes), **FAILED, latestIat=NOW + 301)
        return stored_case(name, "clockTurnedBack", action, before, due=False, **more)

    soon = stored(NOW + 300, with_changes([expires(NOW + 300 + HOUR)]))
    return [
        stored_case("a clock that is 300 seconds before iat reaches no change", "fresh", "allow", soon, due=False),
        stored_case(
            "a clock that is 301 seconds before iat reaches no change",
            "clockTurnedBack",
            "disable",
            stored(NOW + 301, with_changes([allows(NOW + 302)], DISABLED)),
            due=True,
        ),
        stored_case(
            "a clock that is set back to before a change undoes it",
            "fresh",
            "allow",
            stored(NOW - HOUR, with_changes([expires(NOW + 1)])),
            due=False,
        ),
        turned("a clock that was turned back, after a change to a prompt", "prompt", [expires(NOW)]),
        turned(
            "a clock that was turned back, after a change to a disable",
            "disable",
            [disables(NOW)],
            **showing(SWITCHED_OFF),
        ),
        stored_case(
            "a clock that was turned back, after a change to a disable, and no try has failed",
            "clockTurnedBack",
            "prompt",
            stored(NOW - 2 * DAY, with_changes([disables(NOW)]), latestIat=NOW + 301),
            due=True,
        ),
        turned("a clock that was turned back, before a change to a disable", "prompt", [disables(NOW + 1)]),
    ]


def not_understood() -> list[Json]:
    def unknown(name: str, **members: Any) -> Json:
        """A try has failed, so that a disable that is understood would apply."""
        changed = {name: value for name, value in (disables(NOW) | members).items() if value != "absent"}
        return failed(f"a change with {name}", "prompt", [changed], **more(changed))

    def more(changed: Json) -> Json:
        return showing(changed["message"])

    return [
        unknown("a status that is not known", status="revoked"),
        unknown("an action that is not known", action="erase"),
        unknown("an action in another case", action="Disable"),
        unknown("a status that is null", status=None),
        unknown("an action that is a list", action=["disable"]),
        unknown("no status", status="absent"),
        unknown("no action", action="absent"),
        aged(
            "a change with a status that is not known, with disable, and no try has failed",
            "prompt",
            [disables(NOW) | {"status": "revoked"}],
            **showing(SWITCHED_OFF),
        ),
        aged("a change with a status that is not known, with allow", "prompt", [change(NOW, "onTrial", "allow")]),
        aged("a change that is not known and lies ahead", "allow", [change(NOW + 1, "revoked", "erase")]),
        failed(
            "a change that is known, after one that is not",
            "disable",
            [change(NOW - DAY, "revoked", "erase"), disables(NOW)],
            **showing(SWITCHED_OFF),
        ),
    ]


def malformed() -> list[Json]:
    lists: Json = {
        "an object": {},
        "a text": "",
        "a number": 0,
        "false": False,
        "a list with a text in it": [instant(NOW)],
        "a list with null in it": [None],
        "a list with a list in it": [[]],
        "a list with one good change and a number": [allows(NOW), 0],
    }
    day = instant(NOW + DAY)
    instants: Json = {
        "no": "absent",
        "null as": None,
        "a number as": NOW + DAY,
        "an empty text as": "",
        "a date as": day[:10],
        "an offset in": day[:-1] + "+00:00",
        "no offset in": day[:-1],
        "a fraction of a second in": day[:-1] + ".000Z",
        "a small z in": day[:-1] + "z",
        "a small t in": day.replace("T", "t"),
        "a space before": f" {day}",
        "a line feed behind": f"{day}\n",
        "digits of another script in": day.replace("2", "\u0662"),
        "30 February as": "2027-02-30T12:00:00Z",
        "the year 0 as": "0000-01-01T12:00:00Z",
        "24 o'clock as": "2027-01-01T24:00:00Z",
        "a leap second as": "2026-12-31T23:59:60Z",
    }
    # The first change is good and has been reached; a try has failed.
    wrong = {
        f"a change with {name} its instant": [
            disables(NOW),
            {member: value for member, value in (allows(NOW) | {"at": at}).items() if value != "absent"},
        ]
        for name, at in instants.items()
    }
    return [
        *(failed(f"changes that are {name}", "prompt", changes) for name, changes in lists.items()),
        *(failed(name, "prompt", changes) for name, changes in wrong.items()),
        failed("changes that are malformed, of a reply that disables", "prompt", {}, DISABLED),
        stored_case(
            "changes that are malformed leave other products alone",
            "aged",
            "prompt",
            stored(NOW - 2 * DAY, with_changes({}), product("BankFeeds")),
            due=True,
            products=(PRODUCT, "BankFeeds"),
            actions={PRODUCT: "prompt", "BankFeeds": "allow"},
        ),
        failed(
            "a change long before all others",
            "disable",
            [disables(NOW) | {"at": "0001-01-01T00:00:00Z"}],
            **showing(SWITCHED_OFF),
        ),
        failed("a change long after all others", "allow", [disables(NOW) | {"at": "9999-12-31T23:59:59Z"}]),
    ]


def in_license_files() -> list[Json]:
    """A license file of 400 days. The license ends in 20 days, and its feature is disabled 40 days later."""

    def after(name: str, level: str, action: str, seconds: int, **more: Any) -> Json:
        iat = NOW - seconds
        day = iat - iat % DAY
        changes = [expires(day + 21 * DAY + DAY // 2), disables(day + 60 * DAY + DAY // 2)]
        claims = claims_at(iat, with_changes(changes), exp=iat + 400 * DAY, refreshAfter=iat + 400 * DAY)
        token = signed({claim: value for claim, value in claims.items() if claim != "nonce"}, typ="license-file+jwt")
        before = NOTHING_STORED | {"reply": token, "latestIat": iat} | more.pop("stored", {})
        due = action != "allow" and before["retryAt"] is None
        return stored_case(f"a license file {name}", level, action, before, due=due, **more)

    return [
        after("on day 19 of a license of 20 days", "fresh", "allow", 19 * DAY),
        after("on day 22 of a license of 20 days", "fresh", "prompt", 22 * DAY, **showing(EXPIRED)),
        after("on the day before its feature is disabled", "fresh", "prompt", 59 * DAY, **showing(EXPIRED)),
        after("on the day after its feature is disabled", "fresh", "disable", 61 * DAY, **showing(SWITCHED_OFF)),
        after(
            "after its feature is disabled, and a try has failed",
            "fresh",
            "disable",
            61 * DAY,
            stored=FAILED,
            **showing(SWITCHED_OFF),
        ),
        after("on day 399, after its feature is disabled", "fresh", "disable", 399 * DAY, **showing(SWITCHED_OFF)),
        after(
            "after its end and after its feature is disabled", "expired", "disable", 401 * DAY, **showing(SWITCHED_OFF)
        ),
    ]


def refreshes() -> list[Json]:
    """A client with a fresh reply validates again as soon as one of its changes no longer allows a product."""

    def fresh(name: str, action: str, changes: Any, *, due: bool, **more: Any) -> Json:
        members = more.pop("stored", {})
        before = stored(NOW - more.pop("age", HOUR), with_changes(changes, more.pop("entry", None)), **members)
        return stored_case(f"a fresh reply, {name}", "fresh", action, before, due=due, **more)

    def paused(seconds: int) -> Json:
        return {"stored": {"failingSince": NOW - 90, "retryAt": NOW + seconds}}

    def file(name: str, action: str, at: int, *, due: bool, **members: Any) -> Json:
        iat = NOW - 30 * DAY
        claims = claims_at(iat, with_changes([expires(at)]), exp=iat + 400 * DAY, refreshAfter=iat + 400 * DAY)
        token = signed({claim: value for claim, value in claims.items() if claim != "nonce"}, typ="license-file+jwt")
        before = NOTHING_STORED | {"reply": token, "latestIat": iat} | members
        more = showing(EXPIRED) if action == "prompt" else {}
        return stored_case(f"a fresh license file, {name}", "fresh", action, before, due=due, **more)

    prompting = product(status="notStarted", action="prompt", message="Not yet.")
    return [
        fresh("a second before a change to a prompt", "allow", [expires(NOW + 1)], due=False),
        fresh("a change to a prompt is reached", "prompt", [expires(NOW)], due=True, **showing(EXPIRED)),
        fresh(
            "a change to a prompt, a second before the next try",
            "prompt",
            [expires(NOW)],
            due=False,
            **paused(1),
            **showing(EXPIRED),
        ),
        fresh(
            "a change to a prompt, and the next try is due",
            "prompt",
            [expires(NOW)],
            due=True,
            **paused(0),
            **showing(EXPIRED),
        ),
        fresh(
            "a change to a disable is reached, and no try has failed",
            "prompt",
            [disables(NOW)],
            due=True,
            **showing(PENDING),
        ),
        fresh("a change to allow is reached", "allow", [allows(NOW)], due=False, entry=prompting),
        fresh("a change to a prompt, and one to allow", "allow", [expires(NOW - 1), allows(NOW)], due=False),
        fresh("a change that is not known", "prompt", [change(NOW, "onTrial", "allow")], due=True),
        fresh(
            "a prompt that is no change, before a change",
            "prompt",
            [allows(NOW + 1)],
            due=False,
            entry=prompting,
            **showing("Not yet."),
        ),
        fresh("changes that are malformed", "prompt", {}, due=False),
        fresh("of 300 seconds ago, and a change", "prompt", [expires(NOW)], due=False, age=300, **showing(EXPIRED)),
        fresh("of 301 seconds ago, and a change", "prompt", [expires(NOW)], due=True, age=301, **showing(EXPIRED)),
        stored_case(
            "a fresh reply, a change of a product that is not asked for",
            "fresh",
            "allow",
            stored(NOW - HOUR, product(), with_changes([expires(NOW)], product("BankFeeds"))),
            due=False,
        ),
        acceptance(
            "a good reply after a change to a prompt, which says the same",
            signed(claims_at(NOW, with_changes([], product(status="expired", action="prompt", message=EXPIRED)))),
            {PRODUCT: "prompt"},
            expected=showing(EXPIRED),
            stored=stored(NOW - HOUR, with_changes([expires(NOW)])),
        ),
        file("a second before a change to a prompt", "allow", NOW + 1, due=False),
        file("a change to a prompt is reached", "prompt", NOW, due=True),
        file("a change to a prompt, a second before the next try", "prompt", NOW, due=False, **paused(1)["stored"]),
        file("a change to a prompt, and the next try is due", "prompt", NOW, due=True, **paused(0)["stored"]),
    ]


def pending() -> list[Json]:
    """The message of a disable that a change announced, and that waits for a try to fail."""

    def named(name: str, ending: str, claims: Json | None = None, **members: Any) -> Json:
        iat = NOW - 2 * DAY
        reply = signed(claims_at(iat, with_changes([disables(NOW)], product(**members)), **(claims or {})))
        before = NOTHING_STORED | {"reply": reply, "latestIat": iat}
        message = f"Product SmartSend is enabled but not licensed: its license expired{ending}"
        return stored_case(f"a pending disable, {name}", "aged", "prompt", before, due=True, **showing(message))

    on = " on 2026-11-24"
    service = "Validate the licenses, or contact support@example.com."
    return [
        named(
            "with the date and the address of the product",
            f"{on}. Validate the licenses, or contact help@example.com.",
            endDate="2026-11-24",
            supportEmail="help@example.com",
        ),
        named("with the address of the reply", f"{on}. {service}", endDate="2026-11-24", supportEmail=None),
        named("with an address that is an empty text", f"{on}. {service}", endDate="2026-11-24", supportEmail=""),
        named("with an address that is a list", f"{on}. {service}", endDate="2026-11-24", supportEmail=["a@b.com"]),
        named("without an address", f"{on}. Validate the licenses.", {"supportEmail": ""}, endDate="2026-11-24"),
        named(
            "with an address of the reply that is a number",
            f"{on}. Validate the licenses.",
            {"supportEmail": 1},
            endDate="2026-11-24",
        ),
        named("with a date that is null", f". {service}", endDate=None),
        named("with a date that is a number", f". {service}", endDate=20261124),
        named("with neither date nor address", ". Validate the licenses.", {"supportEmail": None}),
    ]
