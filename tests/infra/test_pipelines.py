"""The pipelines, as far as a program without GitHub can tell. `make infra` holds them against its schema."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.package import PACKAGE
from tests.infra.bicep import INFRA, MAIN, REPOSITORY, Bicep

type Json = dict[str, Any]

FOLDER = REPOSITORY / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
every_file = pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])

# Each commit was seen pinned under this version in ten public files; GitHub itself was not asked.
ACTIONS = {
    "actions/checkout": ("93cb6efe18208431cddfb8368fd83d5badbf9bfd", "v5.0.1"),
    "actions/download-artifact": ("37930b1c2abaa49bbe596cd826c3c89aef350131", "v7.0.0"),
    "actions/setup-python": ("e797f83bcb11b83ae66e0230d6156d7c80228e7c", "v6.0.0"),
    "actions/upload-artifact": ("b7c566a772e6b6bfb58ed0dc250532a479d7789f", "v6.0.0"),
    "azure/login": ("7ddb5af1ef8758cf1353cf3b42f940aee27ba21c", "v3.0.2"),
}
DEPLOYS = {"actions": "read", "contents": "read", "id-token": "write"}
PERMISSIONS = {
    "ci.yml": {"linux": {"contents": "read"}, "clients": {"contents": "read"}},
    "deploy.yml": {
        "plan": {"contents": "read", "id-token": "write"},
        "package": {"contents": "read"},
        "test": DEPLOYS,
        "production": DEPLOYS,
    },
    "deploy-one.yml": {"deploy": DEPLOYS},
}


def read(path: Path) -> Json:
    content: Json = yaml.safe_load(path.read_text("utf-8"))
    return content


def steps(path: Path) -> list[Json]:
    return [step for job in read(path)["jobs"].values() for step in job.get("steps", [])]


@every_file
def test_workflow_actions_are_known_and_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(?: # (.+))?$", path.read_text("utf-8"), re.MULTILINE)
    assert len(used) == path.read_text("utf-8").count("uses:") > 0
    for action, version in used:
        if not action.startswith("./"):
            name, _, commit = action.partition("@")
            assert (commit, version) == ACTIONS[name]


@every_file
def test_workflow_jobs_have_minimal_permissions(path: Path) -> None:
    assert read(path)["permissions"] == {}
    assert {name: job["permissions"] for name, job in read(path)["jobs"].items()} == PERMISSIONS[path.name]


@every_file
def test_workflow_scripts_have_no_expressions_and_checkouts_persist_no_token(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@every_file
def test_workflow_references_no_secrets(path: Path) -> None:
    assert "secrets." not in path.read_text("utf-8")


@every_file
def test_workflow_scripts_read_only_defined_variables(path: Path) -> None:
    for job in read(path)["jobs"].values():
        for step in job.get("steps", []):
            given = {*job.get("env", {}), *step.get("env", {}), "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GH_TOKEN"}
            own = re.findall(r"(?:^| |\()(\w+)=|for (\w+) in", step.get("run", ""))
            read_there = set(re.findall(r"\"?\$\{?([a-zA-Z_]\w*)", re.sub(r"\$env:|'[^']*'", "", step.get("run", ""))))
            assert read_there <= given | {name for pair in own for name in pair} | {"LASTEXITCODE"}, step


@every_file
def test_workflow_scripts_run_existing_infra_files(path: Path) -> None:
    for step in steps(path):
        for script in re.findall(r"infra/[\w.-]+", step.get("run", "")):
            assert (REPOSITORY / script).is_file(), script


@every_file
def test_workflow_scripts_call_existing_make_targets(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    for step in steps(path):
        assert set(re.findall(r"\bmake ([\w-]+)", step.get("run", ""))) <= targets


def test_deploy_workflow_runs_production_after_test_and_only_plans_pull_requests() -> None:
    jobs = read(FOLDER / "deploy.yml")["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "plan": None,
        "package": None,
        "test": "package",
        "production": "test",
    }
    assert {name: job["with"]["environment"] for name, job in jobs.items() if "with" in job} == {
        "test": "test",
        "production": "production",
    }
    assert jobs["package"]["if"] == "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'"
    assert "what-if" in str(jobs["plan"])
    assert "deployment sub create" not in str(jobs["plan"])


def test_deploy_one_workflow_deploys_package_and_rolls_back_on_failure() -> None:
    path = FOLDER / "deploy-one.yml"
    (job,) = read(path)["jobs"].values()
    assert job["environment"] == "${{ inputs.environment }}"
    new, old = (step for step in job["steps"] if "deploy-package.sh" in step.get("run", ""))
    package = str(PACKAGE.relative_to(REPOSITORY))
    assert f"deploy-package.sh {package}\n" in new["run"]
    assert f"deploy-package.sh previous/{PACKAGE.name}\n" in old["run"]
    outcome = f"steps.{new['id']}.outcome"
    assert old["if"] == f"(failure() || cancelled()) && {outcome} != 'success' && {outcome} != 'skipped'"
    assert 2 * new["timeout-minutes"] < job["timeout-minutes"], "no time is left to go back"
    assert job["concurrency"] == {"group": "deployment-${{ inputs.environment }}", "cancel-in-progress": False}
    assert "concurrency" not in read(FOLDER / "deploy.yml"), "an approval that waits would hold up everything"
    for step in (new, old):
        deploy, test = step["run"].index("deploy-package.sh"), step["run"].index("smoke-test.sh")
        assert deploy < test
    # What was fetched before anything changed.
    order = [step.get("name") for step in job["steps"]]
    assert order.index("The package of the last deployment that went well") < order.index("The template")


def test_rollback_package_excludes_pull_requests_and_may_be_missing() -> None:
    (script,) = (step["run"] for step in steps(FOLDER / "deploy-one.yml") if "gh run list" in step.get("run", ""))
    assert "--json databaseId,event" in script
    assert 'select(.event == "push" or .event == "workflow_dispatch")][0].databaseId // empty' in script
    assert re.search(r"gh run download .* \|\|\n +echo '::warning::", script)


def test_package_job_runs_tests_and_audit_before_packaging() -> None:
    runs = [step.get("run") for step in read(FOLDER / "deploy.yml")["jobs"]["package"]["steps"]]
    assert runs.index("make test-all audit") < runs.index("make package")


def test_plan_step_uses_pipefail_and_needs_no_write_permission() -> None:
    (step,) = (step for step in steps(FOLDER / "deploy.yml") if "what-if" in step.get("run", ""))
    assert step["shell"] == "bash", "without it there is no pipefail"
    assert "--validation-level ProviderNoRbac" in step["run"]


def test_pipelines_deploy_without_records_lock() -> None:
    scripts = [step["run"] for path in FILES for step in steps(path) if "az deployment sub" in step.get("run", "")]
    assert len(scripts) == 2
    assert all("--parameters @parameters.json lockRecords=false" in script for script in scripts)
    assert "= if (locked) {" in (INFRA / "modules/records.bicep").read_text("utf-8").partition("resource lock ")[2]
    assert "param lockRecords bool = true\n" in MAIN.read_text("utf-8")


def test_deployment_reads_only_existing_template_outputs() -> None:
    (names,) = re.findall(r"for name in ([A-Z_ ]+);", (FOLDER / "deploy-one.yml").read_text("utf-8"))
    assert set(names.split()) <= set(Bicep(MAIN).declared["output"])


def test_readme_documents_all_workflow_environment_variables() -> None:
    used = {name for path in FILES for name in re.findall(r"vars\.(\w+)", path.read_text("utf-8"))}
    table = (INFRA / "README.md").read_text("utf-8").partition("## Pipelines")[2].partition("## What is checked")[0]
    told = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert used == told
