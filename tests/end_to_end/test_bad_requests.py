"""Requests that cannot be right: each gets its problem document, and none harms those after it."""

import gzip
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import pytest

from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from tests.support.hosting import VALIDATE, Served, question, replied

MARKER = "planted-c0de"
GOOD = question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend")
GOOD_TEXT = json.dumps(GOOD)
MALFORMED = (400, "malformedRequest")
JSON = "application/json"
# Of our own code, and of what it stands on.
INTERNAL_WORDS = (
    "Traceback",
    "licensing",
    "pydantic",
    "Error:",
    "Exception",
    ".py",
    "azure",
    "ValidationRequest",
    "line ",
)


@dataclass(frozen=True)
class Bad:
    """A request, the status and code of its problem document, and the fields that it names."""

    body: bytes | str
    answer: tuple[int, str] = MALFORMED
    fields: tuple[str, ...] = ()
    content_type: str | None = JSON
    headers: tuple[tuple[str, str], ...] = ()


def text(old: str, new: str, **more: Any) -> Bad:
    """The good request with a piece of its text replaced."""
    assert GOOD_TEXT.count(old) == 1
    return Bad(GOOD_TEXT.replace(old, new), **more)


def field(name: str, value: Any, *fields: str) -> Bad:
    """The good request with a member of its own or of its product replaced; `fields` if not that one is at fault."""
    path, _, own = name.rpartition("[0].")
    body = GOOD | {name: value} if not path else GOOD | {"products": [GOOD["products"][0] | {own: value}]}
    return Bad(json.dumps(body), fields=fields or (name,))


def without(name: str) -> Bad:
    return Bad(json.dumps({key: value for key, value in GOOD.items() if key != name}), fields=(name,))


def unsupported(content_type: str | None) -> Bad:
    return Bad(GOOD_TEXT, (415, "unsupportedMediaType"), content_type=content_type)


BAD: dict[str, Bad] = {
    # no JSON
    "an empty body": Bad(b""),
    "white space": Bad(b" \r\n\t "),
    "a null byte": Bad(b"\0"),
    "null bytes after the JSON": Bad(GOOD_TEXT.encode() + b"\0\0"),
    "a null byte in a name": text('"nonce"', '"non\0ce"'),
    "plain words": Bad(f"publisherId={MARKER}"),
    "a page of HTML": Bad(f"<html><body>{MARKER}</body></html>"),
    "XML": Bad(f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>{MARKER}&e;</a>'),
    "YAML": Bad(f"publisherId: {MARKER}\nproducts: []\n"),
    "JSON that ends too early": Bad(GOOD_TEXT[:-1]),
    "JSON that ends within a text": Bad(f'{{"publisherId": "{MARKER}'),
    "JSON twice": Bad(GOOD_TEXT * 2),
    "something after the JSON": Bad(f"{GOOD_TEXT} {MARKER}"),
    "a comma too many": text("[{", "[,{"),
    "a comma at the end": text("}]}", "}],}"),
    "single quotes": Bad(GOOD_TEXT.replace('"', "'")),
    "names without quotes": Bad(f"{{publisherId: '{MARKER}'}}"),
    "a comment": Bad(f"/* {MARKER} */ {GOOD_TEXT}"),
    "a line feed in a text": text("C0FFEE", f"{MARKER}\n"),
    "a control character in a text": text("C0FFEE", f"{MARKER}\x01"),
    "an escape that does not exist": text("C0FFEE", rf"{MARKER}\x41"),
    "a Unicode escape cut short": text("C0FFEE", rf"{MARKER}\u12"),
    "a number that begins with a zero": text('"nonce"', '"number": 0123, "nonce"'),
    "a number in hexadecimal": text('"nonce"', '"number": 0xff, "nonce"'),
    "a number of 5,000 digits": text('"nonce"', f'"number": {"9" * 5000}, "nonce"'),
    "a number of 200,000 digits": text('"nonce"', f'"number": {"9" * 200_000}, "nonce"'),
    "NaN": text('"nonce"', '"number": NaN, "nonce"'),
    "Infinity": text('"nonce"', '"number": Infinity, "nonce"'),
    "-Infinity": text('"nonce"', '"number": -Infinity, "nonce"'),
    "True as Python writes it": text('"nonce"', '"isProductionEnvironment": True, "nonce"'),
    "undefined": text('"nonce"', '"number": undefined, "nonce"'),
    # encodings
    "UTF-16": Bad(GOOD_TEXT.encode("utf-16")),
    "UTF-16 without a mark": Bad(GOOD_TEXT.encode("utf-16-le")),
    "UTF-32": Bad(GOOD_TEXT.encode("utf-32")),
    "Latin-1": Bad(GOOD_TEXT.replace("C0FFEE", "CÖFFEE").encode("latin-1")),
    "a byte that is not UTF-8": Bad(GOOD_TEXT.encode().replace(b"C0FFEE", b"C0\xffFEE")),
    "UTF-8 longer than it may be": Bad(GOOD_TEXT.encode().replace(b"C0FFEE", b"C0\xc0\xafFEE")),
    "half a surrogate pair in UTF-8": Bad(GOOD_TEXT.encode().replace(b"C0FFEE", b"C0\xed\xa0\x80FEE")),
    "UTF-8 cut within a character": Bad(GOOD_TEXT.encode() + b"\xf0\x9f"),
    "compressed JSON": Bad(gzip.compress(GOOD_TEXT.encode()), headers=(("content-encoding", "gzip"),)),
    # members twice
    "a member twice": text('"nonce"', f'"serialNumber": "{MARKER}", "nonce"'),
    "a member twice and alike": text('"nonce"', f'"serialNumber": "{DEMO_SERIAL_NUMBER}", "nonce"'),
    "a member twice by an escape": text('"nonce"', rf'"serial\u004eumber": "{MARKER}", "nonce"'),
    "a member of a product twice": text('{"productName"', f'{{"productName": "{MARKER}", "productName"'),
    "a member twice where nobody looks": text('"nonce"', f'"more": [{{"{MARKER}": 1, "{MARKER}": 2}}], "nonce"'),
    # too deep, too large
    "lists nested 100,000 deep": Bad(b"[" * 100_000),
    "lists nested 100,000 deep, and closed": Bad(b"[" * 100_000 + b"]" * 100_000),
    "objects nested 20,000 deep": Bad(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "depth where nobody looks": text('"nonce"', f'"more": {"[" * 100_000}{"]" * 100_000}, "nonce"'),
    "one byte more than 256 KiB": Bad(GOOD_TEXT + " " * (256 * 1024 + 1 - len(GOOD_TEXT)), (413, "bodyTooLarge")),
    "a megabyte": Bad(MARKER * 90_000, (413, "bodyTooLarge")),
    "a megabyte of another type": Bad(MARKER * 90_000, (413, "bodyTooLarge"), content_type="text/plain"),
    # media types
    "no content type": unsupported(None),
    "an empty content type": unsupported(""),
    "plain text": unsupported("text/plain"),
    "a form": unsupported("application/x-www-form-urlencoded"),
    "a form with files": unsupported(f"multipart/form-data; boundary={MARKER}"),
    "JSON of another kind": unsupported("application/merge-patch+json"),
    "JSON by its old name": unsupported("text/json"),
    "a content type that begins like JSON": unsupported("application/json-seq"),
    "two content types": unsupported("text/plain, application/json"),
    "a content type that is no such thing": unsupported(MARKER),
    # not an object
    "null": Bad(b"null", fields=("",)),
    "a number": Bad(b"1", fields=("",)),
    "a number beyond all measure": Bad(b"1e999", fields=("",)),
    "a text": Bad(json.dumps(MARKER), fields=("",)),
    "a list": Bad(b"[]", fields=("",)),
    "a list of requests": Bad(json.dumps([GOOD]), fields=("",)),
    "an empty object": Bad(b"{}", fields=("publisherId", "serialNumber", "nonce", "products")),
    # members missing, or not what they should be
    "no publisherId": without("publisherId"),
    "no serialNumber": without("serialNumber"),
    "no nonce": without("nonce"),
    "no products": without("products"),
    "names in another spelling": Bad(
        json.dumps({name.lower(): value for name, value in GOOD.items()}), fields=("publisherId", "serialNumber")
    ),
    "a publisherId that is no GUID": field("publisherId", MARKER),
    "a publisherId in braces": field("publisherId", f"{{{DEMO_PUBLISHER_ID}}}"),
    "a publisherId with a line feed": field("publisherId", f"{DEMO_PUBLISHER_ID}\n"),
    "a publisherId that breaks out of a query": field("publisherId", f"' or PartitionKey ne '{MARKER}"),
    "a publisherId that is a list": field("publisherId", [MARKER]),
    "a publisherId that is null": field("publisherId", None),
    "a blank serialNumber": field("serialNumber", ""),
    "a serialNumber too long": field("serialNumber", MARKER * 20),
    "a serialNumber that is a number": field("serialNumber", 42),
    "a serialNumber with a null byte": field("serialNumber", f"{MARKER}\0"),
    "a serialNumber with a line feed": field("serialNumber", f"{MARKER}\r\nSet-Cookie: a=b"),
    "a serialNumber with half a surrogate pair": field("serialNumber", f"{MARKER}\ud800"),
    "a nonce too short": field("nonce", "n" * 15),
    "a nonce too long": field("nonce", "n" * 129),
    "a nonce of other characters": field("nonce", f"{MARKER} <script>"),
    "a nonce that is an object": field("nonce", {MARKER: MARKER}),
    "a hostUrl that is a number": field("hostUrl", 1),
    "a hostUrl too long": field("hostUrl", f"https://{MARKER * 200}"),
    "a word for yes": field("isProductionEnvironment", "yes"),
    "no product at all": field("products", []),
    "201 products": field("products", [{"productName": MARKER}] * 201),
    "products as an object": field("products", {"productName": MARKER}),
    "products as a text": field("products", MARKER),
    "a product that is a text": field("products", [MARKER], "products[0]"),
    "a product that is null": field("products", [None], "products[0]"),
    "a product without a name": field("products", [{}], "products[0].productName"),
    "a product without a name among others": field(
        "products", [{"productName": "a"}, {"productName": "b"}, {"productName": "c"}, {}], "products[3].productName"
    ),
    "a product whose name is blank": field("products[0].productName", ""),
    "a product whose name is too long": field("products[0].productName", MARKER * 20),
    "a product whose name is a number": field("products[0].productName", 1),
    "a product whose name has a tab": field("products[0].productName", f"{MARKER}\t"),
    "a model version with an escape sequence": field("products[0].modelVersion", f"\x1b[2J{MARKER}"),
    "yes for a number of users": field("products[0].enabledUsersCount", value=True),
    "half a user": field("products[0].enabledUsersCount", 0.5),
    "fewer users than none": field("products[0].enabledUsersCount", -1),
    "more users than people": field("products[0].enabledUsersCount", 10**30),
    "a number for installed": field("products[0].isInstalled", 1),
}


def headers_of(bad: Bad) -> list[tuple[str, str]]:
    own = [] if bad.content_type is None else [("content-type", bad.content_type)]
    return [*own, *bad.headers, ("x-planted", MARKER)]


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document (RFC 9457): whole, and without a word too many."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    document: dict[str, Any] = response.json()
    assert set(document) - {"errors"} == {"type", "title", "status", "detail", "code", "requestId"}
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"].endswith(code)
    assert document["detail"].endswith(".")
    assert UUID(document["requestId"]).version == 4
    assert response.headers["x-request-id"] == document["requestId"]
    for fault in document.get("errors", []):
        assert set(fault) == {"field", "code", "message"}
    assert MARKER not in response.text
    assert MARKER not in str(response.headers)
    assert not [word for word in INTERNAL_WORDS if word in response.text]
    assert len(response.content) < 2_000
    return document


@pytest.mark.parametrize("sentence", BAD)
async def test_validate_with_invalid_request_returns_problem_document(client: httpx.AsyncClient, sentence: str) -> None:
    bad = BAD[sentence]
    response = await client.post(VALIDATE, content=bad.body, headers=headers_of(bad))
    document = refused(response, *bad.answer)
    assert [fault["field"] for fault in document.get("errors", [])] == [*bad.fields]


async def test_host_after_invalid_requests_serves_and_logs_no_content(
    host: Served, client: httpx.AsyncClient, jwk_set: dict[str, Any]
) -> None:
    for bad in BAD.values():
        await client.post(VALIDATE, content=bad.body, headers=headers_of(bad))
    claims = replied(await client.post(VALIDATE, json=GOOD), jwk_set)
    assert claims["products"][0]["status"] == "licensed"
    log = host.log.read_text()
    assert "Traceback" not in log
    assert MARKER not in log
    assert "The worker process ended" not in log


async def test_validate_accepts_body_of_256_kib(client: httpx.AsyncClient, jwk_set: dict[str, Any]) -> None:
    body = GOOD_TEXT + " " * (256 * 1024 - len(GOOD_TEXT))
    replied(await client.post(VALIDATE, content=body, headers={"content-type": JSON}), jwk_set)


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", "application/json ;charset=UTF-8"])
async def test_validate_accepts_json_content_type_variant(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], content_type: str
) -> None:
    # A byte order mark, as some .NET programs write it.
    response = await client.post(
        VALIDATE, content=b"\xef\xbb\xbf" + GOOD_TEXT.encode(), headers={"content-type": content_type}
    )
    replied(response, jwk_set)


async def test_validate_accepts_200_products(client: httpx.AsyncClient, jwk_set: dict[str, Any]) -> None:
    names = ["SmartSend", *(f"Product {number} of many" for number in range(199))]
    response = await client.post(VALIDATE, json=question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, *names))
    statuses = [product["status"] for product in replied(response, jwk_set)["products"]]
    assert statuses == ["licensed", *["unknownProduct"] * 199]


async def test_validate_with_many_errors_returns_short_problem_document(client: httpx.AsyncClient) -> None:
    many: list[list[Any]] = [[1] * 100_000, [{}] * 60_000]
    for products in many:
        body = json.dumps(GOOD | {"products": products}, separators=(",", ":"))
        refused(await client.post(VALIDATE, content=body, headers={"content-type": JSON}), *MALFORMED)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_unexpected_request_body_is_ignored(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/api/v1/health", content=MARKER, headers={"content-type": JSON})
    assert response.status_code == (HTTPStatus.OK if method == "GET" else HTTPStatus.METHOD_NOT_ALLOWED)
    assert MARKER not in response.text
