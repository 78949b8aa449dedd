"""Search set-ups over the recorded curves, arms by turns under the same seeds: what feedback and defaults are worth.

    python -m benchmarks.regret [--seeds 20] [--slots 2] [--dry]

feedback: a stopped trial told PRUNED (ours), or COMPLETE with its last value (Ray Tune's OptunaSearch): regret by
epochs of training spent. speed: epochs until a complete trial is within one standard error of the best of the BERT
paper's grid: ours, the grid itself, random search, Optuna's TPE + MedianPruner; and ours with other settings. Writes
benchmarks/results/regret.json and the tables of docs/search.md.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.recorded import GRID_POINTS, METRIC, MadeUp, Recorded, available, markdown, write_json, write_section
from benchmarks.tuners import Limits, Listed, RayOptuna, median_pruned, ray_optuna, shuffled
from hpo.config import BudgetConfig, SearchConfig
from hpo.runners import Search
from hpo.runners.simulated import Lead, SimulatedRunner, leads
from hpo.samplers import RandomConfig, TpeConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import Params
from hpo.study.simulation import simulate
from hpo.study.steps import Ladder

SPENT = (10.0, 15.0, 20.0, 30.0, 40.0)
"""Epochs of training at which feedbacks are compared."""

MOST_TRIALS = 150
"""A search that has not arrived by then has not arrived; it counts with what it spent."""

RESAMPLES = 2000
DEFAULT = SearchConfig()
STARTUP = TpeConfig().n_startup_trials


Task: TypeAlias = Recorded | MadeUp


@dataclass(frozen=True)
class Regret:
    """By epochs spent, as in SPENT. proposed: mean of what the sampler proposed after the common beginning, by what it
    would have become had nothing been stopped."""

    arm: str
    task: str
    seed: int
    at: tuple[float, ...]
    proposed: float


@dataclass(frozen=True)
class Speed:
    """Epochs and hours until the target was reached, or spent without reaching it. trials: started by then."""

    arm: str
    task: str
    seed: int
    reached: bool
    epochs: float
    hours: float
    trials: int


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
    points = [(curve.number, curve.params) for curve in setting.task.grid]
    return Listed(shuffled(points, seed=setting.seed), limits)


def _changed(**search: Any) -> Arm:
    return ours(DEFAULT.model_copy(update=search))


FEEDBACK: dict[str, Arm] = {
    "TPE + ASHA, told PRUNED (ours)": _told_pruned(),
    "the same, told COMPLETE with the last value": _told_complete(STARTUP),
    "OptunaSearch as it is + ASHA": _told_complete(None),
    "random + ASHA": _told_pruned(sampler=RandomConfig()),
}

OURS = "ours: TPE + ASHA, defaults"
ARMS: dict[str, Arm] = {
    OURS: ours(DEFAULT),
    "the grid, shuffled": other(_grid),
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
    **{f"n_startup_trials {n}": _changed(first=(), sampler=TpeConfig(n_startup_trials=n)) for n in (4, 6, 12, 16)},
    **{
        f"{resource}, /{factor}, {rungs} rungs": _changed(
            first=(), scheduler=AshaConfig(reduction_factor=factor, rungs=rungs, resource=resource)
        )
        for resource in ("progress", "samples")
        for factor, rungs in ((2, 3), (2, 4), (3, 2), (3, 3), (4, 2), (4, 3))
    },
}


def regrets(tasks: Sequence[Task], seeds: int, slots: int) -> list[Regret]:
    found = []
    for seed in range(seeds):
        for name, arm in FEEDBACK.items():
            for task in tasks:
                history = arm(Setting(task, seed, slots, epochs=SPENT[-1]))
                at = tuple(_regret(history.leads, spent, task.best) for spent in SPENT)
                worth = [task.best - task.worth(params) for params in history.proposed[STARTUP + 1 :]]
                found.append(Regret(name, task.name, seed, at, statistics.fmean(worth)))
    return found


def _regret(history: Sequence[Lead], spent: float, best: float) -> float:
    """Half the answers right before any trial has ended."""
    return best - max((lead.value for lead in history if lead.epochs <= spent), default=0.5)


def speeds(tasks: Sequence[Recorded], seeds: int, slots: int, arms: Mapping[str, Arm]) -> list[Speed]:
    found = []
    for seed in range(seeds):
        for name, arm in arms.items():
            for task in tasks:
                if arm is ARMS["the grid, shuffled"] and not task.grid:
                    continue
                goal = target(task)
                run = arm(Setting(task, seed, slots, target=goal))
                first = next((lead for lead in run.leads if lead.value >= goal), None)
                if first is None:
                    found.append(Speed(name, task.name, seed, False, run.epochs, run.hours, run.trials))
                else:
                    hours = first.seconds / 3600
                    found.append(Speed(name, task.name, seed, True, first.epochs, hours, first.started))
    return found


def target(task: Recorded) -> float:
    """One standard error below the best of the grid; below the best of all as long as the grid is not recorded."""
    best = max((curve.best(METRIC) for curve in task.grid), default=task.best)
    return best - task.error


def text(tasks: Sequence[Recorded], fed: Sequence[Regret], fast: Sequence[Speed], settings: Sequence[Speed]) -> str:
    seeds = len({one.seed for one in fed})
    known = "; ".join(
        f"{task.name}: {len(task.curves)} recorded trials, {len(task.grid) or 'none'} of them of the grid, target "
        f"{target(task):.4f}, the default answered from {_default_distance(task):.2f} away"
        + ("" if task.grid else " (without the grid: provisional)")
        for task in tasks
    )
    return "\n\n".join(
        (
            f"Made by `python -m benchmarks.regret`, {seeds} seeds, arms by turns, two trials at a time. {known}.",
            f"**Feedback.** Regret by epochs of training spent: best recorded less best complete trial, mean ± "
            f"standard deviation over {seeds} seeds, which begin all arms with the same default and random trials. "
            "Proposed: the same of all that the sampler proposed after that, by what it would have become in full, and "
            "its difference to ours, paired by seed, with the 95 % interval. The toy is a smooth optimum over the same "
            "space.",
            _feedback_table(fed),
            "**Speed.** Epochs of training until a complete trial is within one standard error of the best of the BERT "
            "paper's grid: geometric mean over seeds, with the factor of one standard deviation; how many arrived; and "
            "ours as a part of it, with the 95 % interval of the ratio paired by seed. A search that did not arrive "
            "counts with what it spent.",
            _speed_table(tasks, fast, list(ARMS), [one for one in fast if one.arm == OURS]),
            "**Settings.** The same for one change at a time, without the default configuration first: whether that "
            "is a good start depends on the task alone.",
            _speed_table(tasks, settings, list(SETTINGS), [one for one in settings if one.arm == PLAIN]),
        )
    )


def _default_distance(task: Recorded) -> float:
    return task.objective.nearest(task.study.space.project(task.study.default_point()))[1]


def _feedback_table(found: Sequence[Regret]) -> str:
    rows = []
    for task in dict.fromkeys(one.task for one in found):
        own = {name: [one for one in found if (one.arm, one.task) == (name, task)] for name in FEEDBACK}
        base = {one.seed: one.proposed for one in own[next(iter(FEEDBACK))]}
        for name, runs in own.items():
            columns = zip(*(one.at for one in runs), strict=True)
            gaps = [one.proposed - base[one.seed] for one in runs]
            low, high = _interval(gaps, statistics.fmean)
            rows.append(
                [
                    f"{task}: {name}",
                    *(_spread(list(column)) for column in columns),
                    _spread([one.proposed for one in runs]),
                    f"{statistics.fmean(gaps):+.4f} [{low:+.4f}, {high:+.4f}]" if any(gaps) else "",
                ]
            )
    return markdown(["", *(f"{spent:g} epochs" for spent in SPENT), "proposed", "difference"], rows)


def _speed_table(tasks: Sequence[Recorded], found: Sequence[Speed], arms: Sequence[str], base: Sequence[Speed]) -> str:
    own = {(one.task, one.seed): one.epochs for one in base}
    names = [task.name for task in tasks]
    rows = []
    for arm in arms:
        row = [arm]
        for name in names:
            runs = [one for one in found if (one.arm, one.task) == (arm, name)]
            row += _speed_cells(runs, [own[name, one.seed] / one.epochs for one in runs])
        runs = [one for one in found if one.arm == arm]
        whole = {one.task for one in runs} == {*names}
        row.append(_ratio([own[one.task, one.seed] / one.epochs for one in runs]) if whole else "-")
        rows.append(row)
    heads = [f"{name}: {what}" for name in names for what in ("epochs", "arrived", "ours / it")]
    return markdown(["", *heads, "all: ours / it"], rows)


def _speed_cells(runs: Sequence[Speed], ratios: Sequence[float]) -> list[str]:
    if not runs:
        return ["-", "-", "-"]
    epochs = [one.epochs for one in runs]
    factor = math.exp(statistics.stdev(map(math.log, epochs))) if len(epochs) > 1 else 1.0
    arrived = f"{sum(one.reached for one in runs)} of {len(runs)}"
    return [f"{statistics.geometric_mean(epochs):.1f} (x {factor:.1f})", arrived, _ratio(ratios)]


def _ratio(ratios: Sequence[float]) -> str:
    if all(one == 1.0 for one in ratios):
        return "1"
    low, high = _interval(ratios, statistics.geometric_mean)
    return f"{statistics.geometric_mean(ratios):.2f} [{low:.2f}, {high:.2f}]"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.4f}"


def _interval(values: Sequence[float], of: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """95 % of the statistic over resampled values."""
    source = random.Random(0)
    found = sorted(of(source.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print the tables, and write no file")
    options = parser.parse_args(arguments)
    tasks = available()
    if not tasks:
        sys.exit("no task has 24 recorded trials; see benchmarks/record.py")
    fed = regrets([*tasks, MadeUp(tasks[0].study)], options.seeds, options.slots)
    fast = speeds(tasks, options.seeds, options.slots, ARMS)
    settings = speeds(tasks, options.seeds, options.slots, SETTINGS)
    tables = text(tasks, fed, fast, settings)
    print(tables)
    if not options.dry:
        values = {"seeds": options.seeds, "slots": options.slots, "epochs": SPENT, "grid": GRID_POINTS}
        figures: dict[str, Sequence[object]] = {"feedback": fed, "speed": fast, "settings": settings}
        write_json("regret", values | {name: [vars(one) for one in own] for name, own in figures.items()})
        write_section("regret", tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
