"""What the ledger remembers of its database is what the database has."""

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from hpo.ledger.storage import LEDGER, open_storage

STATES = [(TrialState.WAITING,), (TrialState.RUNNING, TrialState.WAITING), (TrialState.COMPLETE, TrialState.RUNNING)]


def shown(trials: list[FrozenTrial]) -> list[tuple[object, ...]]:
    """All but moments in time, which the database notes by itself."""
    return [
        (
            *(own.number, own._trial_id, own.state, own.values, own.params, own.distributions),
            *(own.user_attrs, own.system_attrs, own.intermediate_values),
            *(own.datetime_start is None, own.datetime_complete is None),
        )
        for own in trials
    ]


def in_the_database(folder: Path) -> list[tuple[object, ...]]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / LEDGER}")
    return shown(optuna.load_study(study_name="s", storage=storage).get_trials(deepcopy=False))


def one_step(study: optuna.Study, source: random.Random) -> None:
    running = [own for own in study.get_trials(deepcopy=False) if own.state is TrialState.RUNNING]
    if not running or source.random() < 0.2:
        if source.random() < 0.3:
            study.enqueue_trial({"x": source.random()}, user_attrs={"hpo": {"origin": "first", 1: (2, 3)}})
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_categorical("size", [16, 32])
        trial.set_user_attr("hpo", {"params": {"x": 1.0}, 4: (5, 6)})
        return
    own = source.choice(running)
    study._storage.set_trial_intermediate_value(own._trial_id, source.randrange(100), source.random())
    study._storage.set_trial_system_attr(own._trial_id, "mark", [source.random()])
    if source.random() < 0.4:
        state = source.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
        study.tell(own.number, source.random() if state is TrialState.COMPLETE else None, state=state)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_remembered_is_what_was_written(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(3):  # drivers, one after the other
        study = optuna.create_study(study_name="s", storage=open_storage(tmp_path / LEDGER), load_if_exists=True)
        for _ in range(25):
            one_step(study, source)
            there = in_the_database(tmp_path)
            assert shown(study.get_trials(deepcopy=False)) == there
            for states in STATES:
                some = study.get_trials(deepcopy=False, states=states)
                assert shown(some) == [own for own in there if own[2] in states]


def test_a_trial_that_was_handed_out_is_not_changed_by_what_is_written_later(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(tmp_path / LEDGER))
    study.ask().suggest_float("x", 0.0, 1.0)
    (before,) = study.get_trials(deepcopy=False)
    study._storage.set_trial_user_attr(before._trial_id, "later", 1)
    study.tell(0, 0.5)
    assert before.user_attrs == {}
    assert before.state is TrialState.RUNNING


def test_trials_that_are_brought_in_are_remembered_as_the_database_has_them(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(tmp_path / LEDGER))
    study.add_trial(
        optuna.trial.create_trial(
            params={"x": 0.25},
            distributions={"x": optuna.distributions.FloatDistribution(0.0, 1.0)},
            value=0.5,
            user_attrs={"hpo": {1: (2,)}},
        )
    )
    assert shown(study.get_trials(deepcopy=False)) == in_the_database(tmp_path)


def test_a_study_that_is_read_for_the_first_time_after_a_new_trial_has_its_older_ones(tmp_path: Path) -> None:
    first = optuna.create_study(study_name="s", storage=open_storage(tmp_path / LEDGER))
    first.tell(first.ask(), 1.0)
    second = optuna.load_study(study_name="s", storage=open_storage(tmp_path / LEDGER))
    second.ask()
    assert [own.number for own in second.get_trials(deepcopy=False)] == [0, 1]
    assert shown(second.get_trials(deepcopy=False)) == in_the_database(tmp_path)


def test_a_number_that_was_left_out_confuses_nothing(tmp_path: Path) -> None:
    """A server that lost its answer to a new trial has one that its driver never hears of."""
    study = optuna.create_study(study_name="s", storage=open_storage(tmp_path / LEDGER))
    study.tell(study.ask().number, 1.0)
    other = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / LEDGER}")
    assert other.ask().number == 1
    for number in (2, 3):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        assert trial.number == number
        assert [own.number for own in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))] == [number]
        study.tell(number, 0.5)
    found = study.get_trials(deepcopy=False)
    assert [(own.number, own.state.name) for own in found] == [(0, "COMPLETE"), (2, "COMPLETE"), (3, "COMPLETE")]


def test_a_study_that_is_made_anew_has_none_of_the_old_trials(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / LEDGER)
    for _ in range(2):
        study = optuna.create_study(study_name="s", storage=storage)
        study.ask()
        study.add_trial(optuna.trial.create_trial(value=1.0))
        assert [own.state.name for own in study.get_trials(deepcopy=False)] == ["RUNNING", "COMPLETE"]
        assert [own.number for own in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))] == [0]
        optuna.delete_study(study_name="s", storage=storage)
