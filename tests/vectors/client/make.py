"""`python -m tests.vectors.client.make` writes the cases of README.md.

What is expected is written by hand in the modules beside this one: no implementation is asked.
"""

import json
from typing import Any

from tests.vectors.client import changes, failures, key_sets, license_files, products, replies, stored
from tests.vectors.client.parts import FOLDER, keys


def build() -> dict[str, str]:
    """The content of each file by its name."""
    files: dict[str, Any] = {
        "keys.json": {name: {"jwk": key.public_jwk, "xml": key.public_xml} for name, key in keys().items()},
        "replies.json": replies.cases(),
        "failures.json": failures.cases(),
        "stored.json": stored.cases(),
        "products.json": products.cases(),
        "changes.json": changes.cases(),
        "key-sets.json": key_sets.cases(),
        "license-files.json": license_files.cases(),
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in files.items()}


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(content, "utf-8", newline="\n")
