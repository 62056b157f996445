"""`python tests/clients/on_framework.py RUNNER`: every case of tests/vectors/client, by the client in C#.

For Windows, where .NET Framework itself runs the compiled runner (tests/clients/dotnet). It needs nothing but Python.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parent.parent / "vectors/client"
FILES = ("replies", "failures", "stored", "products", "changes", "key-sets", "license-files")


def main(runner: list[str]) -> int:
    """The exit code: 1 where a case came out otherwise, or none was run."""
    keys = json.loads((VECTORS / "keys.json").read_text("utf-8"))
    cases = [case for name in FILES for case in json.loads((VECTORS / f"{name}.json").read_text("utf-8"))]
    asked = [case | {"client": case["client"] | {"pinnedKeys": pinned(case, keys)}} for case in cases]
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    done = subprocess.run(runner, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [case["name"] for case, outcome in zip(cases, outcomes, strict=True) if not is_expected(case, outcome)]
    sys.stdout.write(
        f"{len(cases)} cases, {len(wrong)} came out otherwise\n" + "".join(f"  {name}\n" for name in wrong)
    )
    return int(bool(wrong) or not cases)


def pinned(case: dict[str, Any], keys: dict[str, Any]) -> list[str]:
    """The keys that the client is given, in .NET's XML."""
    return [keys[name]["xml"] for name in case["client"]["pinnedKeys"]]


def is_expected(case: dict[str, Any], outcome: dict[str, Any]) -> bool:
    expected = {name: value for name, value in case["expected"].items() if name != "stored"}
    # The runner leaves out what is null.
    expected["messages"] = {name: value for name, value in expected["messages"].items() if value is not None}
    return {name: outcome.get(name) for name in expected} == expected


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
