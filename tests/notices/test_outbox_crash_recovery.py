"""Killed again and again while it tells everybody: nobody is missed, and only what was under way comes twice.

`SUBSCRIBERS=10000 pytest tests/notices/test_outbox_crash_recovery.py` does it at full size, which takes some minutes.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller

from devhost.azurite import Emulator, free_port
from licensing.catalogue.records import Publisher
from licensing.notices.model import ChannelKind, Notice, NoticeKind, Subscriber, SubscriberState, begun, subscriber_id
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.notices.subscribers import put_subscribers
from tests.support.hosting import environ_with

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "200"))
KILLS = 5
SENT_AT_ONCE = 8
"""What may be on its way to the mail server at one moment."""

# A timer that runs until there is nothing to do; its clock is ahead by what it is told, so that claims run out.
RUN = """
import asyncio, os, sys
from datetime import UTC, datetime, timedelta
from licensing.services import Services
from licensing.settings import Settings

async def main():
    ahead = timedelta(seconds=float(sys.argv[1]))
    services = Services(Settings.read(os.environ), lambda: datetime.now(UTC) + ahead)
    await services.notices.run()
    await services.close()

asyncio.run(main())
"""


class Mailbox:
    """Every mailbox in the world: who got which message, how often. Kills the sender after so many messages."""

    def __init__(self) -> None:
        self.got: defaultdict[str, list[str]] = defaultdict(list)
        self.sender: subprocess.Popen[bytes] | None = None
        self.kill_at: int | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = message_from_bytes(envelope.content, policy=policy.default)
        for recipient in envelope.rcpt_tos:
            self.got[recipient].append(message["Message-ID"])
        if self.sender and self.count == self.kill_at:
            self.sender.kill()
        return "250 OK"

    @property
    def count(self) -> int:
        return sum(map(len, self.got.values()))


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


async def prepare(services: Services, publisher_id: str) -> list[str]:
    """A publisher with subscribers and an incident; gives their addresses."""
    now = services.clock()

    def common(name: str) -> dict[str, Any]:
        return {"id": name, "created_at": now, "updated_at": now}

    await services.catalogue.create_publisher(Publisher(**common(publisher_id), name="Contoso Apps"), actor="test")
    addresses = [f"user{number}@example.com" for number in range(SUBSCRIBERS)]
    subscribers = [
        Subscriber(
            **common(subscriber_id(ChannelKind.EMAIL, address)),
            address=address,
            state=SubscriberState.CONFIRMED,
            unsubscribe_key="k" * 32,
        )
        for address in addresses
    ]
    await put_subscribers(services, publisher_id, subscribers)
    notice = Notice(**common(str(uuid4())), notice_kind=NoticeKind.INCIDENT, title="Slow", body="We look into it.")
    await services.catalogue.create(publisher_id, begun(notice, notice.notice_kind), actor="test")
    return addresses


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_outbox_killed_repeatedly_delivers_to_all_and_repeats_only_messages_in_flight(
    tables: Emulator, key_set: KeySet, mailbox: tuple[Mailbox, int], tmp_path: Path
) -> None:
    box, port = mailbox
    settings = {
        "LICENSING_STORAGE": tables.connection_string,
        "LICENSING_STORAGE_TABLE": f"killed{random.randrange(10**9)}",
        "LICENSING_SIGNING_KEYS": key_set.dump(),
        "LICENSING_SMTP_HOST": "127.0.0.1",
        "LICENSING_SMTP_PORT": str(port),
        "LICENSING_SMTP_SECURITY": "none",
        "LICENSING_MAIL_FROM": "licenses@example.com",
        "LICENSING_MESSAGES_PER_MINUTE": "100000",
        "LICENSING_AUTO_INCIDENTS": "false",
    }
    services = Services(Settings.read(settings))
    await services.table("").create()
    publisher_id = str(uuid4())
    addresses = await prepare(services, publisher_id)
    await services.close()

    def start(run: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RUN, str(run * 400)]
        with (tmp_path / f"{run}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, env=environ_with(settings), stdout=log, stderr=log)

    kills = run = 0
    while True:
        before = box.count
        # Somewhere in the middle of what is left.
        some = random.randint(1, max(1, (SUBSCRIBERS - len(box.got)) // 3))
        box.kill_at = before + some if kills < KILLS else None
        box.sender = start(run)
        exit_code = await asyncio.to_thread(box.sender.wait)
        if exit_code == -signal.SIGKILL:
            kills += 1
        else:
            assert exit_code == 0, (tmp_path / f"{run}.log").read_text()
            if box.count == before:
                break
        run += 1
    assert kills == KILLS
    assert set(box.got) == set(addresses), "nobody is missed"
    assert all(len(set(ids)) == 1 for ids in box.got.values()), "a repeat has the Message-ID of the first"
    assert len({ids[0] for ids in box.got.values()}) == SUBSCRIBERS, "and nobody else's"
    assert box.count - SUBSCRIBERS <= KILLS * SENT_AT_ONCE, "only what was under way when it was killed comes twice"
