"""`python -m connector`: writes the connector's definition; `--check` tells whether that is out of date."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from connector.definition import document
from connector.released import promises

FOLDER = Path(__file__).resolve().parent
DEFINITION = FOLDER / "apiDefinition.swagger.json"
PROPERTIES = FOLDER / "apiProperties.json"
RELEASED = FOLDER / "released.json"


def main() -> int:
    """The exit code: 1 where `--check` finds a file that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m connector", description="Write the connector's definition.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="write nothing; fail where what is written is out of date")
    choice.add_argument("--release", action="store_true", help="also keep what it promises, for later versions to keep")
    options = parser.parse_args()
    files = written()
    if options.check:
        stale = [path.name for path, text in files.items() if path.read_text("utf-8") != text]
        for name in stale:
            print(f"{name} in connector/ no longer tells what the service offers: run make connector.")
        return 1 if stale else 0
    if options.release:
        files[RELEASED] = text_of(promises(document()))
    for path, text in files.items():
        path.write_text(text, "utf-8")
    return 0


def written() -> dict[Path, str]:
    """What should stand in the files: all of the definition, and in apiProperties.json which operations have pages."""
    definition = document()
    properties = json.loads(PROPERTIES.read_text("utf-8"))
    (policy,) = properties["properties"]["policyTemplateInstances"]
    policy["parameters"]["x-ms-apimTemplate-operationName"] = [
        operation["operationId"]
        for operations in definition["paths"].values()
        for operation in operations.values()
        if "x-ms-pageable" in operation
    ]
    return {DEFINITION: text_of(definition), PROPERTIES: text_of(properties)}


def text_of(content: Any) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
