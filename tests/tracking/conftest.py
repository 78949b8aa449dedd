"""A real MLflow server to try on, as a process on a loopback port; and the events of a study."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo.records import (
    AnyEvent,
    DatasetRecord,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialState,
)


class Server:
    """`mlflow server` on a port that stays the same when it is killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self._folder
            )

    def wait(self, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError((self._folder / "server.log").read_text("utf-8")[-2_000:])

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def server(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(store_template, folder / "mlflow.db")
    own = Server(folder)
    own.start()
    try:
        own.wait()
        yield own
    finally:
        own.kill()


DATASETS = tuple(
    DatasetRecord(
        name="sms",
        split=split,
        rows=100,
        digest=f"{index}" * 64,
        source="sms.tsv",
        columns={"sentence": "string", "label": "long"},
    )
    for index, split in enumerate(("train", "validation", "test"))
)


@pytest.fixture
def story() -> Callable[..., list[AnyEvent]]:
    """The events of a small study that ran through: trial 0 complete, trial 1 pruned, trial 2 failed."""

    def tell(study: str = "toy") -> list[AnyEvent]:
        events: list[AnyEvent] = [
            StudyStarted(
                time=1_000.0,
                study=study,
                metric="accuracy",
                mode="max",
                document=f"study: {study}\n",
                params={"model.name": "bert", "budget.trials": 3},
                tags={"team": "nlp"},
                datasets=DATASETS,
            )
        ]
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
        for number, state in enumerate(states):
            start = 1_010.0 + 100.0 * number
            params = {"learning_rate": 10.0 ** -(number + 3), "weight_decay": 0.01}
            events.append(TrialStarted(time=start, number=number, origin="tpe", params=params))
            for step in (10, 20, 30):
                metrics = {"accuracy": 0.5 + step / 100 - number / 10, "loss": 1.0 / step}
                events.append(TrialReported(time=start + step, number=number, step=step, metrics=metrics))
            best = {"best_accuracy": 0.8 - number / 10, "total_seconds": 40.0}
            reason = None if state is TrialState.COMPLETE else f"it was {state}"
            events.append(
                TrialFinished(time=start + 40, number=number, state=state, metrics=best, step=30, reason=reason)
            )
        events.append(
            StudyFinished(
                time=1_400.0, metrics={"best_accuracy": 0.8, "gain": 0.03, "best_trial": 0}, tags={"best_trial": "0"}
            )
        )
        return events

    return tell
