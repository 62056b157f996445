"""Timers: when a function is due, and one run of it at a time.

Everything is UTC, as on Azure. A run that could not happen when it was due, since the one before was
still going, the machine slept or the host was down, happens once, as soon as it can, and is told that it is
past due.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from croniter import croniter

from devhost.errors import StartError

logger = logging.getLogger("devhost")

# Sleep is cut in slices: a loop's clock stands still while the machine is suspended, and the wall's does not.
_SLICE_SECONDS = 1.0
# Later than this is past due, not just a busy loop.
_LATE = timedelta(seconds=3)
_NEVER = datetime.min.replace(tzinfo=UTC)
# What NCRONTAB knows: croniter knows more (L, #, ?, @daily, hashes), which Azure would refuse.
_VALUE = r"(?:\d+|[a-z]{3})"
_TERM = rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/\d+)?"
_NCRONTAB = re.compile(rf"{_TERM}(?:,{_TERM})*(?: {_TERM}(?:,{_TERM})*){{4,5}}", re.IGNORECASE)


@dataclass(frozen=True)
class Schedule:
    """An NCRONTAB expression: six fields, seconds first, or five without them."""

    expression: str

    @classmethod
    def parse(cls, text: str, environ: Mapping[str, str]) -> Self:
        """Read an expression or the setting named in %SETTING%. Raises StartError."""
        setting = re.fullmatch("%(.+)%", text.strip())
        if setting and not (text := environ.get(setting[1], "")):
            raise StartError(f"its schedule should stand in the setting {setting[1]}, which is not set.")
        expression = " ".join(text.split())
        if not _NCRONTAB.fullmatch(expression):
            raise StartError(f"its schedule {text!r} is no NCRONTAB expression of six fields such as '0 */5 * * * *'.")
        try:
            schedule = cls(expression)
            schedule.next_after(_now())
        except ValueError as error:  # croniter's own errors are ValueErrors
            raise StartError(f"its schedule {text!r} cannot be read: {error}.") from None
        return schedule

    def next_after(self, instant: datetime) -> datetime:
        """Return the first instant after `instant` at which a run is due."""
        # Other than cron, NCRONTAB wants the day of the month and the day of the week both to be right.
        found = croniter(self.expression, instant, datetime, second_at_beginning=True, day_or=False).get_next(datetime)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found


class Timer:
    """One timer function: waits until it is due, runs it, keeps the time of its last run in a file."""

    def __init__(
        self,
        trigger: Mapping[str, Any],
        schedule: Schedule,
        invoke: Callable[[str], Awaitable[object]],
        state_file: Path | None,
    ) -> None:
        self._schedule = schedule
        self._run_on_startup = bool(trigger.get("runOnStartup"))
        self._use_monitor = trigger.get("useMonitor") is not False
        self._invoke = invoke
        self._state_file = state_file if self._use_monitor else None
        self._one_at_a_time = asyncio.Lock()
        self._by_hand: set[asyncio.Task[None]] = set()
        self._last, self._since = self._read_state()

    async def keep_time(self) -> None:
        """Run the function whenever it is due, for ever."""
        self._write_state()
        if self._run_on_startup and self._schedule.next_after(self._since) > _now():
            await self._run(past_due=False)
            self._ran(_now())
        while True:
            due = self._schedule.next_after(self._since)
            past_due = due <= _now()
            await _sleep_until(due)
            started = max(_now(), due)
            await self._run(past_due=past_due or started - due > _LATE)
            self._ran(started)

    def fire_soon(self) -> None:
        """Run the function now, or when the run that is going has ended. The schedule goes on as it was."""
        task = asyncio.create_task(self._run(past_due=False))
        self._by_hand.add(task)
        task.add_done_callback(self._by_hand.discard)

    async def _run(self, *, past_due: bool) -> None:
        async with self._one_at_a_time:
            await self._invoke(json.dumps(self._describe(past_due=past_due)))

    def _describe(self, *, past_due: bool) -> dict[str, Any]:
        """Return what the function is told: the JSON of the Functions host."""
        due = self._schedule.next_after(self._since)
        return {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": self._status(due) if self._use_monitor else None,
            "IsPastDue": past_due,
        }

    def _status(self, due: datetime) -> dict[str, str]:
        return {
            "Last": self._last.isoformat(),
            "Next": due.isoformat(),
            "LastUpdated": self._since.isoformat(),
        }

    def _ran(self, started: datetime) -> None:
        self._last = self._since = started
        self._write_state()

    def _read_state(self) -> tuple[datetime, datetime]:
        """Return when the function ran last, and since when the next run counts: now if nothing is kept."""
        try:
            kept = json.loads(self._state_file.read_text()) if self._state_file else None
            if kept:
                return datetime.fromisoformat(kept["Last"]), datetime.fromisoformat(kept["LastUpdated"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s): its timer starts anew.", self._state_file, error)
        return _NEVER, _now()

    def _write_state(self) -> None:
        if self._state_file:
            fresh = self._state_file.with_suffix(".new")
            try:
                fresh.write_text(json.dumps(self._status(self._schedule.next_after(self._since))))
                fresh.replace(self._state_file)
            except OSError as error:
                logger.warning("%s cannot be written: %s", self._state_file, error)


async def _sleep_until(due: datetime) -> None:
    while (left := (due - _now()).total_seconds()) > 0:  # noqa: ASYNC110 - no event tells that the time has come
        await asyncio.sleep(min(left, _SLICE_SECONDS))


def _now() -> datetime:
    return datetime.now(UTC)
