"""Other people's tuners over the recorded curves: stock Optuna objects, asked and told as their users do.

Each implements `runners.Search`, so that all arms of a benchmark run under the same simulated runner.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from benchmarks.recorded import METRIC
from hpo.ledger.entries import suggest
from hpo.records import Report, Seeds, TrialConfig, Verdict
from hpo.schedulers import Scheduler
from hpo.space import Params, SearchSpace
from hpo.study.steps import Ladder

if TYPE_CHECKING:
    import optuna
    from ray.tune.search.optuna import OptunaSearch


@dataclass
class Limits:
    """When a search is over. epochs: of training spent. target: a value of a complete trial that is good enough."""

    trials: int = 1_000
    epochs: float = float("inf")
    target: float = float("inf")
    started: int = 0
    spent: float = 0.0
    _by_trial: dict[int, float] = field(default_factory=dict)
    _best: dict[int, float] = field(default_factory=dict)

    def note(self, number: int, report: Report) -> None:
        epoch, value = report.metrics["epoch"], report.metrics[METRIC]
        self.spent += epoch - self._by_trial.get(number, 0.0)
        self._by_trial[number] = epoch
        self._best[number] = max(value, self._best.get(number, value))
        if report.done and self._best[number] >= self.target:
            self.target = float("-inf")

    @property
    def reached(self) -> bool:
        return self.started >= self.trials or self.spent >= self.epochs or self.target == float("-inf")


@dataclass
class Listed:
    """Given configurations one after the other, each to its end: grid search."""

    points: list[tuple[int, Params]]
    limits: Limits
    stopping: bool = False

    @property
    def exhausted(self) -> bool:
        return not self.points or self.limits.reached

    def ask(self) -> TrialConfig | None:
        self.limits.started += 1
        number, params = self.points.pop()
        return TrialConfig(number, params, Seeds(0, 0))

    def report(self, number: int, report: Report) -> Verdict:
        self.limits.note(number, report)
        return Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        raise AssertionError(reason)


@dataclass
class RayOptuna:
    """Ray Tune's OptunaSearch under ASHA: a stopped trial is told COMPLETE, with its last value, as OptunaSearch does.

    The trial number 0 is the default configuration and is never stopped, as in ours.
    """

    searcher: "OptunaSearch"
    scheduler: Scheduler
    ladder: Ladder
    limits: Limits
    stopping: bool = False
    params: dict[int, Params] = field(default_factory=dict)
    reports: dict[int, int] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return self.limits.reached

    def ask(self) -> TrialConfig | None:
        number = self.limits.started
        self.limits.started += 1
        params = self.searcher.suggest(str(number))
        assert params is not None
        self.params[number] = params
        self.scheduler.start(number, params)
        return TrialConfig(number, params, Seeds(number, number), self.ladder.rungs(params))

    def report(self, number: int, report: Report) -> Verdict:
        self.limits.note(number, report)
        value = report.metrics[METRIC]
        self.reports[number] = self.reports.get(number, 0) + 1
        result = {METRIC: value, "training_iteration": self.reports[number]}
        verdict = self.scheduler.report(number, self.ladder.level(self.params[number], report.progress), value)
        stopped = verdict is Verdict.STOP and number > 0
        if report.done or stopped:
            self.searcher.on_trial_complete(str(number), result)
            return Verdict.STOP
        self.searcher.on_trial_result(str(number), result)
        return Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        raise AssertionError(reason)


@dataclass
class Pruned:
    """A plain Optuna study with a pruner, reporting at the end of every epoch and returning the last value."""

    study: "optuna.Study"
    space: SearchSpace
    limits: Limits
    stopping: bool = False
    trials: dict[int, Any] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return self.limits.reached

    def ask(self) -> TrialConfig | None:
        self.limits.started += 1
        trial = self.study.ask()
        self.trials[trial.number] = trial
        params = self.space.assign(lambda name, own: suggest(trial, name, own))
        return TrialConfig(trial.number, params, Seeds(trial.number, trial.number))

    def report(self, number: int, report: Report) -> Verdict:
        import optuna

        self.limits.note(number, report)
        trial, value = self.trials[number], report.metrics[METRIC]
        trial.report(value, round(report.metrics["epoch"]))
        if report.done:
            self.study.tell(trial, value)
        elif trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Verdict.STOP
        return Verdict.CONTINUE

    def failed(self, number: int, reason: str) -> None:
        raise AssertionError(reason)


def ray_optuna(
    space: SearchSpace, first: list[dict[str, Any]], *, seed: int, startup: int | None = None
) -> "OptunaSearch":
    """Stock, beginning with the points of `first`; with `startup`, its sampler has the settings of ours, so that
    nothing but the feedback differs."""
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch

    def define(trial: Any) -> dict[str, Any]:
        return space.assign(lambda name, own: suggest(trial, name, own))

    points = [{name: value for name, value in point.items() if name in space.varying} for point in first]
    with _quiet():
        if startup is None:
            return OptunaSearch(define, metric=METRIC, mode="max", points_to_evaluate=points, seed=seed)
        sampler = TPESampler(n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)
        return OptunaSearch(define, metric=METRIC, mode="max", points_to_evaluate=points, sampler=sampler)


def median_pruned(space: SearchSpace, limits: Limits, *, seed: int) -> Pruned:
    import optuna

    with _quiet():
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner(), direction="maximize"
        )
    return Pruned(study, space, limits)


def shuffled(points: list[tuple[int, Params]], *, seed: int) -> list[tuple[int, Params]]:
    order = list(points)
    random.Random(seed).shuffle(order)
    return order


@contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with catch_warnings():
        simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
