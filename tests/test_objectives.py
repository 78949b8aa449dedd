import pytest
from toys import TOYS

from hpo.objectives import COSTS, Limits, mode_of, pareto, value_of
from hpo.records import Seeds, TrialRecord, TrialState

BOTH = {"accuracy": "max", "seconds": "min"}


def trial(number: int, accuracy: float, seconds: float | None, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    metrics = {"best_accuracy": accuracy} | ({} if seconds is None else {"seconds": seconds})
    return TrialRecord(
        number=number, state=state, origin="tpe", params={}, seeds=Seeds(init=0, order=0), metrics=metrics
    )


def test_the_front_is_what_no_other_trial_beats_the_best_of_the_lead_first() -> None:
    trials = [trial(0, 0.8, 10), trial(1, 0.9, 30), trial(2, 0.7, 20), trial(3, 0.85, 30), trial(4, 0.8, 10)]
    assert pareto(trials, BOTH) == (1, 0, 4)  # 2 is slower and worse than 0, 3 as slow as 1; 4 equals 0


def test_only_complete_trials_with_all_values_are_on_the_front() -> None:
    trials = [trial(0, 0.8, 10), trial(1, 0.99, 1, TrialState.PRUNED), trial(2, 0.99, None)]
    assert pareto(trials, BOTH) == (0,)


def test_with_one_objective_the_front_is_the_best() -> None:
    assert pareto([trial(0, 0.8, 1), trial(1, 0.9, 9)], {"accuracy": "max"}) == (1,)


def test_a_metric_is_that_of_the_best_evaluation_and_a_cost_that_of_the_whole_trial() -> None:
    assert value_of(trial(0, 0.8, 10), "accuracy") == 0.8
    assert value_of(trial(0, 0.8, 10), "seconds") == 10
    assert value_of(trial(0, 0.8, 10), "latency") is None


@pytest.mark.parametrize(
    ("limits", "broken"),
    [
        ({"seconds": 10}, 0),
        ({"seconds": 9.9}, 1),
        ({"accuracy": 0.8}, 0),
        ({"accuracy": 0.81}, 1),
        ({"latency": 5}, 1),
        ({"seconds": 1, "accuracy": 0.9}, 2),
    ],
)
def test_limits_are_the_most_of_a_cost_and_the_least_of_a_quality(limits: dict[str, float], broken: int) -> None:
    assert len(Limits(limits, BOTH).broken_by(trial(0, 0.8, 10))) == broken


def test_only_costs_errors_and_losses_are_minimised() -> None:
    names = {"loss", *COSTS, *(name for toy in TOYS.values() for name in toy.task.metric_names)}
    assert {name for name in names if mode_of(name) == "min"} == {"loss", "mse", "perplexity", *COSTS}
