"""A shared read: newer than every question it answers, and one for all who ask at the same time."""

import asyncio
import functools
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from licensing.storage.coalesced_read import CoalescedRead


class Source:
    """Something that is read slowly. Its value moves only when a test moves it."""

    def __init__(self) -> None:
        self.value = 0
        self.read_at: list[float] = []
        self.concurrent_reads = 0
        self.max_concurrent_reads = 0
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()

    @property
    def reads(self) -> int:
        return len(self.read_at)

    async def read(self) -> int:
        self.read_at.append(asyncio.get_running_loop().time())
        self.concurrent_reads += 1
        self.max_concurrent_reads = max(self.max_concurrent_reads, self.concurrent_reads)
        try:
            value, fails = self.value, self.fails
            await asyncio.sleep(0)
            await self.open.wait()
            if fails:
                raise LookupError("no answer")
            return value
        finally:
            self.concurrent_reads -= 1


class SimulatedClock(selectors.SelectSelector):
    """Moves an event loop's time on to its next timer whenever nothing else is left to do."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the loop waits forever: it has no timer"
        self.now += timeout
        return super().select(0)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(self)
        loop.time = lambda: self.now  # type: ignore[method-assign]
        return loop


def in_simulated_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run the test in an event loop of its own, in which no machine is too slow and nobody really waits."""

    @functools.wraps(test)
    def run() -> None:
        errors: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=SimulatedClock().new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, error: errors.append(error))
            runner.run(test())
        assert not errors

    return run


def coalesced_read(
    source: Source, *, min_interval_seconds: float = 0, timeout_seconds: float = 60
) -> CoalescedRead[int]:
    return CoalescedRead(source.read, min_interval_seconds=min_interval_seconds, timeout_seconds=timeout_seconds)


async def ask[T](shared: CoalescedRead[T]) -> T:
    return await shared.get()


async def run_pending_tasks(count: int = 10) -> None:
    """Let everybody else come as far as they can without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_coalesced_read_shares_one_read_among_concurrent_callers() -> None:
    source = Source()
    shared = coalesced_read(source)
    assert await asyncio.gather(*(ask(shared) for _ in range(1000))) == [0] * 1000
    assert source.reads == 1


async def test_coalesced_read_during_a_running_read_waits_for_the_next() -> None:
    source = Source()
    shared = coalesced_read(source)
    source.open.clear()
    early = asyncio.create_task(ask(shared))
    await run_pending_tasks()
    source.value = 1  # after the first read has looked
    late = [asyncio.create_task(ask(shared)) for _ in range(100)]
    await run_pending_tasks()
    assert source.reads == 1
    source.open.set()
    assert await early == 0
    assert await asyncio.gather(*late) == [1] * 100
    assert (source.reads, source.max_concurrent_reads) == (2, 1)


async def test_coalesced_read_never_returns_value_older_than_the_call() -> None:
    source = Source()
    shared = coalesced_read(source, min_interval_seconds=0.001)
    chance = random.Random(1)

    async def keep_asking() -> None:
        for _ in range(100):
            asked_at = source.value
            assert await shared.get() >= asked_at
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    async def move() -> None:
        while True:
            source.value += 1
            await asyncio.sleep(0)

    moving = asyncio.create_task(move())
    await asyncio.gather(*(keep_asking() for _ in range(20)))
    moving.cancel()
    assert source.reads < 1000, "two thousand questions, far fewer reads"
    assert source.max_concurrent_reads == 1


@in_simulated_time
async def test_coalesced_read_keeps_minimum_interval_between_shared_reads() -> None:
    source = Source()
    shared = coalesced_read(source, min_interval_seconds=0.05)
    for _ in range(5):
        await asyncio.gather(shared.get(), shared.get())
    assert source.read_at == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


@in_simulated_time
async def test_coalesced_read_for_a_single_caller_does_not_wait() -> None:
    source = Source()
    shared = coalesced_read(source, min_interval_seconds=3600)
    for _ in range(5):
        await shared.get()
    assert source.read_at == [0] * 5


@in_simulated_time
async def test_coalesced_read_first_read_does_not_wait() -> None:
    source = Source()
    shared = coalesced_read(source, min_interval_seconds=3600)
    await asyncio.gather(shared.get(), shared.get())
    assert source.read_at == [0]


async def test_coalesced_read_cancelled_caller_does_not_cancel_the_shared_read() -> None:
    source = Source()
    shared = coalesced_read(source)
    source.open.clear()
    asking = [asyncio.create_task(ask(shared)) for _ in range(3)]
    await run_pending_tasks()
    asking[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    source.open.set()
    assert await asyncio.gather(*asking[1:]) == [0, 0]
    assert source.reads == 1


@in_simulated_time
async def test_coalesced_read_caller_cancelled_before_the_read_does_not_cancel_it() -> None:
    source = Source()
    shared = coalesced_read(source, min_interval_seconds=0.05)
    await asyncio.gather(shared.get(), shared.get())
    asking = [asyncio.create_task(ask(shared)) for _ in range(3)]
    await run_pending_tasks()
    assert source.reads == 1
    asking[0].cancel()
    assert await asyncio.gather(*asking[1:]) == [0, 0]
    assert source.reads == 2


async def test_coalesced_read_after_all_callers_are_cancelled_reads_again() -> None:
    source = Source()
    shared = coalesced_read(source)
    source.open.clear()
    source.fails = True  # and nobody is left to look at the error
    asking = [asyncio.create_task(ask(shared)) for _ in range(3)]
    await run_pending_tasks()
    for task in asking:
        task.cancel()
    await run_pending_tasks()
    source.open.set()
    await run_pending_tasks()
    source.fails = False
    source.value = 7
    assert await shared.get() == 7


async def test_coalesced_read_error_reaches_only_callers_of_that_read() -> None:
    source = Source()
    shared = coalesced_read(source)
    source.fails = True
    answers = await asyncio.gather(*(ask(shared) for _ in range(10)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError] * 10
    source.fails = False
    assert await shared.get() == 0
    assert source.reads == 2


async def test_coalesced_read_after_failed_read_serves_waiting_callers_from_the_next() -> None:
    source = Source()
    shared = coalesced_read(source)
    source.open.clear()
    source.fails = True
    early = asyncio.create_task(ask(shared))
    await run_pending_tasks()
    source.fails = False
    late = asyncio.create_task(ask(shared))
    await run_pending_tasks()
    source.open.set()
    with pytest.raises(LookupError):
        await early
    assert await late == 0


@in_simulated_time
async def test_coalesced_read_that_hangs_times_out_without_blocking_the_next() -> None:
    source, loop = Source(), asyncio.get_running_loop()
    shared = coalesced_read(source, timeout_seconds=2)
    source.open.clear()
    early = asyncio.create_task(ask(shared))
    await run_pending_tasks()
    # Each of these comes while the first read still hangs, and after the one before it has given up.
    for number in range(1, 4):
        with pytest.raises(TimeoutError):
            await shared.get()
        assert loop.time() == pytest.approx(2 * number)
    with pytest.raises(TimeoutError):
        await early
    assert source.reads > 1, "a read that hangs, on a dead connection say, does not hold up the next one"
    source.open.set()
    assert await shared.get() == 0


async def test_coalesced_read_after_its_source_is_cancelled_reads_again() -> None:
    source = Source()
    read, cancelled = source.read, False

    async def cancelled_once() -> int:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            raise asyncio.CancelledError
        return await read()

    shared = CoalescedRead(cancelled_once, min_interval_seconds=0, timeout_seconds=60)
    with pytest.raises(TimeoutError):
        await shared.get()
    assert await shared.get() == 0


@in_simulated_time
async def test_coalesced_read_timeout_ends_all_waiting_callers_together() -> None:
    source = Source()
    shared = coalesced_read(source, timeout_seconds=2)
    source.open.clear()
    answers = await asyncio.gather(*(ask(shared) for _ in range(100)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [TimeoutError] * 100
    assert asyncio.get_running_loop().time() == pytest.approx(2)
    source.open.set()


@in_simulated_time
async def test_coalesced_read_completed_in_time_is_not_affected_by_the_timeout() -> None:
    source = Source()
    shared = coalesced_read(source, timeout_seconds=2)
    assert await shared.get() == 0
    await asyncio.sleep(5)
    source.value = 1
    assert await shared.get() == 1
