"""Many subscribers at once."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import batched

from licensing.catalogue.rows import own_row
from licensing.notices.model import Subscriber
from licensing.services import Services
from licensing.storage.batches import MAX_OPERATIONS, Operation


async def put_subscribers(services: Services, publisher_id: str, subscribers: Sequence[Subscriber]) -> None:
    """Store new subscribers as the notice store does, but in transactions of a hundred."""
    operations = [Operation("create", own_row(replace(each, etag="0"))) for each in subscribers]
    for some in batched(operations, MAX_OPERATIONS, strict=False):
        await services.table(publisher_id).commit(f"{publisher_id}|subscribers", some)
