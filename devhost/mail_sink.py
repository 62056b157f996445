"""A local mail sink, so that mail is real and reaches nobody: SMTP in, pages to read it, both on loopback only."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from markupsafe import Markup

from devhost.app import Receive, Scope, Send
from devhost.pages import HTML, JSON, App, Found, is_local, joined, listen_again, page, quiet_server, serving, show
from devhost.server import LOOPBACK

if TYPE_CHECKING:
    from email.message import EmailMessage

MAX_SHOWN = 200
_NOTICE = "A LOCAL mail sink: nothing leaves this machine."
_URL = re.compile(r"(https?://[^\s<>\"]+)")


@dataclass(frozen=True)
class MailSink:
    """Where mail goes, and where it can be read."""

    url: str
    smtp_port: int


@contextlib.contextmanager
def receiving(folder: Path, mail_folder: Path) -> Iterator[MailSink]:
    """A mail sink that takes mail until the block ends. Its ports are kept in the one folder, its mail in the other."""
    folder.mkdir(parents=True, exist_ok=True)
    mail_folder.mkdir(parents=True, exist_ok=True)
    with listen_again(folder / "smtp-port") as smtp, listen_again(folder / "port") as http:
        pages = quiet_server(app(mail_folder))
        with serving(pages, lambda: asyncio.run(_serve(pages, http, smtp, mail_folder))):
            yield MailSink(f"http://{LOOPBACK}:{http.getsockname()[1]}", smtp.getsockname()[1])


async def _serve(pages: uvicorn.Server, http: socket.socket, smtp: socket.socket, mail_folder: Path) -> None:
    handler = _Handler(mail_folder)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="localhost", ident="a local mail sink", enable_SMTPUTF8=True), sock=smtp
    )
    try:
        await pages.serve(sockets=[http])
    finally:
        server.close()  # whoever keeps a connection for the next mail loses it with the loop


class _Handler:
    """Takes every mail for everybody: a file each, a repeat of one too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        name = str(time.time_ns())
        fresh = self._folder / f".{name}"
        fresh.write_bytes(envelope.original_content or b"")
        fresh.replace(self._folder / f"{name}.eml")
        return "250 OK"


def app(mail_folder: Path) -> App:
    """What the mail sink shows: pages at / and /mail/{id}, and JSON at /messages and /messages/{id}."""

    async def respond(scope: Scope, _: Receive, send: Send) -> None:
        await show(send, _answer(mail_folder, scope["path"]) if is_local(scope) else None, _NOTICE)

    return respond


def _answer(folder: Path, path: str) -> Found | None:
    newest = sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    if path == "/":
        return Found(HTML, _list([_Mail(file) for file in newest[:MAX_SHOWN]]))
    if path == "/messages":
        return Found(JSON, json.dumps([_Mail(file).summary for file in newest[:MAX_SHOWN]]))
    _, place, name, *rest = [*path.split("/"), "", ""]
    mail = next((_Mail(file) for file in newest if file.stem == name), None)
    match place, [each for each in rest if each], mail:
        case "messages", [], _Mail():
            return Found(JSON, json.dumps(mail.whole))
        case "mail", [], _Mail():
            return Found(HTML, _one(mail))
        case "mail", ["html"], _Mail():
            # Shown as another origin that nobody trusts, without scripts, and without a way to tell its sender of it.
            return Found(HTML, mail.part("html"), "default-src 'none'; style-src 'unsafe-inline'; sandbox")
    return None


class _Mail:
    """One mail, as it lies in its file."""

    def __init__(self, file: Path) -> None:
        self.id = file.stem
        self.received_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        self.message: EmailMessage = message_from_bytes(file.read_bytes(), policy=policy.default)

    def header(self, name: str) -> str:
        return str(self.message[name] or "")

    def part(self, subtype: str) -> str:
        body = self.message.get_body((subtype,))
        return str(body.get_content()) if body else ""

    @property
    def path(self) -> str:
        return f"/mail/{quote(self.id, safe='')}"

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "receivedAt": self.received_at.isoformat(),
            "from": self.header("From"),
            "to": self.header("To"),
            "subject": self.header("Subject"),
            "messageId": self.header("Message-ID"),
            "text": self.part("plain"),
        }

    @property
    def whole(self) -> dict[str, Any]:
        headers = [[name, str(value)] for name, value in self.message.items()]
        return {**self.summary, "headers": headers, "html": self.part("html")}


def _list(mails: list[_Mail]) -> Markup:
    row = Markup(
        '<tr><td>{at:%H:%M:%S}</td><td><bdi>{to}</bdi></td><td><a href="{path}"><bdi>{what}</bdi></a></td></tr>'
    )
    rows = [
        row.format(at=mail.received_at, to=mail.header("To"), path=mail.path, what=mail.header("Subject") or "(none)")
        for mail in mails
    ]
    return page(
        "Mail", Markup("<p>{} The newest first, times in UTC.</p><table>{}</table>").format(_NOTICE, joined(rows))
    )


def _one(mail: _Mail) -> Markup:
    headers = "\n".join(f"{name}: {value}" for name, value in mail.message.items())
    main = Markup(
        '<p><a href="/">All mail</a></p><pre>{headers}</pre><h2>Text</h2><pre dir="auto">{text}</pre>'
        '<h2>HTML</h2><iframe sandbox title="The mail as HTML" src="{path}/html"></iframe>'
    )
    link = Markup('<a href="{0}" rel="noreferrer">{0}</a>')
    pieces = _URL.split(mail.part("plain"))
    text = joined([link.format(piece) if number % 2 else Markup.escape(piece) for number, piece in enumerate(pieces)])
    return page(mail.header("Subject") or "(none)", main.format(headers=headers, text=text, path=mail.path))
