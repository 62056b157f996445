"""Timers: schedules as a table, and real runs in a real host."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from devhost.errors import StartError
from devhost.server import RunningHost, start
from devhost.timers import Schedule
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_post, until

type WriteApp = Callable[..., Path]

TIMERS = """
import json, os, time
import azure.functions as func

app = func.FunctionApp()

def note(name, timer):
    line = json.dumps({"name": name, "at": time.time(), **timer.to_dict()}) + "\\n"
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line)

@app.timer_trigger(schedule="* * * * * *", arg_name="timer")
async def every_second(timer: func.TimerRequest) -> None:
    note("every_second", timer)

@app.timer_trigger(schedule="%OFTEN%", arg_name="timer", use_monitor=False)
def slow(timer: func.TimerRequest) -> None:
    note("slow", timer)
    time.sleep(1.3)  # beyond the second at which it is due next
    note("slow ended", timer)

@app.timer_trigger(schedule="* * * * * *", arg_name="timer")
async def raises(timer: func.TimerRequest) -> None:
    note("raises", timer)
    raise SystemExit("gone")

@app.timer_trigger(schedule="0 0 0 1 1 *", arg_name="timer", run_on_startup=True)
async def at_start(timer: func.TimerRequest) -> None:
    note("at_start", timer)

@app.timer_trigger(schedule="0 0 0 1 1 *", arg_name="timer")
def by_hand(timer: func.TimerRequest) -> None:
    note("by_hand", timer)
    while not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.02)
    note("by_hand ended", timer)

@app.timer_trigger(schedule="0 0 0 1 1 *", arg_name="timer")
def by_hand_too(timer: func.TimerRequest) -> None:
    note("by_hand_too", timer)

@app.timer_trigger(schedule="0 0 0 1 1 *", arg_name="timer")
async def missed(timer: func.TimerRequest) -> None:
    note("missed", timer)
"""


LAST_YEAR = datetime(datetime.now(UTC).year - 1, 6, 1, tzinfo=UTC)


class Notes:
    """What the functions have noted, by their names."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def of(self, name: str) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        notes = map(json.loads, self.file.read_text().splitlines())
        return [note for note in notes if note["name"] == name]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    return Notes(tmp_path_factory.mktemp("notes") / "notes.jsonl")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that lets the function that is fired by hand end, once it is there."""
    return tmp_path_factory.mktemp("release") / "now"


@pytest.fixture(scope="module")
def host(  # noqa: PLR0913, PLR0917 - what it is started with
    write_app: WriteApp,
    environ: dict[str, str],
    notes: Notes,
    state: Path,
    release: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningHost]:
    last_year = LAST_YEAR.isoformat()
    (state / "missed.json").write_text(json.dumps({"Last": last_year, "Next": last_year, "LastUpdated": last_year}))
    (state / "by_hand.json").write_text("not to be read")
    environ = {**environ, "NOTES": str(notes.file), "RELEASE": str(release), "OFTEN": "*/1 * * * * *"}
    with (
        (tmp_path_factory.mktemp("log") / "log").open("wb") as log,
        start(write_app(TIMERS), environ=environ, state_folder=state, log=log) as host,
    ):
        yield host


@pytest.mark.usefixtures("host")
def test_timer_runs_at_due_time_with_schedule_status(notes: Notes) -> None:
    # On a busy machine a run may be late, and says so.
    (run, *_) = until(lambda: [run for run in notes.of("every_second")[1:] if not run["past_due"]])
    due = datetime.fromisoformat(run["schedule_status"]["Next"])
    assert due.timestamp() <= run["at"]
    assert due.microsecond == 0
    assert run["schedule"] == {"AdjustForDST": True}
    assert due > datetime.fromisoformat(run["schedule_status"]["Last"])
    assert run["schedule_status"]["Last"] == run["schedule_status"]["LastUpdated"]
    assert notes.of("every_second")[0]["schedule_status"]["Last"] == "0001-01-01T00:00:00+00:00"


@pytest.mark.usefixtures("host")
def test_timer_that_overruns_runs_again_after_its_end_marked_past_due(notes: Notes) -> None:
    until(lambda: notes.of("slow ended")[1:])
    starts, ends = notes.of("slow"), notes.of("slow ended")
    assert starts[1]["past_due"] is True
    assert ends[0]["at"] <= starts[1]["at"]
    assert starts[0]["schedule_status"] == {}, "without use_monitor there is no status"


@pytest.mark.usefixtures("host")
def test_timer_whose_function_raises_runs_again(notes: Notes) -> None:
    until(lambda: notes.of("raises")[1:])


@pytest.mark.usefixtures("host")
def test_timer_with_run_on_startup_runs_once_at_start(notes: Notes) -> None:
    until(lambda: notes.of("at_start"))
    assert len(notes.of("at_start")) == 1


@pytest.mark.usefixtures("host")
def test_timer_run_missed_during_downtime_runs_once_marked_past_due(notes: Notes, state: Path) -> None:
    (run,) = until(lambda: notes.of("missed"))
    assert run["past_due"] is True
    assert run["schedule_status"]["Next"] == f"{LAST_YEAR.year + 1}-01-01T00:00:00+00:00"

    def last() -> datetime:
        return datetime.fromisoformat(json.loads((state / "missed.json").read_text())["Last"])

    until(lambda: last() > LAST_YEAR)
    assert 0 <= run["at"] - last().timestamp() < WAIT_TIMEOUT_SECONDS
    assert len(notes.of("missed")) == 1


def test_timer_triggered_manually_runs_one_at_a_time_and_keeps_schedule(
    host: RunningHost, notes: Notes, state: Path, release: Path
) -> None:
    kept = (state / "by_hand.json").read_text()
    for name in ("BY_hand", "BY_hand", "by_hand_too"):
        assert http_post(f"{host.url}/admin/functions/{name}", json={"input": ""}).status_code == 202
    # Had the second run not waited for the first, it would have begun before the one that was fired after it.
    until(lambda: notes.of("by_hand") and notes.of("by_hand_too"))
    assert len(notes.of("by_hand")) == 1
    release.touch()
    until(lambda: notes.of("by_hand ended")[1:])
    noted = sorted(notes.of("by_hand") + notes.of("by_hand ended"), key=lambda note: float(note["at"]))
    assert [note["name"] for note in noted] == ["by_hand", "by_hand ended"] * 2
    assert notes.of("by_hand")[0]["past_due"] is False
    assert (state / "by_hand.json").read_text() == kept, "its schedule goes on as it was"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        pytest.param("POST", "nobody", {}, 404, id="a name that no timer has"),
        pytest.param("GET", "at_start", {}, 404, id="a method other than POST"),
        pytest.param(
            "POST", "at_start", {"Host": "elsewhere.example"}, 403, id="a name that leads here from elsewhere"
        ),
        pytest.param("POST", "at_start", {"Origin": "http://elsewhere.example"}, 403, id="a page in a browser"),
    ],
)
def test_manual_timer_trigger_rejects_invalid_request(
    host: RunningHost, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = httpx.request(
        method, f"{host.url}/admin/functions/{path}", headers=headers, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False
    )
    assert response.status_code == status


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        pytest.param("0 */5 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:05:00", id="seconds come first"),
        pytest.param("*/5 * * * *", "2026-01-01T00:00:01", "2026-01-01T00:05:00", id="they may be left out"),
        pytest.param("30 0 9 * * MON-FRI", "2026-01-03T00:00:00", "2026-01-05T09:00:30", id="days have names"),
        pytest.param("0 0 0 1 * 1", "2026-01-01T00:00:00", "2026-06-01T00:00:00", id="both days have to be right"),
        pytest.param("0 0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00", id="a day of few years"),
        pytest.param(" 0  0 0,12 * jan *", "2026-01-01T00:00:00", "2026-01-01T12:00:00", id="lists, blanks"),
        pytest.param("%WHEN%", "2026-01-01T00:00:00", "2026-01-01T06:00:00", id="from a setting"),
    ],
)
def test_schedule_next_after_returns_next_due_time(expression: str, after: str, due: str) -> None:
    schedule = Schedule.parse(expression, {"WHEN": "0 0 6 * * *"})
    found = schedule.next_after(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(due).replace(tzinfo=UTC)
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("", id="nothing"),
        pytest.param("* * * *", id="too few fields"),
        pytest.param("* * * * * * *", id="too many fields"),
        pytest.param("00:05:00", id="a TimeSpan"),
        pytest.param("@daily", id="a nickname"),
        pytest.param("0 0 0 L * *", id="a last day"),
        pytest.param("0 0 0 ? * *", id="a question mark"),
        pytest.param("0 0 0 * * MON#1", id="a first Monday"),
        pytest.param("61 0 0 * * *", id="a second that no minute has"),
        pytest.param("0 0 0 * XYZ *", id="a month that no year has"),
        pytest.param("0 0 0 30 2 *", id="a day that never comes"),
        pytest.param("%GONE%", id="a setting that is not set"),
    ],
)
def test_schedule_parse_with_invalid_expression_raises_start_error(expression: str) -> None:
    with pytest.raises(StartError, match="its schedule"):
        Schedule.parse(expression, {})
