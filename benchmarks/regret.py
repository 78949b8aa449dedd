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

from benchmarks.recorded import MadeUp, Recorded, available, markdown, write_json, write_section
from benchmarks.setups import (
    ARMS,
    FEEDBACK,
    GRID,
    MOST_TRIALS,
    OURS,
    PLAIN,
    SETTINGS,
    STARTUP,
    Arm,
    History,
    Setting,
    Task,
)
from hpo.runners.simulated import Lead

SPENT = (10.0, 15.0, 20.0, 30.0, 40.0)
"""Epochs of training at which feedbacks are compared."""

RESAMPLES = 2000


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


def regrets(tasks: Sequence[Recorded | MadeUp], seeds: int, slots: int) -> list[Regret]:
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


def speeds(tasks: Sequence[Task], seeds: int, slots: int, arms: Mapping[str, Arm]) -> list[Speed]:
    found = []
    for seed in range(seeds):
        for name, arm in arms.items():
            for task in tasks:
                if arm is ARMS[GRID] and not task.grid_points:
                    continue
                setting = Setting(task, seed, slots, target=task.target)
                found.append(speed(name, setting, arm(setting)))
    return found


def speed(name: str, setting: Setting, run: History) -> Speed:
    """When the arm `name` was first as good as the setting's target."""
    task, seed = setting.task.name, setting.seed
    first = next((lead for lead in run.leads if lead.value >= setting.target), None)
    if first is None:
        return Speed(name, task, seed, False, run.epochs, run.hours, run.trials)
    return Speed(name, task, seed, True, first.epochs, first.seconds / 3600, first.started)


def text(tasks: Sequence[Recorded], fed: Sequence[Regret], fast: Sequence[Speed], settings: Sequence[Speed]) -> str:
    seeds = len({one.seed for one in fed})
    names = [task.name for task in tasks]
    known = "; ".join(
        f"{task.name}: {len(task.curves)} recorded trials, {len(task.grid) or 'none'} of them of the grid, target "
        f"{task.target:.4f}, the default answered from {_default_distance(task):.2f} away"
        + ("" if task.grid else " (without the grid: provisional)")
        for task in tasks
    )
    return "\n\n".join(
        (
            f"Made by `python -m benchmarks.regret`, {seeds} seeds, arms by turns, two trials at a time. {known}.",
            f"**Feedback.** Regret by epochs of training spent: best recorded less best complete trial, mean ± "
            f"standard deviation over {seeds} seeds, which begin all arms with the same default and random trials. "
            "Proposed: the same of all that the sampler proposed after that, by what it would have become in full, and "
            "its difference to ours, paired by seed, with the 95 % interval. No arm has `random_fraction`: they differ "
            "in feedback alone. The toy is a smooth optimum over the same space.",
            _feedback_table(fed),
            "**Speed.** Epochs of training until a complete trial is within one standard error of the best of the BERT "
            "paper's grid: geometric mean over seeds, with the factor of one standard deviation; how many arrived; and "
            "ours as a part of it, with the 95 % interval of the ratio paired by seed. A search that did not arrive "
            "counts with what it spent. Last column: over the recorded tasks. The toy's target is one standard error "
            "over 1,000 rows below its best.",
            speed_table(names, fast, list(ARMS), OURS),
            "**Settings.** The same for one change at a time, without the default configuration first: whether that "
            "is a good start depends on the task alone.",
            speed_table(names, settings, list(SETTINGS), PLAIN),
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


def speed_table(recorded: Sequence[str], found: Sequence[Speed], arms: Sequence[str], base: str) -> str:
    """base: the arm that the others are compared with, under the seeds that both have. recorded: the tasks whose
    ratios the last column joins."""
    own = {(one.task, one.seed): one.epochs for one in found if one.arm == base}
    names = list(dict.fromkeys(one.task for one in found))
    rows = []
    for arm in arms:
        runs = [one for one in found if one.arm == arm]
        row = [arm]
        for name in names:
            row += _speed_cells([one for one in runs if one.task == name], own)
        joined = [one for one in runs if one.task in recorded]
        whole = {one.task for one in joined} == {*recorded}
        rows.append([*row, _ratio(joined, own) if whole else "-"])
    heads = [f"{name}: {what}" for name in names for what in ("epochs", "arrived", "ours / it")]
    return markdown(["", *heads, "recorded: ours / it"], rows)


def _speed_cells(runs: Sequence[Speed], own: Mapping[tuple[str, int], float]) -> list[str]:
    if not runs:
        return ["-", "-", "-"]
    epochs = [one.epochs for one in runs]
    factor = math.exp(statistics.stdev(map(math.log, epochs))) if len(epochs) > 1 else 1.0
    arrived = f"{sum(one.reached for one in runs)} of {len(runs)}"
    return [f"{statistics.geometric_mean(epochs):.1f} (x {factor:.1f})", arrived, _ratio(runs, own)]


def _ratio(runs: Sequence[Speed], own: Mapping[tuple[str, int], float]) -> str:
    ratios = [own[one.task, one.seed] / one.epochs for one in runs if (one.task, one.seed) in own]
    if not ratios or all(one == 1.0 for one in ratios):
        return "1" if ratios else "-"
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
    played: list[Recorded | MadeUp] = [*tasks, MadeUp(tasks[0].study)]
    fed = regrets(played, options.seeds, options.slots)
    fast = speeds(played, options.seeds, options.slots, ARMS)
    settings = speeds(played, options.seeds, options.slots, SETTINGS)
    tables = text(tasks, fed, fast, settings)
    print(tables)
    if not options.dry:
        values = {"seeds": options.seeds, "slots": options.slots, "epochs": SPENT, "most_trials": MOST_TRIALS}
        write_json("regret", values, {"feedback": fed, "speed": fast, "settings": settings})
        write_section("regret", tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
