"""Asking, telling and reading back: one study's trials, as their only truth.

What is proposed follows from the study's seed and what the ledger holds. Must not know who runs trials.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpo.ledger.entries import (
    CURVE,
    EXPLOITS,
    attributes_of,
    curve_of,
    exploits_of,
    hashed,
    part_of,
    parts_of,
    record_of,
    suggest,
    was_started,
)
from hpo.ledger.storage import open_storage, translated
from hpo.objectives import Objectives, values_of
from hpo.records import Exploited, Seeds, TrialRecord, TrialState
from hpo.space import FloatRange, Params, SearchSpace

if TYPE_CHECKING:
    import optuna

CHECKPOINTS = "checkpoints"
"""Beside the ledger, which keeps names and no paths: a study's folder may be moved."""

NO_OTHERS: Objectives = {}

_ATTEMPTS = 5
"""How often a sampler may repeat itself in a finite space before it is given a point that is left."""


class BuildsSampler(Protocol):
    @property
    def type(self) -> str: ...

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "optuna.samplers.BaseSampler": ...


class Ledger:
    """One study. Values are in the metric's own direction. Trial numbers are Optuna's, and final."""

    def __init__(
        self,
        folder: Path | None,
        *,
        study: str,
        mode: Literal["min", "max"],
        space: SearchSpace,
        sampler: BuildsSampler,
        seed: int,
        others: Objectives = NO_OTHERS,
    ) -> None:
        """Open `folder`/ledger.db, made if it is not there; None keeps all in memory, for a simulation. Raises
        ServiceError if it can't be opened.

        mode: of the leading metric. others: what is searched for beside it.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._sampler, self._seed = space, sampler, seed
        self._checkpoints = (folder or Path()) / CHECKPOINTS
        self._study = optuna.create_study(
            study_name=study,
            storage=open_storage(folder / "ledger.db" if folder else None),
            directions=["maximize" if one == "max" else "minimize" for one in (mode, *others.values())],
            load_if_exists=True,
        )
        self._others = others
        self._handed_out: set[int] = set()
        self._is_finite = all(not isinstance(own, FloatRange) or own.step is not None for own in space.varying.values())

    def enqueue(self, points: Iterable[tuple[str, Params]]) -> None:
        """Put (origin, params) points before the sampler's own, those left out that the ledger has already."""
        known = [attributes_of(trial)["params"] for trial in self._trials()]
        for origin, params in points:
            if dict(params) not in known:
                known.append(dict(params))
                with translated():
                    self._enqueue(origin, params)

    def _enqueue(self, origin: str, params: Params) -> None:
        varying = {name: value for name, value in params.items() if name in self._space.varying}
        self._study.enqueue_trial(varying, user_attrs={"hpo": {"origin": origin, "params": dict(params)}})

    def ask(self) -> TrialRecord | None:
        """The next trial to run: first those that a crash left running, then queued points, then the sampler's.

        None when a finite space has been tried out.
        """
        with translated():
            return self._ask()

    def _ask(self) -> TrialRecord | None:
        import optuna

        trials = self._trials()
        for left in trials:
            if left.state is optuna.trial.TrialState.RUNNING and left.number not in self._handed_out:
                self._seed_sampler(left.number)
                return self._start(optuna.trial.Trial(self._study, left._trial_id), parts_of(left))
        tried = [attributes_of(known)["params"] for known in trials if was_started(known)] if self._is_finite else []
        for _ in range(_ATTEMPTS):
            waiting = [known.number for known in trials if not was_started(known)]
            self._seed_sampler(waiting[0] if waiting else len(trials))
            trial = self._study.ask()
            record = self._start(trial)
            if record.params not in tried:
                return record
            trial.set_user_attr("hpo", {"origin": record.origin, "params": record.params, "repeats": True})
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            trials = self._trials()
        left_over = [point for point in self._space.grid() if point not in tried]
        if not left_over:
            return None
        point = left_over[hashed(self._seed, len(trials)) % len(left_over)]
        self._enqueue(self._sampler.type, point)
        return self._start(self._study.ask())

    def _seed_sampler(self, number: int) -> None:
        """What the sampler proposes for a trial follows from its number and the ledger."""
        self._study.sampler = self._sampler.build(self._space, self._seed, hashed(self._seed, number))

    def _start(self, trial: "optuna.trial.Trial", curve: Mapping[int, float] | None = None) -> TrialRecord:
        """Fill in what the trial has no value for yet, and hand it out."""
        attributes = trial.user_attrs.get("hpo", {})
        origin = attributes.get("origin", self._sampler.type)
        params = self._space.assign(lambda name, own: suggest(trial, name, own))
        if attributes.get("params") != params:
            trial.set_user_attr("hpo", {"origin": origin, "params": params})
        self._handed_out.add(trial.number)
        return TrialRecord(
            number=trial.number,
            state=TrialState.RUNNING,
            origin=origin,
            params=params,
            curve=curve_of(curve or {}),
            seeds=self.seeds(trial.number),
            exploits=exploits_of(trial.user_attrs),
        )

    def seeds(self, number: int, replicate: int = 0) -> Seeds:
        """Seeds of a trial's training; another replicate of the same trial has others."""
        return Seeds(
            init=hashed(self._seed, number, replicate, "init"), order=hashed(self._seed, number, replicate, "order")
        )

    def report(self, number: int, progress: float, value: float) -> None:
        """Record the searched metric at a part (0, 1] of the trial's training; reporting it again overwrites it.

        Not by optimiser step: samplers rank pruned trials by how far they came, and small batches make many steps.
        """
        with translated():
            trial = self._id(number)
            if self._others:  # Optuna ranks pruned trials by their last value, and cannot with several objectives
                curve = parts_of(self._study._storage.get_trial(trial)) | {part_of(progress): value}
                self._study._storage.set_trial_user_attr(trial, CURVE, curve)
            else:
                self._study._storage.set_trial_intermediate_value(trial, part_of(progress), value)

    def exploited(self, number: int, exploits: Iterable[Exploited]) -> None:
        """Record what a running trial took from others: all of it, each time."""
        with translated():
            values = [one.model_dump(mode="json") for one in exploits]
            self._study._storage.set_trial_user_attr(self._id(number), EXPLOITS, values)

    def tell(
        self,
        number: int,
        state: TrialState,
        *,
        value: float | None = None,
        metrics: Mapping[str, float] | None = None,
        checkpoint: Path | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Finish a trial. COMPLETE takes its value, and those of the other objectives from `metrics`; PRUNED and FAILED
        have none. ValueError where one of them is missing."""
        outcome = {
            "metrics": dict(metrics or {}),
            "checkpoint": checkpoint.name if checkpoint else None,
            "seconds": seconds,
            "reason": reason,
        }
        with translated():
            self._tell(number, state, self._values(state, value, metrics or {}), outcome)

    def _values(self, state: TrialState, value: float | None, metrics: Mapping[str, float]) -> list[float] | None:
        if state is not TrialState.COMPLETE or value is None:
            return None
        others = values_of(metrics, tuple(self._others))
        if others is None:
            raise ValueError(
                f"a complete trial has to report {', '.join(self._others)}; it reported {', '.join(metrics)}"
            )
        return [value, *others]

    def _tell(self, number: int, state: TrialState, values: list[float] | None, outcome: dict[str, Any]) -> None:
        import optuna

        self._study._storage.set_trial_user_attr(self._id(number), "outcome", outcome)
        optuna_state = {
            TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
            TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
            TrialState.FAILED: optuna.trial.TrialState.FAIL,
        }[state]
        self._study.tell(number, values, state=optuna_state)

    def records(self) -> list[TrialRecord]:
        """Every trial that was started, by number."""
        with translated():
            return [
                self._record(trial)
                for trial in self._trials()
                if was_started(trial) and not attributes_of(trial).get("repeats")
            ]

    @property
    def folder(self) -> Path:
        """The study's, where the ledger lies."""
        return self._checkpoints.parent

    @property
    def seconds_used(self) -> float:
        """Wall time that drivers of this study have spent on it, as far as they said."""
        return float(self._study.user_attrs.get("seconds_used", 0.0))

    def spend(self, seconds_used: float) -> None:
        """Remember the wall time of all drivers together."""
        with translated():
            self._study.set_user_attr("seconds_used", seconds_used)

    def _record(self, trial: "optuna.trial.FrozenTrial") -> TrialRecord:
        return record_of(trial, self.seeds(trial.number), self._checkpoints)

    def _trials(self) -> list["optuna.trial.FrozenTrial"]:
        return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        return int(self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
