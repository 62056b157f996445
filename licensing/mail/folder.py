"""Mail as files in a folder, for development."""

import asyncio
from email import policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4


class MailFolder:
    """Puts each message into a file that mail programs open, named by its Message-ID: a repeat takes its own place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, message: EmailMessage) -> None:
        """Write the message: all of it, or nothing. Raises OSError."""
        await asyncio.to_thread(self._write, message)

    def _write(self, message: EmailMessage) -> None:
        name = quote(message["Message-ID"].strip("<> "), safe="@")
        fresh = self._folder / f".{uuid4()}"
        try:
            fresh.write_bytes(message.as_bytes(policy=policy.SMTP))
            fresh.replace(self._folder / f"{name}.eml")
        finally:
            fresh.unlink(missing_ok=True)
