"""base64url and JSON, read strictly: what two readers could read differently is refused.

Every `parse_` raises ValueError with a message that repeats nothing of its input: it may be a private key.
"""

import base64
from binascii import b2a_base64
from typing import Any

from licensing.http import strict_json


def base64url(data: bytes) -> str:
    """The base64url form of the bytes, without padding (RFC 7515 section 2)."""
    # Half the time of `base64.urlsafe_b64encode`: JSON hardly ever has what the two alphabets write differently.
    return b2a_base64(data, newline=False).decode("ascii").rstrip("=").replace("+", "-").replace("/", "_")


def parse_base64url(text: str) -> bytes:
    """The bytes behind unpadded base64url (RFC 7515 section 2).

    Padding, white space, characters of other alphabets and stray bits in the last character are refused:
    no two texts stand for the same bytes.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not base64url") from None
    if base64url(data) != text:
        raise ValueError("not unpadded, canonical base64url")
    return data


def base64url_uint(number: int) -> str:
    """The number as base64url of its fewest big-endian octets (RFC 7518 section 2, Base64urlUInt)."""
    return base64url(number.to_bytes((number.bit_length() + 7) // 8 or 1))


def parse_base64url_uint(text: str) -> int:
    """The number behind a Base64urlUInt (RFC 7518 section 2); leading zero octets are refused."""
    number = int.from_bytes(parse_base64url(text))
    if base64url_uint(number) != text:
        raise ValueError("not a number in its fewest octets")
    return number


def parse_json_object(text: str) -> dict[str, Any]:
    """The JSON object in the text, read strictly."""
    document = strict_json.parse(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one kind of error for all that cannot be read
    return document
