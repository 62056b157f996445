"""Plans and applies an undo: restores records to their state at an instant, from the audit.

The audit tells of each record what it was before each change: so what a record was at an instant is what the first
change from then on says that it was before. However often this is done, and whatever was done of it before, the records
at that instant are the same ones.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Publisher, Record, Role, User
from licensing.catalogue.rows import AuditEntry, from_fields
from licensing.catalogue.rules import SerialNumberTaken
from licensing.catalogue.service import draft_deletion, draft_record
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Conflict, LicensingError, NotFound, RuleBroken

_AT_ONCE = 24
"""So many records always fit into one transaction, unless they are very large."""
_CLOCKS_APART = timedelta(hours=1)
"""The clocks of those who change records are no further apart, or it is said aloud."""
_CHANGES_APART = 200
"""So many changes in a row are older: what came before them is older too, even where one of the clocks was wrong."""
_DELETED_FIRST = (Environment, CustomerProduct, Customer, User, Product, Role)
_MADE_AFTER = (Product, Role, Publisher, Customer, CustomerProduct, Environment, User)
_UNIQUE = (Product, Environment, User)
type _Address = tuple[str, str, str]
type _Fields = Mapping[str, Any] | None
TYPES: Mapping[str, type[Record]] = {each.kind: each for each in _MADE_AFTER}
"""What can be made what it was. What subscribers were told, and license files that were handed out, cannot."""


@dataclass(frozen=True, slots=True)
class Step:
    """A record as it is, and as it was: None where it is not, or was not."""

    now: Record | None
    then: Record | None

    @property
    def record(self) -> Record:
        found = self.then or self.now
        if found is None:
            raise AssertionError("a step without a record")
        return found

    @property
    def rank(self) -> int:
        """What is held goes before who holds it; who holds it comes after what is held."""
        if self.then is None:
            return _DELETED_FIRST.index(type(self.record))
        return len(_DELETED_FIRST) + _MADE_AFTER.index(type(self.record))


async def plan_undo(  # noqa: PLR0913 - what is to be undone
    entries: AsyncIterable[AuditEntry],
    at: datetime,
    *,
    kinds: Collection[str],
    record_ids: Collection[str] = (),
    only_deleted: bool = False,
    warn: Callable[[str], None],
) -> list[Step]:
    """What makes the records what they were just before that instant, in the order in which it is to be done.

    `entries`: the audit, newest first. Records of these kinds; of these ids, with those that belong to them.
    `only_deleted`: those that are no more. Raises RuleBroken where the publisher was not there yet.

    The order of changes is that of the audit. Their times are those of several machines: an older one may come after a
    newer, so what follows a change that is to be undone is undone too, whatever its time. Calls `warn` where
    clocks were more than an hour apart.
    """
    steps = []
    for (kind, parent_id, record_id), (now, then) in (await _changed_since(entries, at, warn)).items():
        wanted = not record_ids or record_id in record_ids or parent_id in record_ids
        if kind in kinds and wanted and not (only_deleted and (now is not None or then is None)):
            step = _step(TYPES[kind], now, then)
            if step.now != step.then:
                steps.append(step)
    return sorted(steps, key=lambda step: (step.rank, step.record.parent or step.record.id))


async def _changed_since(
    entries: AsyncIterable[AuditEntry], at: datetime, warn: Callable[[str], None]
) -> dict[_Address, tuple[_Fields, _Fields]]:
    """What each record that was changed since is now, and what it was before. Raises RuleBroken; warns."""
    found: dict[_Address, tuple[_Fields, _Fields]] = {}
    perhaps: list[AuditEntry] = []
    earliest, apart = datetime.max.replace(tzinfo=UTC), 0
    async for entry in entries:
        perhaps.append(entry)
        if entry.at - earliest > _CLOCKS_APART:
            apart = apart or entry.number
        earliest = min(earliest, entry.at)
        if entry.at < at - _CLOCKS_APART and perhaps[0].number - entry.number >= _CHANGES_APART:
            break
        if entry.at >= at:
            for each in perhaps:
                address = (each.kind, each.parent_id, each.record_id)
                now, _ = found.get(address, (each.after, None))
                found[address] = (now, each.before)
            perhaps.clear()
    if apart:
        warn(
            f"Clocks were more than an hour apart after change {apart}, so what followed a change that is to be undone "
            "is undone whatever its time says. Look at `history`, and at all that would be done, before --apply."
        )
    if not perhaps:
        raise RuleBroken("The publisher was not there yet, or its audit does not go back that far. Name a later time.")
    return found


def _step(kind: type[Record], now: Mapping[str, Any] | None, then: Mapping[str, Any] | None) -> Step:
    is_now = from_fields(kind, now) if now is not None else None
    was = from_fields(kind, then) if then is not None else None
    if was is not None and is_now is not None:
        was = replace(was, updated_at=is_now.updated_at)
    if isinstance(was, User):
        # Who the user is shows whoever signs in next: nobody comes back in by what was undone.
        bound = is_now.identity if isinstance(is_now, User) and is_now.is_named_as(was) else ""
        was = replace(was, identity=bound)
    return Step(is_now, was)


async def apply_steps(
    store: CatalogueStore, publisher_id: str, actor: str, steps: Sequence[Step], advance: Callable[[int], None]
) -> list[tuple[Step, LicensingError]]:
    """Do the steps, some in each transaction; those that a rule of the records refused, and why.

    A step may wait for another: what was refused is tried again for as long as others come through.
    """
    refused: list[tuple[Step, LicensingError]] = []
    waiting = list(steps)
    while waiting:
        refused = await _round(store, publisher_id, actor, waiting, advance)
        if len(refused) == len(waiting):
            break
        waiting = [step for step, _ in refused]
    return refused


async def _round(
    store: CatalogueStore, publisher_id: str, actor: str, steps: Sequence[Step], advance: Callable[[int], None]
) -> list[tuple[Step, LicensingError]]:
    refused: list[tuple[Step, LicensingError]] = []
    batches = deque(itertools.batched(steps, _AT_ONCE, strict=False))
    while batches:
        batch = batches.popleft()
        try:
            await store.change(publisher_id, actor, partial(_draft, batch))
        except (RuleBroken, Conflict, NotFound) as error:
            if len(batch) == 1:
                # An operator sees every customer.
                shown = error.naming_customer() if isinstance(error, SerialNumberTaken) else error
                refused.append((batch[0], shown))
            else:
                half = len(batch) // 2
                batches.extendleft([batch[half:], batch[:half]])
        else:
            advance(len(batch))
    return refused


async def _draft(steps: Sequence[Step], draft: Draft) -> None:
    """Draft the steps. Raises Conflict where a record is no more what it was when they were planned."""
    for step in steps:
        record = step.record
        if await draft.find(type(record), record.id, record.parent) != step.now:
            raise Conflict("Somebody else has changed it meanwhile. Run the same again.")
    for step in steps:
        if step.now is None:
            continue
        if step.then is None and not isinstance(step.now, CustomerProduct):
            await draft_deletion(draft, step.now)
        elif step.then is None or isinstance(step.now, _UNIQUE):
            # A license goes though its customer has environments. What is to be unique is given up by all before any
            # of them takes it: two may have changed places.
            draft.delete(step.now)
    for step in steps:
        if step.then is not None:
            await draft_record(draft, replace(step.then, updated_at=draft.now), step.now, is_restored=True)
