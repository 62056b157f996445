"""`python -m tests.infra`: checkov on the template, schemas and zizmor on the pipelines. `make infra` installs them.

They live in an environment of their own: checkov pins what others need in newer versions.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TOOLS = REPOSITORY / ".venv-infra/bin"
WORKFLOWS = sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(".github/workflows/*.yml"))

# As found. More or fewer means that checkov has learned to read another thing, or has stopped reading one.
RESOURCES = 114
SKIPPED = 19
# It breaks on a value that is an expression, and then looks at nothing. Who reaches the vault: a parameter decides.
BROKEN = "CKV_AZURE_189"


YAML_RULES = """
extends: default
rules: {line-length: {max: 160}, truthy: disable, document-start: disable, comments: {min-spaces-from-content: 1}}
"""


def main() -> int:
    """The exit code: 1 where anything was found, after all of it has been told."""
    report = checkov()
    summary = report["summary"]
    typer.echo(f"checkov: {summary}")
    for finding in report["results"]["failed_checks"]:
        typer.echo(f"{finding['check_id']} {finding['check_name']}: {finding['file_path']} {finding['resource']}")
    unexplained = [each for each in report["results"]["skipped_checks"] if not each["check_result"]["suppress_comment"]]
    counted = {name: summary[name] for name in ("failed", "parsing_errors", "resource_count", "skipped")}
    expected = {"failed": 0, "parsing_errors": 0, "resource_count": RESOURCES, "skipped": SKIPPED}
    if counted != expected:
        typer.echo(f"checkov: expected {expected}")
    return int(any([counted != expected, unexplained, *(run(*command) for command in lint())]))


def checkov() -> dict[str, Any]:
    """What checkov reports on infra/. It ends with 0 too where it could not read a file: the report says so."""
    command = ["checkov", "--directory", "infra", "--framework", "bicep", "--skip-download", "--skip-check", BROKEN]
    command += ["--output", "json"]
    done = subprocess.run(
        [TOOLS / command[0], *command[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if "Traceback" in done.stderr:
        sys.exit(f"A rule of checkov has failed, and so has looked at nothing:\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def lint() -> list[list[str]]:
    """What else is run: each ends with something else than 0 where it finds something."""
    return [
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS],
        ["yamllint", "--strict", "--config-data", YAML_RULES, *WORKFLOWS, "azure.yaml"],
        ["zizmor", "--offline", "--quiet", *WORKFLOWS],
    ]


def run(name: str, *arguments: str) -> int:
    typer.echo(f"{name} ...")
    return subprocess.run([TOOLS / name, *arguments], cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
