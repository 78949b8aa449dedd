"""A study that is interrupted decides and proposes what one that is not would have, whatever the scheduler."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest

from hpo.ledger import Ledger
from hpo.records import AnyEvent, Report, TrialConfig, TrialRecord
from hpo.runners.inline import InlineRunner
from hpo.samplers import TpeConfig
from hpo.schedulers import SchedulerUnion
from hpo.space import Choice, FloatRange, SearchSpace
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
    """Curves that cross, as noise makes them do; evaluated where a training is."""

    def __call__(self, config: TrialConfig) -> Iterator[Report]:
        total = STEPS * int(config.params["num_train_epochs"])
        for step in sorted(evaluation_steps(Length(total), config.rungs)):
            noise = random.Random(f"{config.params} {step}").uniform(0.0, 0.3)
            metrics = {"accuracy": 0.5 + 0.2 * step / total + noise, "epoch": step / STEPS}
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
        cut(search, event)

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
    InlineRunner(Crossing()).run(search)
    return search.records


def place(event: AnyEvent) -> tuple[object, ...]:
    return event.kind, getattr(event, "number", None), getattr(event, "step", None)


def crash(search: StudySearch, event: AnyEvent) -> None:
    raise Crash


def stop(search: StudySearch, event: AnyEvent) -> None:
    search.stopped_by = 15


def never(search: StudySearch, event: AnyEvent) -> None:
    """Nothing happens."""


def resumed_until_done(folder: Path, scheduler: Any, cut: Cut, every: int = 1) -> list[TrialRecord]:
    """Each `every`th event that comes for the first time ends the driver, and another one goes on."""
    seen: set[tuple[object, ...]] = set()

    def once(search: StudySearch, event: AnyEvent) -> None:
        if place(event) not in seen:
            seen.add(place(event))
            if len(seen) % every == 0:
                cut(search, event)

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
