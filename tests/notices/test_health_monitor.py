"""The service's own health over time: what opens an incident by itself, what closes it, and what goes on from where."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from devhost.azurite import Emulator
from licensing.catalogue.records import Publisher
from licensing.errors import StorageUnavailable
from licensing.health import Status
from licensing.notices.health_monitor import HealthMonitor
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus, announcements
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.signing.service import Signer

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class HealthMonitorFixture:
    """A run of the timer each minute, at any of the instances; the health is as it is told to be."""

    instances: list[Services]
    publisher_ids: list[str]
    now: datetime = NOW

    async def advance(self, count: int, status: Status, instance: int = 0) -> None:
        health_monitor = self.instances[instance].notices.health_monitor
        assert health_monitor is not None
        for _ in range(count):
            self.now += timedelta(minutes=1)
            await health_monitor.observe(well=status is Status.HEALTHY)

    async def incidents(self, publisher: int = 0) -> list[Notice]:
        return await self.instances[-1].store.list_records(self.publisher_ids[publisher], Notice)

    async def incident(self, publisher: int = 0) -> Notice:
        (found,) = await self.incidents(publisher)
        return found

    def restart(self, instance: int = 0) -> None:
        health_monitor = self.instances[instance].notices.health_monitor
        assert health_monitor is not None
        health_monitor._kept = None


@pytest.fixture
async def minutes(tables: Emulator, key_set: KeySet) -> AsyncIterator[HealthMonitorFixture]:
    # A table of its own: the watch looks after every publisher there is.
    settings = Settings(storage=tables.connection_string, signing_keys=key_set.dump(), storage_table=f"w{uuid4().hex}")
    made = HealthMonitorFixture([], [str(uuid4()), str(uuid4())])
    made.instances += [Services(settings, lambda: made.now), Services(settings, lambda: made.now)]
    for each in made.instances:
        each.signer = Signer(key_set)  # to parse the keys takes longer than most of these tests
    await made.instances[0].table("").create()
    for publisher_id in made.publisher_ids:
        publisher = Publisher(id=publisher_id, created_at=NOW, updated_at=NOW, name="Contoso Apps")
        await made.instances[0].catalogue.create_publisher(publisher, actor="test")
    yield made
    for each in made.instances:
        await each.close()


@pytest.mark.parametrize("status", [Status.DEGRADED, Status.UNHEALTHY])
async def test_health_monitor_after_third_consecutive_failure_opens_incident_per_publisher(
    minutes: HealthMonitorFixture, status: Status
) -> None:
    await minutes.advance(2, status)
    assert await minutes.incidents() == []
    await minutes.advance(1, status)
    for publisher in (0, 1):
        incident = await minutes.incident(publisher)
        assert (incident.notice_kind, incident.status) == (NoticeKind.INCIDENT, NoticeStatus.INVESTIGATING)
        assert (incident.impact, incident.automatic, incident.author) == (Impact.MAJOR, True, "the service")
        assert incident.body.startswith("Since 2026-11-24 12:01 UTC ")
        assert [each.key for each in announcements(incident)] == ["posted"]
    await minutes.advance(10, status)
    assert len(await minutes.incidents()) == 1
    entries = minutes.instances[0].store.audit(minutes.publisher_ids[0], limit=1)
    assert [entry.actor async for entry in entries] == ["the service"]


async def test_health_monitor_with_non_consecutive_failures_opens_no_incident(minutes: HealthMonitorFixture) -> None:
    for _ in range(4):
        await minutes.advance(2, Status.DEGRADED)
        await minutes.advance(1, Status.HEALTHY)
    assert await minutes.incidents() == []


async def test_health_monitor_after_fifth_consecutive_success_resolves_incident(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    await minutes.advance(4, Status.HEALTHY)
    await minutes.advance(1, Status.DEGRADED)  # begins anew, and opens no other
    await minutes.advance(4, Status.HEALTHY)
    assert (await minutes.incident()).is_open
    await minutes.advance(1, Status.HEALTHY)
    for publisher in (0, 1):
        closed = await minutes.incident(publisher)
        assert closed.status is NoticeStatus.RESOLVED
        assert [(each.author, each.status) for each in closed.updates] == [("the service", NoticeStatus.RESOLVED)]
    await minutes.advance(5, Status.HEALTHY)
    assert len((await minutes.incident()).updates) == 1


async def test_health_monitor_opens_new_incident_for_next_outage(minutes: HealthMonitorFixture) -> None:
    for _ in range(2):
        await minutes.advance(3, Status.DEGRADED)
        await minutes.advance(5, Status.HEALTHY)
    assert len({each.id for each in await minutes.incidents()}) == 2


async def test_health_monitor_continues_streak_after_restart_and_on_other_instance(
    minutes: HealthMonitorFixture,
) -> None:
    await minutes.advance(1, Status.DEGRADED)
    minutes.restart()
    await minutes.advance(1, Status.DEGRADED)
    await minutes.advance(1, Status.DEGRADED, instance=1)
    assert len(await minutes.incidents()) == 1
    await minutes.advance(2, Status.HEALTHY)
    await minutes.advance(2, Status.HEALTHY, instance=1)
    minutes.restart()
    await minutes.advance(1, Status.HEALTHY)
    assert not (await minutes.incident()).is_open


async def test_health_monitor_with_stale_cache_opens_no_second_incident(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    publisher_cache = minutes.instances[1].publisher_cache
    real, seen = publisher_cache.get, []

    async def as_it_was(publisher_id: str, kind: type[Notice]) -> dict[str, Notice]:
        seen.append(await real(publisher_id, kind))
        return {}

    health_monitor = minutes.instances[1].notices.health_monitor
    assert health_monitor is not None
    health_monitor.publisher_cache = type("Stale", (), {"get": staticmethod(as_it_was)})()
    await minutes.advance(1, Status.DEGRADED, instance=1)
    assert len(seen) == 2
    assert len(await minutes.incidents()) == 1


# Somebody takes it over.


async def test_health_monitor_keeps_held_incident_open(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    found = await minutes.incident()
    await minutes.instances[0].catalogue.update(
        minutes.publisher_ids[0], Notice, found.id, lambda before: replace(before, held=True), actor="ada"
    )
    await minutes.advance(6, Status.HEALTHY)
    assert (await minutes.incident()).is_open
    assert not (await minutes.incident(1)).is_open, "that of another publisher is not held"
    await minutes.advance(3, Status.DEGRADED)
    assert len(await minutes.incidents()) == 1, "one that is open says enough"


async def test_health_monitor_keeps_incident_with_manual_update_open(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    found = await minutes.incident()
    notices = minutes.instances[0].notices
    await notices.update(minutes.publisher_ids[0], found.id, NoticeStatus.IDENTIFIED, "A cable.", actor="ada")
    await minutes.advance(6, Status.HEALTHY)
    assert (await minutes.incident()).status is NoticeStatus.IDENTIFIED


async def test_health_monitor_does_not_reopen_manually_resolved_incident(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    found = await minutes.incident()
    notices = minutes.instances[0].notices
    await notices.update(minutes.publisher_ids[0], found.id, NoticeStatus.RESOLVED, "Nothing.", actor="ada")
    await minutes.advance(3, Status.DEGRADED)
    assert (await minutes.incident()).status is NoticeStatus.RESOLVED


async def test_health_monitor_ignores_manually_posted_incident(minutes: HealthMonitorFixture) -> None:
    made = Notice(
        id=str(uuid4()),
        created_at=NOW,
        updated_at=NOW,
        notice_kind=NoticeKind.INCIDENT,
        title="Slow",
        body="We look into it.",
    )
    notices = minutes.instances[0].notices
    await minutes.instances[0].catalogue.create(minutes.publisher_ids[0], notices.new(made, "ada"), actor="ada")
    await minutes.advance(3, Status.DEGRADED)
    await minutes.advance(5, Status.HEALTHY)
    assert {each.automatic: each.is_open for each in await minutes.incidents()} == {False: True, True: False}


# Storage.


def disconnect_storage(minutes: HealthMonitorFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on storage does not answer, at any instance."""

    async def unavailable(*_: object, **__: object) -> None:
        raise StorageUnavailable("planted")

    for instance in minutes.instances:
        for name in ("find", "commit"):
            monkeypatch.setattr(instance.table(""), name, unavailable)

        async def no_rows(*_: object, **__: object) -> AsyncIterator[None]:
            raise StorageUnavailable("planted")
            yield

        monkeypatch.setattr(instance.table(""), "rows", no_rows)


async def test_health_monitor_after_recovered_storage_outage_opens_no_incident(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(1, Status.HEALTHY)
    with pytest.MonkeyPatch.context() as patch:
        disconnect_storage(minutes, patch)
        await minutes.advance(10, Status.DEGRADED)
    await minutes.advance(6, Status.HEALTHY)
    assert await minutes.incidents() == []
    await minutes.advance(2, Status.DEGRADED)
    assert await minutes.incidents() == [], "it counts anew"


async def test_health_monitor_includes_storage_outage_in_streak_if_failures_continue(
    minutes: HealthMonitorFixture,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disconnect_storage(minutes, patch)
        await minutes.advance(4, Status.DEGRADED)
    await minutes.advance(1, Status.DEGRADED)
    assert (await minutes.incident()).body.startswith("Since 2026-11-24 12:01 UTC ")


async def test_health_monitor_after_storage_outage_resolves_pending_incident(minutes: HealthMonitorFixture) -> None:
    await minutes.advance(3, Status.DEGRADED)
    with pytest.MonkeyPatch.context() as patch:
        disconnect_storage(minutes, patch)
        await minutes.advance(5, Status.HEALTHY)
    assert (await minutes.incident()).is_open
    await minutes.advance(1, Status.HEALTHY)
    assert not (await minutes.incident()).is_open


async def test_health_monitor_with_failing_publisher_opens_incidents_of_others(
    minutes: HealthMonitorFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    health_monitor = minutes.instances[0].notices.health_monitor
    assert health_monitor is not None
    real = HealthMonitor._open

    async def failing(self: HealthMonitor, publisher_id: str, streak: object) -> None:
        if publisher_id == minutes.publisher_ids[0] and minutes.now < NOW + timedelta(minutes=4):
            raise StorageUnavailable("planted")
        await real(self, publisher_id, streak)  # type: ignore[arg-type] # as it came

    monkeypatch.setattr(HealthMonitor, "_open", failing)
    await minutes.advance(3, Status.DEGRADED)
    assert [len(await minutes.incidents(publisher)) for publisher in (0, 1)] == [0, 1]
    await minutes.advance(1, Status.DEGRADED)
    assert [len(await minutes.incidents(publisher)) for publisher in (0, 1)] == [1, 1]


# The timer.


async def test_notice_timer_when_health_checks_raise_logs_error_and_continues(
    minutes: HealthMonitorFixture, caplog: pytest.LogCaptureFixture
) -> None:
    notices = minutes.instances[0].notices

    async def broken() -> dict[str, Status]:
        raise RuntimeError("planted@contoso.example")

    notices.checks = broken
    due = Notice(
        id=str(uuid4()),
        created_at=NOW,
        updated_at=NOW,
        notice_kind=NoticeKind.MAINTENANCE,
        title="Storage is moved",
        body="For an hour.",
        starts_at=NOW,
        ends_at=NOW + timedelta(hours=1),
    )
    await minutes.instances[0].catalogue.create(minutes.publisher_ids[0], notices.new(due, "ada"), actor="ada")
    await notices.run()
    assert (await minutes.incident()).status is NoticeStatus.IN_PROGRESS
    assert "the health monitor failed: RuntimeError" in caplog.text
    assert "planted" not in caplog.text


async def test_services_with_auto_incidents_disabled_have_no_health_monitor(tables: Emulator, key_set: KeySet) -> None:
    settings = Settings(storage=tables.connection_string, signing_keys=key_set.dump(), auto_incidents=False)
    assert Services(settings).notices.health_monitor is None
