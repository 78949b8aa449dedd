"""What a rung says about the end: rank correlations, and ASHA replayed over the recorded curves in random orders.

    python -m benchmarks.rungs [--orders 200] [--slots 2] [--dry]

Value at a rung: of the evaluation there. Final: the best of the whole curve, as the ledger counts it. Regret: the best
of all recorded trials less the best of those that ran to their end. Writes benchmarks/results/rungs.json and the
tables of docs/search.md. Must not know how a curve was recorded.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.recorded import METRIC, Recorded, available, markdown, write_json, write_section
from hpo.records import Report, Seeds, TrialConfig, Verdict
from hpo.runners.replay import Curve
from hpo.runners.simulated import Lead, SimulatedRunner, leads
from hpo.schedulers import AshaConfig, FifoConfig, Resource, Scheduler, SchedulerUnion
from hpo.study.steps import Ladder

LEVELS = {"1/16": 1 / 16, "1/9": 1 / 9, "1/8": 1 / 8, "1/4": 1 / 4, "1/3": 1 / 3, "1/2": 1 / 2, "3/4": 3 / 4}
RESOURCES: tuple[Resource, ...] = ("progress", "samples")
LADDERS = ((2.0, 3), (2.0, 4), (3.0, 2), (3.0, 3), (4.0, 2), (4.0, 3))
"""(reduction factor, rungs) that the curves were recorded at."""

RESAMPLES = 1000
SHARE = 1 / 4
"""Training, as a part of that of all trials in full, at which searches are compared."""

Compared = Literal["value", "best so far"]
COMPARED: tuple[Compared, ...] = ("value", "best so far")


@dataclass(frozen=True)
class Correlation:
    """Between what trials show at a level and what they become. n: trials that reach it and go on beyond.

    low, high: 95 % of resampled sets of trials.
    """

    task: str
    resource: Resource
    level: str
    compared: Compared
    n: int
    spearman: float
    spearman_low: float
    spearman_high: float
    kendall: float
    kendall_low: float
    kendall_high: float


def correlations(task: Recorded) -> Iterator[Correlation]:
    for resource in RESOURCES:
        for name, level in LEVELS.items():
            for compared in COMPARED:
                pairs = [
                    (there, curve.best(METRIC))
                    for curve in task.draws
                    if (there := _at(curve, task, resource, level, compared)) is not None
                ]
                if len(pairs) < 8:
                    continue
                seen, final = np.array(pairs).T
                yield Correlation(task.name, resource, name, compared, len(pairs), *_ranked(seen, final))


def _at(curve: Curve, task: Recorded, resource: Resource, level: float, compared: Compared) -> float | None:
    """What the trial shows at a level; None where it is over by then."""
    ladder = Ladder.of(AshaConfig(resource=resource), task.study.space)
    progress = level / ladder.level(curve.params, 1.0)
    if progress > 1.0 - 1e-9:
        return None
    step = np.ceil(progress * curve.steps - 1e-9) / curve.steps
    values = [one.metrics[METRIC] for one in curve.evaluations if one.progress <= step + 2e-6]
    return (values[-1] if compared == "value" else max(values)) if values else None


def _ranked(seen: NDArray[np.float64], final: NDArray[np.float64]) -> tuple[float, ...]:
    """Spearman with its interval, Kendall with its own; resampled sets without any order are passed over."""
    draw = np.random.default_rng(0)
    chosen = draw.integers(0, len(seen), (RESAMPLES, len(seen)))
    figures: list[float] = []
    for own in (_spearman, _kendall):
        found = [own(seen[index], final[index]) for index in chosen]
        figures += [own(seen, final), *np.nanquantile(found, (0.025, 0.975))]
    return tuple(float(figure) for figure in figures)


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return _correlated(stats.rankdata(one), stats.rankdata(other))


def _kendall(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Tau-b: the correlation of the signs of all differences."""
    signs = [np.sign(np.subtract.outer(values, values)).ravel() for values in (one, other)]
    return _correlated(*signs)


def _correlated(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / scale) if scale else float("nan")


@dataclass
class Shuffled:
    """Recorded trials in a given order under a scheduler. Implements `runners.Search`."""

    waiting: list[Curve]
    scheduler: Scheduler
    ladder: Ladder
    compared: Compared
    stopping: bool = False
    best: dict[int, float] = field(default_factory=dict)
    params: dict[int, Any] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return not self.waiting

    def ask(self) -> TrialConfig | None:
        curve = self.waiting.pop()
        self.params[curve.number] = curve.params
        self.scheduler.start(curve.number, curve.params)
        return TrialConfig(curve.number, curve.params, Seeds(0, 0), self.ladder.rungs(curve.params))

    def report(self, number: int, report: Report) -> Verdict:
        value = report.metrics[METRIC]
        self.best[number] = max(value, self.best.get(number, value))
        level = self.ladder.level(self.params[number], report.progress)
        verdict = self.scheduler.report(number, level, value if self.compared == "value" else self.best[number])
        return Verdict.STOP if verdict is Verdict.STOP else Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        raise AssertionError(f"a recorded trial fails: {reason}")


@dataclass(frozen=True)
class Replayed:
    """A scheduler over the recorded trials of a task, in many orders. regret: means, in accuracy; spread: standard
    deviation. found: part of the orders whose best is within one standard error of the best of all. spent: training
    as a part of that of all trials in full. regret_early: after the training of SHARE of all trials in full.
    """

    task: str
    resource: Resource
    reduction_factor: float
    rungs: int
    compared: Compared
    regret: float
    spread: float
    found: float
    spent: float
    regret_early: float
    spread_early: float


def replayed(task: Recorded, scheduler: SchedulerUnion, compared: Compared, orders: int, slots: int) -> Replayed:
    curves, whole = list(task.draws), sum(curve.epochs for curve in task.draws)
    best = max(curve.best(METRIC) for curve in curves)
    final = {curve.number: curve.best(METRIC) for curve in curves}
    regrets, early, spent = [], [], []
    for order in range(orders):
        random.Random(order).shuffle(curves)
        search = Shuffled(
            list(curves),
            scheduler.build(task.study.space, order),
            Ladder.of(scheduler, task.study.space),
            compared,
        )
        runner = SimulatedRunner(task.objective, slots)
        runner.run(search)
        history = leads(runner.moments, METRIC, "max")
        spent.append(runner.moments[-1].epochs / whole)
        regrets.append(best - _final(history, final))
        early.append(best - _final([lead for lead in history if lead.epochs <= SHARE * whole], final))
    asha = scheduler if isinstance(scheduler, AshaConfig) else None
    return Replayed(
        task=task.name,
        resource=scheduler.resource,
        reduction_factor=asha.reduction_factor if asha else 1.0,
        rungs=asha.rungs if asha else 1,
        compared=compared,
        regret=statistics.fmean(regrets),
        spread=statistics.stdev(regrets),
        found=statistics.fmean(float(regret <= task.error) for regret in regrets),
        spent=statistics.fmean(spent),
        regret_early=statistics.fmean(early),
        spread_early=statistics.stdev(early),
    )


def _final(history: Sequence[Lead], final: dict[int, float]) -> float:
    """What the winner is worth by its whole recorded curve; half the answers right without one."""
    return final[history[-1].number] if history else 0.5


def schedulers() -> Iterator[tuple[SchedulerUnion, Compared]]:
    yield FifoConfig(), "value"
    for resource in RESOURCES:
        for factor, rungs in LADDERS:
            for compared in COMPARED:
                yield AshaConfig(reduction_factor=factor, rungs=rungs, resource=resource), compared


Score: TypeAlias = tuple[float, float]
"""Regret after equal training over all tasks, each in its own standard errors; and the standard error of that mean."""


def scores(results: Sequence[Replayed], tasks: Sequence[Recorded], orders: int) -> dict[str, Score]:
    """By title, the best first."""
    error = {task.name: task.error for task in tasks}
    found = {}
    for title in dict.fromkeys(_title(one) for one in results):
        own = [one for one in results if _title(one) == title]
        mean = statistics.fmean(one.regret_early / error[one.task] for one in own)
        noise = sum((one.spread_early / error[one.task]) ** 2 / orders for one in own) ** 0.5 / len(own)
        found[title] = (mean, noise)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def verdict(ranked: Mapping[str, Score]) -> str:
    """The best, and all that can't be told apart from it."""
    (best, (least, noise)), *others = ranked.items()
    equal = [title for title, (mean, own) in others if mean - least < 2.0 * (noise**2 + own**2) ** 0.5]
    return (
        f"Least regret after equal training, in standard errors of the tasks: {best} ({least:.2f}). "
        + ("Not to be told apart from it, by twice the standard error of the difference: " if equal else "")
        + "; ".join(f"{title} ({ranked[title][0]:.2f})" for title in equal)
    ).strip()


def _title(one: Replayed) -> str:
    if one.rungs == 1:
        return "none: all in full"
    return f"{one.resource}, /{one.reduction_factor:g}, {one.rungs} rungs, {one.compared}"


def text(tasks: Sequence[Recorded], found: Sequence[Correlation], results: Sequence[Replayed], orders: int) -> str:
    names = [task.name for task in tasks]
    correlated = []
    for resource in RESOURCES:
        for level in LEVELS:
            for compared in COMPARED:
                own = {
                    one.task: one
                    for one in found
                    if (one.resource, one.level, one.compared) == (resource, level, compared)
                }
                if own:
                    cells = [_interval(own.get(name)) for name in names]
                    correlated.append([f"{resource} {level}, {compared}", *(cell for pair in cells for cell in pair)])
    heads = ["ASHA", *(f"{name}: {what}" for name in names for what in ("regret", "found", "spent", f"at {SHARE:.0%}"))]
    replays = []
    for title in dict.fromkeys(_title(one) for one in results):
        row = [title]
        for name in names:
            one = next(one for one in results if one.task == name and _title(one) == title)
            row += [
                f"{one.regret:.4f} ± {one.spread:.4f}",
                f"{one.found:.0%}",
                f"{one.spent:.0%}",
                f"{one.regret_early:.4f} ± {one.spread_early:.4f}",
            ]
        replays.append(row)
    sets = ", ".join(
        f"{task.name} ({len(task.draws)} random trials, standard error {task.error:.4f})" for task in tasks
    )
    return "\n\n".join(
        (
            f"Made by `python -m benchmarks.rungs` from the full trials of {sets}.",
            "Rank correlation between what a trial shows at a level and its final value, with 95 % intervals over "
            f"{RESAMPLES:,} resampled sets of trials; n: trials that are not over at that level.",
            markdown(
                ["level", *(f"{name}: {what}" for name in names for what in ("n", "Spearman", "Kendall"))], correlated
            ),
            f"ASHA over the same trials in {orders} random orders, two at a time. Regret: the best recorded less the "
            "best that ran to its end, mean ± standard deviation over orders; found: orders within one standard error "
            f"of the best; spent: training, all trials in full being 100 %; at {SHARE:.0%}: regret once that much "
            "training is spent.",
            markdown(heads, replays),
            verdict(scores(results, tasks, orders)),
        )
    )


def _interval(one: Correlation | None) -> tuple[str, str, str]:
    if one is None:
        return "-", "-", "-"
    return (
        str(one.n),
        f"{one.spearman:.2f} [{one.spearman_low:.2f}, {one.spearman_high:.2f}]",
        f"{one.kendall:.2f} [{one.kendall_low:.2f}, {one.kendall_high:.2f}]",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rungs", description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print the tables, and write no file")
    options = parser.parse_args(arguments)
    tasks = available()
    if not tasks:
        sys.exit("no task has 24 recorded trials; see benchmarks/record.py")
    found = [one for task in tasks for one in correlations(task)]
    results = [
        replayed(task, scheduler, compared, options.orders, options.slots)
        for scheduler, compared in schedulers()
        for task in tasks
    ]
    tables = text(tasks, found, results, options.orders)
    print(tables)
    if not options.dry:
        settings = {"orders": options.orders, "slots": options.slots}
        write_json("rungs", settings, {"correlations": found, "replays": results})
        write_section("rungs", tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
