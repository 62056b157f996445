"""The client in C#: every case of tests/vectors/client, and how it behaves on the network."""

import base64
import json
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.clients.test_vectors import CASES, KEYS
from tests.support.certificates import create_tls_contexts
from tests.support.mono import LIBRARY, Environment, compile_strictly, environment, run_all, trust
from tests.support.scripted_server import (
    ScriptedServer,
    breaks_off,
    drips,
    floods,
    hangs,
    replies,
    replying,
    says,
    scripted_server,
)
from tests.support.waiting import WAIT_TIMEOUT_SECONDS
from tests.vectors.client.parts import CLIENT, claims_at, product, signed

pytestmark = pytest.mark.mono

type Json = dict[str, Any]

VALIDATE, KEY_SET = "/api/v1/licenses/validate", "/api/v1/keys/signed"
PATIENT: Json = {"timeoutMilliseconds": 1000 * WAIT_TIMEOUT_SECONDS}
"""Where a test is not about the time limit."""
CONNECT: Json = CLIENT | {"pinnedKeys": [KEYS["current"]["xml"]]} | PATIENT


@pytest.fixture(scope="module")
def outcomes(dotnet_runner: Path) -> dict[tuple[str, str], Json]:
    """What the client in C# makes of every case, with pinned keys in either form."""
    asked = [(name, form) for name in CASES for form in ("jwk", "xml")]
    return dict(zip(asked, run_all(dotnet_runner, [with_keys(CASES[name], form) for name, form in asked]), strict=True))


def with_keys(case: Json, form: str) -> Json:
    pinned = [KEYS[name][form] for name in case["client"]["pinnedKeys"]]
    texts = [key if isinstance(key, str) else json.dumps(key) for key in pinned]
    return case | {"client": case["client"] | {"pinnedKeys": texts}}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_dotnet_client_returns_expected_result_for_vector(name: str, outcomes: dict[tuple[str, str], Json]) -> None:
    expected = CASES[name]["expected"]
    for form in ("jwk", "xml"):
        outcome = outcomes[name, form]
        stored_case = outcome["stored"]
        stored = {
            "reply": stored_case.get("reply"),
            "keySets": stored_case["keySets"].split("\n") if stored_case.get("keySets") else [],
            **{member: stored_case[member] or None for member in ("latestIat", "failingSince", "retryAt")},
        }
        messages = dict.fromkeys(expected["messages"]) | outcome["messages"]
        found = {member: outcome.get(member) for member in expected} | {"stored": stored, "messages": messages}
        assert found == expected, f"pinned keys as {form}"


@pytest.mark.slow
def test_license_check_result_has_unique_message_per_code(outcomes: dict[tuple[str, str], Json]) -> None:
    told = {(outcome["reason"], outcome["sentence"]) for outcome in outcomes.values() if "reason" in outcome}
    one_each = [(reason, sentence) for reason, sentence in told if reason != "unexpectedHttpStatus"]
    assert len({reason for reason, _ in one_each}) == len({sentence for _, sentence in one_each}) == len(one_each)
    assert {sentence[-1] for _, sentence in told} == {"."}
    assert {outcome["message"][-1] for outcome in outcomes.values()} == {"."}


def test_verify_reply_with_null_nonce_throws_argument_null_exception(dotnet_runner: Path) -> None:
    good = next(case for case in CASES.values() if case["expected"]["reason"] == "verified" and case["reply"])
    (outcome,) = run_all(dotnet_runner, [with_keys(good, "xml") | {"nonce": None}])
    assert outcome["threw"] == "ArgumentNullException"


def test_dotnet_library_compiles_as_c_sharp_5_without_warnings(tmp_path: Path) -> None:
    documentation = tmp_path / "LicenseManager.Client.xml"
    options = ["-target:library", f"-doc:{documentation}"]
    compile_strictly(tmp_path / "LicenseManager.Client.dll", *options, sources=[LIBRARY])
    assert documentation.stat().st_size > 10_000, "everything public says what it is"


def test_dotnet_readme_sample_compiles(tmp_path: Path) -> None:
    usage, store = re.findall(r"```csharp\n(.*?)```", (LIBRARY / "README.md").read_text("utf-8"), re.DOTALL)
    usings, sample = usage.rsplit("using LicenseManager.Client;\n", 1)
    given = "string currentKeyXml, string nextKeyXml, ILicenseStore store, bool isAdministrator"
    helpers = "void Show(string message) { } void SwitchOff(string name, string message) { }"
    usings += "using System.IO;using LicenseManager.Client;"
    program = f"{usings}{store}class A {{ {helpers} void B({given}) {{ {sample} }} }}"
    (tmp_path / "sample.cs").write_text(program)
    compile_strictly(tmp_path / "sample.dll", "-target:library", sources=[LIBRARY, tmp_path])


def test_dotnet_project_file_matches_sources_and_references() -> None:
    project = ET.parse(LIBRARY / "LicenseManager.Client.csproj").getroot()
    values = {element.tag: (element.text or "").strip() for group in project.iter("PropertyGroup") for element in group}
    assert (values["TargetFrameworks"], values["LangVersion"]) == ("net472;netstandard2.0", "5")
    items = [item for group in project.iter("ItemGroup") for item in group]
    references = [item.get("Include") for item in items if item.tag == "Reference"]
    assert references == ["System.Net.Http"], "what the compiler of these tests is given, and nothing else"
    files = [item.get("Include") or item.get("Update") or "" for item in items if item.tag != "Reference"]
    assert files
    assert values["PackageReadmeFile"] in files
    assert [file for file in files if not (LIBRARY / file).is_file()] == []
    assert list(LIBRARY.glob("*/*.cs")) == [], "each folder below would have to be compiled here, too"
    for source in LIBRARY.glob("*.cs"):
        assert f"namespace {values['RootNamespace']}\n" in source.read_text("utf-8")
        declared = re.findall(r"^    .*\b(?:class|interface|enum) (\w+)", source.read_text("utf-8"), re.MULTILINE)
        assert declared == [source.stem], "one file a class, of its name"


# On the network


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that gives good replies, until a test sets other behaviours."""
    with scripted_server(replies) as running:
        yield running


@pytest.fixture(scope="module")
def process(dotnet_runner: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with environment(dotnet_runner, tmp_path_factory.mktemp("home"), **CONNECT, url="http://127.0.0.1:1") as running:
        yield running


@pytest.fixture
def client(process: Environment, server: ScriptedServer) -> Environment:
    """A client of that server that has nothing stored."""
    assert "threw" not in process.do("connect", **CONNECT, url=server.url)
    return process


def test_license_client_validate_sends_only_documented_fields_and_headers(
    client: Environment, server: ScriptedServer
) -> None:
    host_url = 'https://contoso.example.com/?"\\\n\u00e4\U0001f600'
    client.validate("SmartSend", "Forex \u00dcber", hostUrl=host_url, enabledUsersCount=48)
    asked = server.asked(VALIDATE)[0]
    product = {"isInstalled": True, "isEnabled": True, "enabledUsersCount": 48}
    sent = asked.json()
    assert sent == {
        "publisherId": CLIENT["publisherId"],
        "serialNumber": CLIENT["serialNumber"],
        "nonce": sent["nonce"],
        "hostUrl": host_url,
        "isProductionEnvironment": False,
        "products": [{"productName": "SmartSend"} | product, {"productName": "Forex \u00dcber"} | product],
    }
    assert asked.line == f"POST {VALIDATE} HTTP/1.1"
    assert asked.headers["content-type"] == "application/json; charset=utf-8"
    assert asked.headers.keys() <= {"content-type", "content-length", "host", "connection"}, (
        "no Expect: it costs a wait"
    )


def test_license_client_validate_sends_new_128_bit_random_nonce(client: Environment, server: ScriptedServer) -> None:
    for _ in range(20):
        assert client.validate("SmartSend")["checkResult"]["code"] == "verified"
    nonces = [base64.urlsafe_b64decode(request.json()["nonce"] + "==") for request in server.asked(VALIDATE)]
    assert [len(nonce) for nonce in nonces] == [16] * 20
    # Of 20 random bytes at one place, two or more differ, but for once in 256**19 times.
    assert all(len({nonce[place] for nonce in nonces}) > 1 for place in range(16))


@pytest.mark.parametrize("how", ["sync", "async", "busyThread"])
def test_license_client_validate_completes_in_call_mode(client: Environment, how: str) -> None:
    result = client.validate("SmartSend", how=how)
    assert (result["checkResult"]["code"], result["actions"]) == ("verified", {"SmartSend": "allow"})


def test_license_client_sync_validate_uses_store_on_calling_thread_only(client: Environment) -> None:
    assert client.validate("SmartSend", how="sync")["storeCalledElsewhere"] is False


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_license_client_does_not_follow_redirect(client: Environment, server: ScriptedServer, status: str) -> None:
    with scripted_server(replies) as elsewhere:
        server.behaviours = [says(status, Location=f"{elsewhere.url}{VALIDATE}")]
        result = client.validate("SmartSend")
        assert result["checkResult"]["code"] == "unexpectedHttpStatus"
        assert status[:3] in result["checkResult"]["message"]
        assert elsewhere.requests == []


@pytest.mark.parametrize("first", [breaks_off, says("503 Busy")], ids=["a connection that breaks off", "a 503"])
def test_license_client_retries_once_after_delay_on_transient_failure(
    client: Environment, server: ScriptedServer, first: Any
) -> None:
    server.behaviours = [first, replies]
    assert client.validate("SmartSend")["checkResult"]["code"] == "verified"
    one, two = server.asked(VALIDATE)
    assert two.at - one.at > 0.09
    assert one.body == two.body


def test_license_client_when_service_stays_busy_sends_at_most_two_requests(
    client: Environment, server: ScriptedServer
) -> None:
    server.behaviours = [says("503 Busy")]
    assert client.validate("SmartSend")["checkResult"]["code"] == "unexpectedHttpStatus"
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "429 Too Many Requests", "500 Error"])
def test_license_client_does_not_retry_on_status(client: Environment, server: ScriptedServer, status: str) -> None:
    server.behaviours = [says(status)]
    assert client.validate("SmartSend")["checkResult"]["code"] == "unexpectedHttpStatus"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "407 Proxy"]
)
def test_license_check_message_for_permanent_status_does_not_suggest_retry(
    client: Environment, server: ScriptedServer, status: str
) -> None:
    server.behaviours = [says(status)]
    message = client.validate("SmartSend")["checkResult"]["message"]
    assert status[:3] in message
    assert "try again" not in message
    assert "check its address, the publisher's id and the proxy" in message


@pytest.mark.parametrize("status", ["302 Found", "408 Time-out", "429 Too Many Requests", "500 Error", "503 Busy"])
def test_license_check_message_for_temporary_status_suggests_retry(
    client: Environment, server: ScriptedServer, status: str
) -> None:
    server.behaviours = [says(status)]
    assert client.validate("SmartSend")["checkResult"]["message"].endswith(f"{status[:3]}: try again later.")


RESULTS = {
    "all licensed": ((), "All products are licensed."),
    "one of two": (("ForexRates",), "Not licensed: ForexRates (1 of 2 products)."),
    "none": (("SmartSend", "ForexRates"), "Not licensed: SmartSend, ForexRates (2 of 2 products)."),
}


@pytest.mark.parametrize(("expired", "message"), RESULTS.values(), ids=RESULTS)
def test_validation_result_message_summarizes_licensed_products(
    client: Environment, server: ScriptedServer, expired: tuple[str, ...], message: str
) -> None:
    server.behaviours = [replying(expired=expired)]
    assert client.validate("SmartSend", "ForexRates")["resultMessage"] == message


def test_failed_validation_result_message_contains_reason_and_stored_summary(
    client: Environment, server: ScriptedServer
) -> None:
    first = (replying(expired=("ForexRates",)), replying(expired=("ForexRates",)), says("500 Error"))
    server.behaviours = list(first)
    client.validate("SmartSend", "ForexRates")
    assert client.validate("SmartSend", "ForexRates")["resultMessage"] == (
        "The license service answered with HTTP status 500: try again later. "
        "Not licensed: ForexRates (1 of 2 products)."
    )
    client.advance(days=8)
    message = client.validate("SmartSend", "ForexRates")["resultMessage"]
    assert "500: try again later. It is not known whether the products are licensed: the last good reply" in message


@pytest.mark.parametrize(
    ("days", "level"), [(8, "expired"), (-1, "clockTurnedBack")], ids=["after exp", "clock turned back"]
)
@pytest.mark.parametrize(
    ("actions", "ending"),
    [
        (("allow", "prompt", "allow"), ""),
        (("allow", "disable", "prompt"), " Switched off: BankFeeds."),
        (("disable", "allow", "disable"), " Switched off: SmartSend, LeaseBook."),
    ],
    ids=["none", "one", "two"],
)
def test_license_state_summary_of_invalid_reply_lists_disabled_products(
    client: Environment, days: int, level: str, actions: tuple[str, ...], ending: str
) -> None:
    names = ("SmartSend", "BankFeeds", "LeaseBook")
    products = [product(name, "licensed", action) for name, action in zip(names, actions, strict=True)]
    claims = {claim: value for claim, value in claims_at(int(time.time()), *products).items() if claim != "nonce"}
    client.do("loadLicenseFile", token=signed(claims, typ="license-file+jwt"))
    client.advance(days=days)
    state = client.get_state(*names)
    sentence = state["message"][0].lower() + state["message"][1:]
    assert (state["level"], state["summary"]) == (
        level,
        f"It is not known whether the products are licensed: {sentence}{ending}",
    )


def test_license_state_before_first_check_prompts_administrators_only(
    client: Environment, server: ScriptedServer
) -> None:
    server.behaviours = [says("404 Not Found")]
    for state in (client.get_state("SmartSend"), client.validate("SmartSend")):
        assert (state["actions"], state["administratorsOnly"]) == ({"SmartSend": "prompt"}, True)
        assert state["messages"]["SmartSend"].endswith("an administrator should validate them, or load a license file.")
        assert state["summary"] == "It is not known whether the products are licensed: no good reply is stored."
    server.behaviours = [replies]
    assert client.validate("SmartSend")["administratorsOnly"] is False
    client.advance(days=8)
    assert client.get_state("SmartSend")["administratorsOnly"] is False


def test_license_state_message_for_missing_product_names_reply_or_license_file(client: Environment) -> None:
    client.validate("SmartSend")
    message = client.get_state("BankFeeds")["messages"]["BankFeeds"]
    assert message == "The license of product BankFeeds has not been checked yet: validate the licenses."
    now = int(time.time())
    claims = claims_at(now, exp=now + 400 * 86_400, refreshAfter=now + 400 * 86_400)
    claims = {name: value for name, value in claims.items() if name != "nonce"}
    client.do("loadLicenseFile", token=signed(claims, typ="license-file+jwt"))
    state = client.get_state("SmartSend", "BankFeeds")
    assert state["isLicenseFile"]
    assert re.fullmatch(
        r"Product BankFeeds is not in the license file of [\d: -]+UTC: load a license file that names it\.",
        state["messages"]["BankFeeds"],
    )


def test_license_client_retry_waits_for_retry_after_header(client: Environment, server: ScriptedServer) -> None:
    server.behaviours = [says("503 Busy", Retry_After="1"), replies]
    assert client.validate("SmartSend")["checkResult"]["code"] == "verified"
    one, two = server.asked(VALIDATE)
    assert 1 <= two.at - one.at < WAIT_TIMEOUT_SECONDS


def test_license_client_when_retry_after_exceeds_timeout_stores_retry_time(
    client: Environment, server: ScriptedServer
) -> None:
    server.behaviours = [says("503 Busy", Retry_After="600")]
    started = time.time()
    result = client.validate("SmartSend")
    assert (result["checkResult"]["code"], len(server.requests)) == ("unexpectedHttpStatus", 1)
    assert started - 1 <= result["stored"]["retryAt"] - 600 <= time.time()
    assert result["refreshDue"] is False


@pytest.mark.parametrize(
    ("behaviour", "limit", "reason"),
    [
        (hangs, {"timeoutMilliseconds": 1500}, "timeout"),
        (drips, {"timeoutMilliseconds": 1500}, "timeout"),
        (floods, PATIENT, "tooLarge"),
        (breaks_off, PATIENT, "connectionReset"),
    ],
    ids=["it hangs", "it drips", "it floods", "it breaks off"],
)
def test_license_client_when_server_misbehaves_returns_reason(
    client: Environment, server: ScriptedServer, behaviour: Any, limit: Json, reason: str
) -> None:
    """The first three never end what they send: that there is a result shows that it is not waited for."""
    server.behaviours = [behaviour]
    client.do("connect", **CONNECT | limit, url=server.url)
    result = client.validate("SmartSend")
    assert result["checkResult"]["code"] == reason
    assert result["actions"] == {"SmartSend": "prompt"}


def test_license_client_timeout_applies_when_thread_pool_is_exhausted(
    client: Environment, server: ScriptedServer
) -> None:
    server.behaviours = [hangs]
    client.do("connect", **CONNECT | {"timeoutMilliseconds": 1000}, url=server.url)
    result = client.validate("SmartSend", how="starved")
    assert result["checkResult"]["code"] == "timeout"
    assert 900_000 < result["microseconds"] < 30_000_000, "the threads are held for twice as long"
    assert result["storeCalledElsewhere"] is False
    server.behaviours = [replies]
    client.do("reconnect", **CONNECT, url=server.url)
    assert client.validate("SmartSend")["checkResult"]["code"] == "verified", "the next one is not hurt by it"


def test_license_client_default_timeout_is_five_seconds(client: Environment, server: ScriptedServer) -> None:
    server.behaviours = [hangs]
    client.do("connect", **{name: CONNECT[name] for name in CONNECT if name != "timeoutMilliseconds"}, url=server.url)
    started = time.monotonic()
    assert client.validate("SmartSend")["checkResult"]["code"] == "timeout"
    assert 4.5 < time.monotonic() - started < 30


def test_try_begin_refresh_returns_true_once_per_minute_until_reply_is_fresh(client: Environment) -> None:
    def begins() -> bool:
        return bool(client.do("tryBeginRefresh", products=["SmartSend"])["begun"])

    assert [begins(), begins()] == [True, False]
    assert client.get_state("SmartSend")["refreshDue"] is False
    client.advance(seconds=61)
    assert [begins(), begins()] == [True, False], "the process that began it has died"
    assert client.validate("SmartSend")["checkResult"]["code"] == "verified"
    client.advance(seconds=61)
    assert not begins(), "the reply is fresh"


def test_license_client_when_connection_is_refused_returns_unreachable(client: Environment) -> None:
    client.do("connect", **CONNECT, url="http://127.0.0.1:1")
    result = client.validate("SmartSend")
    assert (result["checkResult"]["code"], result["level"]) == ("unreachable", "neverChecked")


def test_license_client_fetches_key_set_once_a_day(client: Environment, server: ScriptedServer) -> None:
    server.behaviours = [replies]
    assert client.validate("SmartSend")["keySetCheckResult"]["code"] == "verified"
    assert "keySetCheckResult" not in client.validate("SmartSend")
    assert len(server.asked(KEY_SET)) == 1


def test_license_client_with_day_old_key_set_fetches_it_again(client: Environment, server: ScriptedServer) -> None:
    server.behaviours = [replying(key_set_age_seconds=86_400)]
    for _ in range(2):
        assert client.validate("SmartSend")["keySetCheckResult"]["code"] == "verified"


def test_license_client_accepts_reply_signed_by_key_from_fetched_key_set(
    client: Environment, server: ScriptedServer
) -> None:
    server.behaviours = [replying("later")]
    result = client.validate("SmartSend")
    assert (result["keySetCheckResult"]["code"], result["checkResult"]["code"]) == ("verified", "verified")
    assert result["actions"] == {"SmartSend": "allow"}
    assert len(server.asked(VALIDATE)) == 1, "the same reply, verified again"


def test_license_client_rejects_reply_signed_by_unknown_key(client: Environment, server: ScriptedServer) -> None:
    server.behaviours = [replying("stranger")]
    result = client.validate("SmartSend")
    assert (result["keySetCheckResult"]["code"], result["checkResult"]["code"]) == ("verified", "unknownKey")
    assert (result["level"], result["actions"]) == ("neverChecked", {"SmartSend": "prompt"})


URLS_REFUSED = [
    "http://licenses.example.com",
    "http://127.0.0.1.example.com",
    "http://localhost.example.com",
    "http://127.0.0.1@example.com",
    "http://10.0.0.1",
    "http://0.0.0.0",
    "https://user:secret@licenses.example.com",
    "https://licenses.example.com/?x=1",
    "https://licenses.example.com/#x",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "licenses.example.com",
    "",
]


@pytest.mark.parametrize("url", URLS_REFUSED)
def test_license_client_constructor_rejects_insecure_or_invalid_url(process: Environment, url: str) -> None:
    assert process.do("connect", **CONNECT, url=url)["threw"] == "ArgumentException"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.8.8.8", "http://[::1]:1", "http://localhost:1", "https://example.com/at/"]
)
def test_license_client_constructor_accepts_https_or_loopback_url(process: Environment, url: str) -> None:
    assert "threw" not in process.do("connect", **CONNECT, url=url)


@pytest.mark.parametrize(
    ("fault", "thrown"),
    [
        ({"publisherId": "contoso"}, "ArgumentException"),
        ({"serialNumber": ""}, "ArgumentException"),
        ({"serialNumber": "S" * 129}, "ArgumentException"),
        ({"issuer": ""}, "ArgumentException"),
        ({"pinnedKeys": ["key"]}, "FormatException"),
        ({"pinnedKeys": ["<RSAKeyValue/>"]}, "FormatException"),
        ({"pinnedKeys": ["<RSAKeyValue>"]}, "FormatException"),
        ({"pinnedKeys": [KEYS["weak"]["xml"]]}, "FormatException"),
        ({"pinnedKeys": [json.dumps(KEYS["current"]["jwk"] | {"e": "Aw"})]}, "FormatException"),
        ({"pinnedKeys": [json.dumps(KEYS["current"]["jwk"] | {"alg": "PS256"})]}, "FormatException"),
        ({"timeoutMilliseconds": 0}, "ArgumentOutOfRangeException"),
        ({"timeoutMilliseconds": 300_001}, "ArgumentOutOfRangeException"),
    ],
)
def test_license_client_constructor_with_invalid_argument_throws(
    process: Environment, fault: Json, thrown: str
) -> None:
    assert process.do("connect", **CONNECT | fault, url="http://127.0.0.1:1")["threw"] == thrown


@pytest.mark.parametrize(
    "fault",
    [
        {"issuer": ""},
        {"publisherId": ""},
        {"serialNumber": ""},
        {"serialNumber": None},
        {"pinnedKeys": ["<RSAKeyValue/>"]},
        {"broken": "noKeys"},
        {"broken": "noStore"},
        {"broken": "store"},
    ],
    ids=str,
)
def test_get_state_or_prompt_on_error_returns_prompt_instead_of_throwing(process: Environment, fault: Json) -> None:
    told = process.do("getStateOrPrompt", **CONNECT | fault, products=["SmartSend"])
    assert (told["storedReason"], told["level"], told["refreshDue"]) == ("checkFailed", "neverChecked", False)
    assert (told["actions"], told["administratorsOnly"]) == ({"SmartSend": "prompt"}, False)
    assert "could not be looked up" in told["messages"]["SmartSend"]


def test_get_state_or_prompt_without_error_returns_stored_state(process: Environment) -> None:
    told = process.do("getStateOrPrompt", **CONNECT, products=["SmartSend"])
    assert (told["storedReason"], told["refreshDue"], told["administratorsOnly"]) == ("nothingStored", True, True)


def load_license_file(client: Environment, entry: Json, **claims: Any) -> None:
    all_claims = claims_at(int(time.time()), entry, **claims)
    token = signed({name: value for name, value in all_claims.items() if name != "nonce"}, typ="license-file+jwt")
    assert client.do("loadLicenseFile", token=token)["checkResult"]["code"] == "verified"


def test_product_license_has_dates_and_number_of_users(client: Environment) -> None:
    dates = {"startDate": "2025-11-25", "endDate": "2026-11-24", "featureDisableDate": "2026-12-24"}
    load_license_file(client, product(numberOfUsers=48, **dates))
    found = client.do("getProduct", product="SmartSend", products=["SmartSend"])
    assert found["numberOfUsers"] == 48
    # The round-trip format of .NET: without Z, so the kind is unspecified.
    assert {name: found[name] for name in dates} == {name: f"{day}T00:00:00.0000000" for name, day in dates.items()}
    assert found["endDateText"] == "2026-11-24"


@pytest.mark.parametrize(
    "value", [None, "", "2026-11-24T00:00:00Z", "24.11.2026", "2026-02-30", 20261124, 1.5, 2**31], ids=repr
)
def test_product_license_date_or_number_that_is_invalid_is_null(client: Environment, value: Any) -> None:
    number = None if value == 20261124 else value
    load_license_file(client, product(numberOfUsers=number, startDate=value, endDate=value, featureDisableDate=value))
    found = client.do("getProduct", product="SmartSend", products=["SmartSend"])
    assert not {"numberOfUsers", "startDate", "endDate", "featureDisableDate"} & found.keys()
    assert found["endDateText"] == (value if isinstance(value, str) else "")


def test_notice_start_and_end_are_utc_or_null(client: Environment) -> None:
    instants = {
        "2026-11-24T02:00:00.000000Z": "2026-11-24T02:00:00.0000000Z",
        "2026-11-24T02:00:00Z": "2026-11-24T02:00:00.0000000Z",
        "2026-11-24T02:00:00.5+13:00": "2026-11-23T13:00:00.5000000Z",
        "2026-11-24T02:00:00": None,
        "2026-11-24": None,
        "tomorrow": None,
        "": None,
    }
    load_license_file(client, product(), notices=[{"startsAt": at, "endsAt": None} for at in instants])
    notices = client.do("getProduct", product="SmartSend", products=["SmartSend"])["notices"]
    assert [notice.get("startsAt") for notice in notices] == list(instants.values())
    assert not any("endsAt" in notice for notice in notices)


def test_license_state_get_product_finds_requested_product_by_exact_name(client: Environment) -> None:
    products = ["BankFeeds", "SmartSend"]
    load_license_file(client, product())
    assert client.do("getProduct", product="SmartSend", products=products)["name"] == "SmartSend"
    assert client.do("getProduct", product="smartsend", products=products)["threw"] == "ArgumentException"
    found = client.do("tryGetProduct", product="SmartSend", products=products)
    assert (found["found"], found["name"]) == (True, "SmartSend")
    missing = client.do("tryGetProduct", product="smartsend", products=products)
    assert (missing["found"], missing.get("name")) == (False, None)


def test_license_client_validate_without_enabled_users_count_sends_none(
    client: Environment, server: ScriptedServer
) -> None:
    client.validate("SmartSend", enabledUsersCount=0)
    client.validate("SmartSend")
    sent = [request.json()["products"][0].get("enabledUsersCount") for request in server.asked(VALIDATE)]
    assert sent == [0, None]


def test_product_usage_with_negative_enabled_users_count_throws(client: Environment, server: ScriptedServer) -> None:
    assert client.validate("SmartSend", enabledUsersCount=-1)["threw"] == "ArgumentOutOfRangeException"
    assert not server.requests


@pytest.mark.parametrize("products", [[], [""], ["x" * 129], ["x"] * 201])
def test_license_client_validate_with_invalid_product_list_throws(client: Environment, products: list[str]) -> None:
    assert client.validate(*products)["threw"] == "ArgumentException"


def test_license_client_uses_tls_1_2_and_trusted_certificates_only(dotnet_runner: Path, tmp_path: Path) -> None:
    server_context, _ = create_tls_contexts(tmp_path, "localhost")
    pem = (tmp_path / "localhost.pem").read_bytes().partition(b"-----BEGIN PRIVATE")[0]
    trust(tmp_path / "trusting", pem)
    reasons = {}
    with scripted_server(replies, tls=server_context) as server:
        for home in ("trusting", "distrusting"):
            with environment(
                dotnet_runner, tmp_path / home, **CONNECT, url=f"https://localhost:{server.port}"
            ) as client:
                reasons[home] = client.validate("SmartSend")["checkResult"]["code"]
        assert reasons == {"trusting": "verified", "distrusting": "unreachable"}
        assert set(server.tls_versions) == {"TLSv1.2"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_license_client_does_not_connect_to_tls_1_1_server(dotnet_runner: Path, tmp_path: Path) -> None:
    old, _ = create_tls_contexts(tmp_path, "localhost")
    trust(tmp_path, (tmp_path / "localhost.pem").read_bytes().partition(b"-----BEGIN PRIVATE")[0])
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        scripted_server(replies, tls=old) as server,
        environment(dotnet_runner, tmp_path, **CONNECT, url=f"https://localhost:{server.port}") as client,
    ):
        assert client.validate("SmartSend")["checkResult"]["code"] == "unreachable"
        assert server.requests == []
