from typing import Annotated, get_args

import pytest

from hpo.records import Verdict
from hpo.schedulers import AshaConfig, FifoConfig, SchedulerUnion
from hpo.space import FloatRange, SearchSpace

CONTINUE, STOP = Verdict.CONTINUE, Verdict.STOP
SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)})


def test_fifo_lets_every_trial_run() -> None:
    fifo = FifoConfig().build(SPACE, 0)
    assert [fifo.report(number, 0.1, -float(number)) for number in range(5)] == [CONTINUE] * 5


def test_asha_has_rungs_at_powers_of_the_reduction_factor() -> None:
    assert AshaConfig(reduction_factor=4, rungs=3).fractions() == pytest.approx((1 / 16, 1 / 4, 1.0))


def test_asha_keeps_the_best_third_at_a_rung() -> None:
    asha = AshaConfig(reduction_factor=3, rungs=2).build(SPACE, 0)
    values = [0.5, 0.4, 0.6, 0.55, 0.7, 0.58]
    verdicts = [asha.report(number, 1 / 3, value) for number, value in enumerate(values)]
    assert verdicts == [CONTINUE, STOP, CONTINUE, STOP, CONTINUE, STOP]
    assert asha.report(6, 1 / 3, 0.65) is CONTINUE  # second best of seven


def test_asha_judges_once_a_rung_and_not_between_rungs_nor_at_the_end() -> None:
    asha = AshaConfig(reduction_factor=3, rungs=2).build(SPACE, 0)
    assert asha.report(0, 1 / 3, 0.9) is CONTINUE
    assert asha.report(1, 0.2, 0.1) is CONTINUE
    assert asha.report(1, 1 / 3, 0.95) is CONTINUE
    assert asha.report(1, 0.5, 0.0) is CONTINUE
    assert asha.report(1, 1.0, 0.0) is CONTINUE


def test_asha_answers_a_repeated_report_with_continue_and_does_not_count_it_twice() -> None:
    asha = AshaConfig(reduction_factor=2, rungs=2).build(SPACE, 0)
    for _ in range(10):
        assert asha.report(0, 0.5, 0.9) is CONTINUE
    assert asha.report(1, 0.5, 0.8) is STOP


def test_asha_lets_the_best_so_far_go_on_and_nobody_for_having_come_early() -> None:
    asha = AshaConfig(reduction_factor=4, rungs=2).build(SPACE, 0)
    verdicts = [asha.report(number, 0.25, value) for number, value in enumerate([0.5, 0.4, 0.49, 0.6])]
    assert verdicts == [CONTINUE, STOP, STOP, CONTINUE]


def test_asha_lets_equals_go_on_together() -> None:
    asha = AshaConfig(reduction_factor=3, rungs=2).build(SPACE, 0)
    assert [asha.report(number, 1 / 3, 0.53) for number in range(5)] == [CONTINUE] * 5
    assert asha.report(5, 1 / 3, 0.52) is STOP


def test_asha_stops_what_is_not_a_number() -> None:
    assert AshaConfig().build(SPACE, 0).report(0, 1 / 4, float("nan")) is STOP


@pytest.mark.parametrize("config", get_args(get_args(Annotated[SchedulerUnion, None])[0]))
def test_every_scheduler_gives_the_same_verdicts_to_the_same_reports(config: type) -> None:
    reports = [(number, rung, (number * 7 % 5) / 5) for rung in (1 / 9, 1 / 3, 1.0) for number in range(9)]
    one, other = config().build(SPACE, 0), config().build(SPACE, 0)
    assert [one.report(*report) for report in reports] == [other.report(*report) for report in reports]
    assert config().fractions()[-1] == 1.0
