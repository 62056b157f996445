"""What all mail has in common: how it fails, who sends it, and its headers."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import Policy
from typing import Protocol

_LONGEST_LINE = 998
"""RFC 5322, section 2.1.1."""


class NotSent(Exception):
    """The message was not sent, or nobody knows whether it was; later it may be.

    The sentence is one of ours: it holds neither an address nor anything that a server said.
    """


class RecipientRefused(NotSent):
    """The server will never take mail for this address."""


class ServerDown(NotSent):
    """The server takes no mail at all now. This message was not sent."""


class Mailer(Protocol):
    """Who carries mail."""

    async def send(self, message: EmailMessage) -> None:
        """Take the message over. Whatever this raises, it may have been sent all the same."""


def addressed(sender: Address, recipient: str, subject: str, *, message_id: str, now: datetime) -> EmailMessage:
    """A message without content yet. Raises ValueError, IndexError or MessageError where an address is none."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = subject
    message["Date"] = now
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: so that no absence notice comes back
    return message


def set_unfolded(message: EmailMessage, name: str, value: str) -> None:
    """Set the header just so: what is long would else be encoded, and few programs decode ids and addresses.

    Raises ValueError where it cannot stand in one line.
    """
    if not (value.isascii() and value.isprintable() and len(name) + len(value) + 2 <= _LONGEST_LINE):
        raise ValueError(f"{name} cannot stand in one line.")
    unfolded = _Unfolded(value)
    unfolded.name = name
    message[name] = unfolded


class _Unfolded(str):  # noqa: SLOT000 - a str has room for nothing else otherwise
    """A header's value, as the policies of email know one."""

    name: str

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"
