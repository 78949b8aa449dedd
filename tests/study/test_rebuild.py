"""A study that is interrupted decides and proposes what one that is not would have, whatever the scheduler."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest

from hpo.ledger import Ledger
from hpo.records import AnyEvent, Report, TrialConfig, TrialRecord, Verdict
from hpo.runners.inline import InlineRunner
from hpo.runners.simulated import SimulatedRunner
from hpo.samplers import TpeConfig
from hpo.schedulers import SchedulerUnion
from hpo.space import Choice, FloatRange, SearchSpace
from hpo.study.phases import SearchThenConfirm
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.training.exchange import Exchange
from hpo.trial import evaluation_steps

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True), "num_train_epochs": Choice((1, 2, 3))})
TRIALS = 6
STEPS = 9
"""Of an epoch, so that rungs at a third and a ninth are met by steps exactly."""

Cut = Callable[[StudySearch, AnyEvent], None]


class Crash(BaseException):
    """The driver is gone."""


@dataclass(frozen=True)
class Length:
    total_steps: int
    steps_per_epoch: int = STEPS


@dataclass(frozen=True)
class Crossing:
    """Curves that cross, as noise makes them do; evaluated where a training is. lift: by how much each trial is better
    than the one before it."""

    lift: float = 0.0

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        total = STEPS * int(config.params["num_train_epochs"])
        for step in sorted(evaluation_steps(Length(total), config.rungs)):
            noise = random.Random(f"{config.params} {step}").uniform(0.0, 0.3)
            metrics = {"accuracy": 0.5 + 0.2 * step / total + noise + self.lift * config.number, "epoch": step / STEPS}
            metrics["seconds"] = step * 3.0 ** (config.number % 2)  # so that trials overtake each other
            for level in [rung for rung in config.rungs if config.population and rung <= step / total]:
                with Exchange(config.population).leaving(config.number, level, 0) as state:
                    state.touch()
            yield Report(step=step, progress=step / total, metrics=metrics, done=step == total)


def schedulers() -> list[Any]:
    """Every scheduler, counting in every resource that it can count in."""
    found = []
    for kind in get_args(get_args(Annotated[SchedulerUnion, None])[0]):
        resources = ("progress", "samples") if "resource" in kind.model_fields else ("progress",)
        for resource in resources:
            changes: dict[str, Any] = {"resource": resource} if "resource" in kind.model_fields else {}
            if "min_trials" in kind.model_fields:
                changes |= {"min_trials": 2, "rungs": 4}
            found.append(pytest.param(kind(**changes), id=f"{kind().type}-{resource}"))
    return found


def go(folder: Path, scheduler: Any, cut: Cut) -> list[TrialRecord]:
    """Begin a study, or go on with it, one trial at a time."""

    def emit(event: AnyEvent) -> None:
        cut(study, event)

    search = opened(folder, scheduler, emit)
    study = SearchThenConfirm(search, lambda: None)
    InlineRunner(Crossing()).run(study)
    return search.records


def opened(folder: Path, scheduler: Any, emit: Callable[[AnyEvent], None]) -> StudySearch:
    search = StudySearch(
        ledger=Ledger(folder, study="s", mode="max", space=SPACE, sampler=TpeConfig(n_startup_trials=3), seed=1),
        scheduler=scheduler.build(SPACE, 1),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(scheduler, SPACE),
        emit=emit,
        trials=TRIALS,
    )
    search.ledger.enqueue([("default", {"learning_rate": 1e-4, "num_train_epochs": 3})])
    return search


def place(event: AnyEvent) -> tuple[object, ...]:
    return event.kind, getattr(event, "number", None), getattr(event, "step", None)


def crash(study: SearchThenConfirm, event: AnyEvent) -> None:
    raise Crash


def stop(study: SearchThenConfirm, event: AnyEvent) -> None:
    study.stopped_by = 15


def never(study: SearchThenConfirm, event: AnyEvent) -> None:
    """Nothing happens."""


def resumed_until_done(folder: Path, scheduler: Any, cut: Cut, every: int = 1) -> list[TrialRecord]:
    """Each `every`th event that comes for the first time ends the driver, and another one goes on."""
    seen: set[tuple[object, ...]] = set()

    def once(study: SearchThenConfirm, event: AnyEvent) -> None:
        if place(event) not in seen:
            seen.add(place(event))
            if len(seen) % every == 0:
                cut(study, event)

    while True:
        before = len(seen)
        try:
            records = go(folder, scheduler, once)
        except Crash:
            continue
        if len(seen) == before:
            return records


@pytest.mark.parametrize(("cut", "every"), [(crash, 1), (stop, 1), (crash, 4)])
@pytest.mark.parametrize("scheduler", schedulers())
def test_a_study_that_ends_after_every_event_decides_as_one_that_never_ends(
    scheduler: Any, cut: Cut, every: int, tmp_path: Path
) -> None:
    whole = go(tmp_path / "whole", scheduler, never)
    assert len(whole) == TRIALS
    assert resumed_until_done(tmp_path / "cut", scheduler, cut, every) == whole


@dataclass
class Witness:
    """Implements `runners.Search`: the study's, and a memory of what it said that outlives its drivers. A first answer
    may be the last thing that a driver does."""

    search: StudySearch
    said: dict[tuple[int, int], Verdict]
    dies_of_answers: bool
    stopping: bool = False
    contradictions: list[tuple[int, int]] = field(default_factory=list)

    @property
    def exhausted(self) -> bool:
        return self.search.exhausted

    def ask(self) -> TrialConfig | None:
        return self.search.ask()

    def report(self, number: int, report: Report) -> Verdict:
        verdict = self.search.report(number, report)
        is_new = (number, report.step) not in self.said
        if self.said.setdefault((number, report.step), verdict) is not verdict:
            self.contradictions.append((number, report.step))
        if is_new and self.dies_of_answers:
            raise Crash
        return verdict

    def failed(self, number: int, reason: str) -> None:
        raise AssertionError(f"trial {number} fails: {reason}")


@pytest.mark.parametrize("dies_of", ["events", "answers"])
@pytest.mark.parametrize("scheduler", schedulers())
def test_with_two_trials_at_a_time_no_driver_goes_back_on_what_one_before_it_said(
    scheduler: Any, dies_of: str, tmp_path: Path
) -> None:
    said: dict[tuple[int, int], Verdict] = {}
    seen: set[tuple[object, ...]] = set()

    def once(event: AnyEvent) -> None:
        if dies_of == "events" and place(event) not in seen:
            seen.add(place(event))
            raise Crash

    drivers, is_over = 0, False
    while not is_over:
        witness = Witness(opened(tmp_path, scheduler, once), said, dies_of == "answers")
        drivers += 1
        try:
            SimulatedRunner(Crossing(lift=0.3), slots=2).run(witness)
            is_over = True
        except Crash:
            pass
        assert witness.contradictions == []
    assert drivers > TRIALS
    assert [record.number for record in witness.search.records] == list(range(TRIALS))


@pytest.mark.parametrize("scheduler", schedulers())
def test_what_running_trials_were_answered_for_counts_for_the_others_after_a_restart(
    scheduler: Any, tmp_path: Path
) -> None:
    """Six trials at a time; each time that one of them reports, all that were there before have gone on."""

    def said(folder: Path, *, restarts: bool) -> list[Verdict]:
        search = opened(folder, scheduler, lambda event: None)
        reports = {}
        for _ in range(TRIALS):
            config = search.ask()
            assert config is not None
            reports[config.number] = list(Crossing()(config))[:1]
        verdicts = []
        for number, (first, *_) in sorted(reports.items()):
            if restarts:
                search = opened(folder, scheduler, lambda event: None)
                while not search.exhausted:
                    search.ask()
            verdicts.append(search.report(number, first))
        return verdicts

    assert said(tmp_path / "cut", restarts=True) == said(tmp_path / "whole", restarts=False)
