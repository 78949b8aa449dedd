"""The whole service from `hpo.submit` to the champion: PostgreSQL, S3, MLflow with passwords, Ray on two nodes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from films import write_films
from stack import Stack, running

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("cluster")]

SPACE = """\
study: {study}
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data: {{files: {{train: train.tsv, validation: validation.tsv}}, test: {{from: train, rows: 60}}}}
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: {epochs}
search: {{scheduler: {{type: asha, rungs: 2}}}}
budget: {{trials: 3}}
checkpoints: {{every_minutes: 0.01}}
promotion: {{model: films}}
tracking: {{uri: "{mlflow}"}}
storage: {storage}
ledger: {ledger}
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as own:
        yield own


@pytest.fixture
def space(stack: Stack, tmp_path: Path, tiny_bert: Path) -> Path:
    write_films(tmp_path, 360, 60)
    return write(tmp_path, stack, tiny_bert, "films", [2, 3])


def write(folder: Path, stack: Stack, model: Path, study: str, epochs: object) -> Path:
    path = folder / f"{study}.yaml"
    path.write_text(
        SPACE.format(
            study=study,
            model=model,
            epochs=epochs,
            mlflow=stack.mlflow,
            storage=folder / "studies",
            ledger=stack.ledger,
        )
    )
    return path


def submitted(stack: Stack, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "hpo.submit", "--address", stack.address, "--token-file", stack.token_file]
    return subprocess.Popen(
        [*map(str, command), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """What it says up to a line with that pattern."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"no {pattern} in {seen}")


def whole(process: "subprocess.Popen[str]", seconds: float = 240) -> str:
    return process.communicate(timeout=seconds)[0]


def test_a_submitted_search_ends_with_its_champion_in_the_registry(
    stack: Stack, space: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    began = time.monotonic()
    first = submitted(stack, "--space", space)
    said = whole(first)
    took = time.monotonic() - began
    assert first.returncode == 0, said
    assert re.search(r"films-[0-9a-f]{8} goes to http://127.0.0.1", said)
    assert "models:/films@champion, promoted" in said
    for secret in ("mlflow_password", "postgres_password", "ray_token", "s3_key"):
        assert (stack.secrets / secret).read_text().strip() not in said

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "hpo")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", stack.password())
    from mlflow import MlflowClient

    client = MlflowClient(stack.mlflow, registry_uri=stack.mlflow)
    champion = client.get_model_version_by_alias("films", "champion")
    assert champion.tags["hpo.study"] == "films"
    experiment = client.get_experiment_by_name("films")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`hpo.kind` = 'trial'")
    assert len(runs) == 3
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    stored = stack.stored()
    assert [name for name in stored if name.endswith("model.safetensors")], stored
    assert [name for name in stored if name.endswith("report.html")], stored
    from optuna.storages import RDBStorage

    monkeypatch.setenv("PGPASSFILE", str(stack.secrets / "pgpass"))
    assert "films" in [study.study_name for study in RDBStorage(stack.ledger).get_all_studies()]
    keep(stack, said, took, sorted(stored))


def test_a_submitted_search_has_the_exit_code_of_its_driver_and_goes_on(
    stack: Stack, tiny_bert: Path, tmp_path: Path
) -> None:
    """Ctrl-C leaves the job; the same command follows it; a second driver is told 75; stopped, it can go on."""
    write_films(tmp_path, 360, 60)
    long = write(tmp_path, stack, tiny_bert, "long", 200)
    with submitted(stack, "--space", long) as process:
        seen = until(process, r"trial \d +step")
        process.send_signal(signal.SIGINT)
        seen += whole(process, 120)
    assert process.returncode == 130, seen
    assert "goes on without you" in seen

    other = submitted(stack, "--space", long, "--set", "budget.trials=4")  # another search of the same study
    refused = whole(other)
    assert other.returncode == 75, refused
    assert "another driver holds" in refused

    with submitted(stack, "--space", long, "--on-interrupt", "stop") as process:
        seen = until(process, r"trial \d +step")
        assert "is at it already" in seen
        process.send_signal(signal.SIGTERM)
        seen += whole(process, 90)
    assert process.returncode == 143, seen

    with submitted(stack, "--space", long, "--on-interrupt", "stop") as process:
        seen = until(process, r"goes on after step")
        process.send_signal(signal.SIGTERM)
        seen += whole(process, 90)
    assert process.returncode == 143, seen


def keep(stack: Stack, said: str, took: float, stored: list[str]) -> None:
    """The log of one run, where HPO_EVIDENCE names a file."""
    if place := os.environ.get("HPO_EVIDENCE"):
        times = json.dumps({name: round(seconds, 1) for name, seconds in {**stack.times, "search": took}.items()})
        Path(place).write_text(f"seconds: {times}\n\n{said}\n\nin S3:\n" + "\n".join(stored) + "\n")
