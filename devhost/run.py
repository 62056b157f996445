"""`make run`: a whole license server on this machine, from nothing to a verified reply."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from devhost import azurite, server
from devhost.errors import StartError
from devhost.ingestion_sink import Ingestion, collecting
from devhost.issuer import issuing
from devhost.mail_sink import receiving
from licensing.cli import client, seed
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID, FOLDER_SETTING
from licensing.cli.running import with_services
from licensing.cli.validate import reply_table
from licensing.errors import ConfigurationError
from licensing.services import Services, utc_now
from licensing.signing.keys import KeySet
from licensing.signing.store import read_folder, write_folder

_REPOSITORY = Path(__file__).resolve().parent.parent
_console = Console()
_FIRST_REPLY_SECONDS = 120


def run(port: int, data_folder: Path, *, with_telemetry: bool) -> None:
    """Serve until Ctrl-C, with the data in the folder. Raises StartError with the cure in its sentence."""
    server.stop_on_signals()
    data_folder = data_folder.resolve()
    data_folder.mkdir(parents=True, exist_ok=True)
    with server.listen(server.LOOPBACK, port):
        pass  # taken, it would say so only after all that follows
    keys_folder, issuer_folder = data_folder / "keys", data_folder / "issuer"
    with (
        _locked(data_folder),
        issuing(issuer_folder) as issuer,
        receiving(data_folder / "mail_sink", data_folder / "mail") as mail_sink,
        collecting() if with_telemetry else nullcontext() as ingestion,
        azurite.azurite(data_folder / "tables") as tables,
    ):
        _have_keys(keys_folder)
        environ = {
            "LICENSING_STORAGE": tables.connection_string,
            "LICENSING_SIGNING_KEYS_FOLDER": str(keys_folder),
            "LICENSING_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "LICENSING_SUPPORT_EMAIL": "support@example.com",
            "LICENSING_SIGN_IN_AUTHORITY": issuer.url,
            "LICENSING_DIRECTORY_ID": DEMO_DIRECTORY_ID,
            "LICENSING_API_CLIENT_ID": DEMO_API_CLIENT_ID,
            "LICENSING_SMTP_HOST": server.LOOPBACK,
            "LICENSING_SMTP_PORT": str(mail_sink.smtp_port),
            "LICENSING_SMTP_SECURITY": "none",
            FOLDER_SETTING: str(issuer_folder),
        }
        if ingestion:
            environ["LICENSING_TELEMETRY"] = ingestion.connection_string
        settings_file = data_folder / "settings.env"
        settings_file.write_text("".join(f"{name}='{value}'\n" for name, value in environ.items()))
        has_demo = _seed(environ)
        with server.start(_REPOSITORY, port, environ={**os.environ, **environ}, state_folder=data_folder) as host:
            _show(host.url, issuer.url, mail_sink.url, ingestion, settings_file, has_demo=has_demo)
            if code := host.process.wait():
                raise StartError(f"The host ended by itself, with code {code}: its output above says why.")


def _have_keys(folder: Path) -> None:
    try:
        read_folder(folder)
    except ConfigurationError:
        if (folder / "keys.json").exists():
            raise
        write_folder(folder, KeySet().created(utc_now()))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else uses the folder, until the block ends: two emulators on one file would undo each other's work."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"{folder} is in use by another make run: stop that, or DATA_DIR=elsewhere make run"
            ) from None
        yield


def _seed(environ: Mapping[str, str]) -> bool:
    """Seed the store if it is empty; whether the demo publisher is there."""

    async def seed_empty_store(services: Services) -> bool:
        await seed.seed(services)
        return await services.store.version(seed.DEMO_PUBLISHER_ID) is not None

    return with_services(environ, seed_empty_store)


def _show(  # noqa: PLR0913 - all that was started
    url: str, issuer_url: str, mail_sink_url: str, ingestion: Ingestion | None, settings_file: Path, *, has_demo: bool
) -> None:
    if has_demo:
        _show_demo(url)
    lines = (
        f"Validate      POST {url}/api/v1/licenses/validate",
        f"Public keys   {url}/.well-known/jwks.json",
        f"Health        {url}/api/v1/health",
        f"Records       {url}/api/v1/publishers, as docs/administration.md shows",
        f"Sign-in       {issuer_url}, a LOCAL issuer: it signs in whoever you name, on this machine only",
        f"Mail          {mail_sink_url}, a LOCAL mail sink: nothing leaves this machine",
        *([f"Telemetry     {ingestion.url}, a LOCAL endpoint: nothing leaves this machine"] if ingestion else []),
        "",
        "With the operator's commands, in another terminal:",
        f"  set -a; . {os.path.relpath(settings_file)}; set +a",
        f"  .venv/bin/python -m licensing diagnose --serial {seed.DEMO_SERIAL_NUMBER}",
        "  .venv/bin/python -m licensing token --email you@example.com --role GlobalAdmin",
        "",
        f"Serving on {url} until Ctrl-C.",
    )
    print("\n".join(lines), flush=True)


def _show_demo(url: str) -> None:
    """A validation as a client does it, verified, and how to do it by hand."""
    checked = client.check(
        url, seed.DEMO_PUBLISHER_ID, seed.DEMO_SERIAL_NUMBER, seed.DEMO_PRODUCTS, timeout_seconds=_FIRST_REPLY_SECONDS
    )
    _console.print(reply_table(checked.claims))
    body = json.dumps(
        {
            "publisherId": seed.DEMO_PUBLISHER_ID,
            "serialNumber": seed.DEMO_SERIAL_NUMBER,
            "nonce": "0123456789abcdef",
            "products": [{"productName": "SmartSend"}],
        }
    )
    print(f"""Once more, by hand:
  curl -s {url}/api/v1/licenses/validate -H 'Content-Type: application/json' -d '{body}'
""")
