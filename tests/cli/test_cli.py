"""`python -m licensing` against the real host: what it shows, and what it ends with."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devhost.azurite import Emulator
from devhost.issuer import issuing
from licensing.catalogue.records import Publisher
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.cli.running import with_services
from licensing.cli.seed import DEMO_PRODUCTS, DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.services import Services
from licensing.signing.jws import sign
from licensing.signing.keys import KeySet
from tests.cli.conftest import TIMEOUT_OPTIONS, AlteringProxy, AlterResponse, Command, CommandResult, ProxyResponse
from tests.support.hosting import REPOSITORY, Served, create_licensed, environ_with, settings_for, verified
from tests.support.records import a_product, a_publisher, an_environment
from tests.support.waiting import PROGRAM_TIMEOUT_SECONDS, WAIT_TIMEOUT_SECONDS
from tests.vectors import make

COMMANDS = [[], ["validate"], ["diagnose"], ["seed"], ["keys"]]
VALIDATE_PATH = "/api/v1/licenses/validate"
HTML = b"<!DOCTYPE html><html><body>Access denied by the firewall</body></html>"


def validate(command: Command, url: str, *arguments: object) -> CommandResult:
    return command("validate", "--url", url, *TIMEOUT_OPTIONS, *arguments)


def could_not_check(ended: CommandResult) -> str:
    """Why not, in one sentence or two."""
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("Could not check: ")
    assert ended.err.count("\n") == 1
    return ended.err


# --- validate


@pytest.mark.parametrize(
    ("products", "code"),
    [
        (["SmartSend"], 0),
        (["SmartSend", "CoreExtensions", "FinanceUtilities", "ItemCreation"], 0),
        (["SmartSend", "ForexRates"], 1),
        (["LeaseBook"], 1),
        (["BankFeeds", "DocuFlow"], 2),
        (["PriceLabels"], 1),
        (["DocuFlow", "ForexRates", "SmartSend"], 2),
        ([], 2),
    ],
    ids=[
        "allowed",
        "all allowed",
        "one prompts",
        "unknown",
        "one disables",
        "not enabled",
        "the worst counts",
        "the demo",
    ],
)
def test_validate_returns_exit_code_of_worst_product(
    command: Command, service: Served, products: list[str], code: int
) -> None:
    options = [word for name in products for word in ("--product", name)]
    assert validate(command, service.url, *options).code == code


def test_validate_prints_one_line_per_product(command: Command, service: Served) -> None:
    shown = validate(command, service.url)
    for name in DEMO_PRODUCTS:
        assert name in shown.out
    for word in (DEMO_SERIAL_NUMBER, "featureDisabled", "expiresSoon", "there is no license of it.", "valid until"):
        assert word in shown.out
    assert shown.err == ""


def test_validate_with_json_option_prints_claims_and_token(command: Command, service: Served, key_set: KeySet) -> None:
    shown = json.loads(validate(command, service.url, "--json", "--product", "SmartSend").out)
    assert set(shown) == {"claims", "token"}
    jwk_set = {"keys": [key.public_jwk for key in key_set.keys]}
    assert verified(shown["token"], jwk_set, audience=DEMO_PUBLISHER_ID) == shown["claims"]
    assert shown["claims"]["products"][0]["status"] == "licensed"


def test_validate_accepts_publisher_id_in_upper_case(command: Command, service: Served) -> None:
    assert validate(command, service.url, "--publisher", DEMO_PUBLISHER_ID.upper(), "--product", "SmartSend").code == 0


@pytest.mark.parametrize("name", ["[/bold]", "[red]Red[/red]", "a [link=https://example.com]b", ":key: :key:", "\\[x]"])
def test_validate_prints_markup_in_names_literally(command: Command, service: Served, name: str) -> None:
    shown = validate(command, service.url, "--product", name, "--serial", f"[/{name}]")
    assert shown.code == 1
    assert name in shown.out
    assert f"Environment [/{name}]" in shown.out


# --- validate: whom it believes


def write_keys(path: Path, kind: str, key_set: KeySet) -> Path:
    written: dict[str, bytes] = {
        "a JWK Set": json.dumps({"keys": [key.public_jwk for key in key_set.keys]}).encode(),
        "a PEM": key_set.current.public_pem.encode(),
        "the XML of .NET": key_set.current.public_xml.encode(),
        "keys of others": json.dumps({"keys": [make.stranger().public_jwk]}).encode(),
        "the next key only": json.dumps({"keys": [key.public_jwk for key in key_set.keys[1:]]}).encode(),
        "no key at all": b'{"keys": []}',
        "an elliptic curve": ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "another JSON": b'{"keys": 1}',
        "keys that are none": b'{"keys": [1, {}, {"n": 1, "e": 1}]}',
        "HTML": HTML,
        "a broken PEM": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "bytes": b"\xff\xfe\x00\x80",
        "nothing": b"",
    }
    path.write_bytes(written[kind])
    return path


@pytest.mark.parametrize("kind", ["a JWK Set", "a PEM", "the XML of .NET"])
def test_validate_with_pinned_key_accepts_reply(
    command: Command, service: Served, key_set: KeySet, tmp_path: Path, kind: str
) -> None:
    keys = write_keys(tmp_path / "keys", kind, key_set)
    assert validate(command, service.url, "--keys", keys, "--product", "SmartSend").code == 0


@pytest.mark.parametrize(
    "kind",
    [
        "keys of others",
        "the next key only",
        "no key at all",
        "an elliptic curve",
        "another JSON",
        "keys that are none",
        "HTML",
        "a broken PEM",
        "bytes",
        "nothing",
    ],
)
def test_validate_with_wrong_or_unreadable_pinned_keys_rejects_reply(
    command: Command, service: Served, key_set: KeySet, tmp_path: Path, kind: str
) -> None:
    keys = write_keys(tmp_path / "keys", kind, key_set)
    could_not_check(validate(command, service.url, "--keys", keys, "--product", "SmartSend"))


@pytest.mark.parametrize("missing", ["nothing/here.json", "."])
def test_validate_with_missing_key_file_reports_path(
    command: Command, service: Served, tmp_path: Path, missing: str
) -> None:
    told = could_not_check(validate(command, service.url, "--keys", tmp_path / missing))
    assert str(tmp_path) in told


def alter_reply(change: Any) -> AlterResponse:
    """Change the reply to a validation, and nothing else."""

    def alter(path: str, answered: ProxyResponse) -> ProxyResponse:
        changed: ProxyResponse = change(answered) if path == VALIDATE_PATH else answered
        return changed

    return alter


def encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def with_payload(answered: ProxyResponse, **changes: Any) -> ProxyResponse:
    header, payload, signature = answered.body.decode().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return answered._replace(body=f"{header}.{encoded(claims | changes)}.{signature}".encode())


def unsigned(answered: ProxyResponse) -> ProxyResponse:
    _, payload, _ = answered.body.decode().split(".")
    return answered._replace(body=f"{encoded({'alg': 'none'})}.{payload}.".encode())


def signed_by_unknown_key(answered: ProxyResponse) -> ProxyResponse:
    payload = answered.body.decode().split(".")[1]
    claims = base64.urlsafe_b64decode(payload + "==")
    return answered._replace(body=sign(make.stranger(), claims, "license-reply+jwt"))


def problem(body: bytes, content_type: str = "application/problem+json", status: int = 503) -> AlterResponse:
    return alter_reply(lambda _: ProxyResponse(status, {"content-type": content_type}, body))


# What the reply is made, and a piece of what is told.
INVALID_REPLIES: dict[str, tuple[AlterResponse, str]] = {
    "its payload is changed": (alter_reply(lambda it: with_payload(it, products=[])), "not to be believed"),
    "its signature is cut off": (
        alter_reply(lambda it: it._replace(body=it.body.rpartition(b".")[0] + b".")),
        "not to be believed",
    ),
    "it is not signed at all": (alter_reply(unsigned), "not to be believed"),
    "a stranger has signed it": (alter_reply(signed_by_unknown_key), "not trusted"),
    "it is a page of HTML": (problem(HTML, "text/html", 200), "not to be believed"),
    "it is a page of HTML under the name of JOSE": (problem(HTML, "application/jose", 200), "not to be believed"),
    "it is a page of HTML that forbids": (problem(HTML, "text/html", 403), "answered 403"),
    "it is empty": (problem(b"", "application/jose", 200), "not to be believed"),
    "it is no text": (problem(b"\xff\xfe.\x00.\x80", "application/jose", 200), "not to be believed"),
    "it leads elsewhere": (
        alter_reply(lambda _: ProxyResponse(302, {"location": "https://login.example.com/"}, b"")),
        "answered 302",
    ),
    "it is a problem without words": (problem(b"{}"), "answered 503"),
    "it is a problem that is a list": (problem(b"[]"), "answered 503"),
    "it is a problem that is no JSON": (problem(HTML), "answered 503"),
    "it is a problem with strange fields": (problem(b'{"detail": "Why.", "errors": [1]}'), "answered 503"),
    "it is a problem": (problem(b'{"detail": "Why so.", "errors": []}'), "Why so."),
    "it breaks off": (
        alter_reply(lambda it: it._replace(headers={"content-encoding": "gzip"}, body=b"\x1f\x8b no gzip")),
        "cannot be reached",
    ),
    "the keys are a page of HTML": (
        lambda path, it: it if path == VALIDATE_PATH else ProxyResponse(200, {"content-type": "text/html"}, HTML),
        "The trusted keys are none",
    ),
    "the keys are forbidden": (
        lambda path, it: it if path == VALIDATE_PATH else ProxyResponse(403, {"content-type": "text/html"}, HTML),
        "answered 403",
    ),
}


@pytest.mark.parametrize("sentence", INVALID_REPLIES)
def test_validate_rejects_invalid_reply(command: Command, between: AlteringProxy, sentence: str) -> None:
    alter, told = INVALID_REPLIES[sentence]
    assert told in could_not_check(validate(command, between(alter), "--product", "SmartSend"))


def test_validate_through_unaltered_proxy_accepts_reply(command: Command, between: AlteringProxy) -> None:
    """So that the tests above say something."""
    assert validate(command, between(lambda _, it: it), "--product", "SmartSend").code == 0


@pytest.mark.parametrize(
    "changed", [{"action": "erase"}, {"status": "onTrial"}, {"status": "revoked", "action": "disable"}]
)
def test_validate_with_unknown_action_or_status_returns_prompt_exit_code(
    command: Command, between: AlteringProxy, key_set: KeySet, changed: dict[str, str]
) -> None:
    """As in docs/protocol.md: a later service may say what this client does not know."""

    def say(answered: ProxyResponse) -> ProxyResponse:
        claims = json.loads(make.decoded(answered.body.decode().split(".")[1]))
        claims["products"][0] |= changed
        return answered._replace(body=sign(key_set.current, json.dumps(claims).encode(), "license-reply+jwt"))

    ended = validate(command, between(alter_reply(say)), "--product", "SmartSend")
    assert (ended.code, ended.err) == (1, "")
    assert all(word in ended.out for word in changed.values())


def test_validate_rejects_replayed_reply(command: Command, between: AlteringProxy) -> None:
    kept: list[ProxyResponse] = []

    def replay(answered: ProxyResponse) -> ProxyResponse:
        kept.append(answered)
        return kept[0]

    url = between(alter_reply(replay))
    assert validate(command, url, "--product", "SmartSend").code == 0
    assert "its nonce is not ours" in could_not_check(validate(command, url, "--product", "SmartSend"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--publisher", str(uuid4())], "answered 404"),
        (["--publisher", "no-guid"], "publisherId: "),
        (["--serial", "s" * 129], "serialNumber: "),
        (["--product", ""], "products[0].productName: "),
    ],
    ids=["a publisher that nobody knows", "a publisher that is no GUID", "a serial number too long", "a blank product"],
)
def test_validate_reports_error_of_service(command: Command, service: Served, arguments: list[str], told: str) -> None:
    assert told in could_not_check(validate(command, service.url, *arguments))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of something that takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_validate_and_diagnose_stop_waiting_after_timeout(command: Command, silent_server: str) -> None:
    assert "did not answer within 0.3 s" in could_not_check(validate(command, silent_server, "--timeout", 0.3))
    _, findings = run_diagnose(command, "--url", silent_server, "--timeout", 1)
    assert findings["service"]["found"] == f"{silent_server} cannot be reached (ReadTimeout)"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "ftp://127.0.0.1", "nowhere", ""])
def test_validate_with_unreachable_url_reports_error(command: Command, url: str) -> None:
    assert "cannot be reached" in could_not_check(validate(command, url))


# --- diagnose


def run_diagnose(command: Command, *arguments: object, **settings: str | None) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the findings by their subjects, where a slow machine is not reported as slow."""
    ended = command(
        "diagnose", "--json", *TIMEOUT_OPTIONS, "--slow", 1000 * WAIT_TIMEOUT_SECONDS, *arguments, **settings
    )
    findings = json.loads(ended.out)
    assert len({finding["subject"] for finding in findings}) == len(findings)
    assert (ended.code == 1) is any(finding["state"] == "broken" for finding in findings)
    for finding in findings:
        assert finding["state"] == "ok" or finding["fix"] or finding["subject"].startswith("product ")
    return ended.code, {finding["subject"]: finding for finding in findings}


def test_diagnose_healthy_service_reports_ok(command: Command, service: Served) -> None:
    publisher_id = str(uuid4())
    holding = with_services(service.settings, lambda services: create_licensed(services, publisher_id))
    code, findings = run_diagnose(
        command, "--url", service.url, "--publisher", publisher_id.upper(), "--serial", holding.serial_number
    )
    assert code == 0
    assert {subject: finding["state"] for subject, finding in findings.items()} == {
        "settings": "ok",
        "signing keys": "ok",
        "sign-in": "warn",
        "telemetry": "warn",
        "storage": "ok",
        "service": "ok",
        "clock": "ok",
        "publisher": "ok",
        "environment": "ok",
        "product SmartSend": "ok",
        "FAQ: only a few users": "ok",
        "FAQ: many or all users": "ok",
        "FAQ: some of the products": "ok",
        "FAQ: all products": "ok",
    }


def test_diagnose_without_serial_number_stops_after_publisher(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url)
    assert (code, list(findings)[-1]) == (0, "publisher")


def test_diagnose_with_lapsed_licenses_reports_cause_per_product(command: Command, service: Served) -> None:
    """Their licenses have lapsed: each is named with the reason and the date."""
    code, findings = run_diagnose(command, "--url", service.url, "--serial", DEMO_SERIAL_NUMBER)
    assert code == 1
    assert findings["environment"]["state"] == "ok"
    states = {
        subject.removeprefix("product "): it["state"] for subject, it in findings.items() if "product " in subject
    }
    assert states == {
        "SmartSend": "ok",
        "CoreExtensions": "ok",
        "FinanceUtilities": "warn",
        "ItemCreation": "warn",
        "ForexRates": "broken",
        "EdiConnect": "broken",
        "DocuFlow": "broken",
        "PriceLabels": "broken",
        "BankFeeds": "info",
        "LeaseBook": "info",
    }
    assert findings["product BankFeeds"]["found"] == "notLicensed, prompt: the customer has not bought it."
    assert findings["product LeaseBook"]["found"] == "unknownProduct, prompt: the customer has not bought it."
    assert "expired on 20" in findings["product ForexRates"]["found"]
    some = findings["FAQ: some of the products"]
    assert (some["state"], "ForexRates" in some["found"], "SmartSend" in some["found"]) == ("broken", True, False)
    assert "BankFeeds" not in some["found"], "nobody has to fix what was not bought"
    assert findings["FAQ: all products"]["state"] == "ok"
    assert findings["FAQ: only a few users"]["state"] == "ok"
    assert "Validate license" in findings["FAQ: many or all users"]["fix"]


def test_diagnose_unregistered_environment_explains_prompts_for_all_products(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url, "--serial", "UNHEARD-OF")
    assert (code, findings["environment"]["found"]) == (1, "UNHEARD-OF is not registered")
    assert findings["FAQ: all products"]["found"] == "UNHEARD-OF is not registered"


def test_diagnose_inactive_environment_explains_prompts_for_all_products(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url, "--serial", "C0FFEE-0043")
    found = "C0FFEE-0043 of the customer Northwind Traders, tenant northwind.com (switched off)"
    assert (code, findings["environment"]["found"]) == (1, found)
    assert findings["FAQ: all products"]["fix"] == "Set it to active."


def test_diagnose_product_not_bought_reports_info_only(command: Command, service: Served) -> None:
    publisher_id = str(uuid4())

    async def prepare(services: Services) -> str:
        holding = await create_licensed(services, publisher_id)
        for product in (a_product("DocuFlow"), a_product("LeaseBook", active=False)):
            await services.catalogue.create(publisher_id, product, actor="test")
        seen = await services.environment_cache.get(publisher_id, holding.serial_number)
        assert seen.environment
        second = an_environment(
            seen.environment.customer_id, holding.serial_number, tenant="second.example", active=False
        )
        await services.catalogue.create(publisher_id, second, actor="test")
        return holding.serial_number

    serial_number = with_services(service.settings, prepare)
    code, findings = run_diagnose(command, "--url", service.url, "--publisher", publisher_id, "--serial", serial_number)
    assert code == 0
    assert {name: findings[f"product {name}"]["state"] for name in ("SmartSend", "DocuFlow", "LeaseBook")} == {
        "SmartSend": "ok",
        "DocuFlow": "info",
        "LeaseBook": "info",
    }
    some = findings["FAQ: some of the products"]
    assert (some["state"], some["found"]) == ("info", "not bought: DocuFlow, LeaseBook; the others are licensed")
    environment = findings["environment"]
    assert (environment["state"], "second.example (switched off)" in environment["found"]) == ("ok", True)


@pytest.mark.parametrize(
    ("of_publisher", "of_service", "state"),
    [("", None, "warn"), ("help@contoso.example", None, None), ("", "help@example.com", None)],
    ids=["neither has one", "publisher has one", "service has one"],
)
def test_diagnose_warns_about_support_email_only_if_none_is_set(
    command: Command, service: Served, of_publisher: str, of_service: str | None, state: str | None
) -> None:
    publisher = a_publisher(support_email=of_publisher)
    with_services(service.settings, lambda services: services.catalogue.create_publisher(publisher, actor="test"))
    more: dict[str, str | None] = {"LICENSING_SUPPORT_EMAIL": of_service}
    code, findings = run_diagnose(command, "--url", service.url, "--publisher", publisher.id, **more)
    assert (code, findings.get("its support email", {}).get("state")) == (0, state)


def test_diagnose_when_service_is_down_explains_prompts_for_all_products(command: Command) -> None:
    code, findings = run_diagnose(command, "--url", "http://127.0.0.1:1", "--serial", DEMO_SERIAL_NUMBER)
    assert (code, findings["service"]["state"], findings["publisher"]["state"]) == (1, "broken", "ok")
    assert findings["FAQ: all products"]["found"] == findings["service"]["found"]


@pytest.mark.parametrize("status", [200, 403, 503])
def test_diagnose_when_firewall_responds_reports_service_broken(
    command: Command, between: AlteringProxy, status: int
) -> None:
    code, findings = run_diagnose(
        command, "--url", between(lambda *_: ProxyResponse(status, {"content-type": "text/html"}, HTML))
    )
    assert (code, findings["service"]["state"]) == (1, "broken")


def test_diagnose_with_slow_network_explains_prompts_for_few_users(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url, "--serial", DEMO_SERIAL_NUMBER, "--slow", 0)
    assert (code, findings["storage"]["state"], findings["service"]["state"]) == (1, "warn", "warn")
    assert findings["FAQ: only a few users"]["state"] == "warn"
    assert "latency" in findings["FAQ: only a few users"]["fix"]


def test_diagnose_with_wrong_clock_reports_broken(command: Command, between: AlteringProxy) -> None:
    def late(_: str, answered: ProxyResponse) -> ProxyResponse:
        return answered._replace(headers=answered.headers | {"date": "Tue, 24 Nov 2020 04:20:48 GMT"})

    code, findings = run_diagnose(command, "--url", between(late))
    assert (code, findings["clock"]["state"]) == (1, "broken")


def test_diagnose_unknown_publisher_reports_broken(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url, "--publisher", str(uuid4()))
    assert (code, findings["publisher"]["state"]) == (1, "broken")
    assert "seed" in findings["publisher"]["fix"]


UNREACHABLE_STORAGE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;TableEndpoint=http://127.0.0.1:1/a;"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"LICENSING_STORAGE": None}, "LICENSING_STORAGE is not set"),
        ({"LICENSING_STORAGE": "planted"}, "LICENSING_STORAGE is neither"),
        ({"LICENSING_STORAGE": UNREACHABLE_STORAGE}, "no answer: "),
        ({"LICENSING_STORAGE_TABLE": "nothere"}, "no answer: ResourceNotFoundError"),
    ],
    ids=["it is not set", "it cannot be read", "nobody listens", "there is no table"],
)
def test_diagnose_with_broken_storage_skips_publisher_lookup(
    command: Command, service: Served, settings: dict[str, str | None], found: str
) -> None:
    code, findings = run_diagnose(command, "--url", service.url, "--serial", DEMO_SERIAL_NUMBER, **settings)
    assert (code, findings["storage"]["state"]) == (1, "broken")
    assert findings["storage"]["found"].startswith(found)
    assert "publisher" not in findings
    assert findings["FAQ: all products"]["found"] == findings["storage"]["found"]
    assert findings["FAQ: some of the products"]["found"] == "their licenses could not be looked up"


def test_diagnose_without_signing_keys_reports_broken(command: Command, service: Served) -> None:
    code, findings = run_diagnose(command, "--url", service.url, LICENSING_SIGNING_KEYS=None)
    assert (code, findings["signing keys"]["state"]) == (1, "broken")


def test_diagnose_without_next_key_warns(command: Command, service: Served) -> None:
    current, _, retired = make.key_set().keys
    keys = KeySet((current, retired)).dump()
    code, findings = run_diagnose(command, "--url", service.url, LICENSING_SIGNING_KEYS=keys)
    assert (code, findings["signing keys"]["state"]) == (0, "warn")
    assert "keys create" in findings["signing keys"]["fix"]


def test_diagnose_warns_about_local_only_settings(command: Command, service: Served) -> None:
    more: dict[str, str | None] = {"LICENSING_PUBLIC_URL": service.url, "LICENSING_SUPPORT_EMAIL": None}
    code, findings = run_diagnose(command, **more)
    assert code == 0
    assert (findings["public address"]["state"], findings["support email"]["state"]) == ("warn", "warn")
    assert findings["service"]["found"].startswith(service.url)


def test_diagnose_reports_whether_sign_in_works(command: Command, service: Served, tmp_path: Path) -> None:
    with issuing(tmp_path) as issuer:
        more: dict[str, str | None] = {
            "LICENSING_DIRECTORY_ID": DEMO_DIRECTORY_ID,
            "LICENSING_API_CLIENT_ID": DEMO_API_CLIENT_ID,
            "LICENSING_SIGN_IN_AUTHORITY": issuer.url,
        }
        code, findings = run_diagnose(command, "--url", service.url, **more)
        assert (code, findings["sign-in"]["state"]) == (0, "ok")
    code, findings = run_diagnose(command, "--url", service.url, **more)
    assert (code, findings["sign-in"]["state"]) == (1, "broken")
    assert "LICENSING_SIGN_IN_AUTHORITY" in findings["sign-in"]["fix"]


def test_diagnose_prints_table_with_markup_literally(command: Command, service: Served) -> None:
    ended = command("diagnose", "--url", service.url, "--serial", "[/red] :key:", *TIMEOUT_OPTIONS)
    assert ended.code == 1
    assert "[/red] :key: is not registered" in ended.out


# --- seed, errors, help


def test_seed_twice_seeds_once(command: Command) -> None:
    settings = {"LICENSING_STORAGE_TABLE": "seededtwice"}
    first, second = command("seed", **settings), command("seed", **settings)
    assert (first.code, second.code) == (0, 0)
    assert first.out == f"The demo publisher {DEMO_PUBLISHER_ID} is there now.\n"
    assert second.out == "The store is not empty: left as it is.\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (["seed"], {"LICENSING_STORAGE": None}, "The service is not set up: LICENSING_STORAGE is not set"),
        (["seed"], {"LICENSING_STORAGE": "planted"}, "The service is not set up: LICENSING_STORAGE is neither"),
        (["seed"], {"LICENSING_STORAGE": UNREACHABLE_STORAGE}, "The service cannot reach its records right now: "),
        (["seed"], {"LICENSING_REPLY_DAYS": "planted"}, "The service is not set up: LICENSING_REPLY_DAYS cannot"),
        (["diagnose"], {"LICENSING_PUBLIC_URL": "planted"}, "The service is not set up: LICENSING_PUBLIC_URL cannot"),
        (["keys", "list"], {"LICENSING_SIGNING_KEYS": "planted"}, "The service is not set up: The signing keys"),
    ],
)
def test_command_with_configuration_or_storage_error_prints_one_line(
    command: Command, arguments: list[str], settings: dict[str, str | None], sentence: str
) -> None:
    ended = command(*arguments, **settings)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(sentence)
    assert ended.err.count("\n") == 1
    assert "planted" not in ended.err


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "all")
def test_command_help_prints_usage(command: Command, words: list[str]) -> None:
    ended = command(*words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Usage: python -m licensing" in ended.out
    assert len(ended.out) > 300


def test_unknown_command_exits_with_code_3(command: Command) -> None:
    assert command("valdiate").code == 3


@pytest.mark.parametrize("slip", [["--bogus"], ["--timeout", "soon"], ["--timeout", "0"], ["too", "much"]])
def test_validate_with_usage_error_exits_with_code_3(command: Command, slip: list[str]) -> None:
    assert command("validate", *slip).code == 3


def run_in_subprocess(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "licensing", *arguments],
        cwd=REPOSITORY,
        env=environ_with(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=PROGRAM_TIMEOUT_SECONDS,
    )


def test_seed_and_validate_run_as_subprocess(service: Served, tables: Emulator, key_set: KeySet) -> None:
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="program")
    seeded = run_in_subprocess(settings, "seed")
    assert (seeded.returncode, seeded.stderr) == (0, "")
    validated = run_in_subprocess({}, "validate", "--url", service.url, "--product", "SmartSend", *TIMEOUT_OPTIONS)
    assert (validated.returncode, validated.stderr) == (0, "")
    not_set = run_in_subprocess({}, "seed")
    assert (not_set.returncode, not_set.stdout) == (3, "")
    assert not_set.stderr.startswith("The service is not set up: LICENSING_STORAGE is not set")


@pytest.mark.parametrize("name", ["APPLICATIONINSIGHTS_CONNECTION_STRING", "APPINSIGHTS_INSTRUMENTATIONKEY"])
def test_diagnose_with_application_insights_setting_reports_telemetry_broken(
    command: Command, service: Served, name: str
) -> None:
    code, findings = run_diagnose(command, "--url", service.url, **{name: "InstrumentationKey=planted"})
    assert (code, findings["telemetry"]["state"]) == (1, "broken")
    assert name in findings["telemetry"]["fix"]


def test_diagnose_with_invalid_telemetry_setting_reports_broken_and_continues(
    command: Command, service: Served
) -> None:
    code, findings = run_diagnose(command, "--url", service.url, LICENSING_TELEMETRY="planted")
    assert (code, findings["telemetry"]["state"], findings["settings"]["state"]) == (1, "broken", "ok")
    assert findings["telemetry"]["found"].startswith("LICENSING_TELEMETRY cannot be used: ")
    assert "planted" not in json.dumps(findings)


def test_diagnose_checks_telemetry_of_publisher(command: Command, service: Served) -> None:
    publisher_id, name = str(uuid4()), "LICENSING_TELEMETRY_OF_CONTOSO"

    async def make(services: Services) -> None:
        await create_licensed(services, publisher_id)
        await services.catalogue.update(
            publisher_id, Publisher, publisher_id, lambda it: replace(it, telemetry_setting=name), actor="test"
        )

    with_services(service.settings, make)
    asked = ("--url", service.url, "--publisher", publisher_id)
    code, findings = run_diagnose(command, *asked)
    assert (code, findings["its telemetry"]["state"]) == (1, "broken")
    where = "https://westeurope-5.in.applicationinsights.azure.com"
    code, findings = run_diagnose(
        command, *asked, **{name: f"InstrumentationKey={publisher_id};IngestionEndpoint={where}/"}
    )
    assert (code, findings["its telemetry"]["found"]) == (0, f"goes to {where}")
