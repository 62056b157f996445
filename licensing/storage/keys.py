"""Row keys, and their escaping."""

import hashlib
import re

_MAX_PLAIN_KEY = 150
"""So that a row key of a kind and two long parts stays below the 512 characters of a key."""


def encode_key(text: str) -> str:
    """The text as [A-Za-z0-9_-] only, since Azure refuses slashes, # ? and control characters in keys.

    Different texts give different keys: `_` followed by two hex digits is a byte; `__` and a SHA-256 digest ends a
    text too long to stand whole.
    """
    # Half an emoji is no text that UTF-8 knows, but somebody may ask for it: it is found nowhere.
    raw = text.encode(errors="surrogatepass")
    encoded = re.sub(rb"[^A-Za-z0-9-]", lambda byte: b"_%02X" % byte[0][0], raw).decode()
    if len(encoded) <= _MAX_PLAIN_KEY:
        return encoded
    return f"{encoded[:_MAX_PLAIN_KEY]}__{hashlib.sha256(raw).hexdigest()}"


def row_key(kind: str, parent: str, record_id: str) -> str:
    """`kind|parent|id`: rows of one kind under one parent lie side by side."""
    return f"{kind}|{encode_key(parent)}|{encode_key(record_id)}"
