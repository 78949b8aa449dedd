"""TPE over thousands of trials: what it learns from is Optuna's good side, and a part of the rest."""

import random
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

from hpo.ledger import Ledger
from hpo.records import TrialState as State
from hpo.samplers import TpeConfig, thinned
from hpo.samplers.proposing import Replayed
from hpo.samplers.thinned import BEST, Thinned
from hpo.space import Choice, Condition, FloatRange, Params, SearchSpace

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def study_of(count: int, seed: int, direction: str) -> optuna.Study:
    """With trials of all kinds; many are equally good, some break a rule, some never said a thing."""
    source = random.Random(seed)
    study = optuna.create_study(direction=direction, sampler=RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask()
        value = round(trial.suggest_float("x", 0.0, 1.0) - abs(trial.suggest_float("y", -1.0, 1.0)), 1)
        if source.random() < 0.1:
            study._storage.set_trial_system_attr(trial._trial_id, "constraints:a", source.choice([-1.0, 0.5]))
        if source.random() < 0.5:
            study.tell(trial, value)
            continue
        for step in range(source.randrange(3)):
            trial.report(source.choice([value, float("nan")]), step)
        if source.random() < 0.9:
            study.tell(trial, state=TrialState.PRUNED)
    return study


def proposal(sampler: optuna.samplers.BaseSampler, study: optuna.Study) -> dict[str, float]:
    study.sampler = sampler
    trial = study.ask()
    return {"x": trial.suggest_float("x", 0.0, 1.0), "y": trial.suggest_float("y", -1.0, 1.0)}


def numbers(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> int:
    """So that few trials are many."""
    monkeypatch.setattr(thinned, "MANY", 60)
    return 60


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", range(4))
def test_the_good_side_is_optunas_and_the_rest_is_an_even_part(seed: int, direction: str) -> None:
    study = study_of(400, seed, direction)
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
    sampler = Thinned()
    some = sampler.thin(study, trials)
    assert numbers(_split_trials(study, some, BEST)[0]) == numbers(_split_trials(study, trials, BEST)[0])
    running = [trial.number for trial in trials if not trial.state.is_finished()]
    assert running
    assert set(running) <= set(numbers(some))
    assert numbers(some) == sorted(numbers(some))
    assert len(some) == 60 + BEST + len(running)
    rest = [number for number in numbers(some) if number not in running]
    assert max(rest) == max(trial.number for trial in trials if trial.state.is_finished())
    assert max(np.diff(rest)) <= 2 * len(trials) / 60
    assert numbers(sampler.thin(study, trials)) == numbers(some), "what it remembers changes nothing"


def test_fewer_trials_are_all_looked_at_and_proposals_are_optunas() -> None:
    for count in (12, 70):
        ours = proposal(Thinned(seed=3, multivariate=True), study_of(count, 0, "maximize"))
        assert ours == proposal(TPESampler(seed=3, multivariate=True), study_of(count, 0, "maximize"))


def test_proposals_from_a_part_are_as_near_to_the_best_as_those_from_all() -> None:
    def mean(make: type[TPESampler], **options: int) -> float:
        study = study_of(600, 1, "maximize")
        found = [proposal(make(seed=seed, multivariate=True, **options), study) for seed in range(40)]
        return float(np.mean([own["x"] - abs(own["y"]) for own in found]))

    assert mean(Thinned) == pytest.approx(mean(TPESampler), abs=0.05)
    assert mean(Thinned) > 0.5, "at random it is 0"


def test_what_one_sampler_found_out_the_next_but_one_still_has() -> None:
    study = study_of(250, 2, "maximize")

    def tpe(seed: int) -> Replayed:
        return Replayed(lambda own: Thinned(seed=own, multivariate=True), seed)

    first, between, last = tpe(1), Replayed(lambda own: RandomSampler(seed=own), 2), tpe(3)
    proposal(first, study)
    between.adopt(first)
    proposal(between, study)
    last.adopt(between)
    scores = last._whole._scores  # type: ignore[attr-defined]
    assert len(scores) > 100
    informed = last.sample_relative(study, study.trials[-1], study.trials[0].distributions)
    assert informed == tpe(3).sample_relative(study, study.trials[-1], study.trials[0].distributions)


def test_where_more_run_than_have_ended_all_are_looked_at() -> None:
    study = optuna.create_study()
    for _ in range(10):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0.0, 1.0)}), 1.0)
    for _ in range(100):
        study.ask({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})
    trials = study.get_trials(deepcopy=False)
    assert Thinned().thin(study, trials) == trials


CONDITIONAL = SearchSpace(
    {
        "learning_rate": FloatRange(1e-5, 1e-1, log=True),
        "loss": Choice(("cross_entropy", "focal")),
        "focal_gamma": FloatRange(1.0, 4.0, when=(Condition("loss", ("focal",)),)),
    }
)


def proposed(folder: Path, *, anew: bool) -> list[Params]:
    """By a study of 120 trials, which is opened anew for every one or stays open."""
    found: list[Params] = []
    ledger = None
    for _ in range(120):
        if ledger is None or anew:
            ledger = Ledger(folder, study="s", mode="max", space=CONDITIONAL, sampler=TpeConfig(), seed=3)
        record = ledger.ask()
        assert record is not None
        found.append(record.params)
        value = float(record.params["learning_rate"]) + float(record.params.get("focal_gamma", 0.0))
        if record.number % 3:
            ledger.tell(record.number, State.COMPLETE, value=value, metrics={"accuracy": value})
        else:
            ledger.report(record.number, 0.5, value)
            ledger.tell(record.number, State.PRUNED)
    return found


def test_a_study_of_many_trials_proposes_the_same_however_often_it_is_opened(tmp_path: Path) -> None:
    assert proposed(tmp_path / "a", anew=False) == proposed(tmp_path / "b", anew=True)


def test_groups_of_conditional_parameters_are_those_of_all_trials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(thinned, "MANY", 1_000)
    ours = proposed(tmp_path / "a", anew=False)
    monkeypatch.setattr(thinned, "_one_of_a_kind", lambda trials: trials)
    assert ours == proposed(tmp_path / "b", anew=False)
