"""How many mails strangers have asked for, so that nobody can flood anybody: in rows that all instances share.

mails                       address||<id>   when mails went to an address; in the service's own account, since
                                            an address is the same at every publisher
<publisherId>|subscribers   budget||        when mails went out for the publisher
"""

import asyncio
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from licensing.errors import Busy
from licensing.fields import instant
from licensing.storage.batches import MAX_OPERATIONS, Operation
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Table, etag

MAX_MAILS_PER_ADDRESS = 3
WITHIN = timedelta(hours=1)
_ADDRESSES = "mails"
_ATTEMPTS = 8
_KEPT_FOR = timedelta(days=1)


class MailQuota:
    """Counts what goes out within any hour. `table(publisher_id)` says where a publisher's rows are."""

    def __init__(self, table: Callable[[str], Table], clock: Callable[[], datetime], per_hour: int) -> None:
        self._table = table
        self._clock = clock
        self._per_hour = per_hour

    async def take(self, publisher_id: str, address_id: str) -> bool:
        """Whether one mail more may go to the address; if so, it counts. Raises Busy and StorageUnavailable."""
        # The address first: whoever floods one address does not use up what is there for all.
        address = _ADDRESSES, row_key("address", "", address_id)
        budget = f"{publisher_id}|subscribers", row_key("budget", "", "")
        return await self._take("", *address, MAX_MAILS_PER_ADDRESS) and await self._take(
            publisher_id, *budget, self._per_hour
        )

    async def _take(self, account: str, partition: str, key: str, most: int) -> bool:
        table = self._table(account)
        for _ in range(_ATTEMPTS):
            row = await table.find(partition, key)
            now = self._clock()
            since = (now - WITHIN).timestamp()
            sent = [at for at in json.loads(row["sent"]) if at > since] if row else []
            if len(sent) >= most:
                return False
            written = {"RowKey": key, "sent": json.dumps([*sent, int(now.timestamp())]), "at": instant(now)}
            try:
                await table.commit(
                    partition, [Operation("put", written, etag(row)) if row else Operation("create", written)]
                )
            except ConcurrencyConflict:
                await asyncio.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - no secret, it only spreads
            else:
                return True
        raise Busy("Too many ask at once. Try again in a moment.", retry_after_seconds=2)

    async def purge_expired(self) -> None:
        """Forget the addresses to which nothing went for a day."""
        table = self._table("")
        until = instant(self._clock() - _KEPT_FOR)
        rows = table.rows(_ADDRESSES, "address|", where=[("at", "lt", until)], select=["RowKey"])
        keys = [row["RowKey"] async for row in rows]
        for start in range(0, len(keys), MAX_OPERATIONS):
            some = keys[start : start + MAX_OPERATIONS]
            await table.commit(_ADDRESSES, [Operation("delete", {"RowKey": key}) for key in some])
