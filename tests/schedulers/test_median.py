import math

import pytest

from hpo.records import Verdict
from hpo.schedulers import MedianConfig, Scheduler
from hpo.space import SearchSpace

CONTINUE, STOP = Verdict.CONTINUE, Verdict.STOP


def stopping(**options: float) -> Scheduler:
    return MedianConfig.model_validate({"rungs": 4, "grace": 0.0, "min_trials": 3, **options}).build(SearchSpace(), 0)


def verdicts(scheduler: Scheduler, number: int, *values: float) -> list[object]:
    """At a quarter, a half, ... of training."""
    return [scheduler.report(number, place / 4, value) for place, value in enumerate(values, start=1)]


def test_a_trial_is_stopped_where_its_best_is_below_the_median_of_the_averages() -> None:
    scheduler = stopping()
    for number, values in enumerate([(0.2, 0.4), (0.4, 0.6), (0.6, 0.8)]):  # averages at a half: 0.3, 0.5, 0.7
        verdicts(scheduler, number, *values)
    assert verdicts(scheduler, 10, 0.4, 0.49) == [CONTINUE, STOP]
    assert verdicts(scheduler, 11, 0.51, 0.1) == [CONTINUE, CONTINUE]  # it was good enough once


def test_a_value_as_good_as_the_median_goes_on() -> None:
    scheduler = stopping()
    for number in range(3):
        verdicts(scheduler, number, 0.5)
    assert verdicts(scheduler, 3, 0.5) == [CONTINUE]
    assert verdicts(scheduler, 4, 0.499) == [STOP]


def test_equals_go_on_together_however_their_averages_are_rounded() -> None:
    scheduler = stopping(rungs=6)
    for number in range(5):
        assert [scheduler.report(number, place / 6, 0.8) for place in range(1, 7)] == [CONTINUE] * 6


def test_nobody_is_stopped_before_enough_others_are_there() -> None:
    scheduler = stopping(min_trials=3)
    assert [verdicts(scheduler, number, 1.0 - number / 10)[0] for number in range(4)] == [CONTINUE] * 3 + [STOP]


def test_nobody_is_stopped_within_the_grace() -> None:
    scheduler = stopping(grace=0.5)
    for number in range(5):
        verdicts(scheduler, number, 0.9, 0.9)
    assert verdicts(scheduler, 5, 0.1, 0.1) == [CONTINUE, STOP]
    assert stopping(grace=0.3).report(0, 0.25, 0.1) is CONTINUE


def test_a_trial_may_end_however_bad_it_is() -> None:
    scheduler = stopping(grace=0.9)
    for number in range(5):
        verdicts(scheduler, number, 0.9, 0.9, 0.9, 0.9)
    assert verdicts(scheduler, 5, 0.1, 0.1, 0.1, 0.1) == [CONTINUE] * 4


def test_reports_between_levels_or_again_change_nothing() -> None:
    scheduler = stopping(min_trials=1)
    verdicts(scheduler, 0, 0.5)
    assert scheduler.report(1, 0.2, 0.0) is CONTINUE
    assert scheduler.report(1, 0.25, 0.6) is CONTINUE
    assert scheduler.report(1, 0.25, 0.0) is CONTINUE
    assert scheduler.report(1, 0.3, 0.0) is CONTINUE
    assert scheduler.report(2, 0.25, 0.56) is CONTINUE  # the others have 0.5 and 0.6
    assert scheduler.report(3, 0.25, 0.55) is STOP


def test_what_is_not_a_number_is_stopped_and_drags_its_average_down() -> None:
    scheduler = stopping(grace=0.9)
    assert scheduler.report(0, 0.25, math.nan) is STOP
    scheduler = stopping(min_trials=1)
    scheduler.report(0, 0.25, math.nan)
    assert scheduler.report(1, 0.25, -1e9) is CONTINUE


def test_levels_are_evenly_spaced() -> None:
    assert MedianConfig(rungs=5).fractions() == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))
