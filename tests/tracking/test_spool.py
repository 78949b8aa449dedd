import json
import threading
import time
from pathlib import Path

import pytest

from hpo.errors import ServiceError
from hpo.records import AnyEvent, StudyStarted, TrialReported
from hpo.tracking import ReplayNeededError
from hpo.tracking.spool import CURSOR, EVENTS, Spool

LONG = 60.0
"""Seconds that nothing takes here, also where other processes have the machine."""


class Listener:
    """A tracker that remembers what it was told, and fails as often as it is asked to."""

    def __init__(self, failures: int = 0) -> None:
        self.heard: list[AnyEvent] = []
        self.failures = failures
        self.closed = False

    def apply(self, event: AnyEvent) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ServiceError("the service is away; wait")
        self.heard.append(event)

    def close(self) -> None:
        self.closed = True


def report(step: int) -> TrialReported:
    return TrialReported(time=float(step), number=0, step=step, metrics={"accuracy": step / 10})


def steps(listener: Listener) -> list[int]:
    return [event.step for event in listener.heard if isinstance(event, TrialReported)]


def trouble_of(spool: Spool) -> str | None:
    """What it says once there is trouble."""
    deadline = time.monotonic() + LONG
    while spool.trouble is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return spool.trouble


def started() -> StudyStarted:
    return StudyStarted(
        time=0.0, study="s", metric="accuracy", mode="max", document="", params={}, tags={}, datasets=()
    )


def test_every_event_reaches_the_tracker_once_and_in_order(tmp_path: Path) -> None:
    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)
    for step in range(100):
        spool.append(report(step))
    assert spool.close(LONG)
    assert steps(listener) == list(range(100))
    assert listener.closed
    assert (spool.behind, spool.trouble) == (0, None)


def test_the_file_is_one_readable_line_an_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Listener)
    spool.append(report(1))
    spool.append(report(2))
    spool.close(LONG)
    lines = (tmp_path / EVENTS).read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert list(spool.events()) == [report(1), report(2)]


def test_a_metric_that_is_not_finite_survives_the_file(tmp_path: Path) -> None:
    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)
    spool.append(TrialReported(time=1.0, number=0, step=1, metrics={"loss": float("inf")}))
    assert spool.close(LONG)
    event = listener.heard[0]
    assert isinstance(event, TrialReported)
    assert event.metrics == {"loss": float("inf")}


def test_a_tracker_that_hangs_never_makes_append_wait(tmp_path: Path) -> None:
    release = threading.Event()

    class Stuck(Listener):
        def apply(self, event: AnyEvent) -> None:
            release.wait(LONG)
            super().apply(event)

    stuck = Stuck()
    spool = Spool(tmp_path, lambda: stuck)
    begin, used = time.monotonic(), time.process_time()
    for step in range(1_000):
        spool.append(report(step))
    assert (time.process_time() - used) / 1_000 < 0.002
    assert time.monotonic() - begin < LONG / 2
    assert spool.behind == 1_000
    assert not spool.flush(0.05)
    release.set()
    assert spool.close(LONG)
    assert steps(stuck) == list(range(1_000))


def test_a_tracker_that_fails_is_asked_again_and_its_trouble_is_told(tmp_path: Path) -> None:
    listener = Listener(failures=10**9)
    spool = Spool(tmp_path, lambda: listener)
    spool.append(report(1))
    assert trouble_of(spool) == "the service is away; wait"
    listener.failures = 0
    assert spool.flush(LONG)
    assert spool.trouble is None
    assert steps(listener) == [1]
    spool.close(LONG)


def test_a_tracker_that_cannot_even_be_made_is_trouble_too(tmp_path: Path) -> None:
    def fail() -> Listener:
        raise ImportError("no such tracker")

    spool = Spool(tmp_path, fail)
    spool.append(report(1))
    assert trouble_of(spool) == "no such tracker"
    assert not spool.close(0.2)
    begin = time.monotonic()
    assert not spool.close(LONG), "a second close changes nothing, and waits for nothing"
    assert time.monotonic() - begin < LONG / 2
    assert spool.trouble == "no such tracker"


def test_what_could_not_be_sent_goes_out_at_the_next_open(tmp_path: Path) -> None:
    away = Spool(tmp_path, lambda: Listener(failures=10**9))
    away.append(started())
    away.append(report(1))
    assert not away.close(0.2)

    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)
    spool.append(report(2))
    assert spool.close(LONG)
    assert listener.heard == [started(), report(1), report(2)]


def test_what_was_sent_is_not_sent_again_but_for_how_the_study_started(tmp_path: Path) -> None:
    first = Spool(tmp_path, Listener)
    first.append(started())
    first.append(report(1))
    assert first.close(LONG)

    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)
    assert spool.behind == 0
    spool.append(report(2))
    assert spool.close(LONG)
    assert listener.heard == [started(), report(2)]


def test_a_half_written_last_line_is_cut_off(tmp_path: Path) -> None:
    first = Spool(tmp_path, Listener)
    first.append(report(1))
    first.close(LONG)
    with open(tmp_path / EVENTS, "ab") as stream:
        stream.write(b'{"time": 2.0, "kind": "trial_rep' + b"x" * 100_000)

    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)
    spool.append(report(2))
    assert spool.close(LONG)
    assert list(spool.events()) == [report(1), report(2)]
    assert steps(listener) == [2]


@pytest.mark.parametrize("cursor", ["", "nonsense", "-5", "7", "999999999"])
def test_a_broken_cursor_starts_from_the_beginning(tmp_path: Path, cursor: str) -> None:
    first = Spool(tmp_path, Listener)
    first.append(report(1))
    first.close(LONG)
    (tmp_path / CURSOR).write_text(cursor)
    listener = Listener()
    assert Spool(tmp_path, lambda: listener).close(LONG)
    assert steps(listener) == [1]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_text('{"kind": "party"}\n')
    spool = Spool(tmp_path, Listener)
    said = trouble_of(spool)
    assert not spool.close(0.2)
    assert said is not None
    assert "events.jsonl" in said
    assert "delete that line" in said
    with pytest.raises(ServiceError, match="is no event"):
        list(spool.events())


def test_a_store_that_has_lost_the_study_is_told_everything_again(tmp_path: Path) -> None:
    first = Spool(tmp_path, Listener)
    for event in (started(), report(1), report(2)):
        first.append(event)
    assert first.close(LONG)

    class Forgetful(Listener):
        forgot = True

        def apply(self, event: AnyEvent) -> None:
            if isinstance(event, StudyStarted) and self.forgot:
                self.forgot = False
                raise ReplayNeededError("who is this?")
            super().apply(event)

    listener = Forgetful()
    spool = Spool(tmp_path, lambda: listener)
    spool.append(report(3))
    assert spool.close(LONG)
    assert listener.heard == [started(), report(1), report(2), report(3)]


def test_a_closed_spool_takes_no_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Listener)
    spool.close(LONG)
    spool.close(LONG)
    with pytest.raises(ValueError, match="closed"):
        spool.append(report(1))


def test_many_threads_may_append(tmp_path: Path) -> None:
    listener = Listener()
    spool = Spool(tmp_path, lambda: listener)

    def append_some(first: int) -> None:
        for step in range(first, first + 50):
            spool.append(report(step))

    threads = [threading.Thread(target=append_some, args=(first,)) for first in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.close(LONG)
    assert sorted(steps(listener)) == list(range(150))
    assert listener.heard == list(spool.events())


def test_events_from_before_the_start_of_the_study_wait_for_no_one(tmp_path: Path) -> None:
    listener = Listener(failures=1)
    spool = Spool(tmp_path, lambda: listener)
    spool.append(report(1))
    spool.append(started())
    assert spool.close(LONG)
    assert listener.heard[-2:] == [report(1), started()]
