"""Mail over SMTP, on connections that are reused."""

import asyncio
from contextlib import suppress
from email import policy
from email.message import EmailMessage
from typing import TYPE_CHECKING

from licensing.mail.message import NotSent, RecipientRefused, ServerDown
from licensing.settings import Settings, SmtpSecurity

if TYPE_CHECKING:
    import ssl

    import aiosmtplib

_TIMEOUT_SECONDS = 20.0
_CONNECTIONS = 4
_IDLE_SECONDS = 30.0
_CONNECTION_ENDS = 421
_FOR_NOW = {*range(400, 500)} - {_CONNECTION_ENDS}
_FOR_GOOD = range(550, 560)
"""What is below is about the command, not the mailbox."""


class SmtpMailer:
    """Hands each message to a mail server, many over one connection. Belongs to one event loop."""

    def __init__(self, settings: Settings, trusted: "ssl.SSLContext | None" = None) -> None:
        """`trusted`: whose certificates count, where it is not those whom this machine trusts."""
        self._settings = settings
        self._trusted = trusted
        self._turn = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []

    async def send(self, message: EmailMessage) -> None:
        """Hand the message over, to the one in To alone. Raises NotSent, and ValueError where an address is none."""
        async with self._turn:
            while self._idle:
                client, until = self._idle.pop()
                if until < asyncio.get_running_loop().time():
                    client.close()
                    continue
                with suppress(ServerDown):  # the server may have ended the connection meanwhile: that is its right
                    return await self._send_over(client, message)
            return await self._send_over(await self._connect(), message)

    async def close(self) -> None:
        """Let go of the connections. Another message opens them anew."""
        while self._idle:
            self._idle.pop()[0].close()

    async def _connect(self) -> "aiosmtplib.SMTP":
        import aiosmtplib  # noqa: PLC0415 - takes a while, and a validation does without it

        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user or None,
            password=settings.smtp_password or None,
            local_hostname=settings.mail_from.rpartition("@")[2],
            timeout=_TIMEOUT_SECONDS,
            use_tls=settings.smtp_security is SmtpSecurity.TLS,
            start_tls=settings.smtp_security is SmtpSecurity.STARTTLS,
            tls_context=self._trusted,
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise ServerDown(f"The mail server cannot be used: {type(error).__name__}.") from None
        return client

    async def _send_over(self, client: "aiosmtplib.SMTP", message: EmailMessage) -> None:
        try:
            await _hand_over(client, message)
        except NotSent:
            await _begin_anew(client)
            raise
        except BaseException:  # cancelled, say: nobody knows what the server's next answer belongs to
            client.close()
            raise
        finally:
            if client.is_connected:
                self._idle.append((client, asyncio.get_running_loop().time() + _IDLE_SECONDS))


async def _hand_over(client: "aiosmtplib.SMTP", message: EmailMessage) -> None:
    import aiosmtplib  # noqa: PLC0415 - as above

    body = message.as_bytes(policy=policy.SMTP.clone(cte_type="7bit"))
    try:
        await client.mail(message["From"].addresses[0].addr_spec)
    except aiosmtplib.SMTPResponseException as error:
        sentence = f"The server answered {error.code} to the sender."
        raise (NotSent if error.code in _FOR_NOW else ServerDown)(sentence) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise ServerDown(f"The mail server does not answer: {type(error).__name__}.") from None
    # From here on it may be the recipient's fault: one of them must not stop the mail of all others.
    try:
        await client.rcpt(message["To"].addresses[0].addr_spec)
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(error.code, error.message) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(f"The mail server does not answer to the recipient: {type(error).__name__}.") from None
    try:
        await client.data(body)
    except aiosmtplib.SMTPResponseException as error:
        raise NotSent(f"The server answered {error.code} to the message.") from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(f"Whether the message was taken is not known: {type(error).__name__}.") from None


def _refused(code: int, answer: str) -> NotSent:
    """What it means that the server refused the recipient. The answer begins with an enhanced code, mostly."""
    sentence = f"The server answered {code} to the recipient."
    # 5.7 (RFC 3463) is policy: that we may not send there tells nothing of the address.
    return RecipientRefused(sentence) if code in _FOR_GOOD and not answer.startswith("5.7.") else NotSent(sentence)


async def _begin_anew(client: "aiosmtplib.SMTP") -> None:
    """Have the server forget what it was told of a message, so that the connection is good for another."""
    import aiosmtplib  # noqa: PLC0415 - as above

    try:
        await client.rset()
    except (aiosmtplib.SMTPException, OSError):
        client.close()
