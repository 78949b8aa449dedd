"""Who is silent for too long, by a clock that the test turns."""

import os
from pathlib import Path

from hpo.records import Seeds, TrialConfig
from hpo.runners.simulated import Clock
from hpo.runners.watch import FACTOR, LONG, Watch

RUNNING = {number: TrialConfig(number=number, params={}, seeds=Seeds(init=1, order=2)) for number in (0, 1)}


def test_a_trial_without_a_sign_of_life_is_named_when_its_time_is_over() -> None:
    clock = Clock()
    watch = Watch(60.0, clock=clock)
    assert watch.silent(RUNNING) == []
    clock.now = 50.0
    watch.heard(1)
    clock.now = 61.0
    assert watch.silent(RUNNING) == [0]
    watch.forget(0)
    assert watch.silent(RUNNING) == []  # as one that has just begun


def test_a_change_of_the_file_is_a_sign_of_life_whatever_time_it_says(tmp_path: Path) -> None:
    clock = Clock()
    watch = Watch(60.0, pulse=lambda config: tmp_path / config.name, clock=clock)
    watch.silent(RUNNING)
    for minute in range(1, 10):
        clock.now = 50.0 * minute
        (tmp_path / "trial-0000").touch()
        os.utime(tmp_path / "trial-0000", (0, 1_000 - minute))  # on a machine whose clock runs backwards
        assert 0 not in watch.silent(RUNNING)
    assert watch.silent(RUNNING) == [1]


def test_a_study_whose_trials_are_slow_is_given_longer() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    watch.silent(RUNNING)
    clock.now = LONG - 1
    watch.heard(0)
    assert watch.allowed == FACTOR * (LONG - 1)
    clock.now = 2 * LONG
    assert watch.silent(RUNNING) == []


def test_who_does_not_run_any_more_is_forgotten() -> None:
    clock = Clock()
    watch = Watch(60.0, clock=clock)
    watch.silent(RUNNING)
    watch.silent({})
    clock.now = 100.0
    assert watch.silent(RUNNING) == []
    assert Watch().silent({}) == []
