from collections import Counter

import pytest
from pydantic import ValidationError

from hpo.records import Verdict
from hpo.schedulers import HyperbandConfig
from hpo.schedulers.hyperband import Hyperband
from hpo.space import SearchSpace

CONTINUE, STOP = Verdict.CONTINUE, Verdict.STOP


def hyperband(**options: int) -> Hyperband:
    built = HyperbandConfig(**options).build(SearchSpace(), 0)
    assert isinstance(built, Hyperband)
    return built


def of_bracket(scheduler: Hyperband, bracket: int, count: int) -> list[int]:
    """The first trials of a bracket."""
    return [number for number in range(1000) if scheduler.bracket(number) == bracket][:count]


def test_every_bracket_gets_about_the_same_training() -> None:
    scheduler = hyperband(rungs=4)
    trials = Counter(scheduler.bracket(number) for number in range(10_000))
    halvings = [3, 2, 1, 0]
    training = [trials[bracket] * (halvings[bracket] + 1) / 3 ** halvings[bracket] for bracket in range(4)]
    assert max(training) < 1.01 * min(training)


def test_the_first_few_trials_have_their_share_of_each_bracket_already() -> None:
    scheduler = hyperband(rungs=3)
    for first in range(0, 300, 11):
        among = Counter(scheduler.bracket(number) for number in range(first, first + 11))
        assert among[0] == pytest.approx(11 * 6 / 11, abs=1)
        assert among[1] == pytest.approx(11 * 3 / 11, abs=1)
        assert among[2] == pytest.approx(11 * 2 / 11, abs=1)


def test_a_bracket_follows_from_the_number_of_the_trial_alone() -> None:
    busy = hyperband()
    for number in range(50):
        busy.report(number, 1 / 9, number % 7)
    assert [busy.bracket(number) for number in range(200)] == [hyperband().bracket(number) for number in range(200)]


def test_the_first_bracket_stops_at_the_first_rung_and_the_last_one_never() -> None:
    scheduler = hyperband()
    good, bad = of_bracket(scheduler, 0, 2)
    assert scheduler.report(good, 1 / 9, 0.9) is CONTINUE
    assert scheduler.report(bad, 1 / 9, 0.1) is STOP
    good, bad = of_bracket(scheduler, 1, 2)
    assert [scheduler.report(good, level, 0.9) for level in (1 / 9, 1 / 3)] == [CONTINUE, CONTINUE]
    assert [scheduler.report(bad, level, 0.1) for level in (1 / 9, 1 / 3)] == [CONTINUE, STOP]
    for place, number in enumerate(of_bracket(scheduler, 2, 5)):
        assert [scheduler.report(number, level, -place) for level in (1 / 9, 1 / 3, 1.0)] == [CONTINUE] * 3


def test_trials_are_compared_within_their_bracket() -> None:
    scheduler = hyperband()
    first, second = of_bracket(scheduler, 0, 1)[0], of_bracket(scheduler, 1, 1)[0]
    scheduler.report(first, 1 / 3, 0.9)
    assert scheduler.report(second, 1 / 3, 0.1) is CONTINUE


def test_one_bracket_is_asha() -> None:
    scheduler = hyperband(brackets=1)
    assert [scheduler.report(number, 1 / 9, -number) for number in range(9)] == [CONTINUE] + [STOP] * 8


def test_more_brackets_than_rungs_are_refused() -> None:
    with pytest.raises(ValidationError, match="4 are asked for, but each begins at a rung of its own and rungs is 3"):
        HyperbandConfig(rungs=3, brackets=4)
