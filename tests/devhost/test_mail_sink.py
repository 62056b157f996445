"""The local mail sink over real SMTP and HTTP: it takes every mail, shows it harmlessly, and is on loopback only."""

import smtplib
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from devhost.mail_sink import MAX_SHOWN, MailSink, receiving
from licensing.mail.smtp import SmtpMailer
from licensing.settings import Settings, SmtpSecurity
from tests.support.waiting import http_get


@pytest.fixture
def mail_sink(tmp_path: Path) -> Iterator[MailSink]:
    with receiving(tmp_path / "mail_sink", tmp_path / "mail") as made:
        yield made


def a_mail(
    subject: str = "Confirm", text: str = "Open https://example.com/a?b=c&d now.\n", html: str = ""
) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "no-reply@example.com"
    mail["To"] = "ada@example.com"
    mail["Subject"] = subject
    mail["Message-ID"] = "<one@example.com>"
    mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html")
    return mail


def post(mail_sink: MailSink, *mails: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", mail_sink.smtp_port, local_hostname="localhost") as client:
        for mail in mails:
            client.send_message(mail)


def test_mail_sink_messages_endpoint_returns_received_mail(mail_sink: MailSink) -> None:
    assert http_get(f"{mail_sink.url}/messages").json() == []
    post(mail_sink, a_mail("Ærø \U0001f6a7", html="<p>Hello</p>"))
    (found,) = http_get(f"{mail_sink.url}/messages").json()
    assert (found["from"], found["to"]) == ("no-reply@example.com", "ada@example.com")
    assert (found["subject"], found["messageId"]) == ("Ærø \U0001f6a7", "<one@example.com>")
    assert "https://example.com/a?b=c&d" in found["text"]
    whole = http_get(f"{mail_sink.url}/messages/{found['id']}").json()
    assert whole["html"].strip() == "<p>Hello</p>"
    assert ["To", "ada@example.com"] in whole["headers"]
    assert {**whole, **found} == whole


def test_mail_sink_page_shows_mail_with_links(mail_sink: MailSink) -> None:
    post(mail_sink, a_mail(html="<p>Hello</p>"))
    page = http_get(mail_sink.url)
    assert "nothing leaves this machine" in page.text
    (found,) = http_get(f"{mail_sink.url}/messages").json()
    assert f'href="/mail/{found["id"]}"' in page.text
    mail = http_get(f"{mail_sink.url}/mail/{found['id']}")
    assert '<a href="https://example.com/a?b=c&amp;d" rel="noreferrer">' in mail.text
    assert f'<iframe sandbox title="The mail as HTML" src="/mail/{found["id"]}/html">' in mail.text
    assert "Message-ID: &lt;one@example.com&gt;" in mail.text


def test_mail_sink_pages_prevent_script_execution(mail_sink: MailSink) -> None:
    evil = "<script>alert(1)</script>"
    post(mail_sink, a_mail(subject=evil, text=f"{evil} https://x.example/\"'>{evil}", html=evil))
    (found,) = http_get(f"{mail_sink.url}/messages").json()
    for path in ("/", f"/mail/{found['id']}"):
        page = http_get(mail_sink.url + path)
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "script-src" not in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
    shown = http_get(f"{mail_sink.url}/mail/{found['id']}/html")
    assert evil in shown.text
    policy = shown.headers["Content-Security-Policy"].split("; ")
    assert policy == ["default-src 'none'", "style-src 'unsafe-inline'", "sandbox"]


def test_mail_sink_lists_repeated_mails_newest_first(mail_sink: MailSink) -> None:
    post(mail_sink, *(a_mail(str(number)) for number in range(3)))
    assert [each["subject"] for each in http_get(f"{mail_sink.url}/messages").json()] == ["2", "1", "0"]


def test_mail_sink_lists_limited_number_of_mails(mail_sink: MailSink) -> None:
    post(mail_sink, *(a_mail(str(number)) for number in range(MAX_SHOWN + 5)))
    found = http_get(f"{mail_sink.url}/messages").json()
    assert (len(found), found[0]["subject"]) == (MAX_SHOWN, str(MAX_SHOWN + 4))


@pytest.mark.parametrize(
    "path", ["/nothing", "/mail/", "/mail/1", "/messages/1", "/mail/..%2f..%2fsecret", "/mail/1/html/x"]
)
def test_mail_sink_with_unknown_path_returns_404(mail_sink: MailSink, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.eml").write_text("Subject: planted\n\nplanted")
    post(mail_sink, a_mail())
    answer = http_get(mail_sink.url + path)
    assert answer.status_code == 404
    assert "planted" not in answer.text


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:80", "127.0.0.1.example.com", ""])
def test_mail_sink_rejects_foreign_host_header(mail_sink: MailSink, host: str) -> None:
    post(mail_sink, a_mail())
    answer = http_get(f"{mail_sink.url}/messages", headers={"Host": host})
    assert answer.status_code in (400, 404)
    assert "ada" not in answer.text


def test_mail_sink_after_restart_has_same_ports_and_mails(tmp_path: Path) -> None:
    with receiving(tmp_path, tmp_path / "mail") as first:
        post(first, a_mail())
    with receiving(tmp_path, tmp_path / "mail") as second:
        assert second == first
        assert len(http_get(f"{second.url}/messages").json()) == 1


async def test_mail_sink_stops_while_smtp_connection_is_open(tmp_path: Path) -> None:
    with receiving(tmp_path, tmp_path / "mail") as made:
        settings = Settings(
            smtp_host="127.0.0.1", smtp_port=made.smtp_port, smtp_security=SmtpSecurity.NONE, mail_from="a@example.com"
        )
        mailer = SmtpMailer(settings)
        await mailer.send(a_mail())
    for port in (made.smtp_port, httpx.URL(made.url).port or 0):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    await mailer.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells it so")
def test_mail_sink_listens_on_loopback_only(mail_sink: MailSink) -> None:
    ports = {f":{port:04X}" for port in (mail_sink.smtp_port, httpx.URL(mail_sink.url).port or 0)}
    with Path("/proc/net/tcp").open() as table:
        listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
    found = {address for address in listening if address[-5:] in ports}
    assert found == {f"0100007F{port}" for port in ports}
