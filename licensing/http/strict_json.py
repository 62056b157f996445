"""JSON read strictly (RFC 8259): what two readers could read differently is refused."""

import json
from typing import Any


def parse(text: str) -> Any:
    """The value in the text. Raises ValueError where it is no JSON, or a member stands twice, or it is NaN.

    The message repeats nothing of the text: that may be a private key, or what a stranger sent.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
