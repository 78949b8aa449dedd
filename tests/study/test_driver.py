"""Whole studies, as processes: real Ray, real ledger, real MLflow store, a tiny real BERT."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

FINISHED = re.compile(r"trial (\d+) +(complete|pruned|failed)")


def query(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return connection.execute(sql).fetchall()


def runs(folder: Path) -> dict[str, str]:
    return dict(query(folder, "select name, status from runs"))


def ledger(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "studies" / "films" / "ledger.db")) as connection:
        return connection.execute("select number, state from trials order by number").fetchall()


def no_warnings(text: str) -> bool:
    return not re.search(r"warn|deprecat|traceback", text, re.IGNORECASE)


def test_a_study_runs_from_one_file_to_a_champion_and_goes_on_from_there(
    films: Path, command: Any, inline: Any
) -> None:
    folder = films.parent
    (folder / "mlflow.db").unlink()  # a first study makes its store too
    done = command("run", "--space", films)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert no_warnings(done.stdout), done.stdout
    assert len(FINISHED.findall(done.stdout)) == 4
    assert "models:/films@champion, promoted" in done.stdout
    assert re.search(r"test +accuracy \d\.\d+ on 60 rows; the default reaches", done.stdout)

    statuses = runs(folder)
    assert set(statuses) == {"films", *(f"trial-{number:04d}" for number in range(4))}
    assert statuses["films"] == "FINISHED"
    assert set(statuses.values()) <= {"FINISHED", "KILLED"}
    assert query(folder, "select run_uuid from metrics group by run_uuid, key, step having count(*) > 1") == []
    params = query(folder, "select key from params where key = 'per_device_train_batch_size'")
    assert len(params) >= 4  # fixed ones are logged too
    parents = query(folder, "select value from tags where key = 'mlflow.parentRunId'")
    assert len(parents) == 4
    assert len(set(parents)) == 1
    row = dict(query(folder, "select key, value from latest_metrics join runs using (run_uuid) where name = 'films'"))
    assert {"best_accuracy", "default_accuracy", "test_accuracy", "trials"} <= set(row)
    assert row["untrained_test_accuracy"] < row["test_accuracy"]
    assert {"calibration_error", "calibration_error_after", "temperature"} <= set(row)
    inputs = query(folder, "select count(*) from inputs where source_type = 'DATASET'")
    assert inputs[0][0] == 3 + 4 * 2  # all splits on the study, train and validation on every trial

    study = folder / "studies" / "films"
    kept = sorted(path.name for path in (study / "checkpoints").iterdir())
    assert 1 <= len(kept) <= 3  # the best two, and the default configuration's
    assert (study / "report.md").exists()
    assert (study / "report.html").exists()
    logged = {path.name for path in (folder / "mlartifacts").rglob("report*")}
    assert {"report.html", "report.md", "report-errors.jsonl", "report-confusion.csv"} <= logged
    secret = json.loads((study / "study.json").read_text())
    assert "tracking" not in secret["config"]

    rows = folder / "new.tsv"
    rows.write_text("sentence\nthe film was very good\nbad plot\n")
    answer = inline(
        "predict",
        *("--model", "models:/films@champion", "--input", rows, "--output", folder / "out.jsonl"),
        *("--tracking-uri", f"sqlite:///{folder}/mlflow.db"),
    )
    assert answer.returncode == 0, answer.stderr
    predictions = [json.loads(line)["prediction"] for line in (folder / "out.jsonl").read_text().splitlines()]
    assert predictions == ["pos", "neg"]

    refused = inline("run", "--space", films)
    assert refused.returncode == 2
    assert "films is there already" in refused.stderr

    again = inline("run", "--space", films, "--resume")
    assert again.returncode == 0, again.stderr
    assert FINISHED.findall(again.stdout) == []
    assert "models:/films@champion, promoted" in again.stdout
    assert query(folder, "select count(*) from model_versions") == [(1,)]

    more = inline("run", "--space", films, "--resume", "--set", "budget.trials=6")
    assert more.returncode == 0, more.stderr
    assert {int(number) for number, _ in FINISHED.findall(more.stdout)} == {4, 5}
    assert len(runs(folder)) == 7

    timid = ["--set", "study=timid", "--set", "budget.trials=2", "--set", "space.learning_rate={low: 1e-7, high: 1e-6}"]
    worse = inline("run", "--space", films, *timid)
    assert worse.returncode == 0, worse.stderr
    assert "models:/films@challenger, the present champion is kept" in worse.stdout
    aliases = query(folder, "select alias, version from registered_model_aliases order by alias")
    assert [alias for alias, _ in aliases] == ["challenger", "champion"]
    assert len({version for _, version in aliases}) == 2

    narrow = ["--set", "space.learning_rate.high=4e-3", "--set", "budget.trials=8"]
    changed = inline("run", "--space", films, "--resume", *narrow)
    assert changed.returncode == 0, changed.stderr
    kept = re.search(r"the space changed: (\d) of 6 trials fit the new one and count", changed.stdout)
    assert kept is not None, changed.stdout
    new = sorted({int(number) for number, _ in FINISHED.findall(changed.stdout)})
    assert new == list(range(6, 6 + len(new)))
    missing = 8 - int(kept[1])  # what the space has no room for any more does not count
    assert missing <= len(new) <= missing + 2  # a moved default and a best trial without weights come on top
    assert {f"trial-{number:04d}" for number in range(6 + len(new))} <= set(runs(folder))

    other = inline("run", "--space", films, "--resume", "--set", "task.max_length=12")
    assert other.returncode == 2
    assert "differs from the one this study began with" in other.stderr


def wait_for(lines: Any, pattern: str) -> None:
    seen = []
    for line in lines:
        seen.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError(f"the output ended before {pattern}:\n{''.join(seen)}")


@contextmanager
def started(arguments: Sequence[object], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """The command while it runs; killed if the block leaves it running."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "hpo.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_stopped_by_a_signal_goes_on_and_meets_its_budget_exactly(
    films: Path, inline: Any, number: signal.Signals
) -> None:
    folder = films.parent
    text = films.read_text().replace("scheduler: {type: asha, rungs: 2}", "scheduler: fifo")
    films.write_text(text.replace("[2, 3]", "[10, 12]"))  # long enough that the signal comes in between
    arguments = ["--space", films, "--set", "budget.trials=7"]
    with started(arguments) as process:
        wait_for(process.stdout, r"trial 2 +complete")
        second = inline("run", *arguments, "--resume")
        process.send_signal(number)
        signalled = time.monotonic()
        rest = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number, rest
    assert time.monotonic() - signalled < 60
    assert "go on with --resume" in rest
    assert second.returncode == 75
    assert "another driver" in second.stderr
    assert "RUNNING" not in runs(folder).values()
    before = {number: state for number, state in ledger(folder) if state == "COMPLETE"}

    done = inline("run", *arguments, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    after = ledger(folder)
    assert after == [(place, "COMPLETE") for place in range(7)]
    assert not before.keys() & {int(place) for place, _ in FINISHED.findall(done.stdout)}
    assert set(runs(folder).values()) == {"FINISHED"}
    assert len(runs(folder)) == 8
    assert query(folder, "select run_uuid from metrics group by run_uuid, key, step having count(*) > 1") == []


def test_a_search_in_which_nothing_finishes_ends_with_3_and_says_why(films: Path, inline: Any) -> None:
    text = films.read_text().replace("  hidden_drop", "  max_grad_norm: 0.0\n  weight_decay: 9.0\n  hidden_drop")
    films.write_text(
        re.sub(r"learning_rate: .*", "learning_rate: {low: 0.9, high: 1.0}", text).replace("[2, 3]", "[300, 400]")
    )
    done = inline("run", "--space", films, "--set", "budget.trials=2", "--set", "space.bf16=false")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no trial of films finished" in done.stderr
    assert "DivergedError" in done.stderr
    assert "go on with --resume" in done.stderr
    assert "DivergedError" in (films.parent / "studies" / "films" / "report.md").read_text()
    assert runs(films.parent) == {"films": "SCHEDULED", "trial-0000": "FAILED", "trial-0001": "FAILED"}


def test_glue_runs_through_the_hub_and_trials_need_no_network(serve_hub: Any, tmp_path: Path, command: Any) -> None:
    arguments = ["--space", "spaces/glue_sst2.yaml", "--storage", tmp_path / "studies"]
    for change in (
        "data.limit.train=600",
        "data.validation.rows=100",
        "budget.trials=2",
        "space.num_train_epochs=1",
        "search.first=[default]",
        "resources.cpus=1",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
    ):
        arguments += ["--set", change]
    with ExitStack() as stack:
        hub = ExitStack()
        process = stack.enter_context(
            started(arguments, HF_ENDPOINT=hub.enter_context(serve_hub()), HF_HOME=str(tmp_path / "home"))
        )
        wait_for(process.stdout, "trial 0 +started")
        hub.close()  # the network is gone
        rest = process.communicate(timeout=500)[0]
    assert process.returncode == 0, rest
    assert "models:/glue-sst2@champion, promoted" in rest
    again = command(
        "run",
        *arguments,
        "--resume",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "home"),
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
    )
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_hub_that_is_not_there_is_a_missing_service(tmp_path: Path, command: Any) -> None:
    done = command(
        "run",
        *("--space", "glue_sst2", "--storage", tmp_path),
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "home"),
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode == 4
    assert "google-bert/bert-base-uncased can't be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_file_and_seed_give_the_same_trials_to_the_last_digit(films: Path, command: Any) -> None:
    found = []
    for name in ("one", "other"):
        storage = films.parent / name
        done = command(
            *("run", "--space", films, "--storage", storage, "--set", "resources.max_concurrent_trials=1"),
            *("--set", f"tracking.uri=sqlite:///{films.parent}/{name}.db"),
        )
        assert done.returncode == 0, done.stderr
        with closing(sqlite3.connect(storage / "films" / "ledger.db")) as connection:
            values = "select trial_id, step, intermediate_value from trial_intermediate_values order by 1, 2"
            params = "select trial_id, param_name, param_value from trial_params order by 1, 2"
            found.append([connection.execute(query).fetchall() for query in (values, params)])
    assert found[0] == found[1]
    assert len(found[0][0]) > 8
