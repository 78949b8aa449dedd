"""Tune's actor, searcher, scheduler and stopper over one search.

Imported by `runners.ray` alone, after it has set what Ray reads at import. None of the classes has a state that Tune
could save: it pickles them, and what they hold is the search of this very process.

Every result passes the stopper first, the last one of a trial too (schedulers and searchers are not shown that one,
or only in `on_trial_complete`): so the stopper is where reports go.
"""

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from hpo.failures import death_of, failure_of, is_device_lost
from hpo.records import Failure, FailureKind, Objective, TrialConfig, Verdict
from hpo.runners import Search
from hpo.runners.watch import Watch

LOOK_EVERY = 1.0
"""Seconds between two looks at who is silent."""


class Faults:
    """What the search raised while Tune called it. Tune would turn it into text; it is raised again after the fit."""

    def __init__(self) -> None:
        self.seen: list[Exception] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, it comes out whole, from `RayRunner.run`
            self.seen.append(error)


class TrialActor(tune.Trainable):
    """One process, many trials. A trial's reports are pulled one by one, on the main thread."""

    def setup(self, config: dict[str, Any], objective: Objective | None = None) -> None:
        assert objective is not None
        self._objective = objective
        self._reports: Any = self._objective(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports.close()
        self._reports = self._objective(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        try:
            report = next(self._reports)
        except Exception as error:  # an actor must outlive what a trial raises: what it was is the answer
            if is_device_lost(error):
                raise  # a new process gets the trial
            return {"failed": failure_of(error), "done": True}
        return {"report": report, "done": report.done}

    def cleanup(self) -> None:
        self._reports.close()


@dataclass
class Flights:
    """The trials that Tune was given, by its own ids. deaths: what their processes died of."""

    configs: dict[str, TrialConfig] = field(default_factory=dict)
    deaths: dict[str, Failure] = field(default_factory=dict)

    def number(self, trial_id: str) -> int:
        return self.configs[trial_id].number


class LedgerSearcher(Searcher):
    """Asks the search for trials."""

    def __init__(self, search: Search, flights: Flights, faults: Faults) -> None:
        super().__init__()
        self._search, self._flights, self._faults = search, flights, faults
        self._in_flight: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        config = None
        with self._faults.kept():
            config = None if self._is_over else self._search.ask()
        if config is not None:
            self._flights.configs[trial_id] = config
            self._in_flight.add(trial_id)
            return {"trial": config}
        return Searcher.FINISHED if self._is_over else None  # type: ignore[return-value]  # Tune's word for the end

    @property
    def _is_over(self) -> bool:
        """Not while a trial runs: it may fail, and be asked for again."""
        if self._faults.seen or self._search.stopping:
            return True
        return not self._in_flight and self._search.exhausted

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._in_flight.discard(trial_id)
        if error:
            unknown = Failure(kind=FailureKind.LOST, reason="nobody knows why")
            with self._faults.kept():
                self._search.failed(self._flights.number(trial_id), self._flights.deaths.get(trial_id, unknown))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class EachOnce(FIFOScheduler):
    """Names every new trial once. The stock one names a pending trial again and again, and Tune then drops the actor
    that is being started for it: with short trials an actor a trial.

    It is also the one whom Tune shows what a process died of, and who is asked in every round of its loop, trial or no
    trial: so it notes the one, and looks after silent trials and new nodes with the other. limit: how many trials run
    at a time, and so how many actors are kept. fitting: for how many there is room now, where that may grow.
    """

    def __init__(
        self, flights: Flights, watch: Watch, limit: ConcurrencyLimiter, fitting: Callable[[], int] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flights, self._watch, self._limit, self._fitting = flights, watch, limit, fitting
        self._looked = 0.0
        self._is_mended = False
        self._kept_actors = 0
        self._new: collections.deque[Trial] = collections.deque()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._new.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        if trial.trial_id not in self._flights.deaths:
            with suppress(OSError):  # Tune has written it down a moment ago, if its disk is not full
                self._flights.deaths[trial.trial_id] = _death_of(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Tune keeps every trial to its end, with averages of all numbers in its results: half of what it takes."""
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        if not self._is_mended:
            self._is_mended = True
            write_no_states(tune_controller._tune_controller)
            take_all_deaths(tune_controller._tune_controller._actor_manager)
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            self._end_silent(tune_controller._tune_controller)
            self._grow(tune_controller._tune_controller)
        while self._new:
            trial = self._new.popleft()
            if more := self._limit.max_concurrent - self._kept_actors:
                self._kept_actors += more
                keep_actors(tune_controller._tune_controller, trial, more)
            if trial.status in (Trial.PENDING, Trial.PAUSED):
                return trial
        return None

    def _grow(self, controller: Any) -> None:
        """Where nodes have joined, let more trials run at a time. Where some were lost, trials wait for others."""
        if self._fitting and (slots := self._fitting()) > self._limit.max_concurrent:
            self._limit.max_concurrent = slots
            controller.update_max_pending_trials()

    def _end_silent(self, controller: Any) -> None:
        """Kill the processes of trials from which nothing comes; Tune then tells that they died."""
        trials = controller.get_live_trials()
        running = {self._flights.number(own.trial_id): own for own in trials if own.status == Trial.RUNNING}
        configs = {number: self._flights.configs[own.trial_id] for number, own in running.items()}
        for number in self._watch.silent(configs):
            trial = running[number]
            if actor := _actor_of(controller, trial):
                allowed = self._watch.allowed
                said = f"{allowed:.3g} s" if allowed < 120 else f"{allowed / 60:.3g} minutes"
                silent = Failure(kind=FailureKind.SILENT, reason=f"nothing came from it for {said}")
                self._flights.deaths[trial.trial_id] = silent
                self._watch.forget(number)
                ray.kill(actor)


def keep_actors(controller: Any, trial: Trial, more: int) -> None:
    """Let so many more actors like that of `trial` wait for their next one until the search is finished. By itself
    Tune keeps one beyond those that it has a trial for: when the last trials of a search had ended one by one, the
    confirmation began with new processes, whose imports take some 10 s each."""
    controller._actor_cache.increase_max(trial.placement_group_factory, by=more)


def write_no_states(controller: Any) -> None:
    """Let Tune not write down how all its trials are, so that it could go on from there: nobody asks it to, and it
    costs 2 ms for each trial once an hour and at the end of a search, and memory."""
    controller._mark_trial_to_checkpoint = lambda trial: None


def take_all_deaths(manager: Any) -> None:
    """Let whatever ends an actor's process be a death. Of Ray's errors Tune's manager of actors knows two; at any
    other, such as that of Ray's own killer on a machine that runs low on memory, it breaks off the whole search."""
    failed = manager._actor_task_failed

    def heard(tracked_actor_task: Any, exception: Exception) -> None:
        is_strange = isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError)
        failed(tracked_actor_task, RayActorError(error_msg=str(exception)) if is_strange else exception)

    manager._actor_task_failed = heard


def _death_of(trial: Trial) -> Failure:
    """By the last error of a trial: as an object where it is one of an actor, else in words."""
    if trial.pickled_error_file is None:
        return death_of(Path(trial.error_file).read_text("utf-8", "replace"))
    error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return death_of(str(error), preempted=bool(getattr(error, "preempted", False)))


def _actor_of(controller: Any, trial: Trial) -> Any | None:
    """The actor that runs a trial; Tune has no public way to it."""
    tracked = controller._trial_to_actor.get(trial)
    found = controller._actor_manager._live_actors_to_ray_actors_resources.get(tracked)
    return found[0] if found else None


class Reports(tune.Stopper):
    """Hands every result to the search, and stops what the search stops."""

    def __init__(self, search: Search, flights: Flights, faults: Faults, watch: Watch) -> None:
        self._search, self._flights, self._faults, self._watch = search, flights, faults, watch

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        with self._faults.kept():
            number = self._flights.number(trial_id)
            self._watch.heard(number)
            if failure := result.get("failed"):
                self._search.failed(number, failure)
                return True
            return self._search.report(number, result["report"]) is Verdict.STOP
        return True

    def stop_all(self) -> bool:
        return bool(self._faults.seen) or self._search.stopping
