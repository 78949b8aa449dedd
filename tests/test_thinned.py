"""TPE over thousands of trials: what it learns from is Optuna's good side, and a part of the rest."""

import random

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

from hpo.samplers.proposing import Replayed
from hpo.samplers.thinned import BEST, Thinned

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


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", range(4))
def test_the_good_side_is_optunas_and_the_rest_is_an_even_part(seed: int, direction: str) -> None:
    study = study_of(400, seed, direction)
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
    sampler = Thinned(many=60)
    thinned = sampler.thin(study, trials)
    assert numbers(_split_trials(study, thinned, BEST)[0]) == numbers(_split_trials(study, trials, BEST)[0])
    running = [trial.number for trial in trials if not trial.state.is_finished()]
    assert running
    assert set(running) <= set(numbers(thinned))
    assert numbers(thinned) == sorted(numbers(thinned))
    assert len(thinned) == 60 + BEST + len(running)
    rest = [number for number in numbers(thinned) if number not in running]
    assert max(np.diff(rest)) <= 2 * len(trials) / 60
    assert numbers(sampler.thin(study, trials)) == numbers(thinned), "what it remembers changes nothing"


def test_fewer_trials_are_all_looked_at_and_proposals_are_optunas() -> None:
    for count in (12, 70):
        ours = proposal(Thinned(many=60, seed=3, multivariate=True), study_of(count, 0, "maximize"))
        assert ours == proposal(TPESampler(seed=3, multivariate=True), study_of(count, 0, "maximize"))


def test_proposals_from_a_part_are_as_near_to_the_best_as_those_from_all() -> None:
    def mean(make: type[TPESampler], **options: int) -> float:
        study = study_of(600, 1, "maximize")
        found = [proposal(make(seed=seed, multivariate=True, **options), study) for seed in range(40)]
        return float(np.mean([own["x"] - abs(own["y"]) for own in found]))

    assert mean(Thinned, many=100) == pytest.approx(mean(TPESampler), abs=0.05)
    assert mean(Thinned, many=100) > 0.5, "at random it is 0"


def test_what_one_sampler_found_out_the_next_but_one_still_has() -> None:
    study = study_of(150, 2, "maximize")

    def tpe(seed: int) -> Replayed:
        return Replayed(lambda own: Thinned(many=20, seed=own, multivariate=True), seed)

    first, between, last = tpe(1), Replayed(lambda own: RandomSampler(seed=own), 2), tpe(3)
    proposal(first, study)
    between.adopt(first)
    proposal(between, study)
    last.adopt(between)
    scores = last._whole._scores  # type: ignore[attr-defined]
    assert len(scores) > 100
    informed = last.sample_relative(study, study.trials[-1], study.trials[0].distributions)
    assert informed == tpe(3).sample_relative(study, study.trials[-1], study.trials[0].distributions)
