"""Which recorded trial answers, and what it says at which rung."""

import json
from pathlib import Path

import pytest

from hpo.errors import DataError
from hpo.records import Exploited, Seeds, TrialConfig, TrialRecord, TrialState
from hpo.runners.replay import Curve, Evaluation, ReplayObjective, curves_of, read_curves
from hpo.space import Choice, Condition, FloatRange, IntRange, Scalar, SearchSpace

SPACE = SearchSpace(
    {
        "learning_rate": FloatRange(1e-5, 1e-3, log=True),
        "per_device_train_batch_size": Choice((16, 32, 64)),
        "num_train_epochs": IntRange(1, 4),
    }
)
CURVES = Path(__file__).resolve().parents[2] / "benchmarks" / "curves"


def curve(number: int, rate: float, batch: int = 32, epochs: float = 2, steps: int = 100) -> Curve:
    """Evaluated at each tenth; there the accuracy is that tenth, and ten seconds have passed."""
    params: dict[str, Scalar] = {
        "learning_rate": rate,
        "per_device_train_batch_size": batch,
        "num_train_epochs": epochs,
    }
    evaluations = tuple(Evaluation(part / 10, {"accuracy": part / 10, "seconds": part * 10.0}) for part in range(1, 11))
    return Curve(number, "random", params, steps, evaluations)


def asked(objective: ReplayObjective, *rungs: float, **params: Scalar) -> list[tuple[int, float]]:
    config = TrialConfig(0, params, Seeds(0, 0), rungs)
    return [(report.step, report.metrics["accuracy"]) for report in objective(config)]


def test_near_is_measured_on_the_scale_that_is_searched() -> None:
    objective = ReplayObjective(SPACE, [curve(0, 1e-5), curve(1, 1e-3)])
    params = {"per_device_train_batch_size": 32, "num_train_epochs": 2}
    found, distance = objective.nearest({"learning_rate": 9e-5, **params})  # of the middle, 1e-4, on a log scale below
    assert found.number == 0
    assert distance == pytest.approx(0.477, abs=1e-3)
    assert objective.nearest({"learning_rate": 1.1e-4, **params})[0].number == 1


def test_choices_of_numbers_lie_in_their_order() -> None:
    objective = ReplayObjective(SPACE, [curve(0, 1e-4, batch=16), curve(1, 1e-4, batch=32)])
    params = {"learning_rate": 1e-4, "num_train_epochs": 2}
    assert objective.nearest({"per_device_train_batch_size": 64, **params}) == (objective.curves[1], 0.5)
    assert objective.nearest({"per_device_train_batch_size": 32, **params}) == (objective.curves[1], 0.0)


def test_words_lie_one_range_apart_and_so_does_what_is_not_there() -> None:
    space = SearchSpace(
        {
            "loss": Choice(("cross_entropy", "focal")),
            "focal_gamma": FloatRange(0.0, 4.0, when=(Condition("loss", ("focal",)),)),
        }
    )
    evaluations = (Evaluation(1.0, {"accuracy": 0.5}),)
    objective = ReplayObjective(space, [Curve(0, "random", {"loss": "focal", "focal_gamma": 0.0}, 10, evaluations)])
    assert objective.nearest({"loss": "focal", "focal_gamma": 4.0})[1] == pytest.approx(1.0)
    assert objective.nearest({"loss": "cross_entropy"})[1] == pytest.approx(2**0.5)


def test_epochs_are_matched_before_anything_else() -> None:
    objective = ReplayObjective(SPACE, [curve(0, 1e-4, epochs=1), curve(1, 1e-3, 64, epochs=3)])
    near = {"learning_rate": 1e-4, "per_device_train_batch_size": 32}
    assert objective.nearest({**near, "num_train_epochs": 3})[0].number == 1
    assert objective.nearest({**near, "num_train_epochs": 4})[0].number == 1
    assert objective.nearest({**near, "num_train_epochs": 2})[0].number == 0  # of two as far away the shorter one


def test_a_rung_has_the_last_value_at_or_before_it() -> None:
    objective = ReplayObjective(SPACE, [curve(0, 1e-4)])
    values = asked(objective, 0.05, 0.25, 0.7, 1.0, learning_rate=1e-4, num_train_epochs=2)
    assert values == [(25, 0.2), (50, 0.5), (70, 0.7), (100, 1.0)]  # nothing before a tenth; 50 is an epoch's end


def test_a_rung_lies_at_the_first_whole_step_as_in_a_training() -> None:
    recorded = curve(0, 1e-4, steps=375)
    third = Evaluation(42 / 375, {"accuracy": 0.77, "seconds": 11.0})  # the first step at or beyond 1/9
    objective = ReplayObjective(SPACE, [Curve(0, "random", recorded.params, 375, (third, *recorded.evaluations[1:]))])
    assert asked(objective, 1 / 9, 1.0, learning_rate=1e-4, num_train_epochs=2)[0] == (42, 0.77)


def test_costs_are_the_recorded_ones() -> None:
    objective = ReplayObjective(SPACE, [curve(0, 1e-4)])
    config = TrialConfig(0, {"num_train_epochs": 2}, Seeds(0, 0), (0.25, 1.0))
    reports = list(objective(config))
    assert [report.metrics["epoch"] for report in reports] == [0.5, 1.0, 2.0]
    assert [report.metrics["seconds"] for report in reports] == [25.0, 50.0, 100.0]
    assert [report.done for report in reports] == [False, False, True]
    longer = list(objective(TrialConfig(0, {"num_train_epochs": 4}, Seeds(0, 0))))
    assert longer[-1].metrics["epoch"] == 4
    assert longer[-1].metrics["seconds"] == 200


def record(state: TrialState, curve: dict[float, float], steps: float) -> TrialRecord:
    return TrialRecord(
        number=3,
        state=state,
        origin="tpe",
        params={"learning_rate": 1e-4, "num_train_epochs": 2},
        curve=curve,
        metrics={"steps": steps},
        seeds=Seeds(0, 0),
        seconds=30.0,
    )


def test_a_ledger_s_trial_that_was_stopped_goes_on_flat() -> None:
    pruned = record(TrialState.PRUNED, {0.111111: 0.6, 0.333333: 0.7}, 50)
    (found,) = curves_of([pruned, record(TrialState.FAILED, {0.5: 0.1}, 5)], "accuracy")
    assert found.steps == 150
    end = found.at(1.0)
    assert end is not None
    assert end.metrics == {"accuracy": 0.7, "seconds": pytest.approx(90.0, rel=1e-4)}
    assert found.at(0.1) is None


def test_the_curve_of_a_trial_that_took_weights_is_not_that_of_its_params() -> None:
    taken = Exploited(level=0.5, progress=0.5, source=0, params={"learning_rate": 1e-4}, schedule=())
    whole = record(TrialState.COMPLETE, {0.5: 0.6, 1.0: 0.7}, 100)
    changed = whole.model_copy(update={"number": whole.number + 1, "exploits": (taken,)})
    assert [one.number for one in curves_of([whole, changed], "accuracy")] == [whole.number]


@pytest.mark.parametrize("line", ["{", "[]", '{"number": 1, "params": {}}', '{"number": 1, "params": {}, "curve": []}'])
def test_a_file_that_holds_no_curves_says_where(line: str, tmp_path: Path) -> None:
    file = tmp_path / "curves.jsonl"
    good = {"number": 0, "params": {}, "curve": [{"step": 5, "progress": 1.0, "accuracy": 0.5, "seconds": 3.0}]}
    file.write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(DataError, match=r"curves\.jsonl:2 is not a recorded trial"):
        read_curves(file)


def test_an_empty_file_and_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="holds no trial"):
        read_curves(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="can't be read"):
        read_curves(tmp_path / "none.jsonl")


def test_every_recorded_trial_answers_for_itself() -> None:
    files = sorted(CURVES.rglob("*.jsonl"))
    assert files
    for file in files:
        curves = read_curves(file)
        objective = ReplayObjective(SPACE, [one for one in curves if one.origin == "random"])
        for one in objective.curves:
            reports = list(objective(TrialConfig(0, one.params, Seeds(0, 0), (1 / 9, 1 / 3, 1.0))))
            assert reports[-1].metrics["accuracy"] == one.evaluations[-1].metrics["accuracy"]
            assert reports[-1].metrics["epoch"] == one.epochs
