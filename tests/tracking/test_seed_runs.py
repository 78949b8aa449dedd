"""The retrainings over fresh seeds, as a real MLflow store shows them."""

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from hpo.records import (
    AnyEvent,
    Confirmed,
    StudyFinished,
    StudyStopped,
    TrialConfirmed,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.tracking import TrackingConfig
from hpo.tracking.mlflow import MlflowTracker

Story = Callable[..., list[AnyEvent]]
CONFIRMED = Confirmed(number=0, origin="tpe", first=0.8, values=(0.76, 0.78), mean=0.77, low=0.643, high=0.897)


def seed_run(replicate: int, value: float, number: int = 0) -> list[AnyEvent]:
    start = 1_400.0 + 100 * replicate
    params = {"learning_rate": 1e-3, "weight_decay": 0.01}
    metrics = {"accuracy": value}
    return [
        TrialStarted(time=start, number=number, replicate=replicate, origin="tpe", params=params),
        TrialReported(time=start + 1, number=number, replicate=replicate, step=10, metrics=metrics),
        TrialFinished(
            time=start + 2,
            number=number,
            replicate=replicate,
            state=TrialState.COMPLETE,
            metrics={"best_accuracy": value},
        ),
    ]


def runs_of(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("toy")
    assert found is not None
    runs = client.search_runs([found.experiment_id], max_results=1_000)
    assert len({run.info.run_name for run in runs}) == len(runs), "two runs of one name"
    return {run.info.run_name: run for run in runs}


def told(uri: str, folder: Path, events: list[AnyEvent]) -> None:
    folder.mkdir(exist_ok=True)
    tracker = MlflowTracker(TrackingConfig(uri=uri), folder)
    for event in events:
        tracker.apply(event)


def test_seed_runs_are_nested_under_their_trial_and_counted_nowhere_as_trials(
    store: str, tmp_path: Path, story: Story
) -> None:
    *search, finished = story()
    assert isinstance(finished, StudyFinished)
    figures = {"best_accuracy": 0.8, "default_accuracy": 0.7, **CONFIRMED.figures("max")}
    end = finished.model_copy(update={"metrics": figures, "time": 2_000.0})
    confirmed = TrialConfirmed(time=1_700.0, confirmed=CONFIRMED, mode="max")
    events = [*search, *seed_run(1, 0.76), *seed_run(2, 0.78), confirmed, end]
    told(store, tmp_path / "toy", events)
    runs = runs_of(store)
    seeds = [runs["trial-0000-seed-1"], runs["trial-0000-seed-2"]]
    trial, parent = runs["trial-0000"], runs["toy"]
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {trial.info.run_id}
    assert [run.data.tags["hpo.kind"] for run in seeds] == ["seed", "seed"]
    assert [run.data.metrics["best_accuracy"] for run in seeds] == [0.76, 0.78]
    assert {run.info.status for run in seeds} == {"FINISHED"}
    assert trial.data.metrics["best_accuracy"] == 0.8, "its first score stays"
    shown = {name: round(trial.data.metrics[name], 6) for name in ("confirmed_mean", "confirmed_low", "optimism")}
    assert shown == {"confirmed_mean": 0.77, "confirmed_low": 0.643, "optimism": 0.03}
    assert trial.data.metrics["confirmed_high"] == 0.897
    assert trial.data.tags["hpo.confirmed"] == "confirmed"
    assert parent.data.metrics["confirmed_mean"] == 0.77
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("**Trial 0 won: accuracy 0.7700**, 0.6430 to 0.8970, on average over fresh seeds")
    assert "of 3 trials" in note
    tags = MlflowClient(store).get_experiment(parent.info.experiment_id).tags
    assert "metrics.`confirmed_mean`" in tags[f"mlflow.sharedViewState.{parent.info.run_id}"]

    told(store, tmp_path / "toy", events)  # another process, which knows nothing
    assert {name: run.data.metrics for name, run in runs_of(store).items()} == {
        name: run.data.metrics for name, run in runs.items()
    }


def test_a_stop_in_between_leaves_no_seed_run_running_and_the_next_run_goes_on(
    store: str, tmp_path: Path, story: Story
) -> None:
    search = story()[:-1]
    begun = seed_run(1, 0.76)
    told(store, tmp_path / "toy", [*search, *begun[:2], StudyStopped(time=1_600.0, reason="SIGTERM")])
    assert runs_of(store)["trial-0000-seed-1"].info.status == "SCHEDULED"
    told(store, tmp_path / "toy", [search[0], *begun, story()[-1]])
    assert runs_of(store)["trial-0000-seed-1"].info.status == "FINISHED"
    assert runs_of(store)["toy"].info.status == "FINISHED"
