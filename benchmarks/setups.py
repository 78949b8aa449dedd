"""The search set-ups that the benchmarks compare over recorded curves: ours, changes to ours, and other people's."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from benchmarks.recorded import METRIC
from benchmarks.tuners import Limits, Listed, RayOptuna, median_pruned, ray_optuna, shuffled
from hpo.config import BudgetConfig, SearchConfig, StudyConfig
from hpo.records import Objective
from hpo.runners import Search
from hpo.runners.simulated import Lead, SimulatedRunner, leads
from hpo.samplers import RandomConfig, TpeConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import Params
from hpo.study.simulation import simulate
from hpo.study.steps import Ladder

MOST_TRIALS = 150
"""A search that has not arrived by then has not arrived; it counts with what it spent."""

DEFAULT = SearchConfig()
STARTUP = TpeConfig().n_startup_trials


class Task(Protocol):
    """What a search is played over, or trained on. grid_points: of the BERT paper's grid, empty where its outcome is
    not known."""

    @property
    def name(self) -> str: ...

    @property
    def study(self) -> StudyConfig: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def target(self) -> float: ...

    @property
    def grid_points(self) -> list[tuple[int, Params]]: ...

    def searched(self, **sections: Any) -> StudyConfig: ...


@dataclass(frozen=True)
class Setting:
    """One run: a task under a seed. target: a value that ends it; infinite for none."""

    task: Task
    seed: int
    slots: int
    epochs: float = math.inf
    target: float = math.inf

    @property
    def limits(self) -> Limits:
        return Limits(trials=MOST_TRIALS, epochs=self.epochs, target=self.target)


@dataclass(frozen=True)
class History:
    """proposed: the configurations in the order of their trials; those that a benchmark does not ask about are left
    out."""

    leads: Sequence[Lead]
    epochs: float
    hours: float
    trials: int
    proposed: Sequence[Params] = ()


Arm: TypeAlias = Callable[[Setting], History]


def ours(search: SearchConfig) -> Arm:
    def run(setting: Setting) -> History:
        budget = BudgetConfig(
            trials=MOST_TRIALS,
            epochs=setting.epochs if math.isfinite(setting.epochs) else None,
            target=setting.target if math.isfinite(setting.target) else None,
        )
        study = setting.task.searched(search=search, budget=budget)
        run = simulate(study, setting.task.objective, seed=setting.seed, slots=setting.slots)
        return History(
            run.leads, run.epochs, run.seconds / 3600, len(run.records), [record.params for record in run.records]
        )

    return run


def other(make: Callable[[Setting, Limits], Search]) -> Arm:
    def run(setting: Setting) -> History:
        limits = setting.limits
        runner = SimulatedRunner(setting.task.objective, setting.slots)
        search = make(setting, limits)
        runner.run(search)
        proposed = list(search.params.values()) if isinstance(search, RayOptuna) else ()
        history = leads(runner.moments, METRIC, "max")
        return History(history, limits.spent, runner.clock.now / 3600, limits.started, proposed)

    return run


def _beginning(setting: Setting) -> list[dict[str, Any]]:
    """What all searches of a seed start with, so that they differ by what they learn and not by what they draw: the
    default configuration, and random ones as long as TPE would draw them."""
    study, source = setting.task.study, random.Random(setting.seed)
    draws = [study.space.draw(source) for _ in range(STARTUP)]
    return [study.space.project(study.default_point()), *draws]


def _told_pruned(**search: Any) -> Arm:
    def run(setting: Setting) -> History:
        _, *draws = _beginning(setting)
        return _changed(first=("default", *draws), **search)(setting)

    return run


def _told_complete(startup: int | None) -> Arm:
    def make(setting: Setting, limits: Limits) -> Search:
        study, scheduler = setting.task.study, DEFAULT.scheduler
        searcher = ray_optuna(study.space, _beginning(setting), seed=setting.seed, startup=startup)
        ladder = Ladder.of(scheduler, study.space)
        return RayOptuna(searcher, scheduler.build(study.space, setting.seed), ladder, limits)

    return other(make)


def _grid(setting: Setting, limits: Limits) -> Search:
    return Listed(shuffled(setting.task.grid_points, seed=setting.seed), limits)


def _changed(**search: Any) -> Arm:
    return ours(DEFAULT.model_copy(update=search))


FEEDBACK: dict[str, Arm] = {
    "TPE + ASHA, told PRUNED (ours)": _told_pruned(sampler=TpeConfig(random_fraction=0.0)),
    "the same, told COMPLETE with the last value": _told_complete(STARTUP),
    "OptunaSearch as it is + ASHA": _told_complete(None),
    "random + ASHA": _told_pruned(sampler=RandomConfig()),
}

GRID = "the grid, shuffled"
OURS = "ours: TPE + ASHA, defaults"
ARMS: dict[str, Arm] = {
    OURS: ours(DEFAULT),
    GRID: other(_grid),
    "random search, full trials": ours(SearchConfig(sampler=RandomConfig(), scheduler=FifoConfig(), first=())),
    "Optuna TPE + MedianPruner": other(
        lambda setting, limits: median_pruned(setting.task.study.space, limits, seed=setting.seed)
    ),
}

PLAIN = "ours, without the default first"
SETTINGS: dict[str, Arm] = {
    PLAIN: _changed(first=()),
    "no scheduler": _changed(first=(), scheduler=FifoConfig()),
    "random instead of TPE": _changed(first=(), sampler=RandomConfig()),
    **{f"random_fraction {rho:g}": _changed(first=(), sampler=TpeConfig(random_fraction=rho)) for rho in (0.0, 0.4)},
    **{f"n_startup_trials {n}": _changed(first=(), sampler=TpeConfig(n_startup_trials=n)) for n in (4, 6, 12, 16)},
    **{
        f"{resource}, /{factor}, {rungs} rungs": _changed(
            first=(), scheduler=AshaConfig(reduction_factor=factor, rungs=rungs, resource=resource)
        )
        for resource in ("progress", "samples")
        for factor, rungs in ((2, 3), (2, 4), (3, 2), (3, 3), (4, 2), (4, 3))
    },
}
