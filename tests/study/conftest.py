import functools
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from films import write_films
from mlflow_server import Server

from hpo.records import Objective
from hpo.runners import Resources
from hpo.runners.inline import InlineRunner

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads both when it is imported
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

SPACE = """\
study: films
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data:
  files: {{train: train.tsv, validation: validation.tsv}}
  test: {{from: train, rows: 60}}
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: [2, 3]
  per_device_train_batch_size: 16
  hidden_dropout_prob: {{low: 0.0, high: 0.2}}
search: {{sampler: {{type: tpe, n_startup_trials: 3}}, scheduler: {{type: asha, rungs: 2}}}}
budget: {{trials: 4}}
promotion: {{model: films}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
storage: {folder}/studies
"""


@pytest.fixture
def films(tmp_path: Path, tiny_bert: Path, store: str) -> Path:
    """A space file over a tiny BERT and local files; everything it makes lies beside it, in an MLflow store that is
    there and empty."""
    write_films(tmp_path, 360, 60)
    assert store == f"sqlite:///{tmp_path}/mlflow.db"
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=tmp_path))
    return space


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
