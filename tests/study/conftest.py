import functools
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_server import Server

from hpo.records import Objective
from hpo.runners import Resources
from hpo.runners.inline import InlineRunner

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads both when it is imported
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command() -> Command:
    """`python -m hpo.<name> ...` as a process of its own."""

    def run(name: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", f"hpo.{name}", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=500,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    own = Server(tmp_path)
    own.start()
    try:
        own.wait()
        yield own
    finally:
        own.kill()


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same command within this process, one trial after the other: for what is not about processes.

    Saves the imports of a driver and its trials, and the start of a Ray: 15 s a study.
    """
    from hpo.study import driver

    def runner(objective: Objective, resources: Resources, address: str | None) -> InlineRunner:
        return InlineRunner(objective)

    monkeypatch.setattr(driver, "run", functools.partial(driver.run, runner=runner))

    def run(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        given = [*map(str, arguments)]
        code = importlib.import_module(f"hpo.{name}").main(given)
        return subprocess.CompletedProcess(given, code, *capsys.readouterr())

    return run
