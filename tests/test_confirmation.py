"""The race over fresh seeds: who runs next, who is out, who wins, and how sure that is."""

import itertools
import math
import random

import pytest
from scipy import stats

from hpo.confirmation import Candidate, Race, Scores, interval, losers
from hpo.objectives import bounds_of

DEFAULT, GOOD, OTHER = 0, 3, 7


def race(seeds: int = 3, mode: str = "max", numbers: tuple[int, ...] = (GOOD, OTHER, DEFAULT)) -> Race:
    candidates = [
        Candidate(number, "default" if number == DEFAULT else "tpe", 0.9, is_reference=number == DEFAULT)
        for number in numbers
    ]
    return Race(candidates, seeds, 0.95, mode)  # type: ignore[arg-type]


def run_through(own: Race, outcome: dict[int, list[float | None]], seed: int = 0) -> dict[int, dict[int, float | None]]:
    """Every run that falls due gets its value, in an order of chance; the scores in the end."""
    draw = random.Random(seed)
    scores: dict[int, dict[int, float | None]] = {}
    while due := own.due(scores):
        number, replicate = draw.choice(due)
        assert replicate not in scores.get(number, {})
        scores.setdefault(number, {})[replicate] = outcome[number][replicate - 1]
    return scores


def ran(scores: Scores) -> dict[int, int]:
    return {number: len(own) for number, own in scores.items()}


CLOSE: dict[int, list[float | None]] = {
    GOOD: [0.91, 0.90, 0.92],
    OTHER: [0.90, 0.91, 0.90],
    DEFAULT: [0.90, 0.89, 0.91],
}


def test_the_highest_mean_wins_and_not_the_luckiest_run() -> None:
    outcome = CLOSE | {OTHER: [0.94, 0.89, 0.89]}
    own = race()
    found = own.standing(run_through(own, outcome))
    assert [one.number for one in found] == [GOOD, OTHER, DEFAULT]
    assert found[0].mean == pytest.approx(0.91)
    assert max(found[1].values) > max(found[0].values)


def test_the_lowest_mean_wins_where_less_is_better() -> None:
    own = race(mode="min")
    found = own.standing(run_through(own, CLOSE))
    assert found[0].number == DEFAULT
    assert found[0].optimism("min") == pytest.approx(0.0)
    assert found[1].gain == pytest.approx(0.90 - (0.90 + 0.91 + 0.90) / 3)


def test_the_first_two_seeds_start_at_once_and_each_later_one_waits_for_the_one_before() -> None:
    own = race(4)
    ahead = [(DEFAULT, 3), (DEFAULT, 4)]
    assert own.due({}) == [(number, place) for place in (1, 2) for number in (GOOD, OTHER, DEFAULT)] + ahead
    scores = {number: {1: values[0], 2: values[1]} for number, values in CLOSE.items()}
    assert own.due(scores) == [(GOOD, 3), (OTHER, 3), *ahead]
    scores[GOOD][3] = 0.9
    assert own.due(scores) == [(OTHER, 3), *ahead]


def test_what_the_default_runs_ahead_counts_when_the_others_are_there() -> None:
    own = race(4)
    scores: dict[int, dict[int, float | None]] = {DEFAULT: {1: 0.5, 2: 0.5, 3: 0.9, 4: 0.9}}
    assert [run for run in own.due(scores) if run[0] == DEFAULT] == []
    scores |= {GOOD: {1: 0.9, 2: 0.91}, OTHER: {1: 0.9, 2: 0.89}}
    ahead, behind = own.standing(scores), own.standing(scores | {DEFAULT: {1: 0.5, 2: 0.5, 3: 0.9}})
    assert ahead == behind
    assert own.due(scores) == [(GOOD, 3), (OTHER, 3)]
    scores[GOOD][3] = scores[OTHER][3] = 0.9
    default = own.standing(scores)[-1]
    assert default.number == DEFAULT
    assert default.values == (0.5, 0.5, 0.9, 0.9)


def test_a_clear_loser_gets_no_further_seed() -> None:
    own = race(5)
    outcome = {GOOD: [0.91, 0.90, 0.92, 0.91, 0.9], OTHER: [0.60, 0.61], DEFAULT: [0.90, 0.89, 0.91, 0.9, 0.9]}
    scores = run_through(own, outcome)
    assert ran(scores) == {GOOD: 5, OTHER: 2, DEFAULT: 5}
    assert own.out(scores) == {OTHER}
    last = own.standing(scores)[-1]
    assert (last.number, last.is_out, len(last.values)) == (OTHER, True, 2)


def test_the_default_configuration_runs_all_its_seeds_however_far_behind_it_is() -> None:
    own = race(4)
    outcome = {GOOD: [0.91, 0.90, 0.92, 0.9], OTHER: [0.90, 0.91, 0.90, 0.9], DEFAULT: [0.5, 0.51, 0.5, 0.52]}
    scores = run_through(own, outcome)
    assert ran(scores) == dict.fromkeys((GOOD, OTHER, DEFAULT), 4)
    assert not any(one.is_out for one in own.standing(scores))


def test_nobody_is_out_by_a_difference_that_chance_explains() -> None:
    scores = run_through(race(), CLOSE)
    assert ran(scores) == dict.fromkeys((GOOD, OTHER, DEFAULT), 3)


def test_a_seed_that_fails_puts_its_candidate_out_and_behind_all_others() -> None:
    own = race(4)
    outcome = {GOOD: [0.95, None, 0.95, 0.95], OTHER: [0.90, 0.91, 0.90, 0.9], DEFAULT: [0.90, 0.89, 0.91, 0.9]}
    scores = run_through(own, outcome)
    assert ran(scores)[GOOD] == 2
    found = own.standing(scores)
    assert [one.number for one in found] == [OTHER, DEFAULT, GOOD]
    assert (found[-1].failed, found[-1].is_out, found[-1].values) == (1, True, (0.95,))


def test_a_single_lucky_run_beside_a_failed_one_is_no_leader_to_be_judged_by() -> None:
    own = race(4)
    outcome = {GOOD: [0.999, None], OTHER: [0.9, 0.9001, 0.9, 0.9], DEFAULT: [0.9, 0.9001, 0.9, 0.9]}
    assert ran(run_through(own, outcome)) == {GOOD: 2, OTHER: 4, DEFAULT: 4}


def test_a_failed_seed_of_the_default_ends_neither_its_race_nor_the_comparison() -> None:
    own = race()
    found = own.standing(run_through(own, CLOSE | {DEFAULT: [0.90, None, 0.92]}))
    default = found[-1]
    assert (default.number, default.failed, default.is_out) == (DEFAULT, 1, False)
    assert found[0].gain == pytest.approx((0.01 + 0.00) / 2)  # of seeds 1 and 3, which both have


def test_a_race_in_which_all_fail_has_no_standing() -> None:
    own = race()
    scores = run_through(own, {number: [None] * 3 for number in (GOOD, OTHER, DEFAULT)})
    assert own.standing(scores) == ()


def test_of_equal_means_the_default_wins_then_the_earlier_trial() -> None:
    own = race()
    same: dict[int, list[float | None]] = {number: [0.9, 0.8, 0.7] for number in (GOOD, OTHER, DEFAULT)}
    assert [one.number for one in own.standing(run_through(own, same))] == [DEFAULT, GOOD, OTHER]
    shuffled = {GOOD: [0.7, 0.8, 0.9], OTHER: [0.9, 0.8, 0.7], DEFAULT: [0.8, 0.9, 0.7]}
    assert [one.number for one in own.standing(run_through(own, shuffled))] == [DEFAULT, GOOD, OTHER]


def test_a_candidate_that_is_barred_does_not_win_whatever_its_mean() -> None:
    barred = Candidate(5, "tpe", 0.99, is_barred=True)
    own = Race([barred, Candidate(GOOD, "tpe", 0.9)], 2, 0.95, "max")
    found = own.standing(run_through(own, {5: [0.99, 0.98], GOOD: [0.9, 0.8]}))
    assert [one.number for one in found] == [GOOD, 5]


def test_a_candidate_that_may_not_win_puts_out_none_that_may() -> None:
    slow = Candidate(DEFAULT, "default", 0.95, is_reference=True, is_barred=True)
    outcome: dict[int, list[float | None]] = {
        DEFAULT: [0.95, 0.951, 0.949, 0.95, 0.95],
        GOOD: [0.905, 0.901, 0.85, 0.85, 0.85],
        OTHER: [0.900, 0.902, 0.90, 0.90, 0.90],
    }
    rivals = [Candidate(number, "tpe", 0.9) for number in (GOOD, OTHER)]
    own, without = Race([slow, *rivals], 5, 0.95, "max"), Race(rivals, 5, 0.95, "max")
    found = own.standing(run_through(own, outcome))
    assert [one.number for one in found] == [OTHER, GOOD, DEFAULT]
    assert [(one.number, one.values, one.low) for one in found[:2]] == [
        (one.number, one.values, one.low) for one in without.standing(run_through(without, outcome))
    ]


def test_among_candidates_that_are_all_barred_a_clear_loser_is_out() -> None:
    own = Race([Candidate(number, "tpe", 0.9, is_barred=True) for number in (GOOD, OTHER)], 5, 0.95, "max")
    scores = run_through(own, {GOOD: [0.91, 0.90, 0.92, 0.91, 0.9], OTHER: [0.60, 0.61]})
    assert own.out(scores) == {OTHER}


def test_one_seed_gives_a_winner_without_an_interval() -> None:
    own = race(1)
    scores = run_through(own, CLOSE)
    assert ran(scores) == dict.fromkeys((GOOD, OTHER, DEFAULT), 1)
    best = own.standing(scores)[0]
    assert (best.number, best.mean, best.low, best.high) == (GOOD, 0.91, None, None)
    assert (best.gain, best.gain_low) == (pytest.approx(0.01), None)


def test_seeds_that_are_all_alike_give_no_interval_since_they_say_nothing_of_how_far_it_may_stray() -> None:
    same: dict[int, list[float | None]] = {GOOD: [1.0] * 3, OTHER: [0.9] * 3, DEFAULT: [0.7] * 3}
    best = race().standing(run_through(race(), same))[0]
    assert (best.mean, best.low, best.high, best.is_alike) == (1.0, None, None, True)
    assert (best.gain, best.gain_low) == (pytest.approx(0.3), None)


def test_no_interval_reaches_beyond_what_the_metric_can_be() -> None:
    own = Race([Candidate(GOOD, "tpe", 0.99)], 3, 0.95, "max", bounds_of("accuracy"))
    best = own.standing(run_through(own, {GOOD: [0.99, 0.95, 1.0]}))[0]
    assert best.high == 1.0
    assert best.low is not None
    assert 0.8 < best.low < best.mean
    assert bounds_of("pearson") == (-1.0, 1.0)
    assert bounds_of("perplexity") == bounds_of("seconds") == (0.0, math.inf)


def test_a_leader_alone_is_confirmed_without_a_rival() -> None:
    own = race(numbers=(GOOD,))
    best = own.standing(run_through(own, CLOSE))[0]
    assert (best.number, best.gain) == (GOOD, None)
    assert len(best.values) == 3


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_runs_finish_changes_nothing(seed: int) -> None:
    draw = random.Random(99)
    means = {GOOD: 0.9, OTHER: 0.87, DEFAULT: 0.8}
    outcome: dict[int, list[float | None]] = {
        number: [draw.gauss(mean, 0.01) for _ in range(6)] for number, mean in means.items()
    }
    own = race(6)
    assert own.standing(run_through(own, outcome, seed)) == own.standing(run_through(own, outcome, seed + 100))


def test_values_of_an_earlier_and_longer_race_change_nothing() -> None:
    own = race(3)
    outcome = CLOSE | {OTHER: [0.60, 0.61, 0.95]}
    short = run_through(own, outcome)
    assert ran(short)[OTHER] == 2
    longer = {number: dict(enumerate(values, 1)) | {4: 0.99} for number, values in outcome.items()}
    assert own.due(longer) == []
    assert own.standing(longer) == own.standing(short)


def test_the_interval_is_the_one_of_scipy() -> None:
    values = [0.91, 0.88, 0.93, 0.90]
    for size, confidence in itertools.product((2, 3, 4), (0.8, 0.95)):
        own = values[:size]
        low, high = stats.t.interval(confidence, size - 1, stats.tmean(own), stats.sem(own))
        found = interval(own, confidence)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_gain_over_the_default_is_scipy_s_paired_t_test() -> None:
    own = race()
    best = own.standing(run_through(own, CLOSE | {DEFAULT: [0.90, 0.85, 0.91]}))[0]
    paired = stats.ttest_rel(CLOSE[GOOD], [0.90, 0.85, 0.91]).confidence_interval(1 - 0.05 / 2)  # of two leaders
    assert (best.gain_low, best.gain_high) == (pytest.approx(paired.low), pytest.approx(paired.high))


def test_the_winner_s_intervals_allow_for_its_being_the_best_of_several() -> None:
    best = race().standing(run_through(race(), CLOSE))[0]
    low, high = stats.t.interval(1 - 0.05 / 3, 2, 0.91, stats.sem(CLOSE[GOOD]))
    assert (best.among, best.confidence) == (3, 0.95)
    assert (best.low, best.high) == (pytest.approx(low), pytest.approx(high))
    alone = race(numbers=(GOOD,)).standing(run_through(race(numbers=(GOOD,)), CLOSE))[0]
    low, _ = stats.t.interval(0.95, 2, 0.91, stats.sem(CLOSE[GOOD]))
    assert (alone.among, alone.low) == (1, pytest.approx(low))


def test_a_winner_that_is_no_better_than_the_default_seems_so_no_more_often_than_the_confidence_allows() -> None:
    draw = random.Random(1)
    races = seeming = 0
    for _ in range(600):
        outcome: dict[int, list[float | None]] = {
            number: [draw.gauss(0.0, 1.0) for _ in range(3)] for number in (DEFAULT, 1, 2, 3)
        }
        own = race(numbers=(DEFAULT, 1, 2, 3))
        best = own.standing(run_through(own, outcome))[0]
        races += 1
        seeming += best.gain_low is not None and best.gain_low > 0.0
    assert seeming <= races * 0.025 + 2 * (races * 0.025 * 0.975) ** 0.5


@pytest.mark.parametrize("shift", [0.02, 0.04, 0.06])
def test_a_loser_of_two_is_one_by_scipy_s_pooled_one_sided_t_test(shift: float) -> None:
    good = [0.91, 0.90, 0.93]
    other = [value - shift for value in (0.90, 0.92, 0.915)]
    p_value = stats.ttest_ind(other, good, alternative="less").pvalue
    for error_rate in (p_value * 0.99, p_value * 1.01):
        assert losers({1: good, 2: other}, error_rate) == ({2} if p_value < error_rate else set())


def test_two_values_each_pool_into_as_many_degrees_of_freedom_as_there_are_candidates() -> None:
    values = {1: [0.90, 0.92], 2: [0.85, 0.87], 3: [0.88, 0.90], 4: [0.89, 0.91]}
    t = (0.91 - 0.86) / (2 * 0.01**2 * 4 / 4 * (1 / 2 + 1 / 2)) ** 0.5
    p_value = stats.t.sf(t, 4)
    assert losers(values, p_value * 1.01) == {2}
    assert losers(values, p_value * 0.99) == set()


def test_values_that_do_not_vary_put_nobody_out() -> None:
    assert losers({1: [0.9, 0.9], 2: [0.8, 0.8]}, 0.05) == set()
    assert losers({1: [0.9], 2: [0.8]}, 0.05) == set()
    assert losers({}, 0.05) == set()


def test_the_truly_best_one_is_put_out_no_more_often_than_the_confidence_allows() -> None:
    draw = random.Random(5)
    lost = 0
    for _ in range(400):
        own = race(5, numbers=(1, 2, 3, 4))
        outcome: dict[int, list[float | None]] = {
            number: [draw.gauss(0.9, 0.01) for _ in range(5)] for number in (1, 2, 3, 4)
        }
        lost += 1 in own.out(run_through(own, outcome))
    assert lost <= 400 * 0.05 + 2 * (400 * 0.05 * 0.95) ** 0.5
