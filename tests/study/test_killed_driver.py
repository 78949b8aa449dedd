"""Drivers that are killed, or have to stop while all around them hangs: nobody is left, nothing is lost."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import Server
from test_driver import ledger, query, runs, started, wait_for

pytestmark = pytest.mark.service

MARK = "HPO_TEST_STUDY"


def processes(mark: str) -> dict[int, str]:
    """Those that inherited this mark, by id, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                status = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if status != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
        except OSError:
            continue  # it has ended, or is another user's
    return found


def trainers(mark: str) -> list[str]:
    """Those in which trials run. Ray's two agents have such a name too; they end by themselves, a minute later."""
    return [line for line in processes(mark).values() if "ray::" in line and "Agent" not in line]


def wait_until(seen: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s")


def long(films: Path) -> list[object]:
    """Trials of some seconds, that write down where they are every third of a second."""
    text = films.read_text().replace("scheduler: {type: asha, rungs: 2}", "scheduler: fifo")
    films.write_text(text.replace("num_train_epochs: [2, 3]", "num_train_epochs: [25, 26]"))
    return ["--space", films, "--set", "budget.trials=3", "--set", "checkpoints.every_minutes=0.005"]


def test_a_killed_driver_leaves_nobody_and_its_trials_go_on_in_their_middle(films: Path, command: Any) -> None:
    folder, arguments = films.parent, long(films)
    running = folder / "studies" / "films" / "running"
    with started(arguments, **{MARK: str(folder)}) as process:
        wait_for(process.stdout, r"trial \d +step")
        wait_until(lambda: any(running.glob("*.json")), 20)
        assert trainers(str(folder)), processes(str(folder))
        process.kill()
        killed = time.monotonic()
    wait_until(lambda: not trainers(str(folder)), 30)
    written = {path.stem: json.loads(path.read_text())["step"] for path in running.glob("*.json")}
    assert written
    wait_until(lambda: not processes(str(folder)), 120 - (time.monotonic() - killed))

    done = command("run", *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, step in written.items():
        assert f"trial {int(name[6:])}: it goes on after step {step:,} of" in done.stdout
    assert ledger(folder) == [(place, "COMPLETE") for place in range(3)]
    assert set(runs(folder).values()) == {"FINISHED"}
    assert len(runs(folder)) == 4
    assert query(folder, "select run_uuid from metrics group by run_uuid, key, step having count(*) > 1") == []
    assert not running.exists()


def test_a_driver_whose_mlflow_hangs_stops_in_time_and_catches_up_later(
    server: Server, films: Path, command: Any
) -> None:
    arguments = [*long(films), "--set", f"tracking.uri={server.uri}", "--set", "study=hung"]
    with started(arguments) as process:
        wait_for(process.stdout, r"trial 0 +step")
        os.killpg(server.pid, signal.SIGSTOP)
        try:
            wait_for(process.stdout, r"trial \d +step")  # training goes on
            process.send_signal(signal.SIGTERM)
            signalled = time.monotonic()
            rest = process.communicate(timeout=60)[0]
            taken = time.monotonic() - signalled
        finally:
            os.killpg(server.pid, signal.SIGCONT)
    assert process.returncode == 143, rest
    assert taken < 30, rest
    assert "go on with --resume" in rest
    done = command("run", *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("hung")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name or "" for run in found) == ["hung", "trial-0000", "trial-0001", "trial-0002"]
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        if run.info.run_name != "hung":
            steps = [own.step for own in client.get_metric_history(run.info.run_id, "accuracy")]
            assert len(steps) == len(set(steps)) >= 25
