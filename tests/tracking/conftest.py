"""A real MLflow server to try on, and the events of a study."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_server import Server

from hpo.records import (
    AnyEvent,
    DatasetRecord,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialState,
)


@pytest.fixture(scope="session")
def server(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(store_template, folder / "mlflow.db")
    own = Server(folder)
    own.start()
    try:
        own.wait()
        yield own
    finally:
        own.kill()


DATASETS = tuple(
    DatasetRecord(
        name="sms",
        split=split,
        rows=100,
        digest=f"{index}" * 64,
        source="sms.tsv",
        columns={"sentence": "string", "label": "long"},
    )
    for index, split in enumerate(("train", "validation", "test"))
)


@pytest.fixture
def story() -> Callable[..., list[AnyEvent]]:
    """The events of a small study that ran through: trial 0 complete, trial 1 pruned, trial 2 failed."""

    def tell(study: str = "toy") -> list[AnyEvent]:
        events: list[AnyEvent] = [
            StudyStarted(
                time=1_000.0,
                study=study,
                metric="accuracy",
                mode="max",
                document=f"study: {study}\n",
                params={"model.name": "bert", "budget.trials": 3},
                tags={"team": "nlp"},
                datasets=DATASETS,
            )
        ]
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
        for number, state in enumerate(states):
            start = 1_010.0 + 100.0 * number
            params = {"learning_rate": 10.0 ** -(number + 3), "weight_decay": 0.01}
            events.append(TrialStarted(time=start, number=number, origin="tpe", params=params))
            for step in (10, 20, 30):
                metrics = {"accuracy": 0.5 + step / 100 - number / 10, "loss": 1.0 / step}
                events.append(TrialReported(time=start + step, number=number, step=step, metrics=metrics))
            best = {"best_accuracy": 0.8 - number / 10, "total_seconds": 40.0}
            reason = None if state is TrialState.COMPLETE else f"it was {state}"
            events.append(
                TrialFinished(time=start + 40, number=number, state=state, metrics=best, step=30, reason=reason)
            )
        events.append(
            StudyFinished(
                time=1_400.0, metrics={"best_accuracy": 0.8, "gain": 0.03, "best_trial": 0}, tags={"best_trial": "0"}
            )
        )
        return events

    return tell
