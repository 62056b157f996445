"""Mail that is put into a folder, and mail that is handed to a real server on loopback."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from licensing.mail import smtp
from licensing.mail.folder import MailFolder
from licensing.mail.message import NotSent, RecipientRefused, ServerDown, set_unfolded
from licensing.mail.smtp import SmtpMailer
from licensing.services import Services
from licensing.settings import Settings, SmtpSecurity
from tests.support.certificates import create_tls_contexts


def a_message(message_id: str = "<one@example.com>", text: str = "Ærø\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Contoso <no-reply@example.com>"
    message["To"] = "ada@example.com"
    message["Message-ID"] = message_id
    message.set_content(text)
    return message


def send(folder: Path, *messages: EmailMessage) -> None:
    async def send_all() -> None:
        await asyncio.gather(*(MailFolder(folder).send(message) for message in messages))

    asyncio.run(send_all())


def test_mail_folder_stores_message_as_eml_that_parses_back(tmp_path: Path) -> None:
    send(tmp_path, a_message())
    (file,) = tmp_path.iterdir()
    assert file.name == "one@example.com.eml"
    read = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert (read["To"], read.get_content().strip()) == ("ada@example.com", "Ærø")
    assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")


def test_mail_folder_with_repeated_message_id_overwrites_only_that_file(tmp_path: Path) -> None:
    for message_id, text in (("<1@x>", "one"), ("<2@x>", "two"), ("<1@x>", "again")):
        send(tmp_path, a_message(message_id, text))
    assert {file.name: "again" in file.read_text() for file in tmp_path.iterdir()} == {
        "1@x.eml": True,
        "2@x.eml": False,
    }


@pytest.mark.parametrize("message_id", ["<../../up@x>", "<a/b@x>", "<..>", "</etc/passwd>", "<\\\\share\\a@x>"])
def test_mail_folder_with_unsafe_message_id_writes_inside_the_folder(tmp_path: Path, message_id: str) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    send(folder, a_message(message_id))
    assert [*tmp_path.iterdir()] == [folder]
    (file,) = folder.iterdir()
    assert file.suffix == ".eml"


def test_mail_folder_when_rename_fails_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Path, _target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011 - it has no more to say
        send(tmp_path, a_message())
    assert [*tmp_path.iterdir()] == []


def test_mail_folder_with_missing_directory_raises_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        send(tmp_path / "gone", a_message())


def test_mail_folder_stores_all_concurrent_messages(tmp_path: Path) -> None:
    send(tmp_path, *(a_message(f"<{number}@x>") for number in range(20)))
    assert len([*tmp_path.iterdir()]) == 20


# A real server.


@dataclass
class FakeSmtpServer:
    """A mail server: what it was given, and what it answers at which step."""

    answers: dict[str, str] = field(default_factory=dict)
    """To MAIL, RCPT and DATA; "" hangs up, "..." never comes."""
    answers_once: bool = False
    """Once it has given one."""
    connections: int = 0
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    signed_in: list[tuple[bytes, bytes]] = field(default_factory=list)
    was_secure: list[bool] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once an answer is due that never comes."""
    _open: set[SMTP] = field(default_factory=set)

    async def handle_MAIL(self, server: SMTP, *given: Any) -> str:  # noqa: N802 - aiosmtpd's name
        _, envelope, address, _ = given
        envelope.mail_from = address
        return await self._answer(server, "MAIL")

    async def handle_RCPT(self, server: SMTP, *given: Any) -> str:  # noqa: N802 - aiosmtpd's name
        _, envelope, address, _ = given
        envelope.rcpt_tos.append(address)
        return await self._answer(server, "RCPT")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        answer = await self._answer(server, "DATA")
        if answer.startswith("250"):
            self.mails.append((envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b""))
            self.was_secure.append(session.ssl is not None)
        return answer

    async def _answer(self, server: SMTP, step: str) -> str:
        answer = self.answers.get(step, "250 OK")
        if self.answers_once:
            self.answers.pop(step, None)
        if answer == "...":
            self.hangs.set()
            await asyncio.Event().wait()
        if not answer and server.transport is not None:
            server.transport.close()
        return answer or "451 gone"

    def authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, who: Any) -> AuthResult:
        assert isinstance(who, LoginPassword)
        self.signed_in.append((who.login, who.password))
        return AuthResult(success=who.password == b"right", handled=False)

    def new_session(self, **options: Any) -> SMTP:
        self.connections += 1
        new_session = SMTP(self, hostname="localhost", authenticator=self.authenticate, **options)
        self._open.add(new_session)
        return new_session

    def close_connections(self) -> None:
        """End all connections, as a server may do with those that are idle."""
        for each in self._open:
            if each.transport is not None:
                each.transport.close()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
        """Its port, while it serves."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: self.new_session(**options), "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            server.abort_clients()
            await server.wait_closed()


@asynccontextmanager
async def open_mailer(port: int, trusted: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[SmtpMailer]:
    fields = {"smtp_host": "localhost", "smtp_security": SmtpSecurity.NONE, "mail_from": "no-reply@example.com"}
    mailer = SmtpMailer(Settings(**{**fields, "smtp_port": port, **settings}), trusted)
    try:
        yield mailer
    finally:
        await mailer.close()


SIGNED_IN: dict[str, Any] = {"smtp_security": SmtpSecurity.STARTTLS, "smtp_user": "ada", "smtp_password": "right"}


async def test_smtp_mailer_with_starttls_and_login_delivers_message_intact(tmp_path: Path) -> None:
    shown, trusted = create_tls_contexts(tmp_path, "localhost")
    office = FakeSmtpServer()
    async with (
        office.running(tls_context=shown, require_starttls=True, auth_required=True) as port,
        open_mailer(port, trusted, **SIGNED_IN) as mailer,
    ):
        sent = a_message(text="Ærø\n.\n..dots\n" + "long " * 300)
        await mailer.send(sent)
    ((sender, recipients, raw),) = office.mails
    assert (sender, recipients) == ("no-reply@example.com", ["ada@example.com"])
    assert office.signed_in == [(b"ada", b"right")]
    assert office.was_secure == [True]
    assert raw.isascii()
    read = message_from_bytes(raw, policy=policy.default)
    assert read.get_content().replace("\r\n", "\n") == sent.get_content()
    assert read["From"] == "Contoso <no-reply@example.com>"


async def test_smtp_mailer_with_implicit_tls_delivers_message(tmp_path: Path) -> None:
    shown, trusted = create_tls_contexts(tmp_path, "localhost")
    office = FakeSmtpServer()
    async with (
        office.running(shown, auth_require_tls=False) as port,
        open_mailer(port, trusted, **{**SIGNED_IN, "smtp_security": SmtpSecurity.TLS}) as mailer,
    ):
        await mailer.send(a_message())
    ((_, _, raw),) = office.mails
    assert raw.isascii()


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
@pytest.mark.parametrize(("host", "is_trusted"), [("localhost", False), ("example.com", True)])
async def test_smtp_mailer_with_invalid_certificate_raises_and_sends_nothing(
    tmp_path: Path, security: SmtpSecurity, host: str, *, is_trusted: bool
) -> None:
    shown, trusted = create_tls_contexts(tmp_path, host)
    office = FakeSmtpServer()
    options: dict[str, Any] = {"tls_context": shown} if security is SmtpSecurity.STARTTLS else {"tls": shown}
    async with (
        office.running(**options, auth_require_tls=False) as port,
        open_mailer(port, trusted if is_trusted else None, **{**SIGNED_IN, "smtp_security": security}) as mailer,
    ):
        with pytest.raises(ServerDown):
            await mailer.send(a_message())
    assert (office.mails, office.signed_in) == ([], [])


async def test_smtp_mailer_without_starttls_support_raises_and_sends_nothing() -> None:
    office = FakeSmtpServer()
    async with office.running(auth_require_tls=False) as port, open_mailer(port, **SIGNED_IN) as mailer:
        with pytest.raises(ServerDown):
            await mailer.send(a_message())
    assert (office.mails, office.signed_in) == ([], [])


async def test_smtp_mailer_with_wrong_password_raises_server_down_without_echo(tmp_path: Path) -> None:
    shown, trusted = create_tls_contexts(tmp_path, "localhost")
    office = FakeSmtpServer()
    async with (
        office.running(tls_context=shown, auth_required=True) as port,
        open_mailer(port, trusted, **{**SIGNED_IN, "smtp_password": "planted"}) as mailer,
    ):
        with pytest.raises(ServerDown) as caught:
            await mailer.send(a_message())
    assert office.mails == []
    assert "planted" not in str(caught.value)


async def test_smtp_mailer_with_many_messages_opens_at_most_four_connections() -> None:
    office = FakeSmtpServer()
    async with office.running() as port, open_mailer(port) as mailer:
        await asyncio.gather(*(mailer.send(a_message(f"<{number}@x>")) for number in range(100)))
        await mailer.send(a_message("<last@x>"))
    assert len({raw for _, _, raw in office.mails}) == 101
    assert office.connections <= 4


# At which step, what the server answers, what it means.
ANSWERS: list[tuple[str, str, type[NotSent]]] = [
    ("RCPT", "550 5.1.1 planted: no such user", RecipientRefused),
    ("RCPT", "550 planted", RecipientRefused),
    ("RCPT", "553 5.1.3 planted", RecipientRefused),
    ("RCPT", "550 5.7.1 planted: relaying denied", NotSent),
    ("RCPT", "554 5.7.1 planted", NotSent),
    ("RCPT", "530 5.7.0 planted: authenticate first", NotSent),
    ("RCPT", "503 planted: bad sequence", NotSent),
    ("RCPT", "450 4.2.1 planted: greylisted", NotSent),
    ("RCPT", "452 planted", NotSent),
    ("RCPT", "421 planted", NotSent),
    ("RCPT", "", NotSent),
    ("MAIL", "451 planted", NotSent),
    ("MAIL", "450 4.5.127 planted: too many", NotSent),
    ("MAIL", "550 5.7.1 planted: sender refused", ServerDown),
    ("MAIL", "421 planted", ServerDown),
    ("MAIL", "", ServerDown),
    ("DATA", "554 planted", NotSent),
    ("DATA", "451 planted", NotSent),
    ("DATA", "421 planted", NotSent),
    ("DATA", "", NotSent),
]


@pytest.mark.parametrize(("step", "answer", "meaning"), ANSWERS, ids=[f"{case[0]} {case[1]}" for case in ANSWERS])
async def test_smtp_mailer_maps_server_reply_to_error_without_repeating_it(
    step: str, answer: str, meaning: type[NotSent]
) -> None:
    office = FakeSmtpServer({step: answer})
    async with office.running() as port, open_mailer(port) as mailer:
        with pytest.raises(NotSent) as caught:
            await mailer.send(a_message())
        assert type(caught.value) is meaning
        assert not any(word in str(caught.value) for word in ("planted", "ada", "example", "5.7"))
        assert caught.value.__suppress_context__
        office.answers.clear()
        await mailer.send(a_message("<next@x>"))
    assert len(office.mails) == 1


async def test_smtp_mailer_after_recipient_refused_reuses_the_connection() -> None:
    office = FakeSmtpServer({"RCPT": "550 no"})
    async with office.running() as port, open_mailer(port) as mailer:
        for number in range(10):
            with pytest.raises(RecipientRefused):
                await mailer.send(a_message(f"<{number}@x>"))
    assert office.connections == 1


async def test_smtp_mailer_without_server_raises_server_down() -> None:
    async with FakeSmtpServer().running() as port:
        pass
    async with open_mailer(port) as mailer:
        with pytest.raises(ServerDown):
            await mailer.send(a_message())


@pytest.mark.parametrize(("step", "meaning"), [("MAIL", ServerDown), ("RCPT", NotSent), ("DATA", NotSent)])
async def test_smtp_mailer_on_timeout_raises_the_error_of_the_step(
    monkeypatch: pytest.MonkeyPatch, step: str, meaning: type[NotSent]
) -> None:
    """Before the message it is the server that is down; after it, nobody knows whether the message was taken."""
    assert smtp._TIMEOUT_SECONDS == 20
    seconds = 0.3
    office = FakeSmtpServer({step: "..."})
    async with office.running() as port, open_mailer(port) as mailer:
        while not office.hangs.is_set():  # a slow machine needs longer to come to that step
            monkeypatch.setattr(smtp, "_TIMEOUT_SECONDS", seconds)
            with pytest.raises(NotSent) as caught:
                await mailer.send(a_message())
            seconds *= 2
        assert type(caught.value) is meaning


async def test_smtp_mailer_without_greeting_raises_server_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with open_mailer(silent.getsockname()[1]) as mailer:
            with pytest.raises(ServerDown):
                await mailer.send(a_message())


async def test_smtp_mailer_after_server_closes_connections_reconnects() -> None:
    office = FakeSmtpServer()
    async with office.running() as port, open_mailer(port) as mailer:
        await asyncio.gather(*(mailer.send(a_message(f"<{number}@x>")) for number in range(8)))
        office.close_connections()
        await mailer.send(a_message("<next@x>"))
    assert len(office.mails) == 9


async def test_smtp_mailer_on_421_for_reused_connection_reconnects_and_sends() -> None:
    """As some do after so many messages: no reason to take it for down."""
    office = FakeSmtpServer()
    async with office.running() as port, open_mailer(port) as mailer:
        await mailer.send(a_message("<1@x>"))
        office.answers["MAIL"] = "421 enough for this connection"
        office.answers_once = True
        await mailer.send(a_message("<2@x>"))
    assert (len(office.mails), office.connections) == (2, 2)


async def test_smtp_mailer_does_not_reuse_connection_idle_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "_IDLE_SECONDS", -1)
    office = FakeSmtpServer()
    async with office.running() as port, open_mailer(port) as mailer:
        await mailer.send(a_message("<1@x>"))
        await mailer.send(a_message("<2@x>"))
    assert office.connections == 2


async def test_smtp_mailer_on_cancelled_send_discards_its_connection() -> None:
    office = FakeSmtpServer({"RCPT": "..."})
    async with office.running() as port, open_mailer(port) as mailer:
        sending = asyncio.create_task(mailer.send(a_message("<1@x>")))
        await office.hangs.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        office.answers.clear()
        await mailer.send(a_message("<2@x>"))
    assert [b"<2@x>" in raw for _, _, raw in office.mails] == [True]
    assert office.connections == 2


async def test_set_unfolded_sends_long_header_on_one_line() -> None:
    office, long = FakeSmtpServer(), "https://example.com/" + "x" * 300
    message = a_message()
    set_unfolded(message, "X-Url", long)
    async with office.running() as port, open_mailer(port) as mailer:
        await mailer.send(message)
    ((_, _, raw),) = office.mails
    assert f"\r\nX-Url: {long}\r\n".encode() in raw


@pytest.mark.parametrize("value", ["a\r\nBcc: b@example.com", "a\nb", "\x00", "\xe6", "x" * 1000, "\u2028"])
def test_set_unfolded_with_unsafe_or_long_value_raises_value_error(value: str) -> None:
    with pytest.raises(ValueError, match="X-Id cannot stand"):
        set_unfolded(EmailMessage(), "X-Id", value)


async def test_services_select_mailer_by_settings(services: Services, tmp_path: Path) -> None:
    def mailer(**settings: Any) -> Any:
        return Services(changed(services.settings, **settings)).mailer

    assert mailer() is None
    assert isinstance(mailer(mail_folder=tmp_path), MailFolder)
    assert isinstance(mailer(mail_folder=tmp_path, smtp_host="localhost"), SmtpMailer)
