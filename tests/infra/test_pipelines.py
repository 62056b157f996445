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
def test_an_action_is_one_that_was_looked_up_pinned_by_its_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(?: # (.+))?$", path.read_text("utf-8"), re.MULTILINE)
    assert len(used) == path.read_text("utf-8").count("uses:") > 0
    for action, version in used:
        if not action.startswith("./"):
            name, _, commit = action.partition("@")
            assert (commit, version) == ACTIONS[name]


@every_file
def test_a_job_may_do_what_it_needs_and_no_more(path: Path) -> None:
    assert read(path)["permissions"] == {}
    assert {name: job["permissions"] for name, job in read(path)["jobs"].items()} == PERMISSIONS[path.name]


@every_file
def test_no_text_of_others_becomes_part_of_a_script_and_no_token_stays_in_the_clone(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@every_file
def test_there_is_no_secret_that_could_leak(path: Path) -> None:
    assert "secrets." not in path.read_text("utf-8")


@every_file
def test_what_a_script_reads_it_is_given(path: Path) -> None:
    for job in read(path)["jobs"].values():
        for step in job.get("steps", []):
            given = {*job.get("env", {}), *step.get("env", {}), "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GH_TOKEN"}
            own = re.findall(r"(?:^| |\()(\w+)=|for (\w+) in", step.get("run", ""))
            read_there = set(re.findall(r"\"?\$\{?([a-zA-Z_]\w*)", re.sub(r"\$env:|'[^']*'", "", step.get("run", ""))))
            assert read_there <= given | {name for pair in own for name in pair} | {"LASTEXITCODE"}, step


@every_file
def test_a_file_of_ours_that_is_run_exists(path: Path) -> None:
    for step in steps(path):
        for script in re.findall(r"infra/[\w.-]+", step.get("run", "")):
            assert (REPOSITORY / script).is_file(), script


@every_file
def test_a_make_target_that_is_called_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    for step in steps(path):
        assert set(re.findall(r"\bmake ([\w-]+)", step.get("run", ""))) <= targets


def test_production_comes_after_test_and_pull_requests_only_plan() -> None:
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


def test_what_is_deployed_is_the_package_and_where_it_does_not_sign_the_previous_one() -> None:
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


def test_the_previous_package_is_never_one_of_a_pull_request_and_may_be_gone() -> None:
    (script,) = (step["run"] for step in steps(FOLDER / "deploy-one.yml") if "gh run list" in step.get("run", ""))
    assert "--json databaseId,event" in script
    assert 'select(.event == "push" or .event == "workflow_dispatch")][0].databaseId // empty' in script
    assert re.search(r"gh run download .* \|\|\n +echo '::warning::", script)


def test_nothing_is_packed_to_be_deployed_before_it_has_passed() -> None:
    runs = [step.get("run") for step in read(FOLDER / "deploy.yml")["jobs"]["package"]["steps"]]
    assert runs.index("make test-all audit") < runs.index("make package")


def test_a_plan_that_fails_is_seen_and_asks_for_no_right_to_write() -> None:
    (step,) = (step for step in steps(FOLDER / "deploy.yml") if "what-if" in step.get("run", ""))
    assert step["shell"] == "bash", "without it there is no pipefail"
    assert "--validation-level ProviderNoRbac" in step["run"]


def test_the_pipelines_leave_the_lock_to_an_owner() -> None:
    scripts = [step["run"] for path in FILES for step in steps(path) if "az deployment sub" in step.get("run", "")]
    assert len(scripts) == 2
    assert all("--parameters @parameters.json lockRecords=false" in script for script in scripts)
    assert "= if (locked) {" in (INFRA / "modules/records.bicep").read_text("utf-8").partition("resource lock ")[2]
    assert "param lockRecords bool = true\n" in MAIN.read_text("utf-8")


def test_a_deployment_reads_outputs_that_the_template_has() -> None:
    (names,) = re.findall(r"for name in ([A-Z_ ]+);", (FOLDER / "deploy-one.yml").read_text("utf-8"))
    assert set(names.split()) <= set(Bicep(MAIN).declared["output"])


def test_the_variables_of_the_environments_are_told() -> None:
    used = {name for path in FILES for name in re.findall(r"vars\.(\w+)", path.read_text("utf-8"))}
    table = (INFRA / "README.md").read_text("utf-8").partition("## Pipelines")[2].partition("## What is checked")[0]
    told = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert used == told
