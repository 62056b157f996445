"""Applies the plan of an import: few transactions, each of which rechecks what it was planned on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from licensing.bulk.csv_records import Importable
from licensing.bulk.plan import Step
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Customer
from licensing.catalogue.rows import OF_A_CUSTOMER
from licensing.catalogue.service import draft_record
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Conflict
from licensing.storage.batches import MAX_OPERATIONS
from licensing.storage.errors import RowTooLarge


async def apply_plan(
    store: CatalogueStore, publisher_id: str, actor: str, steps: Sequence[Step]
) -> AsyncGenerator[int]:
    """Store what the steps make, one transaction after the other; yield the number of steps in each.

    Raises Conflict where another change came in between, and what the store raises. After that, planning and applying
    the import again stores the rest.
    """
    waiting = deque(_batches(steps))
    while waiting:
        batch = waiting.popleft()
        try:
            await store.change(publisher_id, actor, partial(_draft, batch))
        except RowTooLarge:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            waiting.extendleft([batch[half:], batch[:half]])
        else:
            yield len(batch)


def _batches(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """As many steps in each as one transaction takes operations, of which one moves the version."""
    batch: list[Step] = []
    room = 0
    for step in steps:
        needed = _operations(step, batch[-1] if batch else None)
        if needed > room:
            if batch:
                yield batch
            batch, room = [], MAX_OPERATIONS - 1
            needed = _operations(step, None)
        batch.append(step)
        room -= needed
    if batch:
        yield batch


def _operations(step: Step, previous: Step | None) -> int:
    """How many rows of a transaction the step takes at most, after the previous one."""
    if not isinstance(step.after, OF_A_CUSTOMER):
        return 2  # its own, and the audit's
    own = previous is None or previous.after.parent != step.after.parent
    # The customer's, where the previous step does not write it; the audit's; what finds the record, now and before.
    return own + 2 + (step.before is not None)


async def _draft(steps: Sequence[Step], draft: Draft) -> None:
    """Draft what the steps make, of records that are still as they were when that was planned."""
    # All at once, for speed: the draft remembers them.
    await asyncio.gather(*(draft.find(kind, record_id) for kind, record_id in {_needed(step) for step in steps}))
    for step in steps:
        record = step.after
        if await draft.find(type(record), record.id, record.parent) != step.before:
            raise Conflict(f"Somebody else has changed the record of line {step.line} meanwhile.")
        created_at = draft.now if step.before is None else record.created_at
        await draft_record(draft, replace(record, created_at=created_at, updated_at=draft.now), step.before)


def _needed(step: Step) -> tuple[type[Importable], str]:
    """What has to be read for the step: the customer that it belongs to, or the record itself."""
    return (Customer, step.after.parent) if step.after.parent else (type(step.after), step.after.id)
