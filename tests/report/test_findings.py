import itertools
import math
from statistics import fmean, pstdev

import pytest

from hpo.records import Confirmed, Seeds, TrialRecord, TrialState
from hpo.report.findings import (
    DRAWS,
    best_of,
    best_so_far,
    expected_best,
    failures,
    gain_on_test,
    gain_over_seeds,
    of_search,
    spared,
    spending,
    survivors,
)


def trial(number, state=TrialState.COMPLETE, value=None, curve=None, epochs=0.0, reason=None, **more):
    return TrialRecord(
        number=number,
        state=state,
        origin=more.pop("origin", "tpe"),
        params=more.pop("params", {}),
        value=value,
        curve=curve or {},
        metrics={"epochs": epochs},
        seeds=Seeds(0, 0),
        reason=reason,
        **more,
    )


def pruned(number, progress, value=0.5, **more):
    return trial(number, TrialState.PRUNED, curve={progress: value}, **more)


def test_retrainings_over_fresh_seeds_are_no_trials_of_the_search():
    again = trial(1, value=0.9, replicate=2)
    assert of_search([trial(3), again, trial(1)]) == [trial(1), trial(3)]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_expected_best_is_the_mean_over_all_ways_to_draw(summary, mode):
    values = [-0.3, 0.1, 0.1, 0.4, 0.9]
    trials = [trial(number, value=value, epochs=2.0) for number, value in enumerate(values)]
    best = max if mode == "max" else min
    rows = expected_best(summary.model_copy(update={"mode": mode}), trials)
    assert [row.draws for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        draws = [best(own) for own in itertools.combinations(values, row.draws)]
        assert row.mean == pytest.approx(fmean(draws))
        assert row.deviation == pytest.approx(pstdev(draws), abs=1e-7)
        assert row.epochs == 2.0 * row.draws


def test_failed_trials_make_a_draw_dearer_and_give_it_nothing(summary):
    trials = [trial(0, value=0.5, epochs=2.0), trial(1, TrialState.FAILED, epochs=1.0)]
    (row,) = expected_best(summary, trials)
    assert (row.epochs, row.mean) == (3.0, 0.5)


def test_the_expected_best_of_a_thousand_trials_stays_finite(summary):
    rows = expected_best(summary, [trial(number, value=number / 1000, epochs=1.0) for number in range(1000)])
    assert all(math.isfinite(row.mean) and math.isfinite(row.deviation) for row in rows)
    assert rows[-1].mean == pytest.approx(0.999)
    draws = [row.draws for row in rows]
    assert draws == sorted(set(draws))
    assert len(draws) == DRAWS, "or a large study's report takes its square"
    assert (draws[:100], draws[-1]) == (list(range(1, 101)), 1000)


def test_survivors_are_counted_at_the_rung_that_stopped_the_others():
    trials = [pruned(0, 0.25), pruned(1, 0.3), pruned(2, 0.5), trial(3, value=1.0, curve={1.0: 1.0})]
    trials.append(trial(4, TrialState.FAILED, curve={0.25: 0.1}))
    rows = [(rung.level, rung.reached, rung.stopped) for rung in survivors(trials, (0.25, 0.5, 1.0))]
    assert rows == [(0.0, 5, 0), (0.25, 5, 2), (0.5, 2, 1), (1.0, 1, 0)]


def test_survivors_of_a_scheduler_that_counts_samples_are_compared_on_its_scale():
    short = pruned(0, 0.5, params={"num_train_epochs": 2})
    rungs = survivors([short], (0.25, 0.5, 1.0), lambda params, done: done * params["num_train_epochs"] / 4)
    assert [rung.stopped for rung in rungs] == [0, 1, 0, 0]


def test_a_trial_that_completes_below_the_top_level_is_not_said_to_be_stopped():
    done = trial(0, value=1.0, curve={1.0: 1.0})
    assert sum(rung.stopped for rung in survivors([done], (0.5, 1.0), lambda params, at: at / 2)) == 0


def test_what_stopping_spared_is_what_each_had_left_at_its_own_pace():
    trials = [pruned(0, 0.25, epochs=1.0, seconds=10.0), trial(1, value=1.0, epochs=4.0, seconds=40.0)]
    saved = spared(trials)
    assert (saved.epochs, saved.seconds, saved.share) == (3.0, 30.0, 3 / 8)
    assert [(own.state.value, own.trials, own.epochs) for own in spending(trials)] == [
        ("complete", 1, 4.0),
        ("pruned", 1, 1.0),
    ]


def test_failures_that_differ_by_numbers_alone_are_of_one_kind():
    reasons = [
        "loss is nan at step 63",
        "Traceback\n  ...\nloss is nan at step 7",
        None,
        "killed by SIGKILL, 3.5e9 bytes",
    ]
    found = failures([trial(n, TrialState.FAILED, reason=reason) for n, reason in enumerate(reasons)])
    assert [own.numbers for own in found] == [(0, 1), (2,), (3,)]
    assert found[0].example == "loss is nan at step 63"
    assert found[1].kind == "no reason was given"


def test_the_best_so_far_runs_to_the_last_trial(summary):
    trials = [trial(0, TrialState.FAILED), trial(1, value=0.5), trial(2, value=0.4), pruned(3, 0.5, 0.9)]
    assert best_so_far(summary, trials) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert best_so_far(summary, trials[:1]) == []


def test_the_best_of_the_grid_is_a_complete_one(summary):
    grid = [pruned(1, 0.5, 0.99, origin="bert-paper-grid"), trial(2, value=0.7, origin="bert-paper-grid")]
    best = best_of(summary, [*grid, trial(3, value=0.9)], "bert-paper-grid")
    assert best is not None
    assert best.number == 2


def test_the_gain_on_test_rows_has_the_interval_of_its_paired_test(summary):
    gain = gain_on_test(summary)
    assert gain is not None
    assert (gain.low, gain.high) == (-0.01, 0.074)
    untested = gain_on_test(summary.model_copy(update={"test_gain": None}))
    assert untested is not None
    assert (untested.low, untested.high) == (None, None)


def test_the_gain_over_seeds_takes_means_and_not_first_scores(summary):
    confirmed = tuple(
        Confirmed(number=number, origin=origin, first=first, values=values, mean=fmean(values))
        for number, origin, first, values in ((10, "tpe", 0.9, (0.7, 0.8)), (0, "default", 0.7, (0.6, 0.7)))
    )
    gain = gain_over_seeds(summary.model_copy(update={"confirmed": confirmed}))
    assert gain is not None
    assert gain.winner - gain.rival == pytest.approx(0.1)
    assert gain_over_seeds(summary) is None
