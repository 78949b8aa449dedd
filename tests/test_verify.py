"""`python -m hpo.verify`: what it says of a sound study, of one that was hurt, and what it mends."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from films import write_films

from hpo import config, verify
from hpo.errors import ServiceError
from hpo.invariants.mirror import doubled
from hpo.records import Objective
from hpo.records.mirrored import MirroredRun
from hpo.runners import Resources, Runner
from hpo.runners.inline import InlineRunner
from hpo.study import driver
from hpo.study.lease import driver_lock

SPACE = """\
study: films
seed: 3
model: {{name: {model}}}
task: {{type: sequence-classification, text: sentence, label: label, max_length: 16}}
data:
  files: {{train: train.tsv, validation: validation.tsv}}
  test: {{from: train, rows: 20}}
space:
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
  num_train_epochs: 1
  per_device_train_batch_size: 16
search: {{sampler: random, scheduler: fifo}}
budget: {{trials: 3}}
confirm: {{top: 1, seeds: 2}}
checkpoints: {{keep: 1}}
promotion: {{model: films, confidence: null}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
storage: {folder}/studies
"""

CHECKS = (
    *("ledger", "budget", "params", "seeds", "events", "mirror", "runs", "statuses", "steps", "values"),
    *("checkpoints", "strangers", "retention", "temporary", "again", "champion"),
)


def here(objective: Objective, resources: Resources, address: str | None) -> Runner:
    return InlineRunner(objective)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A study that ran to its end: trials, two fresh seeds, a champion."""
    folder = tmp_path_factory.mktemp("sound")
    write_films(folder, 160, 40)
    space = folder / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=folder))
    assert driver.run(config.load(space), runner=here) == 0
    return folder


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be hurt."""
    shutil.copytree(sound / "studies", tmp_path / "studies")
    shutil.copy(sound / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path / "studies" / "films"


Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`check(study, "--repair")` -> (exit code, findings by name)"""

    def call(study: Path, *options: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        code = verify.main(["--study", str(study), "--tracking-uri", uri, "--json", *options])
        return code, {own["check"]: own for own in json.loads(capsys.readouterr().out or "[]")}

    return call


def broken(found: dict[str, Any]) -> set[str]:
    return {name for name, own in found.items() if own["verdict"] == "broken"}


def query(database: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(sql).fetchall()


def test_of_a_sound_study_everything_holds(study: Path, check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(study)
    assert code == 0, found
    assert tuple(found) == CHECKS
    assert {own["verdict"] for own in found.values()} == {"ok"}
    assert "the same to the last bit" in found["again"]["said"]
    assert "version 1 loads" in found["champion"]["said"]


def test_a_study_with_a_trial_that_its_budget_cut_off_is_sound_and_goes_on_with_a_larger_one(
    tmp_path: Path, tiny_bert: Path, check: Check
) -> None:
    write_films(tmp_path, 160, 40)
    space = tmp_path / "films.yaml"
    space.write_text(SPACE.format(model=tiny_bert, folder=tmp_path))
    changes = ["space.num_train_epochs=2", "budget.trials=2", "confirm=null"]
    for epochs, states in ((3, ["COMPLETE", "RUNNING"]), (5, ["COMPLETE", "COMPLETE"])):
        loaded = config.load(space, [*changes, f"budget.epochs={epochs}"])
        assert driver.run(loaded, resume=epochs > 3, runner=here) == 0
        with closing(sqlite3.connect(loaded.folder / "ledger.db")) as connection:
            assert [row[0] for row in connection.execute("select state from trials order by number")] == states
        code, found = check(loaded.folder)
        assert code == 0, found
        said = (loaded.folder / "report.md").read_text()
        assert ("with a larger one it goes on" in said) == (epochs == 3)


def test_it_changes_nothing_where_it_only_looks(study: Path, check: Check) -> None:
    def contents() -> dict[str, object]:
        files = [path for path in study.rglob("*") if path.is_file() and not path.name.startswith("ledger.db")]
        found: dict[str, object] = {path.name: path.read_bytes() for path in files if path.name != "driver.lock"}
        with closing(sqlite3.connect(study / "ledger.db")) as connection:
            return found | {"ledger": list(connection.iterdump())}

    before = contents()
    check(study)
    assert contents() == before


def test_lines_say_check_verdict_and_remedy(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "checkpoints" / "trial-0099").mkdir()
    storage = ["--storage", str(study.parent), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", "--no-reevaluate"]
    assert verify.main(["--study", "films", *storage]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) + 1
    place = next(place for place, line in enumerate(lines) if line.startswith("strangers"))
    assert lines[place].split()[1:3] == ["broken", "trial-0099;"]
    assert "-> remove it with --repair" in lines[place + 1]


def hurt_ledger(study: Path) -> None:
    query(study / "ledger.db", "update trial_values set value = 0.123 where trial_value_id = 1")


def hurt_events(study: Path) -> None:
    lines = (study / "events.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('"trial_finished"' in line and '"number":1,' in line)]
    assert len(kept) < len(lines)
    (study / "events.jsonl").write_text("".join(kept))
    (study / "mlflow.cursor").write_text(str((study / "events.jsonl").stat().st_size))
    database = study.parents[1] / "mlflow.db"
    of_it = "run_uuid in (select run_uuid from runs where name like 'trial-0001%')"
    query(database, f"delete from metrics where step = 0 and {of_it}")


def hurt_cursor(study: Path) -> None:
    (study / "mlflow.cursor").unlink()


def hurt_status(study: Path) -> None:
    query(study.parents[1] / "mlflow.db", "update runs set status = 'RUNNING' where name = 'trial-0001'")


def hurt_metric(study: Path) -> None:
    database = study.parents[1] / "mlflow.db"
    query(database, "update metrics set value = 0.5 where key = 'loss' and step > 0")


def hurt_run(study: Path) -> None:
    database = study.parents[1] / "mlflow.db"
    query(database, "update runs set lifecycle_stage = 'deleted' where name = 'trial-0002'")


def hurt_weights(study: Path) -> None:
    for weights in study.glob("checkpoints/*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")


def leave_folder(study: Path) -> None:
    shutil.copytree(next(study.glob("checkpoints/*")), study / "checkpoints" / "trial-0077")


def leave_half(study: Path) -> None:
    (study / ".study.json.123").write_text("{")
    (study / "checkpoints" / ".trial-0001.123").mkdir()


def leave_bookmark(study: Path) -> None:
    """Of a trial that has ended."""
    (study / "running").mkdir(exist_ok=True)
    (study / "running" / "trial-0001.json").write_text("{}")


def take_alias(study: Path) -> None:
    query(study.parents[1] / "mlflow.db", "delete from registered_model_aliases")
    query(study.parents[1] / "mlflow.db", "delete from model_version_tags where key = 'hpo.champion_since'")


def run_twice(study: Path) -> None:
    from hpo.mlflow_client import open_client

    client = open_client(f"sqlite:///{study.parents[1] / 'mlflow.db'}")
    [(run_id,)] = query(study.parents[1] / "mlflow.db", "select run_uuid from runs where name = 'trial-0001'")
    run = client.get_run(run_id)
    client.create_run(run.info.experiment_id, run.info.start_time + 1, dict(run.data.tags), run_name="trial-0001")


HURTS = [
    (hurt_ledger, {"ledger"}, False),
    (hurt_events, {"events"}, True),
    (hurt_cursor, {"mirror"}, True),
    (hurt_status, {"statuses"}, True),
    (hurt_run, {"runs"}, True),
    (run_twice, {"runs"}, True),
    (hurt_metric, {"values"}, False),
    (hurt_weights, {"checkpoints"}, False),
    (leave_folder, {"strangers"}, True),
    (leave_half, {"temporary"}, True),
    (leave_bookmark, {"temporary"}, True),
    (take_alias, {"champion"}, True),
]


@pytest.mark.parametrize(("hurt", "names", "mends"), HURTS, ids=[own[0].__name__ for own in HURTS])
def test_what_is_hurt_is_named_and_mended_where_it_can_be(
    hurt: Callable[[Path], None], names: set[str], mends: bool, study: Path, check: Check
) -> None:
    hurt(study)
    code, found = check(study)
    assert code == 1
    assert names <= broken(found), found
    assert all(found[name]["remedy"] for name in broken(found))
    code, found = check(study, "--repair")
    assert code == (0 if mends else 1), found
    if mends:
        assert all(found[name]["verdict"] == "mended" for name in names)
        code, found = check(study)
        assert code == 0, found


def test_of_two_runs_of_a_trial_the_one_that_was_told_the_most_stays() -> None:
    """A server that was too slow may have made the older one after it was given up on, and it stays empty."""

    def run(run_id: str, number: int, metrics: dict[str, float]) -> MirroredRun:
        return MirroredRun(run_id=run_id, experiment_id="1", kind="trial", number=number, status="", metrics=metrics)

    late, told, equal = run("late", 1, {}), run("told", 1, {"accuracy": 0.9}), run("equal", 1, {"accuracy": 0.9})
    assert doubled((late, run("other", 2, {}), told, equal)) == [late, equal]


def test_checkpoints_of_an_earlier_release_are_not_asked_again(study: Path, check: Check) -> None:
    for folder in (study / "checkpoints").iterdir():
        (folder / "task.json").unlink()
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["files"]["task.json"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    code, found = check(study)
    assert code == 0, found
    assert found["again"]["verdict"] == "left out"
    assert "earlier release" in found["again"]["said"]


def test_the_bookmark_of_a_trial_that_goes_on_is_no_litter(study: Path, check: Check) -> None:
    query(study / "ledger.db", "update trials set state = 'RUNNING' where number = 1")
    running = study / "running"
    running.mkdir(exist_ok=True)
    for name in ("trial-0001.json", "trial-0001.30.safetensors", "trial-0001.pulse", "trial-0002.pulse"):
        (running / name).touch()
    _, found = check(study, "--repair", "--no-reevaluate")
    assert found["temporary"]["verdict"] == "mended", found
    assert "(it was: running/trial-0002.pulse;" in found["temporary"]["said"]
    left = sorted(path.name for path in running.iterdir())
    assert left == ["trial-0001.30.safetensors", "trial-0001.json", "trial-0001.pulse"]


@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "gone"])
def test_nothing_is_removed_while_the_ledger_can_t_be_read(study: Path, check: Check, damaged: bool) -> None:
    leave_half(study)
    leave_bookmark(study)
    for file in study.glob("ledger.db*"):
        if damaged and file.name == "ledger.db":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        else:
            file.unlink()
    before = sorted(path.relative_to(study) for path in study.rglob("*"))
    code, found = check(study, "--repair", "--no-reevaluate")
    assert code == 1
    assert found["ledger"]["verdict"] == "broken"
    assert not set(before) - {path.relative_to(study) for path in study.rglob("*")}


def test_a_driver_refuses_a_study_whose_ledger_is_gone(
    study: Path, sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = sorted((study / "checkpoints").iterdir())
    for file in study.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(ServiceError, match=r"ledger.db is not there, though checkpoints of its trials are"):
        driver.run(config.load(sound / "films.yaml", [], study.parent), resume=True, runner=here)
    assert sorted((study / "checkpoints").iterdir()) == checkpoints


def test_a_study_that_a_driver_holds_is_left_alone(study: Path, check: Check, tmp_path: Path) -> None:
    with driver_lock(study):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "hpo.verify",
                "--study",
                str(study),
                "--tracking-uri",
                f"sqlite:///{tmp_path}/mlflow.db",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 75
    assert "another driver" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--study", "other"], "other is no study"),
        (["--study", "films", "--tracking-uri", "./mlruns"], "refuses file stores"),
    ],
)
def test_mistakes_are_told_before_anything_heavy(
    options: list[str], said: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([*options, "--storage", str(study.parent)]) == 2
    assert said in capsys.readouterr().err


def test_a_store_that_is_not_there_is_said_and_not_made(study: Path, tmp_path: Path, check: Check) -> None:
    (tmp_path / "mlflow.db").unlink()
    code, found = check(study, "--no-reevaluate")
    assert code == 1
    assert "there is no" in found["mirror"]["said"]
    assert found["values"]["verdict"] == "left out"
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("study.json", "restore it from a backup"), ("outcome.json", "remove it and go on with --resume")],
)
def test_a_saved_file_that_is_damaged_is_a_missing_service(
    name: str, remedy: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / name).write_text("{")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert verify.main(["--study", str(study), "--tracking-uri", uri, "--no-reevaluate"]) == 4
    assert remedy in capsys.readouterr().err


def test_nothing_heavy_is_imported_for_help_and_mistakes() -> None:
    program = (
        "import sys\nfrom hpo import verify\n"
        "try:\n    verify.main(['--study', 'nowhere'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'mlflow', 'optuna', 'ray', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
