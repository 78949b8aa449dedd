"""A whole study in simulated time: its sampler, scheduler and budget as the space file has them, no training.

Owns what stands in for the training, and what a played study is measured by. The ledger is a real one, in memory or in
a temporary folder; nobody is told, nothing is confirmed or promoted.
"""

import json
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.config import StudyConfig
from hpo.errors import ConfigError, DataError, Problem
from hpo.ledger import Ledger
from hpo.ledger.past import read_study
from hpo.records import AnyEvent, Objective, Seeds, TrialConfig, TrialRecord, TrialState
from hpo.runners.replay import Curve, ReplayObjective, curves_of, read_curves
from hpo.runners.simulated import Lead, Moment, SimulatedRunner, leads
from hpo.runners.toy import TimedToy
from hpo.schedulers import PbtConfig
from hpo.study.folder import SAVED
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder

_DRAWS = 1000
"""Random configurations whose best stands for the best of a toy."""


@dataclass(frozen=True)
class Stage:
    """What stands in for the training. words: what it is. best: value that the search could find. rows: of validation,
    where they are known."""

    objective: Objective
    words: str
    best: float
    rows: int | None = None


@dataclass(frozen=True)
class Simulation:
    """How one study went. seconds: simulated wall time. busy: the same of all slots together, waiting not counted.

    epochs: of training, all trials together. leads: its best complete trial, over the time.
    """

    records: Sequence[TrialRecord]
    moments: Sequence[Moment]
    leads: Sequence[Lead]
    seconds: float
    busy: float

    @property
    def epochs(self) -> float:
        return self.moments[-1].epochs if self.moments else 0.0

    @property
    def best(self) -> Lead | None:
        return self.leads[-1] if self.leads else None

    def reached(self, value: float, sign: float) -> Lead | None:
        """The first to be as good as `value`. sign: 1.0 where more is better, else -1.0."""
        return next((lead for lead in self.leads if sign * lead.value >= sign * value), None)

    def count(self, state: TrialState) -> int:
        return sum(record.state is state for record in self.records)


def simulate(config: StudyConfig, objective: Objective, *, seed: int, slots: int = 1) -> Simulation:
    """Play the study of `config` under `seed`, with `slots` trials beside each other."""
    with ExitStack() as stack:
        folder = None
        if isinstance(config.search.scheduler, PbtConfig):  # members leave their states for each other in files
            folder = Path(stack.enter_context(TemporaryDirectory()))
        return _simulated(config, SimulatedRunner(objective, slots), seed, folder)


def _simulated(config: StudyConfig, runner: SimulatedRunner, seed: int, folder: Path | None) -> Simulation:
    ladder = Ladder.of(config.search.scheduler, config.space)
    ledger = Ledger(
        folder,
        study=config.study,
        mode=config.mode,
        space=config.space,
        sampler=config.search.sampler,
        seed=seed,
        amount=ladder.amount,
    )
    ledger.enqueue(config.first_points())
    search = StudySearch(
        ledger=ledger,
        scheduler=config.search.scheduler.build(config.space, seed),
        metric=config.metric,
        mode=config.mode,
        ladder=ladder,
        emit=_ignore,
        trials=config.budget.trials,
        seconds=config.budget.hours * 3600 if config.budget.hours is not None else None,
        epochs=config.budget.epochs,
        target=config.budget.target,
        clock=runner.clock,
    )
    runner.run(search)
    records = tuple(search.records)
    moments = tuple(runner.moments)
    history = leads(moments, config.metric, config.mode)
    return Simulation(records, moments, tuple(history), runner.clock.now, runner.busy)


def _ignore(event: AnyEvent) -> None:
    """Nobody watches a simulation."""


def standard_error(value: float, rows: int) -> float:
    """Of an accuracy over so many rows; of other metrics between 0 and 1 the order of magnitude."""
    share = min(max(abs(value), 0.0), 1.0)
    return math.sqrt(max(share * (1.0 - share), 1e-4) / rows)


def distance(stage: Stage, runs: Iterable[Simulation]) -> float | None:
    """How far the answers were fetched: from a trial to the nearest recorded one, at the median. A toy fetches none."""
    objective = stage.objective
    if not isinstance(objective, ReplayObjective):
        return None
    return statistics.median(objective.nearest(record.params)[1] for run in runs for record in run.records)


def toy(config: StudyConfig) -> Stage:
    """ConfigError where the metric is to be minimised."""
    objective, source = TimedToy(metric=config.metric), random.Random(0)
    if config.mode == "min":
        raise ConfigError([Problem("search.metric", f"the toy has no {config.metric}: name recorded ones by --curves")])

    def final(number: int) -> float:
        params = config.space.draw(source)
        reports = objective(TrialConfig(number, params, Seeds(number, number)))
        return max(report.metrics[config.metric] for report in reports)

    best = max(final(number) for number in range(_DRAWS))
    return Stage(objective, f"a toy in place of the training, best of {_DRAWS:,} random draws", best)


def recorded(config: StudyConfig, source: Path) -> Stage:
    """source: a file of curves, or a study's folder. DataError where it has none of this metric."""
    curves, rows = _of_a_study(source, config.metric) if source.is_dir() else (read_curves(source), None)
    known = {name for curve in curves for one in curve.evaluations for name in one.metrics}
    if any(config.metric not in one.metrics for curve in curves for one in curve.evaluations):
        raise DataError(f"{source} has no {config.metric}, only {', '.join(sorted(known))}; --set search.metric=...")
    budget = config.budget
    if "seconds" not in known and budget.trials is None and budget.epochs is None:
        raise DataError(f"{source} has no seconds, so that no hours pass; --set budget.trials=40, or budget.epochs")
    sign = 1.0 if config.mode == "max" else -1.0
    best = sign * max(sign * curve.best(config.metric, sign) for curve in curves)
    return Stage(ReplayObjective(config.space, curves), f"{len(curves)} recorded trials of {source}", best, rows)


def _of_a_study(folder: Path, metric: str) -> tuple[list[Curve], int | None]:
    """The curves in its ledger, and its validation rows where it tells of them. Its driver may be at work."""
    try:
        saved = json.loads((folder / SAVED).read_text("utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a study's folder ({error}); name one, or a file of curves") from None
    study = StudyConfig.from_json(json.dumps(saved | {"tracking": {"uri": "sqlite:///mlflow.db"}}))  # not asked
    if study.metric != metric:
        raise DataError(f"{folder} searched for {study.metric}, not {metric}; --set search.metric={study.metric}")
    curves = curves_of(read_study(folder, study.study, study.mode, study.ledger).trials, metric)
    if not curves:
        raise DataError(f"{folder} has no finished trial with a curve; let it run for longer, or name another one")
    return curves, _validation_rows(folder)


def _validation_rows(folder: Path) -> int | None:
    try:
        first = json.loads((folder / "events.jsonl").read_text("utf-8").splitlines()[0])
        return next(int(one["rows"]) for one in first["datasets"] if one["split"] == "validation")
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None
