"""A storage that is read once: a study has one driver, so what that driver wrote is all there is to know.

Optuna asks the database again before each proposal, and for each parameter of it: some ten reads a trial, half of what
a trial costs. Here every write goes to the database first, and then to the same trial in memory. Owns what is private
to Optuna's storages. Imports Optuna at the top: import this file where a storage is opened.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState

_FINISHED = tuple(state for state in TrialState if state.is_finished())


class Known(_CachedStorage):
    """As good as the database for whoever alone writes to it; others' writes to a study are not seen once it was read.

    Trials that it hands out are never changed later: a write puts a changed copy in their place. Those that have not
    ended are known apart, so that asking for them does not go through all trials of a study.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._read: set[int] = set()
        self._unfinished: dict[int, set[int]] = defaultdict(set)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._read:
            super()._read_trials_from_remote_storage(study_id)
            self._read.add(study_id)

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)
        self._read.discard(study_id)
        self._unfinished.pop(study_id, None)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            known = self._studies[study_id].trials  # in the order of their numbers, as they are read and made
            found = list(known.values())
            if states is not None:
                if not any(state in states for state in _FINISHED):
                    found = [known[number] for number in sorted(self._unfinished[study_id])]
                found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        super()._add_trials_to_cache(study_id, trials)
        unfinished = self._unfinished[study_id]
        for trial in trials:
            (unfinished.discard if trial.state.is_finished() else unfinished.add)(trial.number)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._read_trials_from_remote_storage(study_id)  # else the first reading would put older ones in their place
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:  # what came back has what the database made of it
            whole = self._backend.get_trial(trial_id)
            with self._lock:
                self._add_trials_to_cache(study_id, [whole])
        return trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            found = self._mine(trial_id)
        return found if found is not None else self._backend.get_trial(trial_id)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        value = distribution.to_external_repr(param_value_internal)

        def note(trial: FrozenTrial) -> None:
            trial.params = {**trial.params, param_name: value}
            trial.distributions = {**trial.distributions, param_name: distribution}

        self._note(trial_id, note)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not super().set_trial_state_values(trial_id, state, values):
            return False

        def note(trial: FrozenTrial) -> None:
            trial.state = state
            if values is not None:
                trial.values = [float(value) for value in values]
            if state is TrialState.RUNNING:
                trial.datetime_start = datetime.now()
            if state.is_finished():
                trial.datetime_complete = datetime.now()

        self._note(trial_id, note)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

        def note(trial: FrozenTrial) -> None:
            trial.intermediate_values = {**trial.intermediate_values, step: float(intermediate_value)}

        self._note(trial_id, note)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)

        def note(trial: FrozenTrial) -> None:
            trial.user_attrs = {**trial.user_attrs, key: _stored(value)}

        self._note(trial_id, note)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)

        def note(trial: FrozenTrial) -> None:
            trial.system_attrs = {**trial.system_attrs, key: _stored(value)}

        self._note(trial_id, note)

    def _mine(self, trial_id: int) -> FrozenTrial | None:
        place = self._trial_id_to_study_id_and_number.get(trial_id)
        return None if place is None else self._studies[place[0]].trials.get(place[1])

    def _note(self, trial_id: int, change: Callable[[FrozenTrial], None]) -> None:
        """What the database has taken."""
        with self._lock:
            if (known := self._mine(trial_id)) is not None:
                changed = copy.copy(known)
                change(changed)
                self._add_trials_to_cache(self._trial_id_to_study_id_and_number[trial_id][0], [changed])


def _stored(value: Any) -> Any:
    """As it comes back: keys are text, tuples are lists."""
    return json.loads(json.dumps(value))
