"""What the study makes of reports: verdicts, states, budgets, and which checkpoints stay."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from hpo.ledger import Ledger
from hpo.objectives import Limits
from hpo.records import AnyEvent, Failure, FailureKind, Report, TrialFinished, TrialState, Verdict
from hpo.samplers import RandomConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.trials import ranked, remove_strangers

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True)})
BUG = Failure(kind=FailureKind.BUG, reason="nobody expected this")
DIVERGED = Failure(kind=FailureKind.DIVERGED, reason="the loss is nan")
MakeSearch = Callable[..., StudySearch]


@pytest.fixture
def make(tmp_path: Path) -> MakeSearch:
    def search(mode: Literal["min", "max"] = "max", scheduler: Any = None, **options: Any) -> StudySearch:
        ledger = Ledger(tmp_path, study="s", mode=mode, space=SPACE, sampler=RandomConfig(), seed=1)
        scheduler = scheduler or FifoConfig()
        defaults = {"emit": lambda event: None, "metric": "loss", "ladder": Ladder(scheduler.fractions())}
        return StudySearch(ledger=ledger, scheduler=scheduler.build(SPACE, 1), mode=mode, **{**defaults, **options})

    return search


def report(step: int, value: float, checkpoint: Path | None = None) -> Report:
    metrics = {"loss": value, "epoch": step / 4}
    return Report(step=step, progress=step / 9, metrics=metrics, done=step == 9, checkpoint=checkpoint)


def finish(search: StudySearch, value: float, folder: Path | None = None) -> int:
    config = search.ask()
    assert config is not None
    if folder is not None:
        folder = folder / "checkpoints" / f"trial-{config.number:04d}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"x" * 1000)
    search.report(config.number, report(9, value, folder))
    return config.number


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.2)])
def test_the_value_is_the_best_of_the_curve_in_the_metric_s_direction(
    make: MakeSearch, mode: Literal["min", "max"], best: float
) -> None:
    search = make(mode)
    config = search.ask()
    assert config is not None
    for step, value in ((1, 0.5), (3, 0.9), (5, 0.2), (9, 0.6)):
        search.report(config.number, report(step, value))
    record = search.records[-1]
    assert record.state is TrialState.COMPLETE
    assert record.value == best
    assert record.metrics["best_loss"] == best
    assert record.metrics["steps"] == 9


def test_minimising_keeps_the_lowest(make: MakeSearch) -> None:
    search = make("min", keep=1)
    numbers = [finish(search, value) for value in (0.5, 0.3, 0.4)]
    assert [record.number for record in ranked(search.records, "min")] == [numbers[1], numbers[2], numbers[0]]
    config = search.ask()
    assert config is not None
    assert config.keep_above == 0.3


def test_asha_under_minimising_stops_the_higher_loss(make: MakeSearch) -> None:
    search = make("min", AshaConfig(reduction_factor=3, rungs=3))
    first, second = search.ask(), search.ask()
    assert first is not None
    assert second is not None
    assert search.report(first.number, report(1, 0.3)) is Verdict.CONTINUE
    assert search.report(second.number, report(1, 0.9)) is Verdict.STOP
    record = search.records[second.number]
    assert record.state is TrialState.PRUNED
    assert record.value is None
    assert record.curve == {0.111111: 0.9}


def test_the_default_configuration_is_never_stopped_early(make: MakeSearch) -> None:
    search = make("max", AshaConfig(reduction_factor=3, rungs=3))
    search.ledger.enqueue([("default", {"learning_rate": 1e-4})])
    default, other = search.ask(), search.ask()
    assert default is not None
    assert other is not None
    search.report(other.number, report(1, 0.9))
    assert search.report(default.number, report(1, 0.1)) is Verdict.CONTINUE


def test_a_study_opened_again_judges_as_the_one_before_would_have(make: MakeSearch) -> None:
    asha = AshaConfig(reduction_factor=2, rungs=2)
    search = make("max", asha)
    for value in (0.9, 0.8, 0.7):
        config = search.ask()
        assert config is not None
        if search.report(config.number, Report(5, 0.5, {"loss": value})) is Verdict.CONTINUE:
            search.report(config.number, Report(10, 1.0, {"loss": value}, done=True))
    again = make("max", asha)
    config = again.ask()
    assert config is not None
    assert again.report(config.number, Report(5, 0.5, {"loss": 0.85})) is Verdict.CONTINUE  # second of four
    config = again.ask()
    assert config is not None
    assert again.report(config.number, Report(5, 0.5, {"loss": 0.75})) is Verdict.STOP


def test_a_trial_that_was_told_to_go_on_is_not_held_to_what_came_later(make: MakeSearch) -> None:
    asha = AshaConfig(reduction_factor=3, rungs=3)
    search = make("max", asha)
    slow, fast = search.ask(), search.ask()
    assert slow is not None
    assert fast is not None
    assert search.report(slow.number, report(1, 0.6)) is Verdict.CONTINUE
    for step, value in ((1, 0.7), (3, 0.8)):
        assert search.report(fast.number, report(step, value)) is Verdict.CONTINUE
    for _ in range(2):
        search = make("max", asha)
        assert search.ask() is not None
        assert search.ask() is not None
        assert search.report(slow.number, report(1, 0.6)) is Verdict.CONTINUE
    assert search.report(slow.number, report(3, 0.75)) is Verdict.STOP  # the fast one has 0.8 there, before and after


def test_reports_and_failures_after_the_end_change_nothing(make: MakeSearch) -> None:
    events: list[AnyEvent] = []
    search = make("max", emit=events.append)
    number = finish(search, 0.5)
    assert search.report(number, report(9, 0.9)) is Verdict.STOP
    search.failed(number, BUG)
    assert search.records[0].value == 0.5
    assert len([event for event in events if isinstance(event, TrialFinished)]) == 1


def test_a_trial_that_starts_again_repeats_no_report(make: MakeSearch) -> None:
    events: list[AnyEvent] = []
    config = make("max").ask()
    assert config is not None
    search = make("max", emit=events.append)
    assert search.ask() is not None
    for _ in range(2):  # the second time as after its process died
        search.report(config.number, report(1, 0.4))
        search.report(config.number, report(3, 0.5))
    assert [event.kind for event in events] == ["trial_started", "trial_reported", "trial_reported"]


def test_a_trial_that_fails_right_after_a_resume_leaves_a_study_that_can_be_opened(make: MakeSearch) -> None:
    config = make("max", AshaConfig()).ask()
    assert config is not None
    first = make("max", AshaConfig())
    assert first.ask() is not None
    first.report(config.number, report(1, 0.4))
    second = make("max", AshaConfig())
    assert second.ask() is not None
    second.failed(config.number, DIVERGED)
    assert make("max", AshaConfig()).records[0].state is TrialState.FAILED


def test_a_machine_on_which_every_trial_fails_ends_the_search_and_costs_no_trial(make: MakeSearch) -> None:
    """As with a broken driver of a GPU; mended, the next study driver tries the same ones again."""
    search = make("max", trials=40)
    tried = []
    while not search.stopping:
        config = search.ask()
        assert config is not None
        tried.append(config)
        search.failed(config.number, BUG)
    assert len(tried) == len({config.number for config in tried}) == 5
    assert "nobody expected this" in (search.trouble or "")
    assert "go on with --resume" in (search.trouble or "")
    assert {record.state for record in search.records} == {TrialState.RUNNING}
    again = make("max", trials=5)
    assert [again.ask() for _ in tried] == tried
    assert again.exhausted
    assert not again.stopping


def test_no_trial_is_stopped_for_others_that_fail_at_once(make: MakeSearch) -> None:
    search = make("max", trials=8)
    slow = search.ask()
    assert slow is not None
    for _ in range(5):
        config = search.ask()
        assert config is not None
        search.failed(config.number, BUG)
    assert search.ask() is None  # until somebody reports, more would be wasted
    assert not search.stopping
    search.report(slow.number, report(1, 0.5))
    assert search.ask() is not None
    assert not search.stopping


def test_a_trial_that_failed_before_any_ended_gets_another_chance_and_then_has_failed(make: MakeSearch) -> None:
    search = make("max", trials=2)
    first = search.ask()
    assert first is not None
    search.failed(first.number, BUG)
    finish(search, 0.5)
    assert not search.exhausted
    assert search.ask() == first
    search.failed(first.number, BUG)
    assert search.exhausted
    assert not search.stopping
    assert [record.state for record in search.records] == [TrialState.FAILED, TrialState.COMPLETE]


def test_trials_that_fail_by_what_they_train_with_end_no_search(make: MakeSearch) -> None:
    search = make("max", trials=8)
    for _ in range(8):
        config = search.ask()
        assert config is not None
        search.failed(config.number, DIVERGED)
    assert not search.stopping
    assert search.exhausted


def test_a_search_of_few_trials_that_all_fail_says_so_too(make: MakeSearch) -> None:
    search = make("max", trials=1)
    config = search.ask()
    assert config is not None
    search.failed(config.number, BUG)
    assert "1 trial failed before any other" in (search.trouble or "")


def test_epochs_of_a_trial_that_a_crash_kept_from_its_end_count_once(make: MakeSearch) -> None:
    config = make("max").ask()
    assert config is not None
    ledger = make("max").ledger
    outcome = {"metrics": {"epochs": 2.25}, "checkpoint": None, "seconds": 1.0, "reason": None}
    ledger._study._storage.set_trial_user_attr(ledger._id(config.number), "outcome", outcome)
    search = make("max", epochs=4.0)
    finish(search, 0.5)
    assert search._epochs_spent == 2.25
    assert not search.exhausted


def test_wall_time_is_counted_over_all_drivers(make: MakeSearch) -> None:
    search = make("max", seconds=3600.0)
    search.ledger.spend(3601.0)
    assert make("max", seconds=3600.0).exhausted
    assert not make("max", seconds=7200.0).exhausted


class Clock:
    """Seconds as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_wall_time_is_remembered_whatever_limits_the_study(make: MakeSearch) -> None:
    clock = Clock()
    search = make("max", trials=3, clock=clock)
    clock.now = 100.0
    finish(search, 0.1)
    assert search.ledger.seconds_used == 100.0
    assert make("max", seconds=100.0).exhausted


def test_reports_spend_wall_time_now_and_then(make: MakeSearch) -> None:
    clock = Clock()
    search = make("max", clock=clock)
    config = search.ask()
    assert config is not None
    spent = []
    for step, now in ((1, 29.0), (2, 31.0), (3, 50.0), (4, 3000.0)):
        clock.now = now
        search.report(config.number, report(step, 0.5))
        spent.append(search.ledger.seconds_used)
    assert spent == [0.0, 31.0, 31.0, 3000.0]


def test_who_leaves_in_the_middle_spends_what_was_used_and_the_next_goes_on_from_there(make: MakeSearch) -> None:
    clock = Clock()
    search = make("max", trials=2, clock=clock)
    search.ask()
    clock.now = 3000.0
    search.spend()
    assert search.ledger.seconds_used == 3000.0
    later = Clock()
    search = make("max", trials=2, clock=later)
    later.now = 500.0
    search.spend()
    assert search.ledger.seconds_used == 3500.0


def test_what_comes_after_the_search_costs_no_hours(make: MakeSearch) -> None:
    clock = Clock()
    search = make("max", trials=1, clock=clock)
    clock.now = 60.0
    finish(search, 0.1)
    clock.now = 4000.0
    search.spend()
    assert search.ledger.seconds_used == 60.0


def test_a_target_is_reached_only_within_the_limits(make: MakeSearch) -> None:
    limits = Limits({"latency": 5.0}, {"latency": "min"})
    search = make("max", target=0.8, limits=limits, trials=5)
    for latency, is_over in ((9.0, False), (4.0, True)):
        config = search.ask()
        assert config is not None
        metrics = {"loss": 0.9, "latency": latency}
        search.report(config.number, Report(9, 1.0, metrics, done=True))
        assert search.exhausted is is_over
        assert make("max", target=0.8, limits=limits, trials=5).exhausted is is_over


def test_each_budget_ends_the_asking(make: MakeSearch) -> None:
    search = make("max", trials=2)
    finish(search, 0.1)
    assert not search.exhausted
    finish(search, 0.2)
    assert search.exhausted
    assert search.ask() is None
    assert make("max", epochs=2.0).exhausted  # two trials of 9/4 epochs are in the ledger
    assert not make("max", epochs=5.0).exhausted
    assert make("max", seconds=0.0).exhausted


def test_what_a_crash_left_running_counts_as_work_to_do(make: MakeSearch) -> None:
    left = make("max").ask()
    assert left is not None
    search = make("max", trials=1)
    assert not search.exhausted
    config = search.ask()
    assert config is not None
    assert config.number == left.number
    assert search.exhausted


def test_only_the_best_checkpoints_and_the_default_s_stay(make: MakeSearch, tmp_path: Path) -> None:
    search = make("max", keep=2)
    search.ledger.enqueue([("default", {"learning_rate": 1e-4})])
    for value in (0.1, 0.5, 0.4, 0.6, 0.3):
        finish(search, value, tmp_path)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["trial-0000", "trial-0001", "trial-0003"]


def test_a_byte_budget_keeps_at_least_the_best(make: MakeSearch, tmp_path: Path) -> None:
    search = make("max", keep=3, keep_bytes=1500)
    for value in (0.1, 0.5, 0.4):
        finish(search, value, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["trial-0001"]
    tight = make("max", keep=3, keep_bytes=10)
    assert tight.records
    assert (tmp_path / "checkpoints" / "trial-0001").is_dir()


def test_folders_that_no_trial_points_to_are_removed(make: MakeSearch, tmp_path: Path) -> None:
    search = make("max")
    finish(search, 0.5, tmp_path)
    for name in (".trial-0009.123", "trial-0009"):
        (tmp_path / "checkpoints" / name).mkdir()
    remove_strangers(tmp_path / "checkpoints", search.records)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["trial-0000"]


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"loss": math.nan}, "its loss is nan at 33% of training"),
        ({"loss": -math.inf}, "its loss is -inf at 33% of training"),
        ({"accuracy": 0.5}, "it reported no loss at 33% of training"),
    ],
)
def test_a_trial_without_a_finite_value_fails_and_the_search_goes_on(
    make: MakeSearch, metrics: dict[str, float], reason: str
) -> None:
    search = make("min", AshaConfig(reduction_factor=3, rungs=3))
    config = search.ask()
    assert config is not None
    assert search.report(config.number, report(1, 0.5)) is Verdict.CONTINUE
    assert search.report(config.number, Report(step=3, progress=3 / 9, metrics=metrics)) is Verdict.STOP
    record = search.records[-1]
    assert (record.state, record.value, record.reason) == (TrialState.FAILED, None, reason)
    assert search.ledger.records() == search.records
    finish(search, 0.4)
    assert [own.number for own in ranked(search.records, "min")] == [1]


def test_a_trial_that_ends_early_stands_with_its_best_at_the_levels_it_does_not_come_to(make: MakeSearch) -> None:
    """After a restart, too."""
    asha = AshaConfig(reduction_factor=3, rungs=3)
    search = make("max", asha)
    first, second, third = search.ask(), search.ask(), search.ask()
    assert first is not None
    assert second is not None
    assert third is not None
    assert search.report(first.number, report(1, 0.8)) is Verdict.CONTINUE
    assert search.report(first.number, replace(report(2, 0.7), done=True)) is Verdict.STOP
    record = search.records[first.number]
    assert (record.state, record.value, record.total_steps) == (TrialState.COMPLETE, 0.8, 9)
    assert search.report(second.number, report(1, 0.9)) is Verdict.CONTINUE
    assert search.report(second.number, report(3, 0.75)) is Verdict.STOP
    again = make("max", asha)
    found = again.ask()
    assert found is not None
    again.report(found.number, report(1, 0.95))
    assert again.report(found.number, report(3, 0.76)) is Verdict.STOP
