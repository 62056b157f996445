"""The client in C#, compiled with Mono's compiler and run by Mono: one conversation a process."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LIBRARY = REPOSITORY / "clients" / "dotnet"
RUNNER = REPOSITORY / "tests" / "clients" / "dotnet"
INSTALL_MONO = (
    "They need Mono. On Debian: apt-get install --no-install-recommends mono-mcs libmono-system-net-http4.0-cil"
)


def is_installed() -> bool:
    """Whether Mono is there. Raises pytest.UsageError where it is not and REQUIRE_MONO says that it must be."""
    if shutil.which("mcs") and shutil.which("mono"):
        return True
    if os.environ.get("REQUIRE_MONO"):
        raise pytest.UsageError(INSTALL_MONO)
    return False


def compile_strictly(out: Path, *options: str, sources: Sequence[Path]) -> None:
    """Compile as C# 5, where every warning is an error."""
    files = [str(file) for folder in sources for file in sorted(folder.glob("*.cs"))]
    command = ["mcs", "-langversion:5", "-warn:4", "-warnaserror+", "-r:System.Net.Http", f"-out:{out}", *options]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def run_all(runner: Path, commands: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the runner answers to each command, in one process."""
    lines = "".join(json.dumps(command) + "\n" for command in commands)
    done = subprocess.run(["mono", runner], input=lines, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Environment:
    """An environment with the client in C# in it: a store in memory, and a clock that can be moved on."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands = commands
        self._answers = answers

    def do(self, what: str, **members: Any) -> dict[str, Any]:
        """What came of it; `threw` and `message` where it threw."""
        self._commands.write(json.dumps({"do": what, **members}) + "\n")
        self._commands.flush()
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def validate(self, *products: str, how: str = "sync", **members: Any) -> dict[str, Any]:
        return self.do("validate", products=products, how=how, **members)

    def get_state(self, *products: str) -> dict[str, Any]:
        return self.do("getState", products=products)

    def advance(self, **clock: int) -> None:
        """Move its clock on by these days, hours and seconds."""
        seconds = clock.get("days", 0) * 86400 + clock.get("hours", 0) * 3600 + clock.get("seconds", 0)
        self.do("advance", seconds=seconds)


@contextmanager
def environment(runner: Path, home: Path, **client: Any) -> Iterator[Environment]:
    """An environment whose client is made with these arguments, in a process of its own.

    What lies in `home` as Mono's trusted certificates is trusted; no proxy is used.
    """
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ = own | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    with subprocess.Popen(
        ["mono", runner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            made = Environment(process.stdin, process.stdout)
            connected = made.do("connect", **client)
            assert "threw" not in connected, connected
            yield made
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def trust(home: Path, pem: bytes) -> None:
    """Put an authority's certificate among those that Mono trusts."""
    folder = home / ".config" / ".mono" / "new-certs" / "Trust"
    folder.mkdir(parents=True)
    done = subprocess.run(["openssl", "x509", "-hash", "-noout"], input=pem, capture_output=True, check=True)
    (folder / f"{done.stdout.decode().strip()}.0").write_bytes(pem)
