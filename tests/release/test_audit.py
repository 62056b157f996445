"""The audit, by pip-audit itself, of an advisory service on this machine."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from devhost.azurite import free_port
from release import audit
from tests.support.certificates import create_tls_contexts

ADVISORY = {
    "id": "GHSA-0000-0000-0000",
    "aliases": ["CVE-2026-0001"],
    "summary": "It is known to be unsafe.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "idna"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.21"}]}],
        }
    ],
}


class AdvisoryService(BaseHTTPRequestHandler):
    """Speaks as osv.dev does: one package is vulnerable, of no other anything is known."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": [ADVISORY]} if asked["package"]["name"] == "idna" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), AdvisoryService) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        use_advisory_service(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        yield
        server.shutdown()


def use_advisory_service(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def pins(folder: Path, *packages: str) -> Path:
    file = folder / "pins.txt"
    file.write_text("".join(f"{package} --hash=sha256:{'0' * 64}\n" for package in packages))
    return file


@pytest.mark.usefixtures("service")
def test_audit_with_known_vulnerability_fails_and_prints_fixed_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(pins(tmp_path, "idna==3.20", "attrs==26.1.0")) == 1
    assert capsys.readouterr().out.splitlines() == [
        "idna 3.20: CVE-2026-0001, GHSA-0000-0000-0000; fixed in 3.21",
        "2 packages audited.",
    ]


@pytest.mark.usefixtures("service")
def test_audit_without_known_vulnerabilities_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(pins(tmp_path, "attrs==26.1.0")) == 0
    assert capsys.readouterr().out == "1 packages audited.\n"


def test_audit_when_service_is_unreachable_passes_with_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_advisory_service(f"http://127.0.0.1:{free_port()}", monkeypatch)
    assert audit.main(pins(tmp_path, "attrs==26.1.0")) == 0
    assert capsys.readouterr().out == "NOT AUDITED: the advisory service does not answer.\n"


def test_audit_when_service_certificate_is_untrusted_passes_with_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = create_tls_contexts(tmp_path, "localhost")
    with ThreadingHTTPServer(("127.0.0.1", 0), AdvisoryService) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        use_advisory_service(f"https://localhost:{server.server_port}", monkeypatch)
        assert audit.main(pins(tmp_path, "attrs==26.1.0")) == 0
        server.shutdown()
    assert capsys.readouterr().out.startswith("NOT AUDITED: what answers for the advisory service")


@pytest.mark.usefixtures("service")
def test_audit_with_pin_without_hash_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pins.txt").write_text("attrs==26.1.0\n")
    assert audit.main(tmp_path / "pins.txt") == 1
    assert "hash" in capsys.readouterr().err


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []} | more


SKIPPED = {"name": "idna", "skip_reason": "Dependency not found on PyPI and could not be audited: idna (1.0)"}
UNFIXED = {"id": "PYSEC-1", "aliases": [], "fix_versions": []}


@pytest.mark.parametrize(
    ("packages", "told", "code"),
    [
        ([SKIPPED], ["NOT AUDITED: the advisory service knows none of the packages: is a mirror in its place?"], 0),
        ([SKIPPED, package("attrs")], ["1 packages audited. Not audited, since they are not known: idna."], 0),
        (
            [SKIPPED, package("attrs", vulns=[UNFIXED])],
            [
                "attrs 1.0: PYSEC-1; fixed in no version yet",
                "1 packages audited. Not audited, since they are not known: idna.",
            ],
            1,
        ),
    ],
    ids=["none is known", "one is not known", "one is not known, one is vulnerable"],
)
def test_judge_reports_packages_that_were_not_audited(
    packages: list[dict[str, Any]], told: list[str], code: int
) -> None:
    assert audit.judge(packages) == (told, code)
