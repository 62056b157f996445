"""The patterns of ids, addresses and names, and how names are compared.

A serial number is any text: it has no pattern, and is compared by `fold`.
"""

import re
import unicodedata
from typing import Any, TypeGuard

GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_GUID = re.compile(GUID)
_LABELS = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+"
"""The labels of a domain name before the last one, with their dots."""
# ASCII alone: what else Unicode folds together might be two mailboxes. Quoted local parts nobody has.
_EMAIL = re.compile(
    r"(?=.{1,254}\Z)(?=[^@]{1,64}@)[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*@"
    rf"{_LABELS}[a-z][a-z0-9-]{{0,61}}[a-z0-9]",
    re.ASCII | re.IGNORECASE,
)
_DOMAIN = re.compile(rf"{_LABELS}[a-z]{{2,63}}")
_FORMAT = "Cf"
"""The Unicode category of invisible characters: zero-width spaces, direction marks."""


def fold(text: str) -> str:
    """The text as names are compared: whatever its case, spaces round it, what is invisible, and how it is composed."""
    if text.isascii():  # the same, much faster, and nearly always so
        return text.strip().lower()
    visible = "".join(each for each in text if unicodedata.category(each) != _FORMAT).strip()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())


def is_guid(held: Any) -> TypeGuard[str]:
    """Whether it is a GUID in lower case, as all ids here."""
    return isinstance(held, str) and _GUID.fullmatch(held) is not None


def is_email(held: str) -> bool:
    """Whether mail programs take it for an address (RFC 5321, section 4.1.2, without quotes)."""
    return _EMAIL.fullmatch(held) is not None


def is_domain(text: str) -> bool:
    """Whether it is a domain name in lower case, such as contoso.com."""
    return _DOMAIN.fullmatch(text) is not None
