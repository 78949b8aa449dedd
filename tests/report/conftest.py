"""A finished study as records: twelve trials of two kinds of params, one of them conditional."""

import math

import pytest

from hpo.records import Difference, Seeds, StudySummary, TrialRecord, TrialState
from hpo.space import Choice, Condition, Fixed, FloatRange, SearchSpace


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace(
        {
            "learning_rate": FloatRange(1e-5, 1e-3, log=True),
            "per_device_train_batch_size": Choice((16, 32)),
            "loss": Choice(("cross_entropy", "focal")),
            "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
            "weight_decay": Fixed(0.01),
        }
    )


@pytest.fixture
def trials() -> list[TrialRecord]:
    made = []
    for number in range(12):
        rate = 10 ** (-5 + 2 * ((number * 5 + 6) % 12) / 11)
        focal = number % 3 == 2
        params = {"learning_rate": rate, "per_device_train_batch_size": 16 if number % 2 else 32}
        params |= {"loss": "focal" if focal else "cross_entropy", "weight_decay": 0.01}
        if focal:
            params["focal_gamma"] = 1.0 + number / 4
        state = TrialState.FAILED if number == 9 else TrialState.PRUNED if number % 4 == 3 else TrialState.COMPLETE
        top = 0.78 - 0.05 * (math.log10(rate) + 3.7) ** 2 - 0.01 * focal
        reached = {TrialState.COMPLETE: 4, TrialState.PRUNED: 2, TrialState.FAILED: 1}[state]
        params["num_train_epochs"] = 4
        curve = {i / 4: top - 0.3 * math.exp(-1.1 * i) for i in range(1, reached + 1)}
        if state is TrialState.FAILED:
            curve[0.5] = math.nan
        made.append(
            TrialRecord(
                number=number,
                state=state,
                origin="default" if number == 0 else "tpe",
                params=params,
                value=max(curve.values()) if state is TrialState.COMPLETE else None,
                curve=curve,
                metrics={"epochs": float(reached)},
                seeds=Seeds(number, number),
                reason="loss is nan at step 63" if state is TrialState.FAILED else None,
            )
        )
    return made


@pytest.fixture
def summary(trials: list[TrialRecord]) -> StudySummary:
    complete = [trial for trial in trials if trial.value is not None]
    return StudySummary(
        study="docstrings",
        metric="accuracy",
        mode="max",
        best=max(complete, key=lambda trial: trial.value or 0.0),
        baseline=trials[0],
        test_best={"accuracy": 0.764},
        test_baseline={"accuracy": 0.732},
        test_gain=Difference(gain=0.032, low=-0.01, high=0.074, confidence=0.95),
        counts={TrialState.COMPLETE: 8, TrialState.PRUNED: 3, TrialState.FAILED: 1},
        decision="promote",
        reasons=("no champion yet",),
        model_uri="models:/docstrings@champion",
        tracking_uri="sqlite:///mlflow.db",
        experiment="docstrings",
        experiment_id="1",
        parent_run_id="abc123",
        seconds=192.0,
        test_rows=500,
        validation_rows=400,
    )
