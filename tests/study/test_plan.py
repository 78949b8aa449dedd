"""The plan of a study: what it says, what it refuses, and what it leaves behind."""

import dataclasses
import math
import random
import re
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, get_args

import pytest

from hpo import config, run
from hpo.config.sections import ResourcesConfig
from hpo.errors import ConfigError, ServiceError
from hpo.ledger import Ledger
from hpo.records import Seeds, TrialRecord, TrialState
from hpo.report.plan import Plan, plan_text
from hpo.report.screen import open_screen
from hpo.schedulers import AshaConfig, FifoConfig, SchedulerUnion
from hpo.space import SearchSpace
from hpo.study import folder as study_folder
from hpo.study.forecast import Forecast, Job, Limits, Look, Proposals, Slots, forecast
from hpo.study.hindsight import pace_of
from hpo.study.plan import count_slots, make_plan
from hpo.study.probe import Pace
from hpo.study.steps import Ladder, TrialLength, check_rungs, extremes

TRAIN = 285
"""Rows of the films that are left to train with: 60 are cut for the test, 15 have the text of one of those."""


def planned(space: Path, *changes: str, timed: bool = False) -> Plan:
    with open_screen() as screen:
        return make_plan(config.load(space, list(changes)), screen, timed=timed)


def left_behind(space: Path) -> list[str]:
    return sorted(path.name for path in (space.parent / "studies").iterdir())


@pytest.fixture
def wider(films: Path) -> Path:
    """The same space with two batch sizes."""
    films.write_text(films.read_text().replace("batch_size: 16", "batch_size: [8, 16]"))
    return films


def test_a_plan_with_a_probe_predicts_time_and_memory_and_leaves_nothing_but_the_cache(wider: Path) -> None:
    plan = planned(wider, timed=True)
    assert left_behind(wider) == [".cache"]
    assert plan.time is not None
    assert 1 < plan.time.total < 600
    assert set(plan.time.speeds) == {8, 16}
    assert all(speed > 10 for speed in plan.time.speeds.values())
    assert plan.time.evaluation > 10
    assert plan.memory.is_measured
    assert 100e6 < plan.memory.trial < plan.memory.machine
    text = plan_text(plan)
    assert "# time      about " in text
    assert "at batch size 8, " in text
    assert "measured by a probe, on " in text
    assert plan.time.total == pytest.approx(plan.time.left)
    assert plan.time.left > plan.time.search + 9
    assert "(measured)" in text


def test_without_a_probe_memory_is_estimated_and_no_time_is_said(wider: Path) -> None:
    plan = planned(wider)
    assert plan.time is None
    assert plan.rows == {"train": TRAIN, "validation": 60, "test": 60}
    assert plan.steps[0] == 2 * 18  # in batches of 16
    assert plan.steps[2] == 3 * 36
    assert not plan.memory.is_measured
    assert "not predicted: no probe was run (--no-probe)" in plan_text(plan)
    assert left_behind(wider) == [".cache"]


def test_fifo_takes_every_trial_to_its_end(films: Path) -> None:
    plan = planned(films, "search.scheduler=fifo", "space.num_train_epochs=3")
    assert plan.reached == ((1.0, 4.0),)
    assert plan.epochs == pytest.approx(12)
    assert plan.sentences == pytest.approx(12 * TRAIN)
    assert plan.all_steps == pytest.approx(12 * 18)
    assert "4, each to its end" in plan_text(plan)


def test_asha_stops_most_trials_at_the_lower_rungs(films: Path) -> None:
    plan = planned(films, "budget.trials=90", "space.num_train_epochs=3")
    (_, first), (_, last) = plan.reached
    assert first == 90
    assert last == pytest.approx(90 / 2, abs=3)
    assert 90 < plan.epochs < 3 * 90


def test_a_budget_of_epochs_says_how_many_trials_there_are(films: Path) -> None:
    changes = ("budget.trials=null", "search.scheduler=fifo", "space.num_train_epochs=3")
    plan = planned(films, *changes, "budget.epochs=30")
    assert plan.trials == pytest.approx(10, abs=count_slots(ResourcesConfig()))
    many = planned(films, *changes, "budget.epochs=30000")
    assert many.trials == pytest.approx(10_000, rel=0.02)


def test_a_budget_of_hours_alone_says_nothing_of_trials_unless_it_was_probed(films: Path) -> None:
    changes = ("budget.trials=null", "budget.hours=0.05")
    said = plan_text(planned(films, *changes))
    assert "as many as the hours allow; of 100, 100 reach 50 % of their training, " in said


def job(epochs: float, *levels: float, seconds: float = 10.0, is_baseline: bool = False) -> Job:
    """A trial whose looks are evenly spaced, each `seconds` after the one before it."""
    looks = tuple(Look(level, place / len(levels), place * seconds) for place, level in enumerate(levels, start=1))
    return Job({}, looks, steps=5, epochs=epochs, sentences=100 * epochs, is_baseline=is_baseline)


def played(scheduler: Any, jobs: list[Job], slots: Slots, limits: Limits) -> Forecast:
    return forecast(jobs, scheduler.fractions(), partial(scheduler.build, SearchSpace(), 0), slots, limits)


def test_the_hours_end_the_forecast_when_a_slot_is_free_after_them() -> None:
    jobs = [job(1.0, 1.0)] * 50
    future = played(FifoConfig(), jobs, Slots(2), Limits(seconds=35.0))
    assert (future.trials, future.seconds, future.steps) == (8, 40.0, 40)
    long = played(FifoConfig(), jobs, Slots(2), Limits(seconds=25_000.0))
    assert long.trials == pytest.approx(5_000)
    assert long.seconds == pytest.approx(25_000.0)


def test_trials_that_run_when_the_budget_is_used_end_at_their_next_look_but_for_the_default() -> None:
    jobs = [job(4.0, 0.25, 0.5, 0.75, 1.0, is_baseline=True), *[job(4.0, 0.25, 0.5, 0.75, 1.0)] * 9]
    future = played(FifoConfig(), jobs, Slots(2), Limits(epochs=3.0))
    assert (future.trials, future.ended, future.epochs, future.seconds) == (2, 1, 6.0, 40.0)


def test_what_the_slots_need_to_begin_is_counted_and_takes_from_the_hours() -> None:
    slots = Slots(2, opening=5.0, start=3.0)
    future = played(FifoConfig(), [job(1.0, 1.0)] * 4, slots, Limits(trials=4))
    assert future.seconds == 5.0 + 2 * 3.0 + 2 * 10.0
    assert played(FifoConfig(), [job(1.0, 1.0)] * 50, slots, Limits(seconds=20.0)).trials == 3
    assert played(FifoConfig(), [job(1.0, 1.0)] * 50, Slots(2), Limits(seconds=20.0)).trials == 4
    assert played(FifoConfig(), [job(1.0, 1.0)] * 50, Slots(2, opening=15.0), Limits(seconds=20.0)).trials == 2


def test_where_levels_are_samples_short_trials_reach_the_lower_ones_only() -> None:
    asha = AshaConfig(reduction_factor=4, rungs=2, resource="samples")
    short, long = job(1.0, 0.25), job(4.0, 0.25, 0.5, 0.75, 1.0)
    future = played(asha, [short, long] * 20, Slots(2), Limits(trials=40))
    assert future.reached[0] == 40
    assert 20 < future.ended < 40  # all of the short ones, and the best of the long ones
    assert future.reached[1] == pytest.approx(future.ended - 20)
    assert future.epochs < future.whole_epochs == 20 * 5.0


@pytest.mark.parametrize("scheduler", get_args(get_args(Annotated[SchedulerUnion, None])[0]))
def test_every_scheduler_can_be_played_in_every_resource(scheduler: Any, films: Path) -> None:
    changes = [f"search.scheduler={{type: {scheduler().type}}}", "budget.trials=30"]
    if scheduler().type == "pbt":
        changes.append("search.sampler=random")
    plan = planned(films, *changes)
    assert 0 < plan.epochs <= plan.saving.epochs
    assert plan.reached[-1][0] == 1.0
    if "resource" in scheduler.model_fields:
        plan = planned(films, *changes, "search.scheduler.resource=samples")
        assert plan.of_longest
        assert 0.0 < plan.saving.share < 1.0
        assert "of the longest training" in plan_text(plan)


def test_a_plan_says_what_early_stopping_saves(films: Path) -> None:
    plan = planned(films, "budget.trials=90", "space.num_train_epochs=3")
    assert plan.saving.epochs == 270
    assert plan.saving.share == pytest.approx(1 - plan.epochs / 270)
    assert f"# saved     about {plan.saving.share:.0%} of the training" in plan_text(plan)
    assert "# saved" not in plan_text(planned(films, "search.scheduler=fifo"))


def test_the_confirmation_comes_on_top_of_the_search(films: Path) -> None:
    changes = ("space.num_train_epochs=3", "budget.trials=30", "promotion=null")
    assert "# confirm" not in plan_text(planned(films, *changes))
    plan = planned(films, *changes, "confirm={top: 2, seeds: 4}")
    assert plan.fresh is not None
    assert (plan.fresh.leaders, plan.fresh.defaults, plan.fresh.seeds, plan.fresh.epochs) == (2, 1, 4, 36.0)
    steps = 3 * 18  # a step lasts a second where nothing was timed
    assert plan.fresh.seconds == pytest.approx(-(-12 // plan.slots) * steps)
    assert plan.disk.kept == 2 + 1 + 3
    confirmed = "# confirm   2 leaders and the default over 4 fresh seeds each, 36.0 epochs beside the budget"
    assert confirmed in plan_text(plan)


def record(number: int, batch: int, epochs: int, seconds: float, **more: Any) -> TrialRecord:
    steps = epochs * -(-320 // batch)
    params = {"per_device_train_batch_size": batch, "num_train_epochs": epochs, "learning_rate": 1e-3}
    metrics = {"steps": float(steps), "epochs": float(epochs)}
    whole = {"state": TrialState.COMPLETE, "metrics": metrics, "seconds": seconds, **more}
    return TrialRecord(number=number, origin="tpe", params=params, seeds=Seeds(0, 0), **whole)


def test_the_pace_is_learnt_from_what_finished_trials_took() -> None:
    def took(batch: int, epochs: int) -> float:
        return 2.0 + epochs * (320 / batch * 0.01 + 320 * 0.002 + 0.5)

    ladder = Ladder((1.0,))
    done = [(batch, epochs) for batch in (8, 16, 32) for epochs in (1, 2, 4)]
    records = [record(number, *own, took(*own)) for number, own in enumerate(done)]
    pace = pace_of(records, ladder, rows=320, validation=50)
    assert pace is not None
    assert pace.trials == 9
    for batch, epochs in ((8, 3), (16, 5), (32, 3)):
        steps = epochs * 320 / batch
        assert pace.setup + steps * pace.step_seconds(batch) + epochs * 50 / pace.evaluation == pytest.approx(
            took(batch, epochs)
        )
    few = pace_of(records[4:5], ladder, rows=320, validation=50)
    assert few is not None
    assert 2 * 20 * few.step_seconds(16) == pytest.approx(took(16, 2))
    assert pace_of([record(0, 8, 1, 0.0), record(1, 8, 1, 1.0, state=TrialState.RUNNING)], ladder, 320, 50) is None


def begin(films: Path) -> None:
    """A study that has finished two trials."""
    loaded = config.load(films)
    ledger = Ledger(
        loaded.folder, study=loaded.study, mode="max", space=loaded.space, sampler=loaded.search.sampler, seed=3
    )
    for seconds in (40.0, 60.0):
        asked = ledger.ask()
        assert asked is not None
        length = TrialLength.of(asked.params, TRAIN)
        metrics = {"steps": float(length.total_steps), "epochs": length.epochs}
        ledger.tell(asked.number, TrialState.COMPLETE, value=0.5, metrics=metrics, seconds=seconds)
    study_folder.save(loaded.folder, loaded, {})


def test_a_study_that_is_there_is_predicted_from_its_own_trials(films: Path) -> None:
    begin(films)
    plan = planned(films, timed=True)
    assert plan.time is not None
    assert plan.time.trials == plan.finished == 2
    assert 40 < plan.time.search < 4 * 80
    assert plan.time.left < plan.time.total
    text = plan_text(plan)
    assert "predicted from 2 finished trials of this study; nothing was measured now" in text
    assert "2 trials of it done; what is left takes" in text
    assert "its 2 finished trials count towards the budget" in text


def test_trials_outside_of_the_space_as_it_is_asked_for_are_not_counted_as_done(films: Path) -> None:
    begin(films)
    done, moved = (
        planned(films, "budget={trials: 2}", *more, timed=True)
        for more in ((), ("space.learning_rate={low: 0.2, high: 0.3}",))
    )
    assert (done.finished, done.dropped) == (2, 0)
    assert (moved.finished, moved.dropped) == (0, 2)
    assert done.time is not None
    assert moved.time is not None
    assert done.time.rest == 0.0
    assert moved.time.trials == 2  # they say how fast it goes all the same
    assert moved.time.left == pytest.approx(moved.time.total)
    assert "its 0 finished trials count towards the budget, and 2 trials outside of the space do not" in plan_text(
        moved
    )


def test_the_page_is_the_resolved_file_with_the_plan_in_comments(films: Path, tmp_path: Path) -> None:
    plan = planned(films)
    text = plan_text(plan)
    assert text.startswith(plan.document.rstrip())
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert config.load(again).document() == plan.document


def test_what_will_not_fit_is_told_with_the_way_out(films: Path) -> None:
    plan = planned(films)
    assert plan.warnings == ()
    tight = dataclasses.replace(
        plan,
        disk=dataclasses.replace(plan.disk, free=10),
        memory=dataclasses.replace(plan.memory, machine=plan.memory.trial - 1),
        exists=True,
    )
    disk, memory = tight.warnings
    assert "lower checkpoints.keep" in disk
    assert "raise resources.cpus from 1" in memory
    assert plan_text(tight).count("# warning") == 2
    elsewhere = dataclasses.replace(plan, slots=4096, memory=dataclasses.replace(plan.memory, machine=None))
    assert elsewhere.warnings == ()
    assert "the machine has" not in plan_text(elsewhere)
    assert "--resume" in plan_text(tight)


def test_checkpoints_that_stay_are_counted_as_the_search_keeps_them(films: Path) -> None:
    assert planned(films).disk.kept == 3  # the best two, and the default configuration's
    assert planned(films, "checkpoints.keep=1000", "budget.trials=4").disk.kept == 4
    assert planned(films, "search.first=[]").disk.kept == 2


def test_rungs_finer_than_the_shortest_trial_are_refused_in_a_dry_run_and_in_a_run(
    films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--space", str(films), "--set", "search.scheduler.rungs=8"]
    for more in (["--dry-run", "--no-probe"], []):
        assert run.main([*arguments, *more]) == 2
        error = capsys.readouterr().err
        assert "search.scheduler.rungs: the lowest of 8 rungs lies below one optimiser step" in error
        assert "(285 rows at per_device_train_batch_size 16, num_train_epochs 2: 36 steps)" in error
        assert "lower search.scheduler.rungs to 6" in error


def test_the_number_of_rungs_that_is_advised_is_accepted_and_one_more_is_not(films: Path) -> None:
    for factor, most in ((3, 4), (2, 6), (38, 2)):
        changes = [f"search.scheduler.reduction_factor={factor}"]
        check_rungs(config.load(films, [*changes, f"search.scheduler.rungs={most}"]), 300)
        with pytest.raises(ConfigError, match=f"rungs to {most}"):
            check_rungs(config.load(films, [*changes, f"search.scheduler.rungs={most + 1}"]), 300)
    with pytest.raises(ConfigError, match=r"lower search\.scheduler\.rungs to 1, or take the scheduler fifo"):
        check_rungs(config.load(films, ["space.num_train_epochs=1"]), 10)
    check_rungs(config.load(films, ["search.scheduler=fifo"]), 1)


def test_the_shortest_trial_is_one_that_can_be_proposed(films: Path) -> None:
    text = films.read_text().replace(
        "batch_size: 16",
        "batch_size: [8, 16, 32]\n"
        "  gradient_accumulation_steps: {low: 2, high: 8, when: {per_device_train_batch_size: [8]}}",
    )
    films.write_text(text)
    loaded = config.load(films)
    shortest, longest = extremes(loaded.space, loaded.default_point(), 320)
    assert shortest["gradient_accumulation_steps"] == 8
    assert TrialLength.of(shortest, 320).total_steps == 2 * 5
    assert TrialLength.of(longest, 320).total_steps == 3 * 20
    assert loaded.space.contains(shortest)


def test_no_more_trials_run_at_a_time_than_the_file_allows() -> None:
    assert count_slots(ResourcesConfig(max_concurrent_trials=1)) == 1
    assert count_slots(ResourcesConfig(max_concurrent_trials=10_000)) == count_slots(ResourcesConfig())
    assert count_slots(ResourcesConfig(cpus=4096)) == 1


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ServiceError, match=r"asks for 0\.5 gpus, but this machine has 0; lower resources\.gpus"):
        count_slots(ResourcesConfig(gpus=0.5))


def test_seconds_of_a_step_lie_on_the_line_through_what_was_measured() -> None:
    pace = Pace(steps={8: 1.0, 32: 2.5}, evaluation=1.0, setup=0.0, start=0.0, memory=0)
    assert pace.step_seconds(8) == 1.0
    assert pace.step_seconds(16) == pytest.approx(1.5)
    assert Pace(steps={8: 1.0}, evaluation=1.0, setup=0.0, start=0.0, memory=0).step_seconds(16) == 2.0


def test_rows_are_evaluated_in_a_third_of_the_time_of_training_where_nobody_measured_it() -> None:
    pace = Pace(steps={10: 3.0}, evaluation=math.inf, setup=0.0, start=0.0, memory=0)
    assert pace.reading(50) == pytest.approx(5.0)
    assert dataclasses.replace(pace, evaluation=25.0).reading(50) == pytest.approx(2.0)


def test_a_configuration_that_cannot_train_is_told_instead_of_a_time(films: Path) -> None:
    changes = ("space.learning_rate=1.0", "space.weight_decay=9.9", "space.max_grad_norm=0", "space.bf16=false")
    plan = planned(films, *changes, timed=True)
    assert plan.time is None
    assert "not predicted: the default configuration can't be trained (" in plan_text(plan)


def test_the_command_prints_the_plan_of_the_quickstart(inline: Any, tmp_path: Path) -> None:
    arguments = ("--space", "spaces/quickstart.yaml", "--dry-run", "--no-probe", "--storage", tmp_path / "here")
    done = inline("run", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("study: quickstart\n")
    assert re.search(r"# data      train [\d,]+ rows, validation [\d,]+ rows, test [\d,]+ rows", done.stdout)
    reached = r"# trials    8 begin: 8 reach 25 % of their training, about \d the end\n"
    assert re.search(reached, done.stdout)
    assert [path.name for path in (tmp_path / "here").iterdir()] == [".cache"]


def test_the_states_that_members_of_a_population_leave_are_in_the_plan(films: Path) -> None:
    plan = planned(films, "search.sampler=random", "search.scheduler={type: pbt, intervals: 3, max_sources: 2}")
    assert plan.disk.states == 3 * plan.disk.checkpoint * 2 * (2 + plan.slots)
    assert "of states at most" in plan_text(plan)
    full = dataclasses.replace(plan, disk=dataclasses.replace(plan.disk, free=plan.kept_bytes))
    assert "lower search.scheduler.max_sources or intervals" in full.warnings[0]
    plain = planned(films)
    assert "of states" not in plan_text(plain)
    assert plain.disk.bookmarks == 4 * plain.disk.checkpoint * plain.slots


def test_a_sampler_that_learns_is_expected_to_train_more_and_to_lead_with_longer_trials() -> None:
    draw = random.Random(0)
    jobs = []
    for _ in range(24):
        epochs = draw.choice((1, 2, 4))
        looks = tuple(Look(level, level, epochs * 10.0 * level) for level in (0.25, 0.5, 1.0))
        jobs.append(Job({"num_train_epochs": epochs}, looks, 10 * epochs, float(epochs), 100.0 * epochs))
    build = partial(AshaConfig(reduction_factor=2, rungs=3).build, SearchSpace({}), 0)
    blind, learning = (
        forecast(jobs, (0.25, 0.5, 1.0), build, Slots(2), Limits(trials=24), Proposals(after)) for after in (None, 8)
    )
    assert learning.ended > blind.ended
    assert learning.epochs > 1.1 * blind.epochs
    assert blind.leader_epochs > fmean(job.epochs for job in jobs)
