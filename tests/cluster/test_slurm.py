"""docker/slurm/search.sbatch on a real Slurm: a search whose time is over is queued again, and goes on."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from films import write_films
from slurm import Slurm, running

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("slurm")]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docker" / "slurm" / "search.sbatch"

SPACE = """\
study: films
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data: {{files: {{train: train.tsv, validation: validation.tsv}}, test: {{from: train, rows: 60}}}}
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: 20
search: {{scheduler: fifo}}
budget: {{trials: 1}}
checkpoints: {{every_minutes: 0.005}}
tracking: {{uri: "{store}"}}
storage: {folder}/studies
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running() as own:
        yield own


def wait_for(log: Path, pattern: str, seconds: float = 240.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        if re.search(pattern, text):
            return text
        time.sleep(0.2)
    raise AssertionError(f"no {pattern} within {seconds:g} s in {text}")


def test_a_search_whose_time_is_over_is_queued_again_and_goes_on(
    slurm: Slurm, tmp_path: Path, tiny_bert: Path, store: str
) -> None:
    """As a task of an array, the one with number 3. The signal is the one that --signal asks for, sent by hand."""
    write_films(tmp_path, 360, 60)
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=tmp_path, store=store))
    log = tmp_path / "log.txt"
    options = ["--parsable", "--array=3", "--cpus-per-task=1", "--time=10", f"--output={log}", "--export=ALL"]
    environment = f"HPO_PYTHON={sys.executable}"
    named = ["--space", str(space), "--set", "study=films-{number}"]
    job = slurm.run("env", environment, "sbatch", *options, str(SCRIPT), *named, folder=tmp_path)
    task = f"{job.partition(';')[0]}_3"
    wait_for(log, r"trial 0 +step")
    slurm.run("scancel", "--batch", "--signal=USR1", task)
    wait_for(log, r"hpo.run ended with 143 \(time\), start 0 of this job")
    end = time.monotonic() + 120
    while slurm.state(task) != "PENDING" and time.monotonic() < end:  # the script's last lines run on after its word
        time.sleep(0.2)
    # A cluster waits for two minutes before it starts a job again, since a credential of the second in which those
    # before it were revoked is taken for one of them ("Job credential revoked"). A few seconds will do here.
    time.sleep(5)
    while slurm.state(task) == "PENDING" and time.monotonic() < end:
        slurm.run("scontrol", "update", f"jobid={task}", "starttime=now")
        time.sleep(0.5)
    said = wait_for(log, r"hpo.run ended with \d+, start 1 of this job")
    assert "hpo.run ended with 0, start 1" in said
    assert re.search(r"trial 0: it goes on after step", said)
    assert "films-3: 1 trial in" in said
    if place := os.environ.get("HPO_EVIDENCE"):
        Path(place).write_text(said)


def test_a_search_that_is_cancelled_is_not_queued_again(
    slurm: Slurm, tmp_path: Path, tiny_bert: Path, store: str
) -> None:
    write_films(tmp_path, 360, 60)
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=tmp_path, store=store))
    log = tmp_path / "log.txt"
    options = ["--parsable", "--cpus-per-task=1", "--time=10", f"--output={log}", "--export=ALL"]
    environment = f"HPO_PYTHON={sys.executable}"
    job = slurm.run("env", environment, "sbatch", *options, str(SCRIPT), "--space", str(space), folder=tmp_path)
    wait_for(log, r"data +train")
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    said = wait_for(log, r"hpo.run ended with \d+ \(asked\)")
    assert "ended with 143 (asked)" in said
    end = time.monotonic() + 30
    while slurm.state(job) in ("RUNNING", "COMPLETING") and time.monotonic() < end:
        time.sleep(0.5)
    assert slurm.state(job) in ("FAILED", "CANCELLED", "")


def test_a_wrong_space_ends_the_job_with_its_own_exit_code(slurm: Slurm, tmp_path: Path) -> None:
    space = tmp_path / "wrong.yaml"
    space.write_text("study: wrong\nmodle: {}\n")
    log = tmp_path / "log.txt"
    options = ["--wait", "--cpus-per-task=1", "--time=5", f"--output={log}"]
    done = subprocess.run(
        ["sbatch", *options, str(SCRIPT), "--space", str(space)],
        env={**slurm.environment, "HPO_PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr + log.read_text()
    assert "unknown key" in log.read_text()


def test_the_script_hands_on_all_arguments_and_the_number_of_the_task(tmp_path: Path) -> None:
    """With what stands in for the Python of the environment in the folder from which it is submitted."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "number ${HPO_NUMBER-none}: $@"\n')
    python.chmod(0o755)
    arguments = ["--space=mine.yaml", "--set", "study=a b"]

    def said(**environment: str) -> str:
        own = {"PATH": os.environ["PATH"], **environment}
        done = subprocess.run(
            ["bash", SCRIPT, *arguments], cwd=tmp_path, env=own, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[0]

    assert said() == "number none: -m hpo.run --space=mine.yaml --set study=a b --resume"
    assert said(SLURM_ARRAY_TASK_ID="2") == "number 2: -m hpo.run --space=mine.yaml --set study=a b --resume"
