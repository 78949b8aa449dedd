"""`python -m hpo.verify`: what it says of a sound study, of one that was hurt, and what it mends."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from films import write_films

from hpo import config, verify
from hpo.confirmation import Candidate, Race
from hpo.errors import ServiceError
from hpo.invariants import Facts, Verdict, trials
from hpo.invariants.mirror import doubled
from hpo.records import Objective, Seeds, TrialConfirmed, TrialRecord, TrialState
from hpo.records.mirrored import Mirrored, MirroredRun
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


def begin_twice(study: Path) -> None:
    """A server that was too slow has made the study's first run after it was given up on; trials were told to it."""
    from hpo.mlflow_client import open_client

    client = open_client(f"sqlite:///{study.parents[1] / 'mlflow.db'}")
    by_name = "select run_uuid from runs where lifecycle_stage = 'active' and name = "
    [(own,)] = query(study.parents[1] / "mlflow.db", f"{by_name} 'films'")
    [(trial,)] = query(study.parents[1] / "mlflow.db", f"{by_name} 'trial-0001'")
    run, child = client.get_run(own), client.get_run(trial)
    late = client.create_run(run.info.experiment_id, run.info.start_time - 1, dict(run.data.tags), run_name="films")
    tags = child.data.tags | {"mlflow.parentRunId": late.info.run_id}
    client.create_run(run.info.experiment_id, child.info.start_time - 1, tags, run_name="trial-0001")


HURTS = [
    (hurt_ledger, {"ledger"}, False),
    (hurt_events, {"events"}, True),
    (hurt_cursor, {"mirror"}, True),
    (hurt_status, {"statuses"}, True),
    (hurt_run, {"runs"}, True),
    (run_twice, {"runs"}, True),
    (begin_twice, {"runs"}, True),
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
    runs = (late, run("other", 2, {}), told, equal)
    assert doubled(Mirrored(experiment_id="1", experiment="films", runs=runs)) == [late, equal]


def test_of_two_runs_of_a_study_the_one_that_it_is_told_to_stays_with_what_is_below_it() -> None:
    late, own = ([run_of("study", study), run_of("trial", study, 1)] for study in ("late", "own"))
    late[1] = late[1].model_copy(update={"metrics": {"accuracy": 0.9}})
    assert doubled(Mirrored(experiment_id="1", experiment="films", study_run="own", runs=(*late, *own))) == late
    assert doubled(Mirrored(experiment_id="1", experiment="films", study_run="gone", runs=(*late, *own))) == own


def run_of(kind: Any, study_run: str, number: int = -1) -> MirroredRun:
    run_id = study_run if kind == "study" else f"{study_run}-{number}"
    return MirroredRun(run_id=run_id, experiment_id="1", kind=kind, study_run=study_run, number=number, status="")


def test_seeds_that_an_extended_study_counts_no_more_are_nothing_wrong() -> None:
    """Trial 1 led a race of three seeds; now trial 7 leads, and puts it out after the second."""
    scores = {0: {1: 0.70, 2: 0.71, 3: 0.705}, 1: {1: 0.80, 2: 0.801, 3: 0.85}, 7: {1: 0.95, 2: 0.951, 3: 0.949}}
    candidates = [Candidate(number, "tpe", 0.9, is_reference=number == 0) for number in scores]
    standing = Race(candidates, 3, 0.95, "max").standing(scores)
    assert len(next(one for one in standing if one.number == 1).values) == 2
    facts = Facts(
        *("films", "accuracy", "max"),
        runs=tuple(seed_run(number, place, value) for number, own in scores.items() for place, value in own.items()),
        seeds=3,
        events=tuple(TrialConfirmed(time=1.0, confirmed=one, mode="max") for one in standing),
    )
    assert trials.seeds(facts).verdict is Verdict.OK, trials.seeds(facts)
    wrong = standing[0].model_copy(update={"mean": 0.96})
    assert trials.seeds(replace(facts, events=(TrialConfirmed(time=1.0, confirmed=wrong, mode="max"),))).verdict is (
        Verdict.BROKEN
    )


def seed_run(number: int, replicate: int, value: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        replicate=replicate,
        params={},
        origin="tpe",
        state=TrialState.COMPLETE,
        value=value,
        curve={1.0: value},
        seeds=Seeds(replicate, replicate),
    )


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


def test_a_winner_that_another_gate_judges_again_is_no_second_look_at_the_test_rows(
    study: Path, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["promotion.min_improvement=0.5", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    changed = config.load(sound / "films.yaml", changes, study.parent)
    [first] = json.loads((study / "outcome.json").read_text())["opened"]
    assert driver.run(changed, resume=True, runner=here) == 0
    assert "The test rows were opened" not in capsys.readouterr().out
    assert json.loads((study / "outcome.json").read_text())["opened"] == [first]


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


def test_it_asks_the_store_that_was_told_whatever_the_variable_says(
    study: Path, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.chdir(tmp_path)
    assert json.loads((study / "mlflow.json").read_text())["uri"] == f"sqlite:///{sound}/mlflow.db"
    assert verify.main(["--study", str(study), "--no-reevaluate"]) == 0, capsys.readouterr()
    assert not (tmp_path / "other.db").exists()


def test_nothing_is_mended_in_a_store_that_does_not_know_the_study(
    study: Path, tmp_path: Path, store_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(store_template, tmp_path / "empty.db")
    link = (study / "mlflow.json").read_text()
    for name, said in (("empty.db", "shows no run of this study"), ("absent.db", "does not answer")):
        options = ["--tracking-uri", f"sqlite:///{tmp_path}/{name}", "--repair", "--no-reevaluate"]
        assert verify.main(["--study", str(study), *options]) == 1
        assert f"{said}, and sqlite:///" in capsys.readouterr().err
    assert (study / "mlflow.json").read_text() == link
    assert query(tmp_path / "empty.db", "select count(*) from runs") == [(0,)]
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("study.json", "restore it from a backup"),
        ("outcome.json", "remove it and go on with --resume"),
        ("mlflow.json", "remove it and mlflow.cursor beside it and go on with --resume"),
    ],
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
