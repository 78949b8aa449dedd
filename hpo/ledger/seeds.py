"""The runs over fresh seeds: a second Optuna study in the same database, so that the samplers never see them.

Must not know who runs them, or which of them are wanted.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpo.draws import hashed
from hpo.ledger.entries import TOLD, TOLD_FIELDS, has_outcome, part_of, run_of
from hpo.ledger.generations import RUNS
from hpo.ledger.storage import CHECKPOINTS, LEDGER, open_storage, translated
from hpo.records import Seeds, TrialRecord, TrialState

if TYPE_CHECKING:
    import optuna


class SeedLedger:
    """Values are in the metric's own direction. A run's handle is its number in the second study; its record has the
    number of the trial that is retrained, and the replicate."""

    def __init__(
        self, folder: Path, *, study: str, mode: Literal["min", "max"], seed: int, url: str | None = None
    ) -> None:
        """Open the database at `url`, else `folder`/ledger.db. Raises ServiceError if it can't be opened."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._seed = seed
        self._checkpoints = folder / CHECKPOINTS
        with translated():
            self._study = optuna.create_study(
                study_name=study + RUNS,
                storage=open_storage(url or folder / LEDGER),
                sampler=optuna.samplers.RandomSampler(seed=seed),  # proposes nothing: there is nothing to sample
                direction="maximize" if mode == "max" else "minimize",
                load_if_exists=True,
            )

    def seeds(self, replicate: int) -> Seeds:
        """The same for every trial, and no trial's own."""
        return Seeds(
            init=hashed(self._seed, "fresh", replicate, "init"), order=hashed(self._seed, "fresh", replicate, "order")
        )

    def start(self, trial: TrialRecord, replicate: int) -> tuple[int, TrialRecord]:
        """The handle and the record of a run that begins, or begins again after a crash."""
        mark = {"of": trial.number, "replicate": replicate, "origin": trial.origin, "params": dict(trial.params)}
        with translated():
            left = [own for own in self._entries() if not own.state.is_finished() and own.user_attrs["hpo"] == mark]
            if left:
                entry = left[-1]
            else:
                asked = self._study.ask()
                asked.set_user_attr("hpo", mark)
                entry = self._study._storage.get_trial(asked._trial_id)
        return entry.number, self._record(entry)

    def finished(self) -> dict[tuple[int, int], TrialRecord]:
        """By trial and replicate; of a run that was made twice, the later one."""
        with translated():
            records = [self._record(own) for own in self._entries() if has_outcome(own)]
        return {(own.number, own.replicate): own for own in records}

    def unfinished(self) -> list[TrialRecord]:
        """Runs that a crash cut off."""
        with translated():
            return [self._record(own) for own in self._entries() if not own.state.is_finished()]

    def give_up(self, under_way: Container[int]) -> list[TrialRecord]:
        """End the runs that nobody needs any more, but for those `under_way`. They have no outcome: should one be
        wanted later, it begins anew. Returns what they were."""
        import optuna

        with translated():
            left = [own for own in self._entries() if not own.state.is_finished() and own.number not in under_way]
            for own in left:
                self._study.tell(own.number, state=optuna.trial.TrialState.PRUNED)
        return [self._record(own) for own in left]

    def report(self, handle: int, progress: float, value: float) -> None:
        """Record the searched metric at a part (0, 1] of the run's training; reporting it again overwrites it."""
        with translated():
            self._study._storage.set_trial_intermediate_value(self._id(handle), part_of(progress), value)

    def told(self, handle: int, record: TrialRecord) -> None:
        """Record what a run has been through; it goes on."""
        with translated():
            told = record.model_dump(mode="json", include=set(TOLD_FIELDS))
            self._study._storage.set_trial_user_attr(self._id(handle), TOLD, told)

    def tell(
        self,
        handle: int,
        state: Literal[TrialState.COMPLETE, TrialState.FAILED],
        *,
        value: float | None = None,
        metrics: Mapping[str, float] | None = None,
        checkpoint: Path | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Finish a run."""
        import optuna

        outcome: dict[str, Any] = {
            "metrics": dict(metrics or {}),
            "checkpoint": checkpoint.name if checkpoint else None,
            "seconds": seconds,
            "reason": reason,
        }
        is_complete = state is TrialState.COMPLETE
        with translated():
            self._study._storage.set_trial_user_attr(self._id(handle), "outcome", outcome)
            self._study.tell(
                handle,
                value if is_complete else None,
                state=optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.FAIL,
            )

    def _record(self, entry: "optuna.trial.FrozenTrial") -> TrialRecord:
        return run_of(entry, self.seeds(entry.user_attrs["hpo"]["replicate"]), self._checkpoints)

    def _entries(self) -> list["optuna.trial.FrozenTrial"]:
        """Those that say what they are: a crash may have come before they did."""
        return [own for own in self._study.get_trials(deepcopy=False) if "hpo" in own.user_attrs]

    def _id(self, handle: int) -> int:
        return int(self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, handle))
