"""Who is silent for too long, by a clock that the test turns."""

import os
from pathlib import Path

from hpo.records import Seeds, TrialConfig
from hpo.runners.simulated import Clock
from hpo.runners.watch import AWAY, FACTOR, LONG, Watch

RUNNING = {number: TrialConfig(number=number, params={}, seeds=Seeds(init=1, order=2)) for number in (0, 1)}


def turn(watch: Watch, clock: Clock, until: float) -> list[int]:
    """Who is silent at `until`; somebody looks every few seconds."""
    while clock.now < until:
        clock.now = min(until, clock.now + AWAY)
        silent = watch.silent(RUNNING)
    return silent


def test_a_trial_without_a_sign_of_life_is_named_when_its_time_is_over() -> None:
    clock = Clock()
    watch = Watch(60.0, clock=clock)
    assert watch.silent(RUNNING) == []
    assert turn(watch, clock, 50.0) == []
    watch.heard(1)
    assert turn(watch, clock, 61.0) == [0]
    watch.forget(0)
    assert watch.silent(RUNNING) == []  # as one that has just begun


def test_a_change_of_the_file_is_a_sign_of_life_whatever_time_it_says(tmp_path: Path) -> None:
    clock = Clock()
    watch = Watch(60.0, pulse=lambda config: tmp_path / config.name, clock=clock)
    watch.silent(RUNNING)
    for minute in range(1, 10):
        assert 0 not in turn(watch, clock, 50.0 * minute)
        (tmp_path / "trial-0000").touch()
        os.utime(tmp_path / "trial-0000", (0, 1_000 - minute))  # on a machine whose clock runs backwards
        assert 0 not in watch.silent(RUNNING)
    assert watch.silent(RUNNING) == [1]


def test_a_study_whose_trials_are_slow_is_given_longer() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    watch.silent(RUNNING)
    turn(watch, clock, LONG - 1)
    watch.heard(0)
    assert watch.allowed == FACTOR * (LONG - 1)
    assert turn(watch, clock, 2 * LONG) == []


def test_time_in_which_nobody_looks_is_no_silence() -> None:
    """As while the driver waits for room on a full disk: it takes no reports then."""
    clock = Clock()
    watch = Watch(clock=clock)
    watch.silent(RUNNING)
    clock.now = 10 * LONG
    watch.heard(0)
    assert watch.allowed == LONG
    assert watch.silent(RUNNING) == []
    assert turn(watch, clock, 11 * LONG + 1) == [0, 1]


def test_who_does_not_run_any_more_is_forgotten() -> None:
    clock = Clock()
    watch = Watch(60.0, clock=clock)
    watch.silent(RUNNING)
    watch.silent({})
    clock.now = 100.0
    assert watch.silent(RUNNING) == []
    assert Watch().silent({}) == []
