"""`python -m release.audit`: whether a pinned package is known to be vulnerable.

The advisories are those of pypi.org; PIP_AUDIT_VULNERABILITY_SERVICE=osv asks osv.dev instead.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The first includes the packages of requirements.txt and requirements-run.txt.
PINS = [Path(__file__).resolve().parent.parent / f"requirements-{name}.txt" for name in ("dev", "node")]

_NOBODY_ANSWERS = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|HTTPError|your network")
_SOMEBODY_ELSE_ANSWERS = re.compile(r"CERTIFICATE_VERIFY_FAILED")


def main(*pins: Path) -> int:
    """The exit code: 1 where a vulnerability is known, or the pins cannot be read.

    Where the advisory service does not answer, which some mirrors of PyPI do not, a line says so, and that is all: what
    was pinned yesterday can be built today.
    """
    command = ["--disable-pip", "--require-hashes", "--format", "json"]
    command += [option for each in pins for option in ("--requirement", str(each))]
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        if _SOMEBODY_ELSE_ANSWERS.search(done.stderr):
            print(
                "NOT AUDITED: what answers for the advisory service has a certificate that this machine does not trust."
            )
            return 0
        if _NOBODY_ANSWERS.search(done.stderr):
            print("NOT AUDITED: the advisory service does not answer.")
            return 0
        print(done.stderr, file=sys.stderr)
        return 1
    told, code = judge(json.loads(done.stdout)["dependencies"])
    print(*told, sep="\n")
    return code


def judge(packages: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """The lines to tell of packages as pip-audit found them, and the exit code."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return ["NOT AUDITED: the advisory service knows none of the packages: is a mirror in its place?"], 0
    vulnerabilities = [
        f"{package['name']} {package['version']}: {', '.join([found['id'], *found['aliases']])}; "
        f"fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
        for package in packages
        for found in package.get("vulns", ())
    ]
    not_audited = f" Not audited, since they are not known: {', '.join(unknown)}." if unknown else ""
    told = [*vulnerabilities, f"{len(packages) - len(unknown)} packages audited.{not_audited}"]
    return told, 1 if vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main(*PINS))
