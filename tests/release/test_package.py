"""The package that is deployed, and its SBOM."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from release.package import REPOSITORY, files_deployed, write_package, write_sbom


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A small repository, all of whose files are tracked."""
    folder = tmp_path / "clone"
    files = {
        ".funcignore": "*.md\nlicensing/cli\n/docs\n# !README.md\n\n!kept.md\nkeys*.json\n",
        "function_app.py": "app",
        "README.md": "",
        "kept.md": "",
        "licensing/http.py": "http",
        "licensing/cli/seed.py": "",
        "licensing/deep/down/NOTES.md": "",
        "licensing/docs/kept.txt": "",
        "licensing/keys.old.json": "",
        "docs/kept.txt": "",
        "größe.txt": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    return folder


def test_files_deployed_lists_tracked_files_not_ignored_by_funcignore(clone: Path) -> None:
    (clone / "licensing/untracked.py").write_text("")
    assert list(files_deployed(clone)) == [
        ".funcignore",
        "function_app.py",
        "größe.txt",
        "kept.md",
        "licensing/docs/kept.txt",
        "licensing/http.py",
    ]


def test_write_package_is_reproducible(clone: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "elsewhere/second.zip"
    write_package(clone, first)
    for number, path in enumerate(path for path in clone.glob("**/*") if ".git/" not in str(path)):
        os.utime(path, (number, number))
        path.chmod(0o755)
    write_package(clone, second)
    assert first.read_bytes() == second.read_bytes()
    (clone / "function_app.py").write_text("another app")
    write_package(clone, second)
    assert first.read_bytes() != second.read_bytes()


def test_write_package_makes_every_file_world_readable(clone: Path, tmp_path: Path) -> None:
    (clone / "function_app.py").chmod(0o600)
    write_package(clone, tmp_path / "it.zip")
    with zipfile.ZipFile(tmp_path / "it.zip") as archive:
        assert archive.testzip() is None
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
        assert archive.read("licensing/http.py") == b"http"


def test_write_package_outside_git_clone_raises(tmp_path: Path) -> None:
    (tmp_path / ".funcignore").write_text("")
    with pytest.raises(subprocess.CalledProcessError, match="ls-files"):
        write_package(tmp_path, tmp_path / "it.zip")


PIN = re.compile(r"^([a-z0-9.-]+)==(\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


@pytest.mark.parametrize("name", sorted(path.name for path in REPOSITORY.glob("requirements*.txt")))
def test_requirements_pin_every_package_with_hashes(name: str) -> None:
    text = (REPOSITORY / name).read_text("utf-8")
    pinned = PIN.sub("", text)
    assert PIN.findall(text)
    assert [line for line in pinned.splitlines() if not line.strip().startswith("#")] == []


def test_deployed_requirements_are_subset_of_tested_ones() -> None:
    deployed, served, tested = (
        set(PIN.findall((REPOSITORY / name).read_text("utf-8")))
        for name in ("requirements.txt", "requirements-run.txt", "requirements-dev.txt")
    )
    assert deployed <= served <= tested


@pytest.mark.slow
def test_write_sbom_is_reproducible_and_lists_every_package_with_hashes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_sbom(first)
    write_sbom(second)
    assert first.read_bytes() == second.read_bytes()
    sbom = json.loads(first.read_bytes())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "license-manager")
    named = {
        (component["purl"], frozenset(digest["content"] for digest in component["externalReferences"][0]["hashes"]))
        for component in sbom["components"]
    }
    pins = PIN.findall((REPOSITORY / "requirements.txt").read_text("utf-8"))
    assert named == {
        (f"pkg:pypi/{name}@{version}", frozenset(re.findall("sha256:([0-9a-f]+)", hashes)))
        for name, version, hashes in pins
    }
