"""Tune's actor, searcher, scheduler and stopper over one search.

Imported by `runners.ray` alone, after it has set what Ray reads at import. None of the classes has a state that Tune
could save: it pickles them, and what they hold is the search of this very process.

Every result passes the stopper first, the last one of a trial too (schedulers and searchers are not shown that one,
or only in `on_trial_complete`): so the stopper is where reports go.
"""

import collections
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hpo.errors import TrialError
from hpo.records import Objective, Verdict
from hpo.runners import Search


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
        except TrialError as error:
            return {"failed": f"{type(error).__name__}: {error}", "done": True}
        except Exception as error:  # an actor must outlive what a trial raises: the traceback is the answer
            if type(error).__name__ == "AcceleratorError":
                raise  # the device is lost to this process; a new one gets the trial
            return {"failed": traceback.format_exc(limit=-8), "done": True}
        return {"report": report, "done": report.done}

    def cleanup(self) -> None:
        self._reports.close()


class LedgerSearcher(Searcher):
    """Asks the search for trials. numbers: Tune's trial ids to ours, filled in here."""

    def __init__(self, search: Search, numbers: MutableMapping[str, int], retries: int, faults: Faults) -> None:
        super().__init__()
        self._search, self._numbers, self._retries, self._faults = search, numbers, retries, faults

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        config = None
        with self._faults.kept():
            config = None if self._is_over else self._search.ask()
        if config is not None:
            self._numbers[trial_id] = config.number
            return {"trial": config}
        return Searcher.FINISHED if self._is_over else None  # type: ignore[return-value]  # Tune's word for the end

    @property
    def _is_over(self) -> bool:
        return bool(self._faults.seen) or self._search.exhausted or self._search.stopping

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            with self._faults.kept():
                self._search.failed(self._numbers[trial_id], f"its process died {self._retries + 1} times")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class EachOnce(FIFOScheduler):
    """Names every new trial once. The stock one names a pending trial again and again, and Tune then drops the actor
    that is being started for it: with short trials an actor a trial."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._new: collections.deque[Trial] = collections.deque()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._new.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        while self._new:
            trial = self._new.popleft()
            if trial.status in (Trial.PENDING, Trial.PAUSED):
                return trial
        return None


class Reports(tune.Stopper):
    """Hands every result to the search, and stops what the search stops."""

    def __init__(self, search: Search, numbers: MutableMapping[str, int], faults: Faults) -> None:
        self._search, self._numbers, self._faults = search, numbers, faults

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        with self._faults.kept():
            if reason := result.get("failed"):
                self._search.failed(self._numbers[trial_id], reason)
                return True
            return self._search.report(self._numbers[trial_id], result["report"]) is Verdict.STOP
        return True

    def stop_all(self) -> bool:
        return bool(self._faults.seen) or self._search.stopping
