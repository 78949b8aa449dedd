"""What PBT answers, from reports alone."""

import random

import pytest

from hpo.constraints import parse
from hpo.records import Exploit, Verdict
from hpo.schedulers import PbtConfig
from hpo.schedulers.pbt import CHANGEABLE, Pbt
from hpo.space import Choice, Condition, Fixed, FloatRange, SearchSpace
from hpo.training.hyperparameters import Hyperparameters

CONTINUE = Verdict.CONTINUE
RATE = FloatRange(1e-5, 1e-1, log=True)
SPACE = SearchSpace(
    {
        "learning_rate": RATE,
        "weight_decay": Choice((0.0, 0.01, 0.1)),
        "hidden_dropout_prob": FloatRange(0.0, 0.5),
        "num_train_epochs": Choice((2, 3)),
    }
)


def params(number: int) -> dict[str, float]:
    return {
        "learning_rate": 1e-4 * (number + 1),
        "weight_decay": 0.01,
        "hidden_dropout_prob": 0.2,
        "num_train_epochs": 2,
    }


def pbt(**options: object) -> Pbt:
    scheduler = PbtConfig.model_validate({"resample_probability": 0.0, **options}).build(SPACE, 7)
    for number in range(20):
        scheduler.start(number, params(number))
    return scheduler


def test_levels_lie_evenly() -> None:
    assert PbtConfig(intervals=4).fractions() == (0.25, 0.5, 0.75, 1.0)


def test_the_lowest_goes_on_from_the_highest_with_values_near_that_one_s() -> None:
    scheduler = pbt()
    assert [scheduler.report(number, 0.25, 0.5 + number / 10) for number in range(4)] == [CONTINUE] * 4
    answer = scheduler.report(4, 0.25, 0.1)
    assert isinstance(answer, Exploit)
    assert answer.source in (2, 3)  # a quarter of five, rounded up
    assert answer.params.keys() == {"learning_rate", "weight_decay", "hidden_dropout_prob"}
    rate = params(answer.source)["learning_rate"]
    assert answer.params["learning_rate"] in (pytest.approx(0.8 * rate), pytest.approx(1.2 * rate))
    assert answer.params["hidden_dropout_prob"] in (pytest.approx(0.16), pytest.approx(0.24))
    assert answer.params["weight_decay"] in (0.0, 0.1)


def test_the_first_and_the_middle_go_on_as_they_are() -> None:
    scheduler = pbt()
    assert scheduler.report(0, 0.25, 0.5) is CONTINUE
    assert scheduler.report(1, 0.25, 0.9) is CONTINUE
    assert isinstance(scheduler.report(2, 0.25, 0.1), Exploit)
    for number, value in enumerate((0.6, 0.7, 0.8), start=3):
        assert scheduler.report(number, 0.25, value) is CONTINUE


def test_an_equal_is_not_worth_going_on_from() -> None:
    scheduler = pbt()
    assert [scheduler.report(number, 0.25, 0.5) for number in range(8)] == [CONTINUE] * 8


def test_levels_are_compared_among_themselves_and_the_end_is_not_judged() -> None:
    scheduler = pbt()
    scheduler.report(0, 0.25, 0.9)
    assert scheduler.report(1, 0.2, 0.1) is CONTINUE  # between levels
    assert isinstance(scheduler.report(1, 0.28, 0.1), Exploit)
    assert scheduler.report(1, 0.5, 0.1) is CONTINUE  # nobody came that far before
    scheduler.report(0, 1.0, 0.9)
    assert scheduler.report(1, 1.0, 0.1) is CONTINUE


def test_a_repeated_report_is_not_judged_again() -> None:
    scheduler = pbt()
    scheduler.report(0, 0.25, 0.9)
    assert isinstance(scheduler.report(1, 0.25, 0.1), Exploit)
    assert scheduler.report(1, 0.25, 0.1) is CONTINUE


def test_values_are_those_that_the_source_came_to_the_level_with() -> None:
    scheduler = pbt(factors=[1.0])
    scheduler.report(0, 0.25, 0.9)
    scheduler.start(0, params(0) | {"learning_rate": 0.05})  # as after an exploit at 0.25
    first = scheduler.report(1, 0.25, 0.1)
    scheduler.report(0, 0.5, 0.9)
    second = scheduler.report(1, 0.5, 0.1)
    assert isinstance(first, Exploit)
    assert isinstance(second, Exploit)
    assert first.params["learning_rate"] == params(0)["learning_rate"]
    assert second.params["learning_rate"] == 0.05


def test_values_stay_in_the_space() -> None:
    scheduler = pbt(factors=[100.0])
    scheduler.report(0, 0.25, 0.9)
    answer = scheduler.report(1, 0.25, 0.1)
    assert isinstance(answer, Exploit)
    assert answer.params["hidden_dropout_prob"] == 0.5
    assert all(SPACE.varying[name].contains(value) for name, value in answer.params.items())


def test_resampling_draws_from_the_whole_space() -> None:
    rates = []
    for number in range(1, 20):
        scheduler = pbt(resample_probability=1.0)
        scheduler.report(0, 0.25, 0.9)
        answer = scheduler.report(number, 0.25, 0.1)
        assert isinstance(answer, Exploit)
        rates.append(float(answer.params["learning_rate"]))
    assert min(rates) < 1e-4
    assert max(rates) > 1e-2


def test_only_so_many_are_gone_on_from() -> None:
    scheduler = pbt(max_sources=1, quantile=0.5)
    for number in range(10):
        scheduler.report(number, 0.25, number / 10)
    answers = [scheduler.report(number, 0.25, 0.01) for number in range(10, 20)]
    assert {answer.source for answer in answers if isinstance(answer, Exploit)} == {9}
    assert scheduler.sources() == {(9, 0.25)}


def test_who_is_no_source_now_never_is_one_later() -> None:
    draw = random.Random(0)
    scheduler = pbt()
    kept: set[tuple[int, float]] = set()
    for number in range(200):
        scheduler.start(number, params(number))
        answer = scheduler.report(number, 0.5, draw.random())
        if isinstance(answer, Exploit):
            assert (answer.source, 0.5) in kept
        kept = (kept | {(number, 0.5)}) & scheduler.sources()
        assert len(kept) <= 3


def test_nobody_goes_on_from_a_state_that_is_lost() -> None:
    scheduler = pbt()
    scheduler.report(0, 0.25, 0.9)
    scheduler.lose(0, 0.25)
    assert scheduler.report(1, 0.25, 0.1) is CONTINUE


def test_decisions_do_not_depend_on_the_order_in_which_the_past_is_told_again() -> None:
    draw = random.Random(1)
    reports = [(number, level, draw.random()) for level in (0.25, 0.5) for number in range(19)]
    one, other = pbt(), pbt()
    for report in reports:
        one.report(*report)
    for report in sorted(reports):
        other.report(*report)
    assert one.report(19, 0.25, 0.0) == other.report(19, 0.25, 0.0) != CONTINUE
    assert one.report(19, 0.5, 0.0) == other.report(19, 0.5, 0.0)


def test_what_is_not_a_number_is_the_lowest() -> None:
    scheduler = pbt()
    scheduler.report(0, 0.25, 0.9)
    assert isinstance(scheduler.report(1, 0.25, float("nan")), Exploit)


@pytest.mark.parametrize(
    ("perturb", "message"),
    [
        ("classifier_dropout", "is not in the space; add it there, or remove it here"),
        ("learning_rate", "is always 0.001 here; give it a range"),
        ("weight_decay", "is not in every trial"),
        ("hidden_dropout_prob", "decides whether others are there"),
        ("attention_probs_dropout_prob", "is bound to others by constraints"),
    ],
)
def test_what_cannot_be_perturbed_is_a_fault(perturb: str, message: str) -> None:
    dropout = Choice((0.0, 0.1))
    rule = parse("attention_probs_dropout_prob <= 0.1", {"attention_probs_dropout_prob": "number"}, {})
    space = SearchSpace(
        {
            "learning_rate": Fixed(0.001),
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "weight_decay": FloatRange(0.0, 0.1, when=(Condition("hidden_dropout_prob", (0.1,)),)),
        },
        (rule,),
    )
    [(path, found)] = PbtConfig(perturb=(perturb,)).faults(space)
    assert path == ("perturb", 0)
    assert message in found
    [(path, found)] = PbtConfig().faults(space)
    assert path == ("type",)
    assert "nothing to perturb" in found


def test_a_space_that_varies_something_changeable_is_fine() -> None:
    assert list(PbtConfig().faults(SPACE)) == []
    assert list(PbtConfig(perturb=("learning_rate", "weight_decay")).faults(SPACE)) == []


def test_what_is_changeable_is_a_hyperparameter() -> None:
    assert {*CHANGEABLE} <= Hyperparameters.model_fields.keys()
