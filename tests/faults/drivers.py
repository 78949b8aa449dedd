"""Forked drivers: a process that has imported everything, and forks one for each program that is to be hurt.

Owns the processes and what they say. Must not know studies.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CANARY = "canary-b7f3c2a9e1"
MARK = "HPO_FAULT_CASE"
TRAINED = "trained.txt"
"""In the folder of a case: what its trials have trained."""

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "f" * 64,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "agg",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_OFFLINE": "1",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "MLFLOW_TRACKING_PASSWORD": CANARY,
}


class ViolationError(AssertionError):
    """Something that must hold does not."""


class NotReachedError(Exception):
    """The study came to its end before the moment of the fault."""


@dataclass
class Driver:
    """A forked program. code: once it has ended; negative for the signal that ended it."""

    pid: int
    out: Path
    _ended: threading.Event
    code: int | None = None

    def wait(self, seconds: float = 240.0) -> int:
        if not self._ended.wait(seconds):
            self.send(signal.SIGKILL)
            raise ViolationError(f"it did not end in {seconds:.0f} s:\n{self.said}")
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def said(self) -> str:
        return self.out.read_text("utf-8", "replace") if self.out.exists() else ""

    def wait_for(self, words: str, seconds: float = 180.0) -> None:
        """Until it has said what this pattern matches. ViolationError where it ends before."""
        deadline = time.monotonic() + seconds
        while not re.search(words, self.said):
            if self._ended.wait(0.01) or time.monotonic() > deadline:
                if re.search(words, self.said):
                    return
                raise ViolationError(f"it never said {words!r}:\n{self.said}")


class Zygote:
    """Forks drivers in a process that has imported everything."""

    def __init__(self) -> None:
        source = HERE.parents[1]
        environment = {
            **os.environ,
            **ENVIRONMENT,
            "PYTHONPATH": ":".join([str(source), str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        for name in [name for name in environment if name.startswith("COV_CORE")]:
            del environment[name]
        from hpo.runners.ray import SILENCE

        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | SILENCE,
            text=True,
            bufsize=1,
        )
        self._answers: dict[int, Driver] = {}
        self._pids: dict[int, threading.Event] = {}
        self._next = 1
        self._lock = threading.Lock()
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise ViolationError("the zygote did not start")
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def fork(self, out: Path, **asked: Any) -> Driver:
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._pids[number] = threading.Event()
            self._answers[number] = Driver(0, out, threading.Event())
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": number, "out": str(out), **asked}) + "\n")
            self._process.stdin.flush()
        if not self._pids[number].wait(30):
            raise ViolationError("the zygote does not answer")
        return self._answers[number]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # its drivers have ended, and it keeps nothing
        self._process.wait()
        self._listener.join(10)
        self._process.stdin.close()
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            driver = self._answers[answer["id"]]
            if "pid" in answer:
                driver.pid = answer["pid"]
                self._pids[answer["id"]].set()
            else:
                driver.code = answer["code"]
                driver._ended.set()
