"""`python -m bench.dotnet_client`: how much longer than curl the client in C# takes for a reply that it verifies."""

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import httpx

from bench.contestants import PRODUCT_NAMES, PUBLISHER_ID, VALIDATE, serial_number
from bench.license_server import LicenseServer
from bench.load import PATIENCE_SECONDS
from devhost.azurite import azurite

type Ask = Callable[[dict[str, Any]], dict[str, Any]]

_REPOSITORY = Path(__file__).resolve().parent.parent
_SOURCES = (_REPOSITORY / "clients" / "dotnet", _REPOSITORY / "tests" / "clients" / "dotnet")
_WARM_UP = 50
_ISSUER = "https://licenses.example.com"


@dataclass(frozen=True)
class Waits:
    """Milliseconds, in the middle: curl, the client in a process that is warm; and one in a hundred of the client."""

    curl: float
    client: float
    client_p99: float

    def __str__(self) -> str:
        more = self.client - self.curl
        return f"{more:.1f} ms more: {self.client:.1f} (p99 {self.client_p99:.1f}) against {self.curl:.1f}"


def waits(validations: int) -> Waits | None:
    """What curl and the client wait for, by turns, with the store in memory. None where there is no Mono."""
    if shutil.which("mcs") is None:
        return None
    with tempfile.TemporaryDirectory() as folder, azurite() as store:
        program = Path(folder) / "client.exe"
        sources = [str(file) for source in _SOURCES for file in source.glob("*.cs")]
        subprocess.run(
            ["mcs", "-langversion:5", "-optimize+", "-r:System.Net.Http", f"-out:{program}", *sources], check=True
        )
        with (
            LicenseServer(store.connection_string).start({"LICENSING_PUBLIC_URL": _ISSUER}) as host,
            _asking(program) as ask,
        ):
            return _measure(host.url, ask, validations)


@contextmanager
def _asking(program: Path) -> Iterator[Ask]:
    """The program, which answers a JSON object to each one."""
    with subprocess.Popen(["mono", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        commands, answers = cast("IO[str]", client.stdin), cast("IO[str]", client.stdout)

        def ask(command: dict[str, Any]) -> dict[str, Any]:
            commands.write(json.dumps(command) + "\n")
            commands.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        yield ask
        commands.close()


def _measure(url: str, ask: Ask, validations: int) -> Waits:
    key_set = httpx.get(f"{url}/api/v1/keys", timeout=PATIENCE_SECONDS, trust_env=False).raise_for_status().json()
    keys = [json.dumps(key) for key in key_set["keys"]]
    question = {"publisherId": PUBLISHER_ID, "serialNumber": serial_number(0)}
    patience = {"timeoutMilliseconds": int(PATIENCE_SECONDS * 1e3)}
    ask({"do": "connect", "url": url, "issuer": _ISSUER, "pinnedKeys": keys, **question, **patience})
    products = [{"productName": name} for name in PRODUCT_NAMES]
    body = json.dumps(question | {"nonce": "9c1f8b0e6f5d4c3a", "products": products})
    times: dict[str, list[float]] = {"curl": [], "client": []}
    for _ in range(_WARM_UP + validations):
        times["curl"].append(_curl(f"{url}{VALIDATE}", body))
        answer = ask({"do": "validate", "products": PRODUCT_NAMES})
        if answer["checkResult"]["code"] != "verified":
            raise ValueError(f"The client did not get a good reply: {answer}")
        times["client"].append(answer["microseconds"] / 1e3)
    curl, client = times["curl"][_WARM_UP:], times["client"][_WARM_UP:]
    return Waits(statistics.median(curl), statistics.median(client), statistics.quantiles(client, n=100)[98])


def _curl(url: str, body: str) -> float:
    """Milliseconds from before it connects until it has the reply."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", "--noproxy", "*"]
    command += ["--max-time", str(PATIENCE_SECONDS)]
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/json", "-d", body, url], check=True, capture_output=True, text=True
    )
    status, seconds = done.stdout.split()
    if status != "200":
        raise ValueError(f"curl got status {status}.")
    return float(seconds) * 1e3


if __name__ == "__main__":
    print(waits(300) or "It needs Mono: on Debian apt-get install mono-mcs libmono-system-net-http4.0-cil")
