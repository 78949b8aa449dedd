import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from hpo.errors import ServiceError
from hpo.mlflow_client import kept_store
from hpo.records import (
    AnyEvent,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    TrialDropped,
    TrialFinished,
    TrialNoted,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.tracking import ReplayNeededError, TrackingConfig
from hpo.tracking.link import read_link
from hpo.tracking.mlflow import MlflowTracker
from hpo.tracking.spool import Spool

# MLflow's own queries ask SQLAlchemy for a loader that is on its way out.
Story = Callable[..., list[AnyEvent]]


def told(uri: str, folder: Path, events: list[AnyEvent], **config: Any) -> MlflowTracker:
    folder.mkdir(exist_ok=True)
    tracker = MlflowTracker(TrackingConfig(uri=uri, **config), folder)
    for event in events:
        tracker.apply(event)
    return tracker


def runs_of(uri: str, experiment: str = "toy") -> dict[str, Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], max_results=1_000)
    assert len({run.info.run_name for run in runs}) == len(runs), "two runs of one name"
    return {run.info.run_name: run for run in runs}


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(own.step, own.value) for own in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def everything(uri: str) -> Any:
    """All that a store shows of experiment `toy`, but for what MLflow itself counts on."""
    return {
        name: (
            run.info.status,
            run.info.end_time,
            run.data.params,
            run.data.metrics,
            run.data.tags,
            [(own.dataset.name, own.tags) for own in run.inputs.dataset_inputs],
            {metric: history(uri, run, metric) for metric in run.data.metrics},
        )
        for name, run in runs_of(uri).items()
    }


def test_a_study_is_one_parent_and_one_nested_child_a_trial(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    runs = runs_of(store)
    assert sorted(runs) == ["toy", "trial-0000", "trial-0001", "trial-0002"]
    parent = runs.pop("toy")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.data.tags["hpo.kind"] == "study"
    assert parent.data.tags["team"] == "nlp"
    assert [runs[name].data.tags["hpo.trial"] for name in sorted(runs)] == ["0", "1", "2"]
    assert runs["trial-0000"].data.tags["hpo.origin"] == "tpe"


def test_states_are_mapped_to_statuses(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    statuses = {name: run.info.status for name, run in runs_of(store).items()}
    assert statuses == {"toy": "FINISHED", "trial-0000": "FINISHED", "trial-0001": "KILLED", "trial-0002": "FAILED"}
    assert runs_of(store)["trial-0001"].data.tags["hpo.reason"] == "it was pruned"


def test_params_and_metrics_by_step_are_there(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    runs = runs_of(store)
    trial = runs["trial-0000"]
    assert trial.data.params == {"learning_rate": "0.001", "weight_decay": "0.01"}
    assert history(store, trial, "loss") == [(10, 1 / 10), (20, 1 / 20), (30, 1 / 30)]
    assert history(store, trial, "best_accuracy") == [(0, 0.8)], "a bar in the UI, not a lone point at step 30"
    assert (trial.info.start_time, trial.info.end_time) == (1_010_000, 1_050_000)
    assert runs["toy"].data.params == {"model.name": "bert", "budget.trials": "3"}


def test_the_parent_alone_answers_what_won(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    parent = runs_of(store)["toy"]
    assert parent.data.metrics["best_accuracy"] == 0.8
    assert parent.data.metrics["gain"] == 0.03
    assert parent.data.tags["best_trial"] == "0"
    assert parent.data.tags["best_learning_rate"] == "0.001"
    assert parent.data.tags["hpo.searched"] == "learning_rate"
    note = parent.data.tags["mlflow.note.content"]
    assert "| 0 | 0.8 | tpe | 0.001 |" in note
    assert "`best_accuracy`" in note
    assert note.startswith("**Trial 0 won: accuracy 0.8000**"), "the UI folds all but the first lines"
    assert f"(#/experiments/{parent.info.experiment_id}/runs?viewStateShareKey={parent.info.run_id}&" in note


def test_the_view_of_a_study_shows_its_trials_with_what_varies(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    parent = runs_of(store)["toy"].info
    tags = MlflowClient(store).get_experiment(parent.experiment_id).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{parent.run_id}"])
    assert view["searchFilter"] == f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best_accuracy`", False)
    assert view["selectedColumns"][:2] == ["metrics.`best_accuracy`", "params.`learning_rate`"]
    assert view["compareRunCharts"][0]["selectedParams"] == ["learning_rate"]
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_space_file_and_the_reports_are_artifacts(store: str, tmp_path: Path, story: Story) -> None:
    report = tmp_path / "report.md"
    report.write_text("# all\n")
    events = story()
    last = events[-1]
    assert isinstance(last, StudyFinished)
    missing = tmp_path / "missing.md"
    told(store, tmp_path / "toy", [*events[:-1], last.model_copy(update={"files": (report, missing)})])
    client = MlflowClient(store)
    parent = runs_of(store)["toy"]
    assert {own.path for own in client.list_artifacts(parent.info.run_id)} == {"space.yaml", "report.md"}
    assert parent.info.artifact_uri.startswith(str(tmp_path / "mlartifacts"))
    assert (Path(parent.info.artifact_uri) / "space.yaml").read_text() == "study: toy\n"


def test_children_carry_the_splits_they_saw_and_the_parent_all(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    seen = {
        name: {tag.value for own in run.inputs.dataset_inputs for tag in own.tags}
        for name, run in runs_of(store).items()
    }
    assert seen["toy"] == {"train", "validation", "test"}
    assert seen["trial-0000"] == {"train", "validation"}
    digests = {own.dataset.digest for own in runs_of(store)["toy"].inputs.dataset_inputs}
    assert digests == {"0" * 12, "1" * 12, "2" * 12}


def test_telling_everything_twice_changes_nothing(store: str, tmp_path: Path, story: Story) -> None:
    tracker = told(store, tmp_path / "toy", story())
    once = everything(store)
    for event in story():
        tracker.apply(event)
    assert everything(store) == once
    told(store, tmp_path / "toy", story())  # another process, which knows nothing
    assert everything(store) == once


def test_a_crash_after_any_event_changes_nothing(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    once = everything(store)
    other = tmp_path / "other"
    other.mkdir()
    uri = f"sqlite:///{other / 'mlflow.db'}"
    shutil.copy(tmp_path / "mlflow.db", other / "mlflow.db")
    events = story()
    for place in range(1, len(events), 3):
        told(uri, tmp_path / "toy", [events[0], *events[place:]])
        assert {name: (shown[0], shown[2], shown[3], shown[6]) for name, shown in everything(uri).items()} == {
            name: (shown[0], shown[2], shown[3], shown[6]) for name, shown in once.items()
        }


def test_a_stopped_study_leaves_nothing_running_and_goes_on(store: str, tmp_path: Path, story: Story) -> None:
    events = story()
    until = next(index for index, event in enumerate(events) if isinstance(event, TrialReported) and event.number == 1)
    told(store, tmp_path / "toy", [*events[: until + 1], StudyStopped(time=1_150.0, reason="SIGINT")])
    statuses = {name: run.info.status for name, run in runs_of(store).items()}
    assert statuses == {"toy": "SCHEDULED", "trial-0000": "FINISHED", "trial-0001": "SCHEDULED"}
    assert runs_of(store)["toy"].data.tags["hpo.status"] == "stopped"

    again = TrialStarted(time=1_200.0, number=1, origin="tpe", params={"learning_rate": 1e-4, "weight_decay": 0.01})
    tracker = told(store, tmp_path / "toy", [events[0], again])
    statuses = {name: run.info.status for name, run in runs_of(store).items()}
    assert statuses == {"toy": "RUNNING", "trial-0000": "FINISHED", "trial-0001": "RUNNING"}
    for event in events[until:]:
        tracker.apply(event)
    assert {run.info.status for run in runs_of(store).values()} == {"FINISHED", "KILLED", "FAILED"}
    assert runs_of(store)["toy"].data.tags["hpo.status"] == "finished"


def test_a_trial_that_a_crash_left_running_ends_with_the_study(store: str, tmp_path: Path, story: Story) -> None:
    events = [event for event in story() if not (isinstance(event, TrialFinished) and event.number == 2)]
    told(store, tmp_path / "toy", events)
    lost = runs_of(store)["trial-0002"]
    assert lost.info.status == "KILLED"
    assert "finished without it" in lost.data.tags["hpo.reason"]


def test_an_extended_study_shows_its_new_budget(store: str, tmp_path: Path, story: Story) -> None:
    events = story()
    told(store, tmp_path / "toy", events)
    first = events[0]
    assert isinstance(first, StudyStarted)
    extended = first.model_copy(update={"params": {**first.params, "budget.trials": 6}, "time": 2_000.0})
    told(store, tmp_path / "toy", [extended])
    parent = runs_of(store)["toy"]
    assert parent.info.status == "RUNNING"
    assert parent.data.params["budget.trials"] == "3"
    assert parent.data.tags["hpo.now.budget.trials"] == "6"
    told(store, tmp_path / "toy", [first.model_copy(update={"time": 3_000.0})])
    assert runs_of(store)["toy"].data.tags["hpo.now.budget.trials"] == "3", "as it was at first"


def test_a_study_made_anew_under_an_old_name_gets_its_own_page(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    told(store, tmp_path / "new", story())
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id], "tags.`hpo.kind` = 'study'")) == 2
    assert len(client.search_runs([experiment.experiment_id])) == 8


def test_metrics_that_are_not_finite_are_shown(store: str, tmp_path: Path, story: Story) -> None:
    metrics = {"loss": math.nan, "norm": math.inf, "f1@5 (macro)": 0.5}
    told(store, tmp_path / "toy", [*story()[:2], TrialReported(time=1_011.0, number=0, step=1, metrics=metrics)])
    shown = runs_of(store)["trial-0000"].data.metrics
    assert math.isnan(shown["loss"])
    assert shown["norm"] > 1e308
    assert shown["f1_5 _macro_"] == 0.5


def test_many_and_long_params_fit_into_mlflow_s_limits(store: str, tmp_path: Path, story: Story) -> None:
    params = {f"p{index}": index for index in range(230)} | {"text": "x" * 10_000}
    told(store, tmp_path / "toy", [story()[0], TrialStarted(time=1.0, number=7, origin="tpe", params=params)])
    shown = runs_of(store)["trial-0007"].data.params
    assert len(shown) == 231
    assert len(shown["text"]) == 6_000


def test_a_child_carries_all_tags_and_params_of_its_trial(store: str, tmp_path: Path, story: Story) -> None:
    params = {"learning_rate": 3e-5, "per_device_train_batch_size": 16, "loss": "focal", "freeze": False, "p": "a b"}
    tags = {"hpo.seed_init": "7", "hpo.seed_order": "8", "hpo.model_sha256": "a" * 64, "hpo.data_sha256": "b" * 64}
    event = TrialStarted(time=1.0, number=7, origin="tpe", params=params, tags=tags)
    told(store, tmp_path / "toy", [story()[0], event, event])
    shown = runs_of(store)["trial-0007"].data
    assert shown.params == {name: str(value) for name, value in params.items()}
    assert {name: shown.tags[name] for name in tags} == tags
    assert shown.tags["hpo.origin"] == "tpe"


def test_a_reason_is_kept_whole_or_at_least_its_end(store: str, tmp_path: Path, story: Story) -> None:
    short, long = "Traceback:\n  here\nValueError: no", "frame\n" * 3_000 + "ValueError: no"
    ends = [
        TrialFinished(time=2.0, number=number, state=TrialState.FAILED, metrics={}, reason=reason)
        for number, reason in enumerate((short, long))
    ]
    told(store, tmp_path / "toy", [story()[0], *ends])
    runs = runs_of(store)
    assert runs["trial-0000"].data.tags["hpo.reason"] == short
    assert runs["trial-0001"].data.tags["hpo.reason"] == long[-8_000:]


def test_a_note_is_on_the_run_of_its_trial_or_seed(store: str, tmp_path: Path, story: Story) -> None:
    tags = {"hpo.setbacks": "out of memory", "hpo.micro_batch_size": "16"}
    told(
        store,
        tmp_path / "toy",
        [
            *story()[:2],
            TrialNoted(time=2.0, number=0, text="again with 16", tags=tags),
            TrialNoted(time=2.0, number=0, replicate=1, text="it goes on after step 12 of 90"),
        ],
    )
    runs = runs_of(store)
    assert {name: runs["trial-0000"].data.tags[name] for name in tags} == tags
    assert runs["trial-0000"].data.tags["hpo.note"] == "again with 16"
    assert runs["trial-0000-seed-1"].data.tags["hpo.note"] == "it goes on after step 12 of 90"


def test_a_report_is_one_request(store: str, tmp_path: Path, story: Story) -> None:
    tracker = told(store, tmp_path / "toy", story()[:2])
    tracker.apply(TrialReported(time=1_500.0, number=0, step=1, metrics={"accuracy": 0.5}))
    begin = time.process_time()
    for step in range(2, 22):
        tracker.apply(TrialReported(time=1_500.0 + step, number=0, step=step, metrics={"accuracy": 0.5, "loss": 1.0}))
    assert (time.process_time() - begin) / 20 < 0.2


def test_the_store_s_folders_are_made(tmp_path: Path, story: Story) -> None:
    uri = f"sqlite:///{tmp_path / 'a' / 'b' / 'mlflow.db'}"
    told(uri, tmp_path / "toy", story()[:1])
    assert (tmp_path / "a" / "b" / "mlartifacts").is_dir()


def test_another_experiment_may_be_named(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story(), experiment="shared")
    assert "toy" in runs_of(store, "shared")


def test_a_deleted_experiment_is_an_error_with_a_remedy(store: str, tmp_path: Path, story: Story) -> None:
    told(store, tmp_path / "toy", story())
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(ServiceError, match=r"experiment 'toy' is deleted; restore it \(mlflow experiments restore"):
        told(store, tmp_path / "toy", story()[:1])


def test_a_server_that_is_away_is_an_error_without_the_password(tmp_path: Path, story: Story) -> None:
    with pytest.raises(ServiceError) as caught:
        told("http://ann:secret@127.0.0.1:9", tmp_path / "toy", story()[:1])
    assert "check that the service is up" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_that_lost_the_study_asks_for_everything_again(store: str, tmp_path: Path, story: Story) -> None:
    events = story()
    spool = Spool(tmp_path / "toy", lambda: MlflowTracker(TrackingConfig(uri=store), tmp_path / "toy"))
    for event in events:
        spool.append(event)
    assert spool.close(60.0)
    once = everything(store)
    MlflowClient(store).delete_run(runs_of(store)["toy"].info.run_id)
    for run in runs_of(store).values():
        MlflowClient(store).delete_run(run.info.run_id)
    with pytest.raises(ReplayNeededError):
        told(store, tmp_path / "toy", events[:1])

    spool = Spool(tmp_path / "toy", lambda: MlflowTracker(TrackingConfig(uri=store), tmp_path / "toy"))
    spool.append(events[-1])
    assert spool.close(60.0)
    assert {name: shown[0] for name, shown in everything(store).items()} == {
        name: shown[0] for name, shown in once.items()
    }


def test_the_study_can_read_where_its_page_is(store: str, tmp_path: Path, story: Story) -> None:
    folder = tmp_path / "toy"
    assert read_link(folder) is None
    told(store, folder, story()[:1])
    link = read_link(folder)
    assert link is not None
    assert link.parent_run_id == runs_of(store)["toy"].info.run_id
    assert link.uri == store


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("http://me:s3/cr@t@mlflow:5000", "http://me@mlflow:5000"),
        ("postgresql+psycopg2://hpo:s3cret@db/mlflow", "postgresql+psycopg2://hpo@db/mlflow"),
        ("sqlite:///here.db?timeout=5", f"sqlite:///{Path.cwd()}/here.db"),
    ],
)
def test_the_address_of_a_store_is_kept_without_its_password(uri: str, kept: str) -> None:
    assert kept_store(uri) == kept == kept_store(kept)


@pytest.mark.parametrize("text", ['{"id": "abc", "expe', '{"id": "abc", "colour": "red"}', "[]", "7"])
def test_a_link_that_is_damaged_or_another_program_s_is_said_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "mlflow.json").write_text(text)
    with pytest.raises(ServiceError, match=r"mlflow.json can't be read .* remove it and mlflow.cursor"):
        read_link(tmp_path)


@pytest.mark.service
def test_a_server_killed_in_mid_stream_gets_everything_once(server: Any, tmp_path: Path, story: Story) -> None:
    folder = tmp_path / "toy"
    spool = Spool(folder, lambda: MlflowTracker(TrackingConfig(uri=server.uri), folder))
    events = story()[:2]
    events += [
        TrialReported(time=2_000.0 + step, number=0, step=step, metrics={"loss": 1 / step}) for step in range(1, 41)
    ]
    for event in events[:20]:
        spool.append(event)
    assert spool.flush(60.0)
    for event in events[20:30]:
        spool.append(event)
    server.kill()
    for event in events[30:]:
        spool.append(event)
    deadline = time.monotonic() + 60.0
    while spool.trouble is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert spool.trouble is not None
    assert spool.behind > 0
    server.start()
    server.wait()
    spool.append(TrialFinished(time=2_100.0, number=0, state=TrialState.COMPLETE, metrics={}, step=40))
    spool.append(StudyFinished(time=2_200.0, metrics={}, tags={}))
    assert spool.close(60.0)
    runs = runs_of(server.uri)
    assert {name: run.info.status for name, run in runs.items()} == {"toy": "FINISHED", "trial-0000": "FINISHED"}
    assert history(server.uri, runs["trial-0000"], "loss") == [(step, 1 / step) for step in range(1, 41)]


def test_opening_a_new_store_is_silent_and_safe_for_two_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from hpo.mlflow_client import open_client; assert 'mlflow' not in sys.modules; "
        f"open_client('sqlite:///{tmp_path / 'new.db'}')"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    assert [(own.communicate()[0], own.returncode) for own in both] == [("", 0), ("", 0)]


def test_trials_on_the_front_are_tagged_and_lose_the_tag_when_others_beat_them(
    store: str, tmp_path: Path, story: Story
) -> None:
    *trials, end = story()
    assert isinstance(end, StudyFinished)
    tracker = told(store, tmp_path / "toy", [*trials, end.model_copy(update={"tags": {"pareto": "0, 1"}})])
    fronts = {name: run.data.tags.get("hpo.pareto") for name, run in runs_of(store).items() if "trial" in name}
    assert fronts == {"trial-0000": "true", "trial-0001": "true", "trial-0002": None}
    tracker.apply(end.model_copy(update={"tags": {"pareto": "1, 2"}}))
    fronts = {name: run.data.tags.get("hpo.pareto") for name, run in runs_of(store).items() if "trial" in name}
    assert fronts == {"trial-0000": "false", "trial-0001": "true", "trial-0002": "true"}


def test_a_trial_that_the_space_has_dropped_is_none_of_the_best(store: str, tmp_path: Path, story: Story) -> None:
    started, *rest = story()
    for dropped, best in ((False, "## The best 1 of 3 trials"), (True, "History only"), (False, "best 1 of 3")):
        told(store, tmp_path, [started, *rest[:-1], TrialDropped(time=1_300.0, number=0, dropped=dropped), rest[-1]])
        runs = runs_of(store)
        assert runs["trial-0000"].data.tags["hpo.dropped"] == str(dropped).lower()
        page = runs["toy"].data.tags["mlflow.note.content"]
        assert best in page
        assert ("| 0 |" in page) is not dropped
