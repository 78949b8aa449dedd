"""Asking, telling and reading back: one study's trials, as their only truth.

What is proposed follows from the study's seed and what the ledger holds. Must not know who runs trials.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from hpo.draws import hashed
from hpo.ledger.entries import (
    CURVE,
    ENDED,
    TOLD,
    TOLD_FIELDS,
    attributes_of,
    curve_of,
    is_trial,
    new_points,
    owed_of,
    part_of,
    parts_of,
    record_of,
    suggest,
    told_of,
    unfinished_of,
    was_started,
)
from hpo.ledger.generations import NOTES, SECONDS_USED, TAKEN, Direction, open_study
from hpo.ledger.past import new_evidence
from hpo.ledger.proposals import Proposals
from hpo.ledger.storage import CHECKPOINTS, LEDGER, open_storage, translated
from hpo.objectives import Objectives, values_of
from hpo.records import AGAIN, Seeds, TrialRecord, TrialState
from hpo.space import Params, SearchSpace

if TYPE_CHECKING:
    import optuna

NO_OTHERS: Objectives = {}
NO_DEFAULTS: Params = {}


class BuildsSampler(Protocol):
    @property
    def type(self) -> str: ...

    def build(self, space: SearchSpace, study_seed: int, trial_seed: int) -> "optuna.samplers.BaseSampler": ...


@runtime_checkable
class Adopts(Protocol):
    """A sampler that takes over what the one before it has found out about the trials."""

    def adopt(self, earlier: "optuna.samplers.BaseSampler") -> None: ...


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
        defaults: Params = NO_DEFAULTS,
        url: str | None = None,
        amount: Callable[[Params, float], float] = lambda params, progress: progress,
    ) -> None:
        """Open the database at `url`, else `folder`/ledger.db, made if it is not there; without both all is kept in
        memory, for a simulation. Raises ServiceError if it can't be opened.

        mode: of the leading metric. others: what is searched for beside it. defaults: what a trial trains with where
        its params are silent; where the space was changed, trials that do not fit it any more are dropped. So this is
        for the study's driver alone, once nothing can refuse the space; all others read by `past`. amount: how much
        training a part of it is; samplers learn more of stopped trials that had more.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._sampler, self._seed = space, sampler, seed
        self._folder, self._amount = folder, amount
        directions: list[Direction] = ["maximize" if one == "max" else "minimize" for one in (mode, *others.values())]
        with translated():
            storage = open_storage(url or (folder / LEDGER if folder else None))
            self._study = open_study(storage, study, directions, space, defaults)
        self._others = others
        self._handed_out: set[int] = set()
        self._proposals = Proposals.of(space, seed, sampler)

    def enqueue(self, points: Iterable[tuple[str, Params]]) -> None:
        """Put (origin, params) points before the sampler's own, those left out that the ledger has already.

        A new default configuration is queued even if it was tried under another name: results are compared with it.
        """
        for origin, params in new_points(points, self._trials()):
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
        while True:
            trials = self._trials()
            taken = self._take(trials)
            if taken is None:
                return None
            record = self._start(*taken)
            is_queued = "fixed_params" in self._attributes(record.number)
            mark = self._proposals.refusal(record.number, record.params, trials, is_queued=is_queued)
            if mark is None:
                self._mark_margins(record)
                return record
            self._reject(record, mark, trials)

    def _take(
        self, trials: "list[optuna.trial.FrozenTrial]"
    ) -> "tuple[optuna.trial.Trial, Mapping[int, float]] | None":
        """What a crash left running, else what is queued (that which is owed first), else what the sampler proposes;
        where that was refused too often, a point that is left."""
        import optuna

        unfinished = unfinished_of(self._study)
        for left in unfinished:
            if was_started(left) and left.number not in self._handed_out:
                self._seed_sampler(left.number)
                return optuna.trial.Trial(self._study, left._trial_id), parts_of(left)
        if owed := owed_of(unfinished):
            self._seed_sampler(owed[0].number)
            self._study._storage.set_trial_state_values(owed[0]._trial_id, optuna.trial.TrialState.RUNNING)
            return optuna.trial.Trial(self._study, owed[0]._trial_id), {}
        waiting = [known.number for known in unfinished if not was_started(known)]
        if not waiting and self._proposals.is_stuck(trials):
            point = self._proposals.left_over(trials)
            if point is None:
                return None
            self._enqueue(self._sampler.type, point)
        self._seed_sampler(waiting[0] if waiting else len(trials))
        return self._study.ask(), {}

    def _reject(self, record: TrialRecord, mark: dict[str, Any], trials: "list[optuna.trial.FrozenTrial]") -> None:
        """It takes a number, and nothing else."""
        import optuna

        number, states = record.number, optuna.trial.TrialState
        attributes = {"origin": record.origin, "params": record.params, **mark}
        self._study._storage.set_trial_user_attr(self._id(number), "hpo", attributes)
        teaches = self._proposals.teaches(mark, trials)
        if teaches:
            self._mark_margins(record)
        self._study.tell(number, state=states.PRUNED if teaches else states.FAIL)

    def _mark_margins(self, record: TrialRecord) -> None:
        """What samplers learn the rules from."""
        known = self._attributes(record.number)
        for rule in self._space.constraints:
            if (key := f"constraints:{rule.text}") not in known:  # as Trial.set_constraint writes it
                self._study._storage.set_trial_system_attr(self._id(record.number), key, rule.violation(record.params))

    def _seed_sampler(self, number: int) -> None:
        """What the sampler proposes for a trial follows from its number and the ledger."""
        sampler = self._sampler.build(self._space, self._seed, hashed(self._seed, number))
        if isinstance(sampler, Adopts):
            sampler.adopt(self._study.sampler)
        self._study.sampler = sampler

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
            **told_of(trial.user_attrs),
        )

    def seeds(self, number: int, replicate: int = 0) -> Seeds:
        """Seeds of a trial's training; another replicate of the same trial has others."""
        return Seeds(
            init=hashed(self._seed, number, replicate, "init"), order=hashed(self._seed, number, replicate, "order")
        )

    def report(self, number: int, progress: float, value: float) -> None:
        """Record the searched metric at a part (0, 1] of the trial's training; reporting it again overwrites it.

        Optuna ranks pruned trials by their last step, so that is no optimiser step, of which small batches make many.
        """
        with translated():
            trial = self._study._storage.get_trial(self._id(number))
            part, step = part_of(progress), part_of(self._amount(attributes_of(trial)["params"], progress))
            if self._others or step != part or CURVE in trial.user_attrs:  # Optuna's steps, if it has any, are no curve
                self._study._storage.set_trial_user_attr(trial._trial_id, CURVE, parts_of(trial) | {part: value})
            if not self._others:
                self._study._storage.set_trial_intermediate_value(trial._trial_id, step, value)

    def told(self, record: TrialRecord) -> None:
        """Record what a running trial was told so far, from whom to go on and up to where, and its setbacks."""
        with translated():
            told = record.model_dump(mode="json", include=set(TOLD_FIELDS))
            self._study._storage.set_trial_user_attr(self._id(record.number), TOLD, told)

    def put_back(self, number: int) -> None:
        """Let `ask` hand out a running trial again, before all others."""
        self._handed_out.discard(number)

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

        trial = self._id(number)
        name = "FAIL" if state is TrialState.FAILED else state.name
        if told_of(self._study._storage.get_trial_user_attrs(trial))["exploits"]:
            outcome, name, values = outcome | {ENDED: {"state": name, "values": values}}, "FAIL", None
        self._study._storage.set_trial_user_attr(trial, "outcome", outcome)
        self._study.tell(number, values, state=optuna.trial.TrialState[name])

    def records(self) -> list[TrialRecord]:
        """Every trial that was started, by number."""
        with translated():
            checkpoints = (self._folder or Path()) / CHECKPOINTS
            return [record_of(own, self.seeds(own.number), checkpoints) for own in self._trials() if is_trial(own)]

    @property
    def folder(self) -> Path:
        """The study's, where the ledger lies. ValueError where it is kept in memory."""
        if self._folder is None:
            raise ValueError("a ledger in memory has no folder; open it in one, be it a temporary one")
        return self._folder

    @property
    def taken_over(self) -> frozenset[str]:
        """Sources that `take_over` is through with."""
        return frozenset(self._said(TAKEN, {}))

    def bring_in(self, source: str, records: Iterable[TrialRecord]) -> int:
        """Let finished trials of another study be evidence, those that lie in the space and are not tried or queued
        here; none twice. They are no trials of this study. Returns how many there are of this source now."""
        known = [
            (record, self._values(record.state, record.value, record.metrics))
            for record in records
            if record.state is TrialState.COMPLETE or not self._others
        ]
        new, count = new_evidence(source, known, self._trials(), self._space, self._amount)
        with translated():
            self._study.add_trials(new)
        return count

    def take_over(self, source: str, words: str) -> None:
        """Remember that a source was used, and how."""
        with translated():
            self._study.set_user_attr(TAKEN, {**self._said(TAKEN, {}), source: words})

    def train_again(self, record: TrialRecord) -> None:
        """Queue the assignment that its weights had last once more, under a number of its own."""
        with translated():
            self._enqueue(f"{AGAIN}{record.number}", record.final_params)

    @property
    def is_owing(self) -> bool:
        """Whether a trial is queued that the study trains whatever its budget is."""
        with translated():
            return bool(owed_of(unfinished_of(self._study)))

    @property
    def queued(self) -> list[Params]:
        with translated():
            return [attributes_of(own)["params"] for own in unfinished_of(self._study) if not was_started(own)]

    @property
    def history(self) -> tuple[str, ...]:
        """What changes of the space kept and dropped, and what was taken over from other studies, in words."""
        return (*self._said(NOTES, ()), *self._said(TAKEN, {}).values())

    @property
    def seconds_used(self) -> float:
        """Wall time that drivers of this study have spent on it, as far as they said."""
        return float(self._said(SECONDS_USED, 0.0))

    def spend(self, seconds_used: float) -> None:
        """Remember the wall time of all drivers together."""
        with translated():
            self._study.set_user_attr(SECONDS_USED, seconds_used)

    def _said(self, key: str, otherwise: Any) -> Any:
        with translated():
            return self._study.user_attrs.get(key, otherwise)

    def _attributes(self, number: int) -> Mapping[str, Any]:
        return self._study._storage.get_trial_system_attrs(self._id(number))

    def _trials(self) -> list["optuna.trial.FrozenTrial"]:
        with translated():
            return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        return int(self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
