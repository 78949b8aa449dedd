"""An MLflow server in trouble: away for a while, slow, refusing, or losing its answers. All arrives once, in order."""

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from test_mlflow_tracker import everything, history, runs_of

from hpo.records import AnyEvent, StudyFinished, TrialReported, TrialStarted
from hpo.tracking import TrackingConfig
from hpo.tracking.link import read_link
from hpo.tracking.mlflow import MlflowTracker
from hpo.tracking.spool import Spool

pytestmark = pytest.mark.service
Mood = Callable[[str], str]


@contextmanager
def in_between(uri: str, mood: Mood) -> Iterator[tuple[str, list[str]]]:
    """A proxy before a server: its address, and the requests that it saw.

    mood: says of each request, by its path, whether the server gets it and the client the answer: `pass`, `refuse`
    (503 without asking the server) or `lose` (the server is asked, and its answer goes nowhere).
    """
    target, seen = urlsplit(uri), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            seen.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = mood(self.path)
            if said == "refuse":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            asked.request(self.command, self.path, body, headers)
            answer = asked.getresponse()
            content = answer.read()
            asked.close()
            if said == "lose":
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Silence."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}", seen
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def study(name: str, story: Any, steps: int = 12) -> list[AnyEvent]:
    """Three trials that report in turn."""
    events: list[AnyEvent] = [story(name)[0]]
    for number in range(3):
        events.append(TrialStarted(time=2_000.0 + number, number=number, origin="tpe", params={"learning_rate": 0.1}))
        for step in range(1, steps + 1):
            metrics = {"loss": 1 / step}
            events.append(TrialReported(time=2_010.0 + 100 * number + step, number=number, step=step, metrics=metrics))
    return [*events, StudyFinished(time=3_000.0, metrics={}, tags={})]


def assert_all_is_there_once(uri: str, name: str, steps: int = 12) -> None:
    runs = runs_of(uri, name)  # each name once: no twins
    assert sorted(runs) == [name, "trial-0000", "trial-0001", "trial-0002"]
    for number in range(3):
        told = history(uri, runs[f"trial-{number:04d}"], "loss")
        assert told == [(step, 1 / step) for step in range(1, steps + 1)]


def told(uri: str, folder: Path, events: list[AnyEvent], seconds: float = 60.0) -> None:
    spool = Spool(folder, lambda: MlflowTracker(TrackingConfig(uri=uri), folder))
    for event in events:
        spool.append(event)
    assert spool.close(seconds), spool.trouble


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again soon."""
    monkeypatch.setattr("hpo.tracking.spool._PAUSES", (0.1, 0.5))


def test_a_server_that_refuses_now_and_then_gets_everything_once(server: Any, tmp_path: Path, story: Any) -> None:
    count = iter(range(10_000))
    refused = {3, *range(10, 15), *range(30, 34), 45}
    with in_between(server.uri, lambda path: "refuse" if next(count) in refused else "pass") as (uri, _):
        told(uri, tmp_path / "refusing", study("refusing", story))
    assert_all_is_there_once(server.uri, "refusing")


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "experiments/create"])
def test_an_answer_that_is_lost_makes_nothing_twice(server: Any, tmp_path: Path, story: Any, path: str) -> None:
    name = f"losing-{path.replace('/', '-')}"
    asked: list[str] = []

    def mood(request: str) -> str:
        """Every other answer to such a request is lost, three of them."""
        if not request.endswith(path):
            return "pass"
        asked.append(request)
        return "lose" if len(asked) % 2 and len(asked) < 6 else "pass"

    with in_between(server.uri, mood) as (uri, _):
        told(uri, tmp_path / name, study(name, story))
    assert asked
    assert_all_is_there_once(server.uri, name)


def test_a_report_is_one_request_to_a_server(server: Any, tmp_path: Path, story: Any) -> None:
    events = study("counted", story)
    (tmp_path / "counted").mkdir()
    with in_between(server.uri, lambda path: "pass") as (uri, seen):
        tracker = MlflowTracker(TrackingConfig(uri=uri), tmp_path / "counted")
        for event in events:
            before = len(seen)
            tracker.apply(event)
            assert not isinstance(event, TrialReported) or len(seen) - before <= 1


def test_a_server_that_stands_still_for_a_while_gets_everything_once(
    server: Any, tmp_path: Path, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are given up on after a second, and done by the server all the same once it wakes up."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    folder = tmp_path / "slow"
    spool = Spool(folder, lambda: MlflowTracker(TrackingConfig(uri=server.uri), folder))
    events = study("slow", story)
    for event in events[:5]:
        spool.append(event)
    assert spool.flush(30.0)
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        for event in events[5:]:
            spool.append(event)
        assert time.monotonic() - started < 1.0  # whoever trains notices nothing
        time.sleep(5.0)
    finally:
        os.killpg(server.pid, signal.SIGCONT)
    assert spool.trouble is not None
    assert spool.close(60.0), spool.trouble
    assert_all_is_there_once(server.uri, "slow")


def test_of_twins_the_one_that_was_told_the_most_stays(store: str, tmp_path: Path, story: Any) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    events = story()
    tracker = MlflowTracker(TrackingConfig(uri=store), folder)
    for event in events[:4]:
        tracker.apply(event)
    client, known = MlflowClient(store), runs_of(store)
    own = known["trial-0000"]
    late = client.create_run(own.info.experiment_id, 1, own.data.tags)  # the older one by its clock
    again = MlflowTracker(TrackingConfig(uri=store), folder)
    for event in events:
        again.apply(event)
    assert client.get_run(late.info.run_id).info.lifecycle_stage == "deleted"
    assert client.get_run(own.info.run_id).info.lifecycle_stage == "active"
    assert set(everything(store)) == {"toy", "trial-0000", "trial-0001", "trial-0002"}


@pytest.mark.parametrize("was_told", [False, True])
def test_a_late_run_of_the_study_itself_goes_and_the_one_that_was_told_stays(
    store: str, tmp_path: Path, story: Any, was_told: bool
) -> None:
    events = story()
    told(store, tmp_path / "toy", events[:6])
    client, known, link = MlflowClient(store), runs_of(store), read_link(tmp_path / "toy")
    own, trial = known["toy"], known["trial-0000"]
    place = own.info.experiment_id
    late = [client.create_run(place, own.info.start_time - 1, own.data.tags, run_name="toy").info.run_id]
    if was_told:
        tags = trial.data.tags | {"mlflow.parentRunId": late[0]}
        late.append(client.create_run(place, 1, tags, run_name="trial-0000").info.run_id)
    told(store, tmp_path / "toy", events[6:])
    assert read_link(tmp_path / "toy") == link
    runs = runs_of(store)  # each name once
    assert set(runs) == {"toy", "trial-0000", "trial-0001", "trial-0002"}
    assert [runs[name].info.run_id for name in ("toy", "trial-0000")] == [own.info.run_id, trial.info.run_id]
    assert {client.get_run(run_id).info.lifecycle_stage for run_id in late} == {"deleted"}
    assert runs["trial-0001"].data.tags["mlflow.parentRunId"] == own.info.run_id
